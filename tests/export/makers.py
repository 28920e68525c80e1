# SPDX-License-Identifier: Apache-2.0
"""Spans and readings for the tests of export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
DELTA: Final = AggregationTemporality.DELTA
START_NS: Final = 1_750_000_000_000_000_000
BOUNDS: Final = (0.1, 1.0)
SCOPE: Final = InstrumentationScope("deetune_otel", "1.0")
SHOP: Final = Resource(
    {
        "service.name": "checkout",
        "service.namespace": "shop",
        "service.instance.id": "host:1",
        "host.name": "host",
    }
)


def span(
    name: str,
    *,
    error: str = "",
    attributes: Mapping[str, Any] | None = None,
    resource: Resource = SHOP,
) -> ReadableSpan:
    return ReadableSpan(
        name,
        SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)),
        SpanContext(0xABC, 0x123, is_remote=True, trace_flags=TraceFlags(1)),
        resource,
        attributes or {"http.request.method": "GET"},
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR, error) if error else Status(),
        start_time=START_NS,
        end_time=START_NS + 12_345_678,
        instrumentation_scope=SCOPE,
    )


def spans(count: int, first: int = 0) -> list[ReadableSpan]:
    return [span(f"span {n}") for n in range(first, first + count)]


def number(
    value: float,
    *,
    at: int = 1,
    exemplars: Sequence[Exemplar] = (),
    dotted: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> NumberDataPoint:
    """`dotted`: attributes that are no Python names."""
    return NumberDataPoint(
        attributes={**attributes, **(dotted or {})},
        start_time_unix_nano=START_NS + at - 1,
        time_unix_nano=START_NS + at,
        value=value,
        exemplars=exemplars,
    )


def buckets(
    *counts: int,
    at: int = 1,
    total: float = 1.5,
    exemplars: Sequence[Exemplar] = (),
    dotted: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes={**attributes, **(dotted or {})},
        start_time_unix_nano=START_NS + at - 1,
        time_unix_nano=START_NS + at,
        count=sum(counts),
        sum=total,
        bucket_counts=counts,
        explicit_bounds=BOUNDS,
        min=cast("float", None),  # the kernel keeps neither
        max=cast("float", None),
        exemplars=exemplars,
    )


def counter(
    name: str,
    *points: NumberDataPoint,
    unit: str = "1",
    temporality: AggregationTemporality = CUMULATIVE,
    monotonic: bool = True,
) -> Metric:
    return Metric(name, f"About {name}.", unit, Sum(points, temporality, monotonic))


def gauge(name: str, *points: NumberDataPoint, unit: str = "1") -> Metric:
    return Metric(name, f"About {name}.", unit, Gauge(points))


def histogram(
    name: str,
    *points: HistogramDataPoint,
    unit: str = "s",
    temporality: AggregationTemporality = CUMULATIVE,
) -> Metric:
    return Metric(name, f"About {name}.", unit, Histogram(points, temporality))


def exemplar(value: float, *, at: int = 1) -> Exemplar:
    return Exemplar({}, value, START_NS + at, span_id=0xDEF, trace_id=0xABC)


def reading(*metrics: Metric, resource: Resource = SHOP) -> MetricsData:
    return MetricsData(
        [ResourceMetrics(resource, [ScopeMetrics(SCOPE, metrics, "")], "")]
    )


def joined(*readings: MetricsData) -> MetricsData:
    return MetricsData([one for data in readings for one in data.resource_metrics])
