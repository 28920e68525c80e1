# SPDX-License-Identifier: Apache-2.0
"""Reads the OTLP/JSON lines that the Collector's file exporter writes, as flat values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Point", "Span", "points", "spans"]

KINDS: Final = ("", "internal", "server", "client", "producer", "consumer")
TEMPORALITIES: Final = ("", "delta", "cumulative")
STATUSES: Final = ("unset", "ok", "error")


class Span(NamedTuple):
    """A span with the resource it belongs to."""

    resource: dict[str, Any]
    scope: str
    trace_id: str
    span_id: str
    parent_id: str  # "" for a root
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]  # (trace id, span id)


class Point(NamedTuple):
    """A metric's data point; `value` is a histogram's count, a sum's or gauge's number."""

    resource: dict[str, Any]
    scope: str
    name: str
    unit: str
    kind: str  # "sum", "gauge", "histogram"
    temporality: str  # "delta", "cumulative", "" for a gauge
    monotonic: bool
    attributes: dict[str, Any]
    start_ns: int
    time_ns: int
    value: float
    sum: float  # histograms only
    buckets: tuple[int, ...]  # histograms only
    bounds: tuple[float, ...]  # histograms only
    exemplars: tuple[tuple[str, str], ...]  # (trace id, span id)


def spans(path: Path) -> list[Span]:
    """Give all spans of a file, in the order in which they were written."""
    return [
        _span(resource, scope, span)
        for resource, scope, items in _items(path, "resourceSpans", "scopeSpans")
        for span in items.get("spans", ())
    ]


def points(path: Path) -> list[Point]:
    """Give all metric points of a file, in the order in which they were written."""
    return [
        _point(resource, scope, metric, kind, point)
        for resource, scope, items in _items(path, "resourceMetrics", "scopeMetrics")
        for metric in items.get("metrics", ())
        for kind in ("sum", "gauge", "histogram")
        if kind in metric
        for point in metric[kind].get("dataPoints", ())
    ]


def _items(
    path: Path, resources: str, scopes: str
) -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):  # still being written
            return
        for resource in json.loads(line).get(resources, ()):
            attributes = _attributes(resource.get("resource", {}))
            for scope in resource.get(scopes, ()):
                yield attributes, scope.get("scope", {}).get("name", ""), scope


def _span(resource: dict[str, Any], scope: str, span: dict[str, Any]) -> Span:
    return Span(
        resource=resource,
        scope=scope,
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span["name"],
        kind=KINDS[span.get("kind", 0)],
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        status=STATUSES[span.get("status", {}).get("code", 0)],
        attributes=_attributes(span),
        links=tuple(
            (link["traceId"], link["spanId"]) for link in span.get("links", ())
        ),
    )


def _point(
    resource: dict[str, Any],
    scope: str,
    metric: dict[str, Any],
    kind: str,
    point: dict[str, Any],
) -> Point:
    number = point.get("count", point.get("asInt", point.get("asDouble", 0)))
    return Point(
        resource=resource,
        scope=scope,
        name=metric["name"],
        unit=metric.get("unit", ""),
        kind=kind,
        temporality=TEMPORALITIES[metric[kind].get("aggregationTemporality", 0)],
        monotonic=metric[kind].get("isMonotonic", False),
        attributes=_attributes(point),
        start_ns=int(point.get("startTimeUnixNano", 0)),
        time_ns=int(point["timeUnixNano"]),
        value=float(number),
        sum=float(point.get("sum", 0)),
        buckets=tuple(int(count) for count in point.get("bucketCounts", ())),
        bounds=tuple(float(bound) for bound in point.get("explicitBounds", ())),
        exemplars=tuple(
            (one.get("traceId", ""), one.get("spanId", ""))
            for one in point.get("exemplars", ())
        ),
    )


def _attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in of.get("attributes", ())}


def _value(value: dict[str, Any]) -> Any:
    """Unwrap an AnyValue; 64-bit integers are strings in OTLP/JSON."""
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_value(one) for one in value["arrayValue"].get("values", ())]
    return next(iter(value.values()), None)
