# SPDX-License-Identifier: Apache-2.0
"""What edges have counted, as one reader wants it: one point for each set of attributes.

Edges that mean the same attributes (two ports of one name) are summed. What an edge brought
stays in its sum when the edge itself is forgotten, so a sum never decreases; it is gone when
the last of its edges is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from operator import add, sub
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from deetune_otel.protocols.routes import OVERFLOW_ATTRIBUTE
from deetune_otel.topology.model import NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deetune_otel.topology.model import EdgeTotal

__all__ = [
    "EdgeAttributes",
    "EdgeInstrument",
    "EdgePart",
    "EdgeSums",
    "Kind",
    "edge_attributes",
]

EdgeAttributes: TypeAlias = "tuple[tuple[str, str | bool], ...]"
_Values: TypeAlias = "tuple[float, ...]"

# Neither minimum nor maximum is kept; OTLP's fields are optional and stay unset.
_NOT_KEPT: Final = cast("float", None)


class Kind(Enum):
    COUNTER = "counter"
    UP_DOWN_COUNTER = "up-down counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EdgeInstrument:
    """A constant of a module: the same one is the same object, which is quick to look up."""

    name: str
    unit: str
    description: str
    kind: Kind = Kind.COUNTER
    bounds: tuple[float, ...] = ()  # of a histogram


class EdgePart(NamedTuple):
    """What one edge has for one point.

    `values` add up: of a counter the count, of a histogram the sum and the buckets.
    """

    edge_id: str
    start_unix_ns: int
    instrument: EdgeInstrument
    attributes: EdgeAttributes
    values: _Values


class _PointKey(NamedTuple):
    instrument: EdgeInstrument
    attributes: EdgeAttributes


class _BroughtKey(NamedTuple):
    """An edge that was forgotten and begins anew is another one."""

    edge_id: str
    start_unix_ns: int
    point: _PointKey


@dataclass(slots=True)
class _Point:
    start_unix_ns: int
    values: _Values
    reported: _Values  # of `values`, as deltas


def edge_attributes(total: EdgeTotal) -> EdgeAttributes:
    """Who calls whom, as service graphs name it; namespaces only where there are some."""
    attributes: list[tuple[str, str | bool]] = [
        ("client", total.client),
        ("server", total.server),
    ]
    if total.client_namespace:
        attributes.append(("client_service_namespace", total.client_namespace))
    if total.server_namespace:
        attributes.append(("server_service_namespace", total.server_namespace))
    if NodeKind.OTHER in {total.client_kind, total.server_kind}:
        attributes.append((OVERFLOW_ATTRIBUTE, True))
    return tuple(attributes)


class EdgeSums:
    """One reader's view: remembers what it reported. Not thread-safe."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self._temporality = temporality
        self._is_delta = temporality is AggregationTemporality.DELTA
        self._before_unix_ns = 0
        self._brought: dict[_BroughtKey, _Values] = {}
        self._points: dict[_PointKey, _Point] = {}

    def build(self, parts: Iterable[EdgePart], *, now_unix_ns: int) -> list[Metric]:
        """One metric an instrument, as of now: cumulative, or what came since last time.

        The parts are cumulative, and of all edges that there are.
        """
        self._add(parts)
        metrics: dict[EdgeInstrument, list[_PointKey]] = {}
        for key, point in self._points.items():
            if not self._is_told_as_delta(key.instrument) or (
                point.values != point.reported
            ):
                metrics.setdefault(key.instrument, []).append(key)
        made = [
            self._metric(instrument, keys, now_unix_ns)
            for instrument, keys in metrics.items()
        ]
        self._before_unix_ns = now_unix_ns
        return made

    def _add(self, parts: Iterable[EdgePart]) -> None:
        brought: dict[_BroughtKey, _Values] = {}
        points: dict[_PointKey, _Point] = {}
        # The oldest first: a point starts with the first of its edges.
        for part in sorted(parts, key=lambda one: one.start_unix_ns):
            key = _PointKey(part.instrument, part.attributes)
            nothing = (0,) * len(part.values)
            point = points.get(key)
            if point is None:
                point = self._points.get(key) or _Point(
                    part.start_unix_ns, nothing, nothing
                )
                if part.instrument.kind is Kind.UP_DOWN_COUNTER:
                    point.values = nothing  # is what it is now
                points[key] = point
            by_edge = _BroughtKey(part.edge_id, part.start_unix_ns, key)
            before = self._brought.get(by_edge, nothing)
            if part.instrument.kind is Kind.UP_DOWN_COUNTER:
                point.values = tuple(map(add, point.values, part.values))
            elif part.values != before:
                new = map(sub, part.values, before)
                point.values = tuple(map(add, point.values, new))
            brought[by_edge] = part.values
        self._brought, self._points = brought, points

    def _is_told_as_delta(self, instrument: EdgeInstrument) -> bool:
        return self._is_delta and instrument.kind is not Kind.UP_DOWN_COUNTER

    def _metric(
        self, instrument: EdgeInstrument, keys: list[_PointKey], now_unix_ns: int
    ) -> Metric:
        data: Sum | Histogram
        if instrument.kind is Kind.HISTOGRAM:
            data = Histogram(
                [self._histogram_point(key, now_unix_ns) for key in keys],
                self._temporality,
            )
        else:
            data = Sum(
                [self._number_point(key, now_unix_ns) for key in keys],
                self._temporality
                if instrument.kind is Kind.COUNTER
                else AggregationTemporality.CUMULATIVE,
                is_monotonic=instrument.kind is Kind.COUNTER,
            )
        return Metric(instrument.name, instrument.description, instrument.unit, data)

    def _number_point(self, key: _PointKey, now_unix_ns: int) -> NumberDataPoint:
        start_unix_ns, (value,) = self._take(key, now_unix_ns)
        return NumberDataPoint(dict(key.attributes), start_unix_ns, now_unix_ns, value)

    def _histogram_point(self, key: _PointKey, now_unix_ns: int) -> HistogramDataPoint:
        start_unix_ns, (total, *buckets) = self._take(key, now_unix_ns)
        counts = [int(count) for count in buckets]
        return HistogramDataPoint(
            attributes=dict(key.attributes),
            start_time_unix_nano=start_unix_ns,
            time_unix_nano=now_unix_ns,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=key.instrument.bounds,
            min=_NOT_KEPT,
            max=_NOT_KEPT,
        )

    def _take(self, key: _PointKey, now_unix_ns: int) -> tuple[int, _Values]:
        """Since when, and what: all of it, or what was not reported yet.

        A clock that was set back since makes what is told begin anew.
        """
        point = self._points[key]
        if not self._is_told_as_delta(key.instrument):
            return min(point.start_unix_ns, now_unix_ns), point.values
        new = tuple(map(sub, point.values, point.reported))
        point.reported = point.values
        start_unix_ns = max(point.start_unix_ns, self._before_unix_ns)
        return min(start_unix_ns, now_unix_ns), new
