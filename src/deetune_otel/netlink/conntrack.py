# SPDX-License-Identifier: Apache-2.0
"""What is behind a translated address: asked of the kernel's connection tracking.

Connection by connection, first in the namespace of the process, then in the agent's own, which
on a host is the one that routes for its containers; each on what the one before it gave. Asking
reads and changes nothing: no namespace starts to track because of it, no module is loaded.
Where a client's port is not known (UDP), all that it sent to one destination is looked through.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from deetune_otel.netlink.messages import (
    TCP,
    UDP,
    Entry,
    Flow,
    MessageError,
    RefusedError,
    StaleError,
    decode,
    encode,
    encode_dump,
    split,
)
from deetune_otel.netlink.namespaces import (
    NamespaceEndedError,
    NamespaceError,
    call_in,
    current,
    open_namespace,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["TCP", "UDP", "Conntrack", "Flow"]

# Namespaces asked in one go; beyond it sockets are made again (0.1 ms each).
MAX_SOCKETS: Final = 64
# The kernel answers before `send` returns: what takes longer will not come.
TIMEOUT_S: Final = 0.2
# Answers to questions that were given up, ahead of the one that is waited for.
MAX_STALE: Final = 8
# What the kernel fills at a time; one answer has some 300 bytes.
ANSWER_BYTES: Final = 32_768
# Connections to one destination that are looked at: servers that take turns are among them.
MAX_FOUND: Final = 64
# And all that the kernel gives for that, 10 µs each.
MAX_READ: Final = 1024

_NETLINK_NETFILTER: Final = 12
# There where connection tracking is; to ask without looking would load the module.
_PRESENT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")

_log = logging.getLogger(__name__)


class Conntrack:
    """For one thread. What cannot be asked is said once in the log, counted, and not known.

    `pids_in` gives the processes of a namespace, by the pids that the agent knows them by.
    `counts` are questions `asked`, connections `found`, and failures by their reason.
    """

    def __init__(
        self,
        *,
        pids_in: Callable[[int], Iterable[int]],
        max_sockets: int = MAX_SOCKETS,
    ) -> None:
        self._pids_in = pids_in
        self._own_netns = current()
        self._others: LRUCache[int, socket.socket | None] = _Sockets(max_sockets)
        self._sequence = itertools.count(1)
        self._said: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._own = self._made(self._own_netns)

    def translated(self, flow: Flow, *, netns: int) -> Flow | None:
        """A client's connection as its server sees it; None: it goes where it was sent to."""
        seen = flow
        for namespace in self._namespaces(netns):
            entry = self._ask(namespace, seen)
            if entry is not None and entry.original == seen:
                seen = entry.reply.reverse
        return seen if _destination(seen) != _destination(flow) else None

    def origin(self, flow: Flow, *, netns: int) -> Flow | None:
        """A server's connection as its client sees it; None: it is from where it seems."""
        sent = flow
        for namespace in self._namespaces(netns):
            entry = self._ask(namespace, sent.reverse)
            if entry is not None and entry.reply == sent.reverse:
                sent = entry.original
        return sent if sent.source != flow.source else None

    def destinations(self, flow: Flow, *, netns: int) -> list[Flow]:
        """What a client's flows to one destination became, whatever their port; else none.

        Each destination once. `flow.source` may be "", and its port does not matter.
        """
        namespaces = self._namespaces(netns)
        found: dict[tuple[str, int], Flow] = {}
        for i, namespace in enumerate(namespaces):
            for entry in self._dump(namespace, flow):
                seen = entry.reply.reverse
                for further in namespaces[i + 1 :]:
                    then = self._ask(further, seen)
                    if then is not None and then.original == seen:
                        seen = then.reply.reverse
                if _destination(seen) != _destination(flow):
                    found.setdefault(_destination(seen), seen)
            if found:
                break
        return list(found.values())

    def rest(self) -> None:
        """Let go of other namespaces: a socket would keep the network of an ended container."""
        while self._others:  # its `clear` would not close them
            self._others.popitem()

    def close(self) -> None:
        self.rest()
        if self._own is not None:
            self._own.close()
            self._own = None

    def _namespaces(self, netns: int) -> tuple[int, ...]:
        own = self._own_netns
        return (own,) if netns in {0, own} else (netns, own)

    def _ask(self, netns: int, flow: Flow) -> Entry | None:
        entry = next(self._answers(netns, flow, encode), None)
        self.counts["found"] += entry is not None
        return entry

    def _dump(self, netns: int, flow: Flow) -> list[Entry]:
        found: list[Entry] = []
        for read, entry in enumerate(self._answers(netns, flow, encode_dump), 1):
            if _fits(entry.original, flow):
                found.append(entry)
            if len(found) == MAX_FOUND or read == MAX_READ:
                self._give_up(netns)  # the rest is no answer to the next question
                break
        self.counts["found"] += bool(found)
        return found

    def _answers(
        self, netns: int, flow: Flow, encoded: Callable[[Flow, int], bytes]
    ) -> Iterator[Entry]:
        asked = self._socket(netns)
        if asked is None:
            return
        self.counts["asked"] += 1
        sequence = next(self._sequence) & 0xFFFFFFFF
        try:
            asked.send(encoded(flow, sequence))
            yield from _entries(asked, sequence)
        except (OSError, MessageError, ValueError) as e:
            self._fail(netns, e)

    def _socket(self, netns: int) -> socket.socket | None:
        """Made when it is first needed; of a namespace that cannot be reached None is kept."""
        if netns == self._own_netns:
            return self._own
        if netns not in self._others:
            self._others[netns] = self._made(netns)
        return self._others[netns]

    def _made(self, netns: int) -> socket.socket | None:
        try:
            if netns == self._own_netns:
                return _open()
            fd = open_namespace(netns, self._pids_in(netns))
            try:
                return call_in(fd, _open)
            finally:
                os.close(fd)
        except (OSError, NamespaceError) as e:
            self._fail(netns, e)
            return None

    def _fail(self, netns: int, e: Exception) -> None:
        reason = _reason(e)
        self.counts[reason] += 1
        if reason not in self._said:
            self._said.add(reason)
            level = logging.DEBUG if reason == "ended" else logging.WARNING
            _log.log(level, "translated addresses stay as they are: %s", e)
        if reason in {"timeout", "unreadable"}:
            self._give_up(netns)

    def _give_up(self, netns: int) -> None:
        """A socket with an answer under way is of no use for the next question."""
        if netns != self._own_netns:
            self._others.pop(netns, None)
            return
        if self._own is not None:
            self._own.close()
        self._own = self._made(netns)


class _Sockets(LRUCache[int, "socket.socket | None"]):
    """Closes what it lets go of."""

    def __delitem__(self, key: int) -> None:
        gone = self[key]
        super().__delitem__(key)
        if gone is not None:
            gone.close()


def _open() -> socket.socket:
    if not _PRESENT.exists():
        raise FileNotFoundError(errno.ENOENT, "this kernel tracks no connections")
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
    )
    opened.settimeout(TIMEOUT_S)
    opened.bind((0, 0))
    return opened


def _entries(asked: socket.socket, sequence: int) -> Iterator[Entry]:
    """Until the kernel says that there are no more."""
    stale = 0
    while stale < MAX_STALE:
        data, (sender, _) = asked.recvfrom(ANSWER_BYTES)
        if sender != 0:  # not the kernel: other programs may write to us too
            stale += 1
            continue
        for message in split(data):
            try:
                entry = decode(message, sequence)
            except StaleError:
                stale += 1
                break
            if entry is None:
                return
            yield entry
    raise MessageError("too many answers to other questions")


def _reason(e: Exception) -> str:
    """By which it is counted, and said once."""
    if isinstance(e, TimeoutError):
        return "timeout"
    if isinstance(e, RefusedError | OSError):
        code = e.code if isinstance(e, RefusedError) else e.errno
        if code in {errno.EPERM, errno.EACCES}:
            return "not_permitted"
        if code == errno.ENOENT:
            return "absent"
        return errno.errorcode.get(code or 0, "failed")
    if isinstance(e, NamespaceError):
        return "ended" if isinstance(e, NamespaceEndedError) else "namespace"
    return "unreadable" if isinstance(e, MessageError) else "no_address"


def _fits(flow: Flow, wanted: Flow) -> bool:
    return (
        flow.protocol == wanted.protocol
        and _destination(flow) == _destination(wanted)
        and wanted.source in {"", flow.source}
    )


def _destination(flow: Flow) -> tuple[str, int]:
    return flow.destination, flow.destination_port
