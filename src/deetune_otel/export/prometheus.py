# SPDX-License-Identifier: Apache-2.0
"""Cumulative MetricsData as a page for Prometheus, in its text format or in OpenMetrics.

Names are translated as OpenTelemetry's Prometheus compatibility specification says: dots become
underscores, the unit becomes a suffix, monotonic sums end in `_total`. `job` and `instance` come
from the resource, whose other attributes are labels of `target_info`. The scope is left out: all
series here are of one. Families and series that translation makes equal are joined, never
repeated: a scrape with a series twice is refused as a whole. What a scraper accepts is
prometheus_client's to say; the lines are written here, the labels of a series once for all its
buckets, for pages of a million lines.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

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
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from deetune_otel.export.items import points_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opentelemetry.sdk.metrics import Exemplar
    from opentelemetry.sdk.resources import Resource

    from deetune_otel.export.items import Point

__all__ = ["Exposition"]

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

# Some hundred kilobytes.
LINES_A_PIECE: Final = 2000
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]+|_{2,}")
_NOT_IN_A_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]+|_{2,}")
_ANNOTATION: Final = re.compile(r"\{[^}]*\}")

_T = TypeVar("_T")
Labels: TypeAlias = "tuple[tuple[str, str], ...]"

_log = logging.getLogger(__name__)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Form(NamedTuple):
    """What differs between the two formats."""

    is_open: bool
    end: bytes

    def header(self, name: str, kind: str, description: str, unit: str) -> str:
        if self.is_open:
            of_unit = f"# UNIT {name} {unit}\n" if unit else ""
            help_ = _escaped(description)
            return f"# HELP {name} {help_}\n# TYPE {name} {kind}\n{of_unit}"
        if kind == Kind.COUNTER:
            name = f"{name}_total"
        elif kind == "info":
            name, kind = f"{name}_info", Kind.GAUGE
        help_ = description.replace("\\", "\\\\").replace("\n", "\\n")
        return f"# HELP {name} {help_}\n# TYPE {name} {kind}\n"

    def exemplar(self, exemplars: Iterable[Exemplar]) -> str:
        """The newest one, where the format has them."""
        newest = max(exemplars, key=lambda one: one.time_unix_nano, default=None)
        if newest is None or not self.is_open:
            return ""
        ids = ""
        if newest.trace_id is not None and newest.span_id is not None:
            trace, span = (
                format_trace_id(newest.trace_id),
                format_span_id(newest.span_id),
            )
            ids = f'trace_id="{trace}",span_id="{span}"'
        at_s = newest.time_unix_nano / NS_PER_S
        return f" # {{{ids}}} {_number(float(newest.value))} {at_s}"


TEXT: Final = Form(is_open=False, end=b"")
OPENMETRICS: Final = Form(is_open=True, end=b"# EOF\n")


class Exposition:
    """What a scrape gets. The text is made in pieces, so that it costs no memory of its size."""

    def __init__(self, read: Callable[[], MetricsData]) -> None:
        self._read = read
        self._said: set[str] = set()  # families of which a conflict was logged

    def written(self, accept: str = "") -> tuple[str, Iterator[bytes]]:
        """The content type for this Accept header, and the page in pieces.

        The pieces raise ValueError for delta points, which Prometheus cannot read.
        """
        try:
            _, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            _, content_type = choose_encoder("")
        is_open = content_type.startswith("application/openmetrics-text")
        return content_type, self._pieces(OPENMETRICS if is_open else TEXT)

    def _pieces(self, form: Form) -> Iterator[bytes]:
        reading = self._read()
        yield "".join(_target_info(reading, form)).encode()
        for found in self._families(reading).values():
            for some in _batched(found.lines(form), LINES_A_PIECE):
                yield "".join(some).encode()
        yield form.end

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
    kind: Kind


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
        return _Translated(name, unit, Kind.COUNTER)
    return _Translated(name, unit, Kind.HISTOGRAM if is_histogram else Kind.GAUGE)


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


def _target_info(reading: MetricsData, form: Form) -> Iterator[str]:
    said: set[Labels] = set()
    for resource in reading.resource_metrics:
        target = _target_labels(resource.resource)
        key = tuple(sorted(target.items()))
        if not target or key in said:
            continue
        if not said:
            yield form.header("target", "info", "Target metadata", "")
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
        labels = target | _labels(others)
        yield f"target_info{{{_written(sorted(labels.items()))}}} 1.0\n"


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
        elif self.translated.kind is Kind.GAUGE:
            series.value = point.value
        else:
            series.value += point.value

    def lines(self, form: Form) -> Iterator[str]:
        name, unit, kind = self.translated
        yield form.header(name, kind, self._description, unit)
        for labels, series in self._series.items():
            text = _written(labels)
            if kind is Kind.HISTOGRAM:
                yield from _histogram(name, text, series, form)
                continue
            suffix, exemplar = "", ""
            if kind is Kind.COUNTER:
                suffix, exemplar = "_total", form.exemplar(series.exemplars)
            yield f"{name}{suffix}{_braced(text)} {_number(series.value)}{exemplar}\n"


def _histogram(name: str, labels: str, series: _Series, form: Form) -> Iterator[str]:
    total = 0
    below = float("-inf")
    begin = f'{name}_bucket{{{labels}{"," if labels else ""}le="'
    for bound, count in sorted(series.buckets.items()):
        total += count
        exemplar = ""
        if series.exemplars:
            here = (one for one in series.exemplars if below < one.value <= bound)
            exemplar = form.exemplar(here)
        yield f'{begin}{_number(bound)}"}} {total}.0{exemplar}\n'
        below = bound
    yield f"{name}_count{_braced(labels)} {total}.0\n"
    yield f"{name}_sum{_braced(labels)} {_number(series.value)}\n"


def _written(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


@lru_cache(1024)
def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def _batched(items: Iterable[_T], count: int) -> Iterator[list[_T]]:
    waiting = iter(items)
    while some := list(islice(waiting, count)):
        yield some
