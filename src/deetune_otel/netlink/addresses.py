# SPDX-License-Identifier: Apache-2.0
"""Which addresses a network namespace has, read through one of its processes.

/proc/PID/net/fib_trie and if_inet6 show those of the namespace that the process is in, without
entering it. Kept for a while: addresses come and go seldom.
"""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["NamespaceAddresses"]

_PROC: Final = Path("/proc")
# A host's containers; a few hundred bytes each.
_NAMESPACES: Final = 1024
_FRESH_S: Final = 30.0
# Processes that may have ended meanwhile.
_MAX_PIDS: Final = 4
_LOCAL: Final = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")


class _Known(NamedTuple):
    addresses: frozenset[str]
    read_at_s: float


class NamespaceAddresses:
    """Not thread-safe. `pids_in` gives processes of a namespace, by its inode number."""

    def __init__(
        self, pids_in: Callable[[int], Iterable[int]], *, proc: Path = _PROC
    ) -> None:
        self._pids_in = pids_in
        self._proc = proc
        self._known: LRUCache[int, _Known] = LRUCache(_NAMESPACES)

    def of(self, netns: int) -> frozenset[str]:
        """Dotted IPv4 and IPv6 text; empty when none of its processes can be asked."""
        known = self._known.get(netns)
        now_s = time.monotonic()
        if known is None or now_s - known.read_at_s > _FRESH_S:
            addresses = self._read(netns)
            if not addresses and known is not None:
                return known.addresses
            known = self._known[netns] = _Known(addresses, now_s)
        return known.addresses

    def _read(self, netns: int) -> frozenset[str]:
        for pid, _ in zip(self._pids_in(netns), range(_MAX_PIDS), strict=False):
            of = self._proc / str(pid)
            try:
                if (of / "ns/net").stat().st_ino != netns:
                    continue  # the pid is another's by now
                found = set(_LOCAL.findall((of / "net/fib_trie").read_text()))
                found.update(_six(of / "net/if_inet6"))
            except OSError:
                continue
            return frozenset(found)
        return frozenset()


def _six(path: Path) -> Iterable[str]:
    """Where IPv6 is switched off there is no such file."""
    if not path.exists():
        return ()
    return [
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
        for line in path.read_text().splitlines()
    ]
