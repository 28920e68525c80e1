# SPDX-License-Identifier: Apache-2.0
"""Every line of the ledger is a metric; counters can be taken as deltas."""

from __future__ import annotations

from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Sum

from deetune_otel.model import Ledger, LedgerLine
from deetune_otel.signals import agent
from deetune_otel.signals.agent import AgentReading

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA


def reading(at: int, scale: int) -> AgentReading:
    return AgentReading(
        start_unix_ns=1,
        time_unix_ns=at,
        ledger=Ledger(
            seen=LedgerLine(10 * scale, 1000 * scale),
            counted=LedgerLine(7 * scale, 600 * scale),
            open=LedgerLine(1 * scale, 100 * scale),
            lost={"midstream": LedgerLine(2 * scale, 299 * scale)},
            noted={"blind": LedgerLine(0, 5 * scale)},
        ),
        rung=2,
        dropped={"spans": 4 * scale},
        cpu_time_ns=1_500_000_000 * scale,
        memory_bytes=1 << 20,
        program_time_ns={"recv": 2_000_000_000 * scale},
    )


def values(
    temporality: AggregationTemporality, previous: AgentReading | None = None
) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for metric in agent.build(reading(30, 3), temporality, previous):
        assert isinstance(metric.data, Sum | Gauge)
        for point in metric.data.data_points:
            words = ",".join(f"{k}={v!s}" for k, v in (point.attributes or {}).items())
            found[metric.name.removeprefix("deetune.agent."), words] = point.value
    return found


def test_every_line_is_there() -> None:
    found = values(CUMULATIVE)
    assert found["seen.exchanges", ""] == 30
    assert found["counted.bytes", ""] == 1800
    assert found["open.exchanges", ""] == 3
    assert found["lost.exchanges", "deetune.loss.cause=midstream"] == 6
    assert found["lost.bytes", "deetune.loss.cause=midstream"] == 897
    assert found["noted.bytes", "deetune.note=blind"] == 15
    assert found["ledger.difference.exchanges", ""] == 0
    assert found["ledger.difference.bytes", ""] == 3
    assert found["dropped", "deetune.signal=spans"] == 12
    assert found["cpu.time", ""] == 4.5
    assert found["program.time", "deetune.program=recv"] == 6
    assert found["memory.usage", ""] == 1 << 20
    assert found["rung", ""] == 2


def test_delta_is_what_came_since() -> None:
    found = values(DELTA, reading(20, 1))
    assert found["seen.exchanges", ""] == 20
    assert found["lost.bytes", "deetune.loss.cause=midstream"] == 598
    assert found["open.exchanges", ""] == 3
    assert values(DELTA)["seen.exchanges", ""] == 30


def test_starts() -> None:
    starts = {
        (temporality, point.start_time_unix_nano)
        for temporality in (CUMULATIVE, DELTA)
        for metric in agent.build(reading(30, 3), temporality, reading(20, 1))
        if isinstance(metric.data, Sum)
        for point in metric.data.data_points
    }
    assert starts == {(CUMULATIVE, 1), (DELTA, 20)}
