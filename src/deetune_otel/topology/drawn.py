# SPDX-License-Identifier: Apache-2.0
"""An edge of the map while it is counted: its books, what of it is published, how it looks.

What is counted goes into the edge's main book; what a kernel edge counted before its far end was
resolved goes into a part of its own, which moves to another edge, with its past, when an answer
comes. Counters for export must not decrease, so what was published stays where it was published.
"""

from __future__ import annotations

from itertools import chain
from operator import add
from typing import TYPE_CHECKING, Final

from deetune_otel.topology.examples import Examples
from deetune_otel.topology.model import Calls, Ends
from deetune_otel.topology.sums import (
    COUNT,
    ERRORS,
    NETWORK,
    NO_CALLS,
    NO_TRAFFIC,
    UNSURE,
    CallsGroup,
    Side,
    Sums,
    tally_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deetune_otel.model import Protocol, Transport
    from deetune_otel.topology.history import Boundary, Timeline
    from deetune_otel.topology.places import Place
    from deetune_otel.topology.sums import Group, Numbers

__all__ = ["Book", "DrawnEdge", "Part", "calls_of", "summed"]

# Beside the main ones that a screen shows; each takes up to 40 kB in a day. The rest is `other`.
MAX_OPERATIONS: Final = 100
OTHER_OPERATION: Final = "other"
MAX_VIA: Final = 16


class Book:
    """What was counted, in all and by operation, and examples of it."""

    __slots__ = ("examples", "operations", "sums")

    def __init__(self) -> None:
        self.sums = Sums()
        self.operations: dict[tuple[Protocol, str], Sums] = {}
        self.examples = Examples()

    def add_call(self, group: CallsGroup, operation: str, numbers: Numbers) -> None:
        self.sums.add(group, numbers)
        # of calls that both ends saw, the client's are shown
        if group.side is not Side.SERVER:
            self.operation(group.protocol, operation).add(group, numbers)

    def operation(self, protocol: Protocol, name: str) -> Sums:
        found = self.operations.get((protocol, name))
        if found is None:
            if len(self.operations) >= MAX_OPERATIONS:
                name = OTHER_OPERATION
            found = self.operations.setdefault((protocol, name), Sums())
        return found

    def absorb(self, other: Book) -> None:
        self.sums.absorb(other.sums)
        for (protocol, name), sums in other.operations.items():
            self.operation(protocol, name).absorb(sums)
        self.examples.absorb(other.examples)

    def keep(self, ends: list[Boundary], timeline: Timeline) -> None:
        for sums in self.all_sums():
            sums.keep(ends, timeline)

    def all_sums(self) -> Iterator[Sums]:
        return chain([self.sums], self.operations.values())


class Part:
    """What one kernel edge counted towards a far end that is not sure yet."""

    __slots__ = ("book", "drawn", "is_published", "place", "since", "since_ns")

    def __init__(
        self, drawn: DrawnEdge, place: Place, *, since: int, since_ns: int
    ) -> None:
        self.book = Book()
        self.drawn = drawn
        self.place = place  # of the far end
        self.since = since  # number of a reading
        self.since_ns = since_ns
        self.is_published = False
        drawn.parts.add(self)

    def publish(self) -> None:
        if not self.is_published:
            self.is_published = True
            self.drawn.publish(self.book.sums.groups(), since_ns=self.since_ns)

    def move(self, drawn: DrawnEdge, place: Place) -> None:
        """Somebody else was at the other end all the time."""
        self.drawn.parts.discard(self)
        drawn.parts.add(self)
        drawn.first_seen_ns = min(drawn.first_seen_ns, self.drawn.first_seen_ns)
        drawn.last_seen_ns = max(drawn.last_seen_ns, self.drawn.last_seen_ns)
        self.drawn, self.place = drawn, place

    def become_server(self) -> None:
        """The calls' client is on this host too, and tells them."""
        self.book.sums.become_server()
        self.book.operations.clear()  # the client's are shown

    def mark_unsure(self) -> None:
        """Its calls were several services'."""
        for group, numbers in self.book.sums.groups().items():
            if isinstance(group, CallsGroup):
                marked = list(NO_CALLS)
                marked[UNSURE] = numbers[COUNT]
                self.book.sums.add(group, marked)

    def settle(self) -> None:
        """What it counted stays where it is."""
        self.publish()
        self.drawn.parts.discard(self)
        self.drawn.main.absorb(self.book)


class DrawnEdge:
    """Between two nodes. Not thread-safe."""

    __slots__ = (
        "_highest",
        "_published",
        "client",
        "first_seen_ns",
        "has_client",
        "has_server",
        "id",
        "last_seen_ns",
        "main",
        "parts",
        "published_ns",
        "server",
        "transports",
        "via",
        "zones",
    )

    def __init__(self, client: str, server: str, *, now_ns: int) -> None:
        self.id = f"{client}→{server}"
        self.client = client
        self.server = server
        self.main = Book()
        self.parts: set[Part] = set()
        self.has_client = False
        self.has_server = False
        self.transports: set[Transport] = set()
        self.via: dict[str, None] = {}
        self.zones: set[tuple[str, str]] = set()  # client's and server's
        self.first_seen_ns = now_ns
        self.last_seen_ns = 0
        self.published_ns = 0
        self._published: dict[Group, list[int]] = {}
        self._highest: Numbers = NO_TRAFFIC

    @property
    def ends(self) -> Ends:
        if self.has_client and self.has_server:
            return Ends.BOTH
        return Ends.SERVER if self.has_server else Ends.CLIENT

    @property
    def is_cross_zone(self) -> bool | None:
        known = [client != server for client, server in self.zones if client and server]
        return any(known) if known else None

    def books(self) -> list[Book]:
        return [self.main, *(part.book for part in self.parts)]

    def add_via(self, called: str) -> None:
        if len(self.via) < MAX_VIA:
            self.via[called] = None

    def publish(self, groups: Mapping[Group, Numbers], *, since_ns: int) -> None:
        for group, numbers in groups.items():
            if not self._published:
                self.published_ns = since_ns
            have = self._published.get(group)
            self._published[group] = (
                list(numbers) if have is None else list(map(add, have, numbers))
            )
            if group == NETWORK:
                self._highest = list(map(max, self._highest, self._published[group]))

    def published(self) -> Mapping[Group, Numbers]:
        """Nothing in it was ever more: a connection that goes over to another process is taken
        from this one's `opened`, and waits there for the next.
        """
        if NETWORK not in self._published:
            return self._published
        return {**self._published, NETWORK: self._highest}

    def total(self) -> dict[Group, list[int]]:
        """Since the start."""
        return summed(book.sums.groups() for book in self.books())

    def since(self, begin: Boundary) -> dict[Group, list[int]]:
        if not self.parts:
            return self.main.sums.since(begin)
        return summed(book.sums.since(begin) for book in self.books())

    def keep(self, ends: list[Boundary], timeline: Timeline) -> None:
        for book in self.books():
            book.keep(ends, timeline)


def summed(many: Iterable[Mapping[Group, Numbers]]) -> dict[Group, list[int]]:
    result: dict[Group, list[int]] = {}
    for groups in many:
        for group, numbers in groups.items():
            have = result.get(group)
            result[group] = (
                list(numbers) if have is None else list(map(add, have, numbers))
            )
    return result


def calls_of(
    window: Mapping[Group, Numbers], total: Mapping[Group, Numbers]
) -> tuple[Calls, ...]:
    """By protocol, of those that were ever spoken; `total` is since the start."""
    spoken = {group.protocol for group in total if isinstance(group, CallsGroup)}
    made = (_calls(protocol, window, total) for protocol in sorted(spoken))
    return tuple(calls for calls in made if calls.total)


def _calls(
    protocol: Protocol, window: Mapping[Group, Numbers], total: Mapping[Group, Numbers]
) -> Calls:
    shown = _of(protocol, (Side.CLIENT, Side.ALONE), window)
    ever = _of(protocol, (Side.CLIENT, Side.ALONE), total)
    at_server = _of(protocol, (Side.SERVER, Side.ALONE), window)
    at_server_ever = _of(protocol, (Side.SERVER, Side.ALONE), total)
    if not ever[COUNT]:  # only the server understood what they spoke
        shown, ever = at_server, at_server_ever
    return Calls(
        protocol=protocol,
        calls=tally_of(shown),
        at_server=tally_of(at_server) if at_server_ever[COUNT] else None,
        at_server_is_estimated=bool(at_server[UNSURE]),
        total=ever[COUNT],
        total_errors=ever[ERRORS],
        is_estimated=bool(
            window.get(CallsGroup(Side.CLIENT, protocol), NO_CALLS)[UNSURE]
        ),
    )


def _of(
    protocol: Protocol, sides: Iterable[Side], groups: Mapping[Group, Numbers]
) -> Numbers:
    first, second = (groups.get(CallsGroup(side, protocol), NO_CALLS) for side in sides)
    return list(map(add, first, second))
