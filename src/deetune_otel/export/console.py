# SPDX-License-Identifier: Apache-2.0
"""Telemetry on a stream, for a look without a backend.

As text: a line for a span, a table for a reading of metrics. As JSON: OTLP's own JSON, one export
request a line, as the Collector's file exporter writes it. Names come from the wire, so nothing
that a terminal obeys is printed as it is.
"""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import (  # type: ignore[import-untyped]
    MessageToDict,
)
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.semconv.attributes import service_attributes
from opentelemetry.trace import StatusCode, format_trace_id

from deetune_otel.export.items import points_of, walk
from deetune_otel.export.queue import Delivery
from deetune_otel.export.ranges import RangeCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from opentelemetry.sdk.resources import Resource

    from deetune_otel.export.items import Point

__all__ = ["ConsoleMetricExporter", "ConsoleSpanExporter"]

_log = logging.getLogger(__name__)

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
# OTLP's JSON has these in hexadecimal, protobuf's in base64.
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})


class _Console:
    endpoint: Final = "the console"

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        self._stream = stream
        self._check = RangeCheck(_log)
        self._as_json = as_json

    def _write(self, lines: Sequence[str]) -> Delivery[Any]:
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except (
            OSError,
            ValueError,
        ) as error:  # the reader went away; the stream is closed
            return Delivery(
                sent=False, retry=False, reason=f"it cannot be written: {error}"
            )
        return Delivery(sent=True)

    def shutdown(self) -> None:
        """The stream belongs to whoever gave it."""


class ConsoleSpanExporter(_Console):
    def export(self, batch: Sequence[ReadableSpan]) -> Delivery[ReadableSpan]:
        if self._as_json:
            spans, refused = self._check.spans(batch)
            written = self._write([_otlp_json(encode_spans(spans))])
            return replace(written, refused=refused)
        return self._write([_span_line(span) for span in batch])


class ConsoleMetricExporter(_Console):
    def export(self, batch: Sequence[MetricsData]) -> Delivery[MetricsData]:
        if self._as_json:
            checked = [self._check.reading(one) for one in batch]
            written = self._write(
                [_otlp_json(encode_metrics(one)) for one, _ in checked]
            )
            return replace(written, refused=sum(refused for _, refused in checked))
        return self._write([line for one in batch for line in _table(one)])


def _span_line(span: ReadableSpan) -> str:
    """Time, service, kind, name, duration, status and trace, in this order."""
    start, end = span.start_time or 0, span.end_time or 0
    status = span.status.status_code
    what = "" if status is not StatusCode.ERROR else span.status.description or ""
    return "  ".join(
        (
            _clock(start),
            _plain(_service(span.resource)).ljust(16),
            span.kind.name.ljust(8),
            _plain(span.name).ljust(32),
            f"{(end - start) / NS_PER_MS:.3f} ms".rjust(12),
            f"{status.name} {_plain(what)}".strip().ljust(5),
            format_trace_id(span.context.trace_id) if span.context else "",
        )
    ).rstrip()


def _table(reading: MetricsData) -> list[str]:
    """A line for a series: service, metric, value, attributes."""
    rows = [
        (
            _plain(_service(at.resource.resource)),
            _plain(at.metric.name),
            _value(point, at.metric.unit or ""),
            _attributes(point.attributes or {}),
        )
        for at in walk(reading)
        for point in points_of(at.metric)
    ]
    if not rows:
        return []
    rows.insert(0, ("SERVICE", "METRIC", "VALUE", "ATTRIBUTES"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*map(str.ljust, row, widths), row[3]]).rstrip()
        for row in sorted(rows[1:])
    ]
    return ["  ".join([*map(str.ljust, rows[0], widths), rows[0][3]]), *lines, ""]


def _value(point: Point, unit: str) -> str:
    unit = "" if unit == "1" else f" {unit}"
    if not isinstance(point, HistogramDataPoint):
        return f"{point.value:g}{unit}"
    mean = point.sum / point.count if point.count else 0.0
    return f"{point.count} x {mean:.4g}{unit}"


def _attributes(attributes: Mapping[str, Any]) -> str:
    return " ".join(
        f"{_plain(key)}={_plain(str(value))}"
        for key, value in sorted(attributes.items())
    )


def _service(resource: Resource) -> str:
    return str(resource.attributes.get(service_attributes.SERVICE_NAME, ""))


def _clock(unix_ns: int) -> str:
    """Time of day in UTC, with milliseconds."""
    seconds, ns = divmod(unix_ns, NS_PER_S)
    at = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{at:%H:%M:%S}.{ns // NS_PER_MS:03d}Z"


def _plain(text: str) -> str:
    """What does not print, as Python would write it: no name reaches a terminal's controls."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _otlp_json(request: Any) -> str:
    """A line of OTLP/JSON, of an Export*ServiceRequest."""
    message = MessageToDict(request, use_integers_for_enums=True)
    _to_hex(message)
    return json.dumps(message, separators=(",", ":"))


def _to_hex(node: Any) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _IDS:
                node[key] = base64.b64decode(value).hex()
            else:
                _to_hex(value)
    elif isinstance(node, list):
        for value in node:
            _to_hex(value)
