# SPDX-License-Identifier: Apache-2.0
"""Cumulative MetricsData as Prometheus families, for prometheus_client to write down.

Names are translated as OpenTelemetry's Prometheus compatibility specification says: dots become
underscores, the unit becomes a suffix, monotonic sums end in `_total`. `job` and `instance` come
from the resource, whose other attributes are labels of `target_info`. The scope is left out: all
series here are of one. Families and series that translation makes equal are joined, never
repeated: a scrape with a series twice is refused as a whole.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    Sum,
)
from opentelemetry.semconv._incubating.attributes import service_attributes
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from deetune_otel.export.items import points_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.sdk.metrics import Exemplar
    from opentelemetry.sdk.resources import Resource
    from prometheus_client.metrics_core import Metric as Family

    from deetune_otel.export.items import Point

__all__ = ["MetricsCollector", "registry"]

NS_PER_S: Final = 1_000_000_000

# UCUM, as far as the semantic conventions use it.
UNITS: Final = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "kBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "Hz": "hertz",
    "%": "percent",
}
PER: Final = {"s": "second", "min": "minute", "h": "hour", "d": "day"}

# What the exposition itself means by these labels; an attribute of that name steps aside.
RESERVED: Final = frozenset({"job", "instance", "le", "quantile"})

_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]+|_{2,}")
_NOT_IN_A_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]+|_{2,}")
_ANNOTATION: Final = re.compile(r"\{[^}]*\}")

Labels: TypeAlias = "tuple[tuple[str, str], ...]"

_log = logging.getLogger(__name__)


def registry(read: Callable[[], MetricsData]) -> CollectorRegistry:
    """A registry of its own that asks `read` at every scrape."""
    of_ours = CollectorRegistry(auto_describe=False)
    of_ours.register(MetricsCollector(read))
    return of_ours


class MetricsCollector:
    """A custom Collector in prometheus_client's sense."""

    def __init__(self, read: Callable[[], MetricsData]) -> None:
        self._read = read
        self._said: set[str] = set()  # families of which a conflict was logged

    def describe(self) -> Iterable[Family]:
        """Nothing: the names are known at the scrape."""
        return []

    def collect(self) -> Iterator[Family]:
        """Raises ValueError for delta points, which Prometheus cannot read."""
        reading = self._read()
        yield from _target_info(reading)
        for family in self._families(reading).values():
            yield family.written()

    def _families(self, reading: MetricsData) -> dict[str, _Family]:
        families: dict[str, _Family] = {}
        for at in walk(reading):
            translated = _translate(at.metric)
            family = families.setdefault(
                translated.name, _Family(translated, at.metric.description or "")
            )
            if family.translated.kind is not translated.kind:
                self._say_conflict(at.metric.name, translated.name)
                continue
            target = _target_labels(at.resource.resource)
            for point in points_of(at.metric):
                labels = target | _labels(point.attributes or {})
                family.add(tuple(sorted(labels.items())), point)
        return families

    def _say_conflict(self, metric: str, name: str) -> None:
        if metric not in self._said:
            self._said.add(metric)
            _log.warning(
                "%s is left out of /metrics: %s is there already, of another kind",
                metric,
                name,
            )


class _Translated(NamedTuple):
    name: str  # of the family: without `_total`
    unit: str
    kind: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]


def _translate(metric: Metric) -> _Translated:
    data = metric.data
    if not isinstance(data, Gauge):
        if data.aggregation_temporality is not AggregationTemporality.CUMULATIVE:
            raise ValueError(f"{metric.name}: /metrics needs cumulative counts")
        if not isinstance(data, Sum | Histogram):
            raise ValueError(f"{metric.name}: exponential histograms are not supported")
    is_counter = isinstance(data, Sum) and data.is_monotonic
    is_histogram = isinstance(data, Histogram)
    unit = _unit(metric.unit or "")
    if metric.unit == "1" and not is_counter and not is_histogram:
        unit = "ratio"
    name = _NOT_IN_A_NAME.sub("_", metric.name).strip("_")
    if is_counter:
        name = name.removesuffix("_total")
    if name[:1].isdigit():
        name = f"_{name}"
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    if is_counter:
        return _Translated(name, unit, CounterMetricFamily)
    return _Translated(
        name, unit, HistogramMetricFamily if is_histogram else GaugeMetricFamily
    )


def _unit(ucum: str) -> str:
    """ "seconds" of "s", "bytes_per_second" of "By/s"; "" of "1" and of "{request}"."""
    what, _, per = _ANNOTATION.sub("", ucum).partition("/")
    unit = "" if what == "1" else UNITS.get(what, what)
    if per:
        unit = f"{unit}_per_{PER.get(per, UNITS.get(per, per))}"
    return _NOT_IN_A_LABEL.sub("_", unit).strip("_")


def _labels(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes that become one label share it, their values joined as the specification says."""
    labels: dict[str, list[str]] = {}
    for key, value in sorted(attributes.items()):
        labels.setdefault(_label_name(key), []).append(_text(value))
    return {name: ";".join(values) for name, values in labels.items()}


def _label_name(key: str) -> str:
    name = _NOT_IN_A_LABEL.sub("_", key)
    if name[:1].isdigit():
        name = f"key_{name}"
    return f"exported_{name}" if name in RESERVED else name


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _target_labels(resource: Resource) -> dict[str, str]:
    """`job` and `instance`, where the resource has what they are made of."""
    attributes = resource.attributes
    name = str(attributes.get(service_attributes.SERVICE_NAME, ""))
    namespace = str(attributes.get(service_attributes.SERVICE_NAMESPACE, ""))
    instance = str(attributes.get(service_attributes.SERVICE_INSTANCE_ID, ""))
    labels = {
        "job": f"{namespace}/{name}" if namespace else name,
        "instance": instance,
    }
    return {label: value for label, value in labels.items() if value}


def _target_info(reading: MetricsData) -> Iterator[Family]:
    family = InfoMetricFamily("target", "Target metadata")
    said: set[Labels] = set()
    for resource in reading.resource_metrics:
        target = _target_labels(resource.resource)
        key = tuple(sorted(target.items()))
        if not target or key in said:
            continue
        said.add(key)
        others = {
            name: value
            for name, value in resource.resource.attributes.items()
            if name
            not in (
                service_attributes.SERVICE_NAME,
                service_attributes.SERVICE_NAMESPACE,
                service_attributes.SERVICE_INSTANCE_ID,
            )
        }
        family.add_metric([], target | _labels(others))
    if said:
        yield family


@dataclass(slots=True)
class _Series:
    """The sum of all points that have the same labels."""

    value: float = 0.0  # of a histogram: its sum
    buckets: dict[float, int] = field(default_factory=dict)  # not cumulative
    exemplars: list[Exemplar] = field(default_factory=list)


class _Family:
    def __init__(self, translated: _Translated, description: str) -> None:
        self.translated = translated
        self._description = description
        self._series: dict[Labels, _Series] = {}

    def add(self, labels: Labels, point: Point) -> None:
        """Counts add up; of two gauges the later one stands."""
        series = self._series.setdefault(labels, _Series())
        series.exemplars.extend(point.exemplars)
        if isinstance(point, HistogramDataPoint):
            series.value += point.sum
            bounds = (*point.explicit_bounds, float("inf"))
            for bound, count in zip(bounds, point.bucket_counts, strict=True):
                series.buckets[bound] = series.buckets.get(bound, 0) + count
        elif self.translated.kind is GaugeMetricFamily:
            series.value = point.value
        else:
            series.value += point.value

    def written(self) -> Family:
        name, unit, kind = self.translated
        family = kind(name, self._description, unit=unit)
        for labels, series in self._series.items():
            as_dict = dict(labels)
            if kind is HistogramMetricFamily:
                _add_histogram(family, as_dict, series)
            elif kind is CounterMetricFamily:
                family.add_sample(
                    f"{name}_total",
                    as_dict,
                    series.value,
                    exemplar=_newest(series.exemplars),
                )
            else:
                family.add_sample(name, as_dict, series.value)
        return family


def _add_histogram(family: Family, labels: dict[str, str], series: _Series) -> None:
    total = 0
    below = float("-inf")
    for bound, count in sorted(series.buckets.items()):
        total += count
        family.add_sample(
            f"{family.name}_bucket",
            {**labels, "le": floatToGoString(bound)},  # type: ignore[no-untyped-call]
            total,
            exemplar=_newest(e for e in series.exemplars if below < e.value <= bound),
        )
        below = bound
    family.add_sample(f"{family.name}_count", labels, total)
    family.add_sample(f"{family.name}_sum", labels, series.value)


def _newest(exemplars: Iterable[Exemplar]) -> PrometheusExemplar | None:
    newest = max(exemplars, key=lambda one: one.time_unix_nano, default=None)
    if newest is None:
        return None
    ids = {}
    if newest.trace_id is not None and newest.span_id is not None:
        ids = {
            "trace_id": format_trace_id(newest.trace_id),
            "span_id": format_span_id(newest.span_id),
        }
    return PrometheusExemplar(
        ids, float(newest.value), newest.time_unix_nano / NS_PER_S
    )
