# SPDX-License-Identifier: Apache-2.0
"""The backends without our agent: what a failing end-to-end test may blame, and what not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcMetricExporter,
)
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcSpanExporter,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpSpanExporter,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id
from tests.backends.build import binary
from tests.backends.collector import validate
from tests.backends.prometheus import Prometheus, total
from tests.process import Child, ChildDied, free_port, wait_until

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from tests.backends.collector import Collector
    from tests.backends.jaeger import Jaeger

pytestmark = pytest.mark.e2e

CALLS = 7


def test_the_shipped_collector_configuration_is_valid(config: Path) -> None:
    validate(config / "collector.yaml")


def test_an_invalid_collector_configuration_is_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("receivers: {otlp: {protocols: {grpc: {endpont: x}}}}\n")
    with pytest.raises(AssertionError, match="endpont"):
        validate(wrong)


def test_the_shipped_prometheus_configuration_is_valid(config: Path) -> None:
    promtool = binary("prometheus", "promtool")
    done = subprocess.run(
        [promtool, "check", "config", config / "prometheus.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_call_is_seen_at_every_station(
    protocol: str, collector: Collector, jaeger: Jaeger
) -> None:
    exporter: SpanExporter = (
        GrpcSpanExporter(endpoint=collector.grpc_endpoint, insecure=True)
        if protocol == "grpc"
        else HttpSpanExporter(endpoint=f"{collector.http_endpoint}/v1/traces")
    )
    caller, called = f"A-{protocol}", f"B-{protocol}"
    providers = {}
    for name in (caller, called):
        provider = TracerProvider(
            shutdown_on_exit=False, resource=Resource({"service.name": name})
        )
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        providers[name] = provider
    for _ in range(CALLS):
        with (
            providers[caller]
            .get_tracer("test")
            .start_as_current_span("GET /b", kind=SpanKind.CLIENT) as client,
            providers[called]
            .get_tracer("test")
            .start_as_current_span("GET /b", kind=SpanKind.SERVER) as server,
        ):
            pass
    for provider in providers.values():
        provider.shutdown()

    wait_until(lambda: {caller, called} <= jaeger.services(), "Jaeger knows A and B")
    wait_until(
        lambda: jaeger.dependencies().get((caller, called)) == CALLS,
        f"Jaeger's map shows {CALLS} calls from A to B",
    )
    assert (called, caller) not in jaeger.dependencies()
    trace = jaeger.trace(format_trace_id(client.get_span_context().trace_id))
    spans = {span.kind: span for span in trace}
    assert spans["server"].parent_id == spans["client"].span_id
    assert spans["client"].parent_id == ""

    server_id = format_span_id(server.get_span_context().span_id)
    [at_collector] = wait_until(
        lambda: [span for span in collector.spans() if span.span_id == server_id],
        "the span is in the Collector's file",
    )
    assert at_collector.kind == "server"
    assert at_collector.resource["service.name"] == called
    wait_until(
        lambda: collector.service_graph().get((caller, called)) == CALLS,
        f"the Collector's service graph shows {CALLS} calls from A to B",
    )


def test_a_histogram_is_seen_at_every_station(
    collector: Collector, tmp_path: Path
) -> None:
    exporter = GrpcMetricExporter(endpoint=collector.grpc_endpoint, insecure=True)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider(
        [reader],
        resource=Resource({"service.name": "C", "service.instance.id": "c-1"}),
    )
    histogram = provider.get_meter("test").create_histogram(
        "http.server.request.duration",
        unit="s",
        explicit_bucket_boundaries_advisory=[0.1, 1],
    )
    for value in (0.0625, 0.5, 0.5, 2):
        histogram.record(value, {"http.route": "/c"})
    provider.shutdown()

    def arrived() -> bool:
        return any(
            point.resource["service.name"] == "C" for point in collector.points()
        )

    wait_until(arrived, "the histogram is in the Collector's file")
    [point] = [p for p in collector.points() if p.resource["service.name"] == "C"]
    assert (point.name, point.unit, point.kind, point.temporality) == (
        "http.server.request.duration",
        "s",
        "histogram",
        "cumulative",
    )
    assert (point.value, point.sum, point.buckets) == (4, 3.0625, (1, 2, 1))
    assert point.attributes == {"http.route": "/c"}

    def shown() -> float:
        return total(
            collector.prometheus(),
            "http_server_request_duration_seconds_count",
            job="C",
            instance="c-1",
            http_route="/c",
        )

    assert wait_until(shown, "the histogram is on the Collector's page") == 4

    with Prometheus.start(tmp_path, {"services": collector.ports.prometheus}) as server:
        promql = 'sum(http_server_request_duration_seconds_count{job="C"})'
        wait_until(lambda: server.query_value(promql) == 4, "Prometheus scraped it")
        assert server.query_value("sum(no_such_metric)") is None


def test_the_collector_goes_on_after_its_death(
    collector: Collector, jaeger: Jaeger
) -> None:
    before = len(collector.spans())
    collector.kill()
    assert collector.returncode == -9
    collector.restart()
    assert len(collector.spans()) == before
    provider = TracerProvider(
        shutdown_on_exit=False, resource=Resource({"service.name": "after-restart"})
    )
    provider.add_span_processor(
        SimpleSpanProcessor(
            GrpcSpanExporter(endpoint=collector.grpc_endpoint, insecure=True)
        )
    )
    provider.get_tracer("test").start_span("alive").end()
    provider.shutdown()
    wait_until(lambda: "after-restart" in jaeger.services(), "the span came through")
    wait_until(
        lambda: len(collector.spans()) == before + 1, "the file was gone on with"
    )


def test_a_death_is_told_with_the_last_words(tmp_path: Path) -> None:
    with (
        Child(["sh", "-c", "echo no such luck; exit 3"], log=tmp_path / "log") as child,
        pytest.raises(ChildDied, match=r"ended with 3:\nno such luck"),
    ):
        child.wait_ready(lambda: False, "never", timeout_s=5)


def test_an_answer_of_another_program_is_not_readiness(tmp_path: Path) -> None:
    with Child(["true"], log=tmp_path / "log") as child:
        child.wait(5)
        with pytest.raises(ChildDied):
            child.wait_ready(lambda: True, "somebody answers")


def test_a_wait_ends_and_says_what_was_seen() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.1 s: luck; last seen: 0"):
        wait_until(lambda: 0, "luck", timeout_s=0.1)


def test_free_ports_lie_below_the_ephemeral_range() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < lowest for _ in range(20))
