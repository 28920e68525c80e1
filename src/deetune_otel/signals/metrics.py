# SPDX-License-Identifier: Apache-2.0
"""Sums become the SDK's MetricsData: points are filled in, no instrument records anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from opentelemetry.sdk.metrics.export import (
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)

from deetune_otel.model import DURATION_BOUNDS_S, SIZE_BOUNDS_BYTES
from deetune_otel.protocols import measuring_module
from deetune_otel.protocols.contract import Instrument, Measure
from deetune_otel.signals.resource import SCHEMA_URL, service_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opentelemetry.sdk.metrics import Exemplar

    from deetune_otel.model import SeriesValue, Service
    from deetune_otel.signals.exemplars import Exemplars
    from deetune_otel.signals.red import Collection, Series
    from deetune_otel.signals.resource import Resources, ServiceKey

__all__ = ["build"]

# The kernel keeps neither minimum nor maximum; OTLP's fields are optional and stay unset.
_NOT_KEPT: Final = cast("float", None)


def build(
    collection: Collection,
    *,
    resources: Resources,
    exemplars: Exemplars | None = None,
    more: Iterable[tuple[Service, Sequence[Metric]]] = (),
) -> MetricsData:
    """One ResourceMetrics per service, each with one scope: ours.

    `more` are metrics made elsewhere (processes, the agent's own); they join the service they
    belong to, because the exporter keeps only one entry per resource.
    """
    services: dict[ServiceKey, tuple[Service, list[Metric]]] = {}
    for service, series in collection.services:
        metrics = services.setdefault(service_key(service), (service, []))[1]
        metrics.extend(_metrics(series, collection, exemplars))
    for service, made in more:
        services.setdefault(service_key(service), (service, []))[1].extend(made)
    return MetricsData(
        [
            ResourceMetrics(
                resources.of(service),
                [ScopeMetrics(resources.scope, metrics, SCHEMA_URL)],
                SCHEMA_URL,
            )
            for service, metrics in services.values()
            if metrics
        ]
    )


def _metrics(
    all_series: Iterable[Series], collection: Collection, exemplars: Exemplars | None
) -> list[Metric]:
    by_instrument: dict[Instrument, list[Series]] = {}
    for series in all_series:
        module = measuring_module(series.id.protocol, series.id.role)
        for instrument in module.METRICS[series.id.role]:
            by_instrument.setdefault(instrument, []).append(series)
    return [
        _metric(instrument, series, collection, exemplars)
        for instrument, series in by_instrument.items()
    ]


def _metric(
    instrument: Instrument,
    all_series: list[Series],
    collection: Collection,
    exemplars: Exemplars | None,
) -> Metric:
    data = Histogram(
        [
            _histogram_point(instrument.measure, series, collection, exemplars)
            for series in all_series
        ],
        collection.temporality,
    )
    return Metric(instrument.name, instrument.description, instrument.unit, data)


def _histogram_point(
    measure: Measure,
    series: Series,
    collection: Collection,
    exemplars: Exemplars | None,
) -> HistogramDataPoint:
    total, buckets, bounds = _histogram(measure, series.value)
    found: list[Exemplar] = []
    if exemplars is not None and measure is Measure.DURATION:
        found = exemplars.of(series.id, since_unix_ns=series.start_unix_ns)
    return HistogramDataPoint(
        attributes=dict(series.id.attributes),
        # the clock may have been set back since
        start_time_unix_nano=min(series.start_unix_ns, collection.time_unix_ns),
        time_unix_nano=collection.time_unix_ns,
        count=series.value.count,
        sum=total,
        bucket_counts=buckets,
        explicit_bounds=bounds,
        min=_NOT_KEPT,
        max=_NOT_KEPT,
        exemplars=found,
    )


def _histogram(
    measure: Measure, value: SeriesValue
) -> tuple[float, tuple[int, ...], tuple[float, ...]]:
    """Sum, counts and bounds of one histogram."""
    if measure is Measure.DURATION:
        return value.duration_sum_ns / 1e9, value.duration_buckets, DURATION_BOUNDS_S
    if measure is Measure.REQUEST_BODY:
        return value.request_body_bytes, value.request_body_buckets, SIZE_BOUNDS_BYTES
    return value.response_body_bytes, value.response_body_buckets, SIZE_BOUNDS_BYTES
