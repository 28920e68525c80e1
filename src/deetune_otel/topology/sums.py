# SPDX-License-Identifier: Apache-2.0
"""What is counted of one thing of the map: groups of integers, their past, their meaning.

Counts of an edge are kept as integers in columns, a group of columns for each protocol at each
side, one for TCP's facts, one for each errno of failed connects. The map's values (`Tally`,
`Network`) are made of them when somebody looks.
"""

from __future__ import annotations

from enum import IntEnum
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from deetune_otel.model import DURATION_BOUNDS_S, RTT_BOUNDS_S, Protocol
from deetune_otel.topology.history import Past
from deetune_otel.topology.model import Network, Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deetune_otel.model import SeriesValue, Traffic
    from deetune_otel.topology.history import Boundary, Timeline

__all__ = [
    "BUCKETS",
    "CLIENT_ERRORS",
    "COUNT",
    "ERRORS",
    "NETWORK",
    "NO_CALLS",
    "NO_TRAFFIC",
    "RECEIVED_BYTES",
    "SENT_BYTES",
    "SERVER_NETWORK",
    "UNSURE",
    "CallsGroup",
    "FailureGroup",
    "Group",
    "NetworkGroup",
    "Numbers",
    "Side",
    "Sums",
    "calls_numbers",
    "network_of",
    "tally_of",
    "traffic_numbers",
]

Numbers: TypeAlias = "Sequence[int]"

# Columns of a group of calls. UNSURE counts what was divided: by connections (client's side), or as
# several callers counted it (server's side).
COUNT: Final = 0
ERRORS: Final = 1
UNSURE: Final = 5
CLIENT_ERRORS: Final = 6
BUCKETS: Final = 7
NO_CALLS: Final = (0,) * (BUCKETS + len(DURATION_BOUNDS_S) + 1)

CONNECTS: Final = 0
RETRANSMITS: Final = 3
SENT_BYTES: Final = 4
RECEIVED_BYTES: Final = 5
CONNECT_BUCKETS: Final = 6
RTT_BUCKETS: Final = CONNECT_BUCKETS + len(DURATION_BOUNDS_S) + 1
NO_TRAFFIC: Final = (0,) * (RTT_BUCKETS + len(RTT_BOUNDS_S) + 1)


class Side(IntEnum):
    """Who saw the calls."""

    CLIENT = 0
    SERVER = 1  # the same calls as a client on this host
    ALONE = 2  # a server whose client was not observed


class CallsGroup(NamedTuple):
    side: Side
    protocol: Protocol


class NetworkGroup(NamedTuple):
    """TCP's facts; sent: from client to server."""

    is_server: (
        bool  # as the server saw them, of connections that its client tells as well
    )


class FailureGroup(NamedTuple):
    errno: str


Group: TypeAlias = "CallsGroup | NetworkGroup | FailureGroup"
NETWORK: Final = NetworkGroup(is_server=False)
SERVER_NETWORK: Final = NetworkGroup(is_server=True)


def calls_numbers(
    value: SeriesValue,
    *,
    is_error: bool,
    is_client_error: bool = False,
    is_unsure: bool = False,
) -> list[int]:
    return [
        value.count,
        value.count if is_error else 0,
        value.duration_sum_ns,
        value.request_bytes,
        value.response_bytes,
        value.count if is_unsure else 0,
        value.count if is_client_error else 0,
        *value.duration_buckets,
    ]


def traffic_numbers(traffic: Traffic, *, is_server: bool) -> list[int]:
    """As the client sees it: what a server sent was received."""
    sent, received = traffic.sent_bytes, traffic.received_bytes
    return [
        traffic.opened,
        traffic.connect_sum_ns,
        traffic.rtt_sum_ns,
        traffic.retransmits,
        *((received, sent) if is_server else (sent, received)),
        *traffic.connect_buckets,
        *traffic.rtt_buckets,
    ]


def tally_of(numbers: Numbers) -> Tally:
    return Tally(
        count=numbers[COUNT],
        errors=numbers[ERRORS],
        client_errors=numbers[CLIENT_ERRORS],
        duration_sum_s=numbers[2] / 1e9,
        duration_buckets=tuple(numbers[BUCKETS:]),
        request_bytes=numbers[3],
        response_bytes=numbers[4],
    )


def network_of(groups: Mapping[Group, Numbers], *, active: int) -> Network:
    """`groups` of an edge; those of calls are left out.

    The client's end tells it all but what the server sent again.
    """
    numbers = groups.get(NETWORK, NO_TRAFFIC)
    at_server = groups.get(SERVER_NETWORK, NO_TRAFFIC)
    return Network(
        active=active,
        connects=numbers[CONNECTS],
        connect_failures={
            group.errno: counts[0]
            for group, counts in sorted(groups.items(), key=str)
            if isinstance(group, FailureGroup) and counts[0]
        },
        connect_sum_s=numbers[1] / 1e9,
        connect_buckets=tuple(numbers[CONNECT_BUCKETS:RTT_BUCKETS]),
        rtt_sum_s=numbers[2] / 1e9,
        rtt_buckets=tuple(numbers[RTT_BUCKETS:]),
        retransmits=numbers[RETRANSMITS] + at_server[RETRANSMITS],
        sent_bytes=numbers[SENT_BYTES],
        received_bytes=numbers[RECEIVED_BYTES],
    )


class Sums:
    """Groups of integers since the start, and as they were. Not thread-safe."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._groups: dict[Group, tuple[int, int]] = {}  # begin and end of its columns
        self.past = Past()

    def __bool__(self) -> bool:
        return any(self._values)

    def add(self, group: Group, numbers: Numbers) -> None:
        begin, end = self._columns(group, len(numbers))
        self._values[begin:end] = map(add, self._values[begin:end], numbers)

    def groups(self) -> dict[Group, list[int]]:
        """Since the start."""
        return self._grouped(self._values)

    def since(self, begin: Boundary) -> dict[Group, list[int]]:
        """What was added after a step's end; groups in which nothing was are left out."""
        return self.between(begin, None)

    def between(self, begin: Boundary, end: Boundary | None) -> dict[Group, list[int]]:
        """The same up to another end; None: up to now."""
        before = self.past.at(begin)
        after = self._values if end is None else self.past.at(end)
        if not after or (len(before) == len(after) and list(before) == list(after)):
            return {}
        zeros = (0,) * (len(after) - len(before))
        difference = [a - b for a, b in zip(after, (*before, *zeros), strict=True)]
        return {
            group: numbers
            for group, numbers in self._grouped(difference).items()
            if any(numbers)
        }

    def keep(self, ends: Iterable[Boundary], timeline: Timeline) -> None:
        """Steps ended."""
        for end in ends:
            self.past.keep(end, self._values)
        self.past.drop(timeline)

    def become_server(self) -> None:
        """What was a server's alone is of calls that their client tells as well."""
        for group in list(self._groups):
            if group == NETWORK:
                self._groups[SERVER_NETWORK] = self._groups.pop(group)
            elif isinstance(group, CallsGroup) and group.side is Side.ALONE:
                server = CallsGroup(Side.SERVER, group.protocol)
                self._groups[server] = self._groups.pop(group)

    def absorb(self, other: Sums) -> None:
        """Take over what another counted, and its past."""
        columns = [0] * len(other._values)
        for group, (begin, end) in other._groups.items():
            here, _ = self._columns(group, end - begin)
            columns[begin:end] = range(here, here + end - begin)
        for column, value in zip(columns, other._values, strict=True):
            self._values[column] += value
        self.past.absorb(other.past, columns)

    def _columns(self, group: Group, width: int) -> tuple[int, int]:
        found = self._groups.get(group)
        if found is None:
            begin = len(self._values)
            self._values += [0] * width
            found = self._groups[group] = (begin, begin + width)
        return found

    def _grouped(self, values: Sequence[int]) -> dict[Group, list[int]]:
        return {
            group: list(values[begin:end])
            for group, (begin, end) in self._groups.items()
            if end <= len(values)
        }
