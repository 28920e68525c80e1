# SPDX-License-Identifier: Apache-2.0
"""Maps with known contents, for the parts that only read them; and values to put in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deetune_otel.model import (
    Join,
    Link,
    Owner,
    Pair,
    ProcessKey,
    SeriesKey,
    SeriesValue,
    Traffic,
)
from deetune_otel.signals.values import ZERO

if TYPE_CHECKING:
    from collections.abc import Collection

    from deetune_otel.model import Edge

__all__ = ["Maps", "owner", "value"]


def owner(number: int = 1, **changes: Any) -> Owner:
    made = Owner(
        id=number,
        process=ProcessKey(1000 + number, number),
        parent_pid=1,
        netns=7,
        cgroup_id=1,
        comm=f"program{number}",
        local_pid=1000 + number,
    )
    return made._replace(**changes)


def value(count: int, **changes: Any) -> SeriesValue:
    """So many exchanges of 2 ms, 10 bytes there and 20 back."""
    buckets = (count, *ZERO.duration_buckets[1:])
    sizes = (count, *ZERO.request_body_buckets[1:])
    made = SeriesValue(
        count=count,
        duration_sum_ns=2_000_000 * count,
        first_byte_sum_ns=1_000_000 * count,
        request_bytes=10 * count,
        response_bytes=20 * count,
        request_body_bytes=0,
        response_body_bytes=0,
        duration_buckets=buckets,
        request_body_buckets=sizes,
        response_body_buckets=sizes,
    )
    return made._replace(**changes)


class Maps:
    """What a kernel's maps hold at one time, and what was written into them."""

    def __init__(self) -> None:
        self.series: dict[SeriesKey, SeriesValue] = {}
        self.edges: dict[int, Edge] = {}
        self.owners: dict[int, Owner] = {}
        self.joins: list[Join] = []
        self.traffic: dict[int, Traffic] = {}
        self.limits: dict[int, tuple[int, float]] = {}

    def add(self, *entries: Owner | Edge | Join) -> None:
        for entry in entries:
            if isinstance(entry, Owner):
                self.owners[entry.id] = entry
            elif isinstance(entry, Join):
                self.joins.append(entry)
            else:
                self.edges[entry.id] = entry

    def read_series(self) -> dict[SeriesKey, SeriesValue]:
        return dict(self.series)

    def read_edges(self) -> dict[int, Edge]:
        return dict(self.edges)

    def read_owners(self) -> dict[int, Owner]:
        return dict(self.owners)

    def read_joins(self) -> list[Join]:
        return list(self.joins)

    def read_traffic(self) -> dict[int, Traffic]:
        return dict(self.traffic)

    def read_links(self) -> list[Link]:
        return []

    def read_link(self, pair: Pair) -> Link | None:
        return next((link for link in self.read_links() if link.pair == pair), None)

    def own_idle(self) -> None:
        """Every connection here has its owner."""

    def forget_owners(self, owner_ids: Collection[int]) -> dict[SeriesKey, SeriesValue]:
        gone = {id_ for id_, edge in self.edges.items() if edge.owner_id in owner_ids}
        last = {key: one for key, one in self.series.items() if key.edge_id in gone}
        for key in last:
            del self.series[key]
        for edge_id in gone:
            del self.edges[edge_id]
        for owner_id in owner_ids:
            self.owners.pop(owner_id, None)
        return last

    def set_span_limit(
        self, owner_id: int, *, per_second: int, keep_fraction: float
    ) -> None:
        self.limits[owner_id] = per_second, keep_fraction
