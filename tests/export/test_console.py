# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import os

from tests.export.makers import (
    buckets,
    counter,
    gauge,
    histogram,
    number,
    reading,
    span,
)

from deetune_otel.export.console import ConsoleMetricExporter, ConsoleSpanExporter


def test_a_span_is_a_line() -> None:
    out = io.StringIO()
    batch = [span("GET /cart"), span("GET /pay", error="503")]
    assert ConsoleSpanExporter(out).export(batch).sent
    first, second = out.getvalue().splitlines()
    assert first.split() == [
        "15:06:40.000Z", "checkout", "SERVER", "GET", "/cart", "12.346", "ms", "UNSET",
        "00000000000000000000000000000abc",
    ]  # fmt: skip
    assert "ERROR 503" in second


def test_a_reading_is_a_table() -> None:
    out = io.StringIO()
    data = reading(
        histogram(
            "http.server.request.duration", buckets(3, 1, 0, total=2.0, route="/a")
        ),
        counter("requests", number(7, route="/a")),
        gauge("memory", number(1024), unit="By"),
    )
    assert ConsoleMetricExporter(out).export([data]).sent
    header, *rows, empty = out.getvalue().splitlines()
    assert header.split() == ["SERVICE", "METRIC", "VALUE", "ATTRIBUTES"]
    assert [row.split() for row in rows] == [
        ["checkout", "http.server.request.duration", "4", "x", "0.5", "s", "route=/a"],
        ["checkout", "memory", "1024", "By"],
        ["checkout", "requests", "7", "route=/a"],
    ]
    assert not empty
    assert len({row.index(" 4 x") if " 4 x" in row else 0 for row in rows}) == 2


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    out = io.StringIO()
    hostile = "GET /\x1b[2J\x07\r\nfake line\u202e"
    ConsoleSpanExporter(out).export([span(hostile, error="\x1b]0;x")])
    ConsoleMetricExporter(out).export([reading(counter("c", number(1, k=hostile)))])
    text = out.getvalue()
    assert all(one.isprintable() or one == "\n" for one in text)
    assert "GET /\\x1b[2J\\x07\\r\\nfake line\\u202e" in text
    assert "\nfake" not in text


def test_json_is_otlps_own() -> None:
    out = io.StringIO()
    ConsoleSpanExporter(out, as_json=True).export([span("a"), span("b")])
    ConsoleMetricExporter(out, as_json=True).export([reading(counter("c", number(7)))])
    traces, metrics = map(json.loads, out.getvalue().splitlines())
    first, second = traces["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert first["traceId"] == "00000000000000000000000000000abc"
    assert first["spanId"] == "0000000000000def"
    assert first["parentSpanId"] == "0000000000000123"
    assert first["kind"] == 2
    assert second["name"] == "b"
    metric = metrics["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]
    assert metric["sum"]["dataPoints"][0]["asInt"] == "7"
    assert metric["sum"]["aggregationTemporality"] == 2


def test_a_reader_that_went_away_is_a_failure_not_an_exception() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as stream:
        delivery = ConsoleSpanExporter(stream).export([span("a")])
        assert not delivery.sent
        assert not delivery.retry
        assert "Broken pipe" in delivery.reason
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_a_reading_without_points_prints_nothing() -> None:
    out = io.StringIO()
    assert ConsoleMetricExporter(out).export([reading()]).sent
    assert not out.getvalue()
