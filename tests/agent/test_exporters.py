# SPDX-License-Identifier: Apache-2.0
"""Which exporters a configuration means, and what their queues say."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData
from tests.otlp_stub import OtlpStub
from tests.process import wait_until

from deetune_otel.agent.exporters import Exporters
from deetune_otel.config import ConfigError
from deetune_otel.config.schema import (
    Config,
    ConsoleSettings,
    LimitSettings,
    OtlpSettings,
    SpanSettings,
)


def test_nothing_is_sent_where_no_endpoint_is_known() -> None:
    exporters = Exporters(Config(), {})
    assert not exporters.take_spans
    assert not exporters.take_metrics
    assert exporters.report() == []
    exporters.close(1)


def test_otlp_takes_both_signals() -> None:
    with OtlpStub() as collector:
        exporters = Exporters(
            Config(otlp=OtlpSettings(temporality="delta")),
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
        )
        assert exporters.temporality is AggregationTemporality.DELTA
        assert [one.signal for one in exporters.report()] == ["spans", "metrics"]
        exporters.put_metrics(MetricsData([]))
        wait_until(lambda: collector.metrics, "the reading arrived")
        exporters.close(2)
        assert exporters.report()[1].to_json()["sent"] == 1


def test_without_spans_there_is_no_queue_for_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exporters = Exporters(
        Config(
            console=ConsoleSettings(enabled=True),
            spans=SpanSettings(enabled=False),
            limits=LimitSettings(metric_queue=1),
        ),
        {},
    )
    assert [one.signal for one in exporters.report()] == ["metrics"]
    assert not exporters.take_spans
    exporters.close(1)
    assert capsys.readouterr().out == ""


def test_settings_that_cannot_work_are_all_told_once() -> None:
    """Both signals would say the same of the endpoint."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "zip",
    }
    before = threading.active_count()
    with pytest.raises(ConfigError) as caught:
        Exporters(Config(), environ)
    assert [one.where for one in caught.value.problems] == [
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ]
    with pytest.raises(ConfigError, match=r"^otlp\.endpoint: 'c:1' must begin [^\n]+$"):
        Exporters(Config(otlp=OtlpSettings(endpoint="c:1")), {})
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("environ", "signals"),
    [
        ({}, ["spans", "metrics"]),
        ({"OTEL_METRICS_EXPORTER": "none"}, ["spans"]),
        ({"OTEL_TRACES_EXPORTER": "console"}, ["metrics", "spans"]),
        ({"OTEL_TRACES_EXPORTER": "console, OTLP"}, ["spans", "metrics", "spans"]),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, ["spans"]),
        ({"OTEL_METRICS_EXPORTER": " otlp , prometheus"}, ["spans", "metrics"]),
        ({"OTEL_METRICS_EXPORTER": " "}, ["spans", "metrics"]),
        ({"OTEL_SDK_DISABLED": "True"}, []),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}, []),
    ],
)
def test_a_signal_can_be_left_out(environ: dict[str, str], signals: list[str]) -> None:
    exporters = Exporters(
        Config(otlp=OtlpSettings(endpoint="http://127.0.0.1:1")), environ
    )
    exporters.close(0)
    assert [one.signal for one in exporters.report()] == signals


def test_otlp_by_name_goes_to_the_specifications_endpoint() -> None:
    exporters = Exporters(Config(), {"OTEL_TRACES_EXPORTER": "otlp"})
    exporters.close(0)
    (one,) = exporters.report()
    assert (one.signal, one.endpoint) == (
        "spans",
        "http://localhost:4318/v1/traces (http/protobuf)",
    )


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "'jaeger' is none of otlp, console, none"),
        ("OTEL_TRACES_EXPORTER", "prometheus", "'prometheus' is none of otlp, console"),
        (
            "OTEL_METRICS_EXPORTER",
            "otpl",
            "'otpl' is none of otlp, prometheus, console",
        ),
        ("OTEL_METRICS_EXPORTER", "none,otlp", "'none' stands beside another exporter"),
    ],
)
def test_an_exporter_that_is_none_is_an_error(
    variable: str, value: str, says: str
) -> None:
    before = threading.active_count()
    with pytest.raises(ConfigError, match=f"^{variable}: {says}"):
        Exporters(Config(), {variable: value})
    assert threading.active_count() == before


def test_the_settings_of_a_signal_that_is_left_out_are_not_looked_at() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "nowhere",
        "OTEL_METRICS_EXPORTER": "none",
    }
    Exporters(Config(), environ).close(0)
    with pytest.raises(ConfigError, match="METRICS_ENDPOINT: 'nowhere'"):
        Exporters(Config(), environ | {"OTEL_METRICS_EXPORTER": "otlp"})
