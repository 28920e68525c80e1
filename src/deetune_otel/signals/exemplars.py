# SPDX-License-Identifier: Apache-2.0
"""Exemplars: from a histogram's bucket to a span that was kept, the newest one."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache
from opentelemetry.sdk.metrics import Exemplar

from deetune_otel.model import DURATION_BOUNDS_S

if TYPE_CHECKING:
    from deetune_otel.signals.red import SeriesId

__all__ = ["Exemplars"]

# About 15 exemplars of 300 bytes each, at worst 18 MB; most series have one or two.
MAX_SERIES: Final = 4000


class Exemplars:
    """The newest kept exchange of every duration bucket, of the series last seen."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._by_series: LRUCache[SeriesId, dict[int, Exemplar]] = LRUCache(max_series)

    def offer(
        self,
        series: SeriesId,
        *,
        duration_ns: int,
        end_unix_ns: int,
        trace_id: int,
        span_id: int,
    ) -> None:
        seconds = duration_ns / 1e9
        buckets = self._by_series.setdefault(series, {})
        bucket = bisect_left(DURATION_BOUNDS_S, seconds)
        newest = buckets.get(bucket)
        if newest is None or newest.time_unix_nano <= end_unix_ns:
            buckets[bucket] = Exemplar({}, seconds, end_unix_ns, span_id, trace_id)

    def of(self, series: SeriesId, *, since_unix_ns: int) -> list[Exemplar]:
        """By bucket, those whose exchange ended at that time or later."""
        buckets = self._by_series.get(series, {})
        return [
            exemplar
            for _, exemplar in sorted(buckets.items())
            if exemplar.time_unix_nano >= since_unix_ns
        ]
