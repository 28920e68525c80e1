# SPDX-License-Identifier: Apache-2.0
"""Readings of processes as metrics, cumulative and as deltas."""

from __future__ import annotations

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    NumberDataPoint,
    Sum,
)

from deetune_otel.agent.usage_metrics import UsageMetrics
from deetune_otel.identity.usage import InstrumentKind, ResourceReading
from deetune_otel.model import Service

SHOP, CART = Service(name="shop"), Service(name="cart")
CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA


def cpu(seconds: float, mode: str = "user", of: Service = SHOP) -> ResourceReading:
    return ResourceReading(
        of, "process.cpu.time", "s", InstrumentKind.COUNTER, {"cpu.mode": mode}, seconds
    )


def memory(used: float, kind: InstrumentKind) -> ResourceReading:
    return ResourceReading(SHOP, f"memory.{kind}", "By", kind, {}, used)


def test_one_metric_for_all_points_of_a_service() -> None:
    made = UsageMetrics(CUMULATIVE).build(
        [cpu(3), cpu(1, "system"), cpu(9, of=CART)], now_unix_ns=5
    )
    assert [(service, len(metrics)) for service, metrics in made] == [
        (SHOP, 1),
        (CART, 1),
    ]
    [metric] = made[0][1]
    assert isinstance(metric.data, Sum)
    assert metric.data.is_monotonic
    assert [(p.value, p.time_unix_nano) for p in metric.data.data_points] == [
        (3, 5),
        (1, 5),
    ]


def test_kinds_become_their_instruments() -> None:
    kinds = (InstrumentKind.GAUGE, InstrumentKind.UP_DOWN_COUNTER)
    [(_, metrics)] = UsageMetrics(DELTA).build(
        [memory(1, kind) for kind in kinds], now_unix_ns=5
    )
    gauge, up_down = (metric.data for metric in metrics)
    assert isinstance(gauge, Gauge)
    assert isinstance(up_down, Sum)
    assert not up_down.is_monotonic
    assert up_down.aggregation_temporality is CUMULATIVE


def test_deltas_say_what_came_since_the_last_time() -> None:
    usage = UsageMetrics(DELTA)
    assert usage.build([cpu(100)], now_unix_ns=5) == []
    [(_, [metric])] = usage.build([cpu(103), cpu(7, "system")], now_unix_ns=9)
    [point] = metric.data.data_points
    assert isinstance(point, NumberDataPoint)
    assert (point.value, point.start_time_unix_nano, point.time_unix_nano) == (3, 5, 9)
