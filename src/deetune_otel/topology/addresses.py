# SPDX-License-Identifier: Apache-2.0
"""Which name an address had when a connection was made: the configuration's, then DNS's.

A process connects to an address because of a name that it asked for, so its own answers come
first, the newest one before the connection. Programs keep addresses longer than a TTL says
(pools, a JVM's cache), hence a floor under it. What another process was told counts too, for
some let a daemon ask (nscd) or ask before they fork: but only while that answer lives, and only
where all of them agree, because many names share an address and a wrong name is worse than none.

The name is the one that was asked for: what a CNAME leads to is the provider's matter.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from deetune_otel.protocols.dns import Answers

__all__ = ["AddressBook", "Named"]

# A pool opens further connections to the address that it was started with, minutes later.
OWN_FLOOR_S: Final = 600
# Between the answer to one process and the connection of another there is a call, not a wait.
OTHERS_FLOOR_S: Final = 10
# A process and an address that it was told: 250 bytes each, 4 MB in all.
MAX_OWN: Final = 16_384
MAX_ADDRESSES: Final = 8_192
# Names in turn on one address. More are a content network's, and in doubt anyway.
MAX_RANGES: Final = 8

_NS: Final = 1_000_000_000

_Key = TypeVar("_Key")


class Named(NamedTuple):
    name: str
    found_by: str  # "config", "dns"


class _Range(NamedTuple):
    """An address had this name from the first to the last answer that said so, and on."""

    name: str
    from_ns: int
    last_ns: int
    ttl_ns: int

    def until_ns(self, floor_s: int) -> int:
        return self.last_ns + max(self.ttl_ns, floor_s * _NS)


_Ranges = tuple[_Range, ...]  # by `from_ns`


class AddressBook:
    """Not thread-safe. Times are CLOCK_MONOTONIC.

    `forgotten` counts addresses that were let go of to make room for others.
    """

    def __init__(
        self,
        names: Mapping[str, str] | None = None,
        *,
        max_own: int = MAX_OWN,
        max_addresses: int = MAX_ADDRESSES,
    ) -> None:
        """`names` by address or `address:port`, as the configuration has them."""
        self._names = {_endpoint(key): name for key, name in (names or {}).items()}
        self._own: LRUCache[tuple[int, str], _Ranges] = LRUCache(max_own)
        self._all: LRUCache[str, _Ranges] = LRUCache(max_addresses)
        self.forgotten = 0

    def learn(self, answers: Answers, owner_id: int, at_ns: int) -> None:
        """Of a response that this process received."""
        for answer in answers.addresses:
            told = _Range(answers.name, at_ns, at_ns, answer.ttl_s * _NS)
            self._keep(self._own, (owner_id, answer.address), told)
            self._keep(self._all, answer.address, told)

    def name_at(
        self, address: str, port: int, *, owner_id: int, at_ns: int
    ) -> Named | None:
        """The name of what this process connected to at that time."""
        configured = self.configured(address, port)
        if configured is not None:
            return configured
        own = _valid(self._own.get((owner_id, address), ()), at_ns, OWN_FLOOR_S)
        if own:
            return Named(own[-1].name, "dns")
        others = _valid(self._all.get(address, ()), at_ns, OTHERS_FLOOR_S)
        if len({one.name for one in others}) == 1:
            return Named(others[-1].name, "dns")
        return None

    def configured(self, address: str, port: int = 0) -> Named | None:
        """The configuration's name alone: of callers, whom nobody looked up."""
        name = self._names.get((address, port)) or self._names.get((address, 0))
        return Named(name, "config") if name else None

    def forget(self, owner_ids: Collection[int]) -> None:
        """Before the numbers are given to other processes."""
        if owner_ids:
            for key in [key for key in self._own if key[0] in owner_ids]:
                del self._own[key]

    @property
    def kept(self) -> int:
        """Addresses, each once for every process that was told it and once for all."""
        return len(self._own) + len(self._all)

    def _keep(self, kept: LRUCache[_Key, _Ranges], key: _Key, told: _Range) -> None:
        if key not in kept and len(kept) >= kept.maxsize:
            self.forgotten += 1
        kept[key] = _with(kept.get(key, ()), told)


def _with(ranges: _Ranges, told: _Range) -> _Ranges:
    """The last one goes on, or another begins; answers of different processors may overtake."""
    if ranges:
        last = ranges[-1]
        if last.name == told.name and last.from_ns <= told.from_ns <= last.until_ns(
            OTHERS_FLOOR_S
        ):
            if told.last_ns >= last.last_ns:
                last = told._replace(from_ns=last.from_ns)
            return (*ranges[:-1], last)
        if last.from_ns > told.from_ns:
            ranges = tuple(sorted((*ranges, told), key=lambda one: one.from_ns))
            return ranges[-MAX_RANGES:]
    return (*ranges, told)[-MAX_RANGES:]


def _valid(ranges: Iterable[_Range], at_ns: int, floor_s: int) -> list[_Range]:
    return [one for one in ranges if one.from_ns <= at_ns <= one.until_ns(floor_s)]


def _endpoint(text: str) -> tuple[str, int]:
    """`10.0.0.7`, `10.0.0.7:80`, `::1`, `[::1]:80`; port 0 stands for all."""
    address, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and (text.startswith("[") or ":" not in address):
        return _plain(address), int(port)
    return _plain(text), 0


def _plain(text: str) -> str:
    """As the kernel side writes addresses."""
    text = text.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
