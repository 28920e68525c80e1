# SPDX-License-Identifier: Apache-2.0
"""Which exporters a configuration means, and what their queues say."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData
from tests.otlp_stub import OtlpStub
from tests.process import wait_until

from deetune_otel.config.schema import (
    Config,
    ConsoleSettings,
    LimitSettings,
    OtlpSettings,
    SpanSettings,
)
from deetune_otel.export.otlp import OtlpSettingsError
from deetune_otel.outlets import Outlets


def test_nothing_is_sent_where_no_endpoint_is_known() -> None:
    outlets = Outlets(Config(), {})
    assert not outlets.take_spans
    assert not outlets.take_metrics
    assert outlets.report() == []
    outlets.close(1)


def test_otlp_takes_both_signals() -> None:
    with OtlpStub() as collector:
        outlets = Outlets(
            Config(otlp=OtlpSettings(temporality="delta")),
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
        )
        assert outlets.temporality is AggregationTemporality.DELTA
        assert [one.signal for one in outlets.report()] == ["spans", "metrics"]
        outlets.put_metrics(MetricsData([]))
        wait_until(lambda: collector.metrics, "the reading arrived")
        outlets.close(2)
        assert outlets.report()[1].to_json()["sent"] == 1


def test_without_spans_there_is_no_queue_for_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outlets = Outlets(
        Config(
            console=ConsoleSettings(enabled=True),
            spans=SpanSettings(enabled=False),
            limits=LimitSettings(metric_queue=1),
        ),
        {},
    )
    assert [one.signal for one in outlets.report()] == ["metrics"]
    assert not outlets.take_spans
    outlets.close(1)
    assert capsys.readouterr().out == ""


def test_a_setting_that_cannot_work_is_an_error() -> None:
    with pytest.raises(OtlpSettingsError, match="http://"):
        Outlets(Config(otlp=OtlpSettings(endpoint="127.0.0.1:4318")), {})
