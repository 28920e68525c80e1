# SPDX-License-Identifier: Apache-2.0
"""The official exporters against real receivers, and what decides how they are set up."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import grpc  # type: ignore[import-untyped]
import pytest
from tests.export.makers import (
    DELTA,
    buckets,
    counter,
    gauge,
    histogram,
    number,
    reading,
    span,
    spans,
)
from tests.export.receivers import TLS, GrpcReceiver, HttpReceiver, Receiver
from tests.process import answers, free_port, wait_until

from deetune_otel.config.schema import OtlpSettings
from deetune_otel.export.items import ReadingFold, reading_bytes, span_bytes
from deetune_otel.export.otlp import (
    OtlpSettingsError,
    Signal,
    metric_exporter,
    resolve,
    span_exporter,
    temporality,
)
from deetune_otel.export.queue import (
    READING_LIMITS,
    SPAN_LIMITS,
    ExportStats,
    ExportWorker,
    QueueLimits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from deetune_otel.export.otlp import OtlpTarget

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
RECEIVERS: Final[Mapping[str, type[Receiver]]] = {
    HTTP: HttpReceiver,
    GRPC: GrpcReceiver,
}
QUICK: Final = replace(
    SPAN_LIMITS, max_delay_s=0.0, first_pause_s=0.05, max_pause_s=0.2
)


@pytest.fixture(params=[HTTP, GRPC])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def receiver(protocol: str) -> Iterator[Receiver]:
    with RECEIVERS[protocol]() as receiver:
        yield receiver


def target(signal: Signal = Signal.TRACES, /, **settings: Any) -> OtlpTarget:
    return resolve(OtlpSettings(**settings), signal, {})


def span_worker(
    to: OtlpTarget, limits: QueueLimits = QUICK
) -> ExportWorker[ReadableSpan]:
    return ExportWorker("spans", span_exporter(to), size_of=span_bytes, limits=limits)


def reading_worker(to: OtlpTarget) -> ExportWorker[MetricsData]:
    return ExportWorker(
        "metrics",
        metric_exporter(to),
        size_of=reading_bytes,
        limits=replace(READING_LIMITS, first_pause_s=0.05, max_pause_s=0.2),
        fold=ReadingFold(),
    )


def lost(stats: ExportStats) -> dict[str, int]:
    return {str(cause): count for cause, count in stats.dropped.items() if count}


# What is sent


def test_spans_and_metrics_arrive(receiver: Receiver, protocol: str) -> None:
    headers = {"Authorization": "Bearer x y"}
    settings = {"protocol": protocol, "endpoint": receiver.endpoint, "headers": headers}
    tracing = span_worker(target(**settings))
    metering = reading_worker(target(Signal.METRICS, **settings))
    tracing.put([span("GET /cart"), span("GET /pay")])
    metering.put([reading(counter("c", number(7)))])
    assert tracing.close(10).sent == 2
    assert metering.close(10).sent == 1
    assert receiver.spans == ["GET /cart", "GET /pay"]
    (metrics,) = (one for one in receiver.taken if one.signal == "metrics")
    assert [point.as_int for point in metrics.points] == [7]
    assert {one.headers["authorization"] for one in receiver.taken} == {"Bearer x y"}


def test_compression(receiver: Receiver, protocol: str) -> None:
    queue = span_worker(
        target(protocol=protocol, endpoint=receiver.endpoint, compression="gzip")
    )
    queue.put(spans(50))
    assert queue.close(10).sent == 50
    (request,) = receiver.taken
    if protocol == HTTP:  # gRPC's layer hides it
        assert request.headers["content-encoding"] == "gzip"


def test_mutual_tls(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What requests would rather believe than its session.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(TLS / "client.pem"))
    files = {
        "certificate": str(TLS / "ca.pem"),
        "client_certificate": str(TLS / "client.pem"),
        "client_key": str(TLS / "client.key"),
    }
    with RECEIVERS[protocol](tls=True) as receiver:
        settings = {"protocol": protocol, "endpoint": receiver.endpoint}
        queue = span_worker(target(**settings, **files))
        queue.put(spans(1))
        assert queue.close(10).sent == 1
        by_variable = {
            f"OTEL_EXPORTER_OTLP_{name.upper()}": path for name, path in files.items()
        }
        ours: Any = settings
        queue = span_worker(resolve(OtlpSettings(**ours), Signal.TRACES, by_variable))
        queue.put(spans(1))
        assert queue.close(10).sent == 1
        queue = span_worker(target(**settings))  # knows neither
        queue.put(spans(1))
        assert lost(queue.close(10)) == {"shutdown": 1}


def test_an_authority_that_is_not_known_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with HttpReceiver(tls=True) as receiver:
        queue = span_worker(target(endpoint=receiver.endpoint))
        queue.put(spans(1))
        wait_until(lambda: queue.stats().retries, "refused by us")
        queue.close(10)
    assert "its certificate is not trusted" in caplog.text
    assert "Set otlp.certificate (OTEL_EXPORTER_OTLP_CERTIFICATE)" in caplog.text


def test_a_large_reading_goes_in_parts(
    receiver: Receiver, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deetune_otel.export.otlp_sender.MAX_POINTS", 4)
    queue = reading_worker(
        target(Signal.METRICS, protocol=protocol, endpoint=receiver.endpoint)
    )
    queue.put([reading(counter("c", *(number(n, k=str(n)) for n in range(10))))])
    assert queue.close(10).sent == 1
    assert [len(one.points) for one in receiver.taken] == [4, 4, 2]


def test_a_number_out_of_range_costs_only_itself(
    receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The encoder refuses a whole batch for one such number."""
    queue = reading_worker(
        target(Signal.METRICS, protocol=protocol, endpoint=receiver.endpoint)
    )
    queue.put(
        [
            reading(
                gauge("open.bytes", number(0xFF01010101000101), number(7, k="v")),
                counter("most", number((1 << 63) - 1), number(1 << 63, k="over")),
                histogram("durations", buckets(1, -1, 0), buckets(1, 2, 3, k="v")),
            )
        ]
    )
    stats = queue.close(10)
    assert (stats.sent, stats.points_lost) == (1, 3)
    (arrived,) = receiver.taken
    histograms = [one for one in arrived.points if hasattr(one, "bucket_counts")]
    numbers = [one.as_int for one in arrived.points if one not in histograms]
    assert [list(one.bucket_counts) for one in histograms] == [[1, 2, 3]]
    assert sorted(numbers) == [7, (1 << 63) - 1]
    assert caplog.text.count("open.bytes: a number is out of range") == 1


def test_a_span_out_of_range_costs_only_itself(
    receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = span_worker(target(protocol=protocol, endpoint=receiver.endpoint))
    too_early = span("too early")
    too_early._start_time = -1
    queue.put([*spans(2), too_early])
    stats = queue.close(10)
    assert (stats.sent, lost(stats)) == (2, {"rejected": 1})
    assert "too early: a number is out of range" in caplog.text


# A backend that fails


def test_a_dead_collector_that_comes_back(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "deetune_otel")
    receiver = RECEIVERS[protocol](port=free_port())
    queue = span_worker(
        target(protocol=protocol, endpoint=receiver.endpoint),
        replace(QUICK, max_items=5),
    )
    queue.put(spans(1))
    wait_until(lambda: queue.stats().retries >= 3, "tried several times")
    queue.put(spans(8, first=1))
    stats = queue.stats()
    assert stats.failing
    assert lost(stats) == {"queue_full": 3}
    with receiver:
        assert queue.flush(10)
        stats = queue.close(10)
        assert receiver.spans == [f"span {n}" for n in (0, 4, 5, 6, 7, 8)]
    assert (stats.sent, lost(stats), stats.failing) == (6, {"queue_full": 3}, "")
    stopped, again = (record.getMessage() for record in caplog.records)
    assert stopped.startswith(f"cannot send spans to http://localhost:{receiver.port}")
    assert f" ({protocol}): " in stopped
    assert "refused" in stopped.lower()
    assert "otlp.endpoint or OTEL_EXPORTER_OTLP_ENDPOINT" in stopped
    assert again.endswith("; dropped meanwhile: 3")


def test_a_collector_that_restarts_between_two_batches(protocol: str) -> None:
    receiver = RECEIVERS[protocol](port=free_port())
    with receiver:
        queue = span_worker(target(protocol=protocol, endpoint=receiver.endpoint))
        queue.put(spans(1))
        assert queue.flush(10)
    wait_until(lambda: not answers(receiver.port), "gone")
    with receiver:
        queue.put(spans(1, first=1))
        assert queue.flush(10)
        assert queue.close(10).sent == 2
    assert receiver.spans == ["span 0", "span 1"]


@pytest.mark.parametrize("retry_after", ["", "1"])
def test_overload_is_retried_and_its_delay_respected(
    receiver: Receiver, protocol: str, retry_after: str
) -> None:
    receiver.script.status = 503
    receiver.script.code = grpc.StatusCode.UNAVAILABLE
    receiver.script.retry_after = retry_after
    queue = span_worker(target(protocol=protocol, endpoint=receiver.endpoint))
    queue.put(spans(2))
    wait_until(lambda: queue.stats().retries, "refused once", every_s=0.01)
    refused_at = time.monotonic()
    receiver.script.status = 200
    receiver.script.code = grpc.StatusCode.OK
    wait_until(lambda: queue.stats().sent == 2, "sent", every_s=0.01)
    assert (time.monotonic() - refused_at >= 0.7) is bool(retry_after)
    assert lost(queue.close(10)) == {}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT),
        (401, grpc.StatusCode.UNAUTHENTICATED),
        (404, grpc.StatusCode.UNIMPLEMENTED),
        (413, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (302, grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_what_is_refused_for_good_is_dropped_at_once(
    receiver: Receiver,
    protocol: str,
    status: int,
    code: grpc.StatusCode,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.script.status = status
    receiver.script.code = code
    receiver.script.location = "/login"
    queue = span_worker(target(protocol=protocol, endpoint=receiver.endpoint))
    for _ in range(3):
        queue.put(spans(2))
        queue.flush(10)
    stats = queue.close(10)
    assert (lost(stats), stats.retries) == ({"rejected": 6}, 0)
    assert receiver.asked == 3
    (record,) = caplog.records
    assert (str(status) if protocol == HTTP else code.name) in record.getMessage()
    if status in (401, 302) and protocol == GRPC:
        assert "otlp.headers" in record.getMessage()


def test_a_part_that_the_backend_left_out_is_counted(
    receiver: Receiver, protocol: str
) -> None:
    receiver.script.refused = 2
    settings = {"protocol": protocol, "endpoint": receiver.endpoint}
    tracing = span_worker(target(**settings))
    tracing.put(spans(5))
    stats = tracing.close(10)
    assert (stats.sent, lost(stats)) == (3, {"rejected": 2})
    metering = reading_worker(target(Signal.METRICS, **settings))
    metering.put([reading(counter("c", number(1)))])
    stats = metering.close(10)
    assert (stats.sent, stats.points_lost) == (1, 2)


def test_a_slow_collector_times_out_and_recovers(
    receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script.hang = True
    queue = span_worker(
        target(protocol=protocol, endpoint=receiver.endpoint, timeout_s=0.2)
    )
    queue.put(spans(1))
    wait_until(lambda: queue.stats().retries, "timed out")
    receiver.script.hang = False
    receiver.released.set()
    assert queue.flush(10)
    assert queue.close(10).sent == 1
    assert "no answer within 0.2 s" in caplog.text


def test_shutdown_is_prompt_while_the_collector_hangs(
    receiver: Receiver, protocol: str
) -> None:
    receiver.script.hang = True
    queue = span_worker(target(protocol=protocol, endpoint=receiver.endpoint))
    queue.put(spans(3))
    wait_until(lambda: receiver.asked, "under way")
    started = time.monotonic()
    stats = queue.close(0.5)
    assert time.monotonic() - started < 2
    assert lost(stats) == {"shutdown": 3}
    receiver.released.set()
    queue._thread.join(10)
    assert queue.stats() == stats


def test_shutdown_is_prompt_when_nothing_listens(protocol: str) -> None:
    queue = span_worker(
        target(protocol=protocol, endpoint=f"http://localhost:{free_port()}"),
        SPAN_LIMITS,
    )
    queue.put(spans(3))
    wait_until(lambda: queue.stats().depth == 3, "taken")
    started = time.monotonic()
    stats = queue.close(10)
    assert time.monotonic() - started < 3
    assert lost(stats) == {"shutdown": 3}


def test_no_delta_is_lost_in_an_outage(protocol: str) -> None:
    receiver = RECEIVERS[protocol](port=free_port())
    queue = reading_worker(
        target(Signal.METRICS, protocol=protocol, endpoint=receiver.endpoint)
    )
    for at in range(1, 21):
        queue.put([reading(counter("c", number(at, at=at), temporality=DELTA))])
        wait_until(lambda: not queue._queue, "taken and folded", every_s=0.005)
    assert queue.stats().failing
    with receiver:
        assert queue.flush(10)
        stats = queue.close(10)
    arrived = sum(point.as_int for one in receiver.taken for point in one.points)
    assert arrived == sum(range(1, 21))
    assert (lost(stats), stats.points_lost) == ({}, 0)
    assert stats.sent + stats.superseded == 20


def test_what_cannot_be_encoded_is_dropped_with_its_reason(
    receiver: Receiver, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = span_worker(target(protocol=protocol, endpoint=receiver.endpoint))
    broken: Any = "not a span"
    queue._size_of = lambda _: 1
    queue.put([broken])
    queue.flush(10)
    queue.put(spans(1))
    stats = queue.close(10)
    assert (stats.sent, lost(stats)) == (1, {"rejected": 1})
    assert "'str' object has no attribute" in caplog.text


# What decides


def test_the_defaults() -> None:
    for_spans = target()
    assert for_spans.endpoint == "http://localhost:4318/v1/traces"
    assert target(Signal.METRICS).endpoint == "http://localhost:4318/v1/metrics"
    over_grpc = target(protocol=GRPC)
    assert (over_grpc.endpoint, over_grpc.insecure) == ("localhost:4317", True)
    assert (for_spans.timeout_s, for_spans.compression) == (10.0, "none")
    assert for_spans.origin == {}


def test_a_setting_comes_before_the_signals_variable_before_the_general_one() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:1/base/",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://spans:2/as/it/stands",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5000",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=1,b=2%20x",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "C=3",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "",
    }
    traces = resolve(OtlpSettings(), Signal.TRACES, environ)
    metrics = resolve(OtlpSettings(), Signal.METRICS, environ)
    assert traces.endpoint == "http://spans:2/as/it/stands"
    assert metrics.endpoint == "http://all:1/base/v1/metrics"
    assert (traces.timeout_s, metrics.timeout_s) == (2.5, 5.0)
    assert (traces.compression, metrics.compression) == ("deflate", "gzip")
    assert (traces.headers, metrics.headers) == ({"c": "3"}, {"a": "1", "b": "2 x"})
    assert traces.origin["timeout_s"] == "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"

    ours = OtlpSettings(
        endpoint="http://ours:3", timeout_s=1, compression="none", headers={"B": "9"}
    )
    by_setting = resolve(ours, Signal.METRICS, environ)
    assert by_setting.endpoint == "http://ours:3/v1/metrics"
    assert (by_setting.timeout_s, by_setting.compression) == (1, "none")
    assert by_setting.headers == {"a": "1", "b": "9"}
    assert by_setting.origin["endpoint"] == "otlp.endpoint"


def test_the_protocol_is_the_signals_own() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
    }
    assert resolve(OtlpSettings(), Signal.TRACES, environ).protocol == GRPC
    assert resolve(OtlpSettings(), Signal.METRICS, environ).protocol == HTTP


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        ("http://c:4317", GRPC),
        ("http://c:4317/", GRPC),
        ("c:4317", GRPC),
        ("http://c:4318", HTTP),
        ("http://c:4317/v1/traces", HTTP),
        ("http://c", HTTP),
    ],
)
def test_a_protocol_that_nobody_named_follows_the_port(
    endpoint: str, protocol: str
) -> None:
    assert target(endpoint=endpoint).protocol == protocol


@pytest.mark.parametrize(
    ("endpoint", "variable", "address", "insecure"),
    [
        ("http://c:4317", "false", "c:4317", True),
        ("https://c:4317", "true", "c:4317", False),
        ("c:4317", "true", "c:4317", True),
        ("c:4317", "", "c:4317", False),
        ("http://[::1]:4317/", "", "[::1]:4317", True),
    ],
)
def test_grpc_is_insecure_when_the_scheme_or_the_variable_says_so(
    endpoint: str, variable: str, address: str, *, insecure: bool
) -> None:
    resolved = resolve(
        OtlpSettings(protocol=GRPC, endpoint=endpoint),
        Signal.TRACES,
        {"OTEL_EXPORTER_OTLP_INSECURE": variable},
    )
    assert (resolved.endpoint, resolved.insecure) == (address, insecure)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"PROTOCOL": "http/json"}, "PROTOCOL: must be http/protobuf or grpc"),
        ({"ENDPOINT": "collector:4318"}, "must begin with http:// or https://"),
        ({"ENDPOINT": "ftp://c"}, "must begin with http:// or https://"),
        ({"ENDPOINT": "http://"}, "names no host"),
        ({"ENDPOINT": "http://c:port"}, "is no URL"),
        ({"ENDPOINT": "http://c:0"}, "names no host"),
        ({"ENDPOINT": "http://a..b:1"}, "'a..b' is no address and no name of a host"),
        ({"ENDPOINT": "http://my host:1"}, "'my host' is no address and no name"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "*:4317"}, "'*' is no address and no name"),
        ({"ENDPOINT": '"http://c:4318"'}, "must begin with http:// or https://"),
        ({"ENDPOINT": "http://c:4318/#a"}, "has a #"),
        ({"TRACES_ENDPOINT": "c"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'c' must"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "http://c/v1/traces"}, "has a path"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "http://u:p@c"}, "has no user"),
        ({"PROTOCOL": "grpc", "COMPRESSION": "deflate"}, "must be none or gzip"),
        ({"COMPRESSION": "zstd"}, "must be none, gzip or deflate, got 'zstd'"),
        ({"TIMEOUT": "10s"}, "TIMEOUT: must be milliseconds above 0, got '10s'"),
        ({"TIMEOUT": "-1"}, "must be milliseconds above 0"),
        ({"TIMEOUT": "nan"}, "must be milliseconds above 0"),
        ({"HEADERS": "no-equals"}, "must be name=value pairs"),
        ({"HEADERS": "a b=c"}, "'a b' is no name of a header"),
        ({"HEADERS": "a=b%0d%0ac"}, "the value of 'a' must be printable"),
        ({"PROTOCOL": "grpc", "ENDPOINT": "c:1", "INSECURE": "yes"}, "true or false"),
        ({"CERTIFICATE": "/no/such.pem"}, "/no/such.pem: No such file"),
        ({"CERTIFICATE": __file__}, "not usable as PEM"),
        ({"CLIENT_KEY": "/no/such.key"}, "no use without a client certificate"),
        (
            {"PROTOCOL": "grpc", "CLIENT_CERTIFICATE": str(TLS / "client.pem")},
            "needs a client key",
        ),
        (
            {
                "CLIENT_CERTIFICATE": str(TLS / "client.pem"),
                "CLIENT_KEY": str(TLS / "server.key"),
            },
            "not usable as PEM",
        ),
    ],
)
def test_what_cannot_work_is_said_at_once(
    environ: dict[str, str], message: str
) -> None:
    prefixed = {f"OTEL_EXPORTER_OTLP_{key}": value for key, value in environ.items()}
    with pytest.raises(OtlpSettingsError) as caught:
        resolve(OtlpSettings(), Signal.TRACES, prefixed)
    assert message in str(caught.value)
    assert str(caught.value).startswith("OTEL_EXPORTER_OTLP_")


def test_the_query_of_an_endpoint_stays_at_its_end() -> None:
    to = target(endpoint="http://c:4318/otlp/?key=a", protocol=HTTP)
    assert to.endpoint == "http://c:4318/otlp/v1/traces?key=a"


@pytest.mark.parametrize("make", [span_exporter, metric_exporter])
def test_what_the_official_exporter_does_not_take_is_no_surprise(
    make: Callable[[OtlpTarget], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the variable although the setting stands over it."""
    signal = Signal.TRACES if make is span_exporter else Signal.METRICS
    variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT"
    monkeypatch.setenv(variable, "10s")
    to = target(signal, endpoint="http://c:4317", protocol=GRPC, timeout_s=1.0)
    with pytest.raises(OtlpSettingsError, match=f"{signal.upper()}_.*'10s'"):
        make(to)


def test_a_wrong_setting_is_named_as_such() -> None:
    with pytest.raises(OtlpSettingsError, match=r"^otlp\.endpoint: 'c:1' must"):
        target(endpoint="c:1")


def test_secrets_are_not_shown() -> None:
    to = target(endpoint="http://me:secret@c:1", headers={"api-key": "hidden"})
    assert "me:secret@" in to.endpoint
    shown = f"{to!r} {span_exporter(to).endpoint}"
    assert "secret" not in shown
    assert "hidden" not in shown
    with pytest.raises(OtlpSettingsError) as caught:
        target(headers={"api-key": "hidden\n"})
    assert "hidden" not in str(caught.value)


def test_a_timeout_that_was_meant_in_seconds_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ = {"OTEL_EXPORTER_OTLP_TIMEOUT": "10"}
    assert resolve(OtlpSettings(), Signal.TRACES, environ).timeout_s == 0.01
    assert "OTEL_EXPORTER_OTLP_TIMEOUT=10 is in milliseconds" in caplog.text
    assert "for 10 s write 10000" in caplog.text


@pytest.mark.parametrize(("protocol", "port"), [(HTTP, 4317), (GRPC, 4318)])
def test_the_other_protocols_port_is_noticed(protocol: str, port: int) -> None:
    to = target(protocol=protocol, endpoint=f"http://c:{port}")
    assert f"Port {port} usually speaks" in to.advice


def test_temporality(caplog: pytest.LogCaptureFixture) -> None:
    variable = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    assert temporality(OtlpSettings(), {}) == "cumulative"
    assert temporality(OtlpSettings(), {variable: "Delta"}) == "delta"
    assert temporality(OtlpSettings(temporality="lowmemory"), {variable: "delta"}) == (
        "lowmemory"
    )
    with pytest.raises(OtlpSettingsError, match=f"{variable}: must be cumulative"):
        temporality(OtlpSettings(), {variable: "sometimes"})
    aggregation = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    temporality(OtlpSettings(), {aggregation: "base2_exponential_bucket_histogram"})
    assert "has no effect" in caplog.text


def test_an_encrypted_key_is_an_error_and_no_question(tmp_path: Path) -> None:
    key = tmp_path / "locked.key"
    key.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(OtlpSettingsError, match="not usable as PEM"):
        target(client_certificate=str(TLS / "client.pem"), client_key=str(key))


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_grpc_is_imported_only_when_it_is_chosen(protocol: str) -> None:
    program = f"""
import os, sys
from deetune_otel.config.schema import OtlpSettings
from deetune_otel.export.otlp import Signal, resolve, span_exporter
assert "requests" not in sys.modules
target = resolve(OtlpSettings(protocol={protocol!r}), Signal.TRACES, {{}})
span_exporter(target).shutdown()
assert os.environ.get("GRPC_VERBOSITY", "ERROR") == "ERROR"
print("grpc" in sys.modules, "requests" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(protocol == GRPC), str(protocol == HTTP)]
