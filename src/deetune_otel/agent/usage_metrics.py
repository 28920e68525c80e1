# SPDX-License-Identifier: Apache-2.0
"""Readings of processes and containers as OpenTelemetry metrics. Pure.

A counter runs since its process or container began, which the reading does not say: its start is
left unset (0). As a delta it is what came since the last collection; the first one only starts
the count, because what was before it is not ours to report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    NumberDataPoint,
    Sum,
)

from deetune_otel.identity.usage import InstrumentKind
from deetune_otel.signals.resource import service_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deetune_otel.identity.usage import ResourceReading
    from deetune_otel.model import Service
    from deetune_otel.signals.resource import ServiceKey

__all__ = ["UsageMetrics"]


class _Point(NamedTuple):
    service: ServiceKey
    name: str
    attributes: frozenset[tuple[str, str]]


_Points: TypeAlias = "dict[tuple[str, str, InstrumentKind], list[NumberDataPoint]]"


class UsageMetrics:
    """One reader's view: remembers what it reported. Not thread-safe."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self._temporality = temporality
        self._before: dict[_Point, float] = {}
        self._before_unix_ns = 0

    def build(
        self, readings: Iterable[ResourceReading], *, now_unix_ns: int
    ) -> list[tuple[Service, list[Metric]]]:
        """By service; the readings of one instrument in one metric."""
        services: dict[ServiceKey, tuple[Service, _Points]] = {}
        before, self._before = self._before, {}
        for one in readings:
            key = service_key(one.service)
            start_unix_ns, value = 0, one.value
            if self._is_delta(one):
                point = _Point(key, one.name, frozenset(one.attributes.items()))
                self._before[point] = one.value
                if point not in before:
                    continue
                start_unix_ns = min(self._before_unix_ns, now_unix_ns)
                value = max(0.0, one.value - before[point])
            _, points = services.setdefault(key, (one.service, {}))
            points.setdefault((one.name, one.unit, one.kind), []).append(
                NumberDataPoint(dict(one.attributes), start_unix_ns, now_unix_ns, value)
            )
        self._before_unix_ns = now_unix_ns
        return [
            (service, [self._metric(*of, found) for of, found in points.items()])
            for service, points in services.values()
        ]

    def _is_delta(self, one: ResourceReading) -> bool:
        return (
            one.kind is InstrumentKind.COUNTER
            and self._temporality is AggregationTemporality.DELTA
        )

    def _metric(
        self, name: str, unit: str, kind: InstrumentKind, points: list[NumberDataPoint]
    ) -> Metric:
        if kind is InstrumentKind.GAUGE:
            return Metric(name, "", unit, Gauge(points))
        is_counter = kind is InstrumentKind.COUNTER
        temporality = (
            self._temporality if is_counter else AggregationTemporality.CUMULATIVE
        )
        return Metric(name, "", unit, Sum(points, temporality, is_monotonic=is_counter))
