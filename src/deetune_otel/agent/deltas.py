# SPDX-License-Identifier: Apache-2.0
"""What came since the last reading of the kernel's series, of traffic, of joins.

A series whose operation has no name yet is held back once: its sample is as a rule on its way.
Nothing is lost by that, its next difference holds both.
"""

from __future__ import annotations

from operator import sub
from typing import TYPE_CHECKING

from deetune_otel.model import NO_TRAFFIC, Traffic
from deetune_otel.signals.values import ZERO, minus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from deetune_otel.model import Join, SeriesKey, SeriesValue

__all__ = ["Deltas", "JoinDeltas", "TrafficDeltas"]


class Deltas:
    """Remembers what was taken of every series. Not thread-safe."""

    def __init__(self) -> None:
        self._taken: dict[SeriesKey, SeriesValue] = {}
        self._held: set[SeriesKey] = set()

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def held(self) -> int:
        """Series that wait for the name of their operation."""
        return len(self._held)

    def take(
        self,
        reading: Mapping[SeriesKey, SeriesValue],
        *,
        is_named: Callable[[SeriesKey], bool],
    ) -> list[tuple[SeriesKey, SeriesValue]]:
        """What was added to each series; none where nothing was."""
        held, self._held = self._held, set()
        deltas = []
        for key, value in reading.items():
            taken = self._taken.get(key, ZERO)
            if value == taken:
                continue
            if key not in held and not is_named(key):
                self._held.add(key)
                continue
            deltas.append((key, minus(value, taken)))
            self._taken[key] = value
        return deltas

    def take_last(
        self, last: Mapping[SeriesKey, SeriesValue], edge_ids: Collection[int]
    ) -> list[tuple[SeriesKey, SeriesValue]]:
        """The same of series that are gone from the kernel, with all of these edges'."""
        deltas = [
            (key, minus(value, self._taken.get(key, ZERO)))
            for key, value in last.items()
            if value != self._taken.get(key, ZERO)
        ]
        for key in [key for key in self._taken if key.edge_id in edge_ids]:
            del self._taken[key]
        return deltas


class TrafficDeltas:
    """Remembers what was taken of every edge's traffic. Not thread-safe."""

    def __init__(self) -> None:
        self._taken: dict[int, Traffic] = {}

    def take(self, reading: Mapping[int, Traffic]) -> list[tuple[int, Traffic]]:
        """By edge id; none where nothing came. What is no more in the reading is forgotten."""
        deltas = [
            (edge_id, _difference(value, self._taken.get(edge_id, NO_TRAFFIC)))
            for edge_id, value in reading.items()
            if value != self._taken.get(edge_id, NO_TRAFFIC)
        ]
        self._taken = dict(reading)
        return deltas


class JoinDeltas:
    """The same of joins; connections that changed hands are taken back from neither."""

    def __init__(self) -> None:
        self._taken: dict[tuple[int, int], int] = {}

    def take(self, reading: Iterable[Join]) -> list[Join]:
        taken, self._taken = self._taken, {}
        deltas = []
        for join in reading:
            edges = join.client_edge_id, join.server_edge_id
            more = join.connections - taken.get(edges, 0)
            if more > 0:
                deltas.append(join._replace(connections=more))
            self._taken[edges] = max(join.connections, taken.get(edges, 0))
        return deltas


def _difference(after: Traffic, before: Traffic) -> Traffic:
    return Traffic(
        opened=after.opened - before.opened,
        closed=after.closed - before.closed,
        connect_sum_ns=after.connect_sum_ns - before.connect_sum_ns,
        connect_buckets=tuple(map(sub, after.connect_buckets, before.connect_buckets)),
        rtt_sum_ns=after.rtt_sum_ns - before.rtt_sum_ns,
        rtt_buckets=tuple(map(sub, after.rtt_buckets, before.rtt_buckets)),
        retransmits=after.retransmits - before.retransmits,
        sent_bytes=after.sent_bytes - before.sent_bytes,
        received_bytes=after.received_bytes - before.received_bytes,
    )
