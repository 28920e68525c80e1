# SPDX-License-Identifier: Apache-2.0
"""The agent's own metrics: the ledger line by line, what queues dropped, what it all cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    NumberDataPoint,
    Sum,
)

if TYPE_CHECKING:
    from deetune_otel.model import Ledger, LedgerLine

__all__ = ["AgentReading", "build"]

_PREFIX: Final = "deetune.agent."
_LOSS_CAUSE: Final = "deetune.loss.cause"
_NOTE: Final = "deetune.note"
_SIGNAL: Final = "deetune.signal"
_PROGRAM: Final = "deetune.program"
_NO_ATTRIBUTE: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReading:
    """What the agent knows of itself at one time; counters run since `start_unix_ns`."""

    start_unix_ns: int
    time_unix_ns: int
    ledger: Ledger
    rung: int  # how bytes are seen: 1 is the best way
    dropped: Mapping[str, int] = field(default_factory=dict)  # items, by signal
    spans: int = 0
    ambiguous_causes: int = 0
    spans_released_early: int = 0
    overflowed: int = 0  # exchanges in overflow series made in user space
    cpu_time_ns: int = 0
    memory_bytes: int = 0
    program_runs: Mapping[str, int] = field(default_factory=dict)  # by BPF program
    program_time_ns: Mapping[str, int] = field(default_factory=dict)


class _Counter(NamedTuple):
    name: str
    unit: str
    description: str
    values: Callable[[AgentReading], Mapping[str, float]]  # by the attribute's value
    attribute: str = _NO_ATTRIBUTE


class _Gauge(NamedTuple):
    name: str
    unit: str
    description: str
    value: Callable[[AgentReading], int]


def _one(read: Callable[[AgentReading], float]) -> Callable[..., Mapping[str, float]]:
    return lambda reading: {_NO_ATTRIBUTE: read(reading)}


def _column(lines: Mapping[str, LedgerLine], column: int) -> Mapping[str, float]:
    return {name: line[column] for name, line in lines.items()}


def _ledger_counters(column: int, word: str, unit: str) -> tuple[_Counter, ...]:
    return (
        _Counter(
            f"seen.{word}",
            unit,
            f"The {word} that passed the doors.",
            _one(lambda reading: reading.ledger.seen[column]),
        ),
        _Counter(
            f"counted.{word}",
            unit,
            f"The {word} that are in a metric.",
            _one(lambda reading: reading.ledger.counted[column]),
        ),
        _Counter(
            f"lost.{word}",
            unit,
            f"The {word} that are in no metric.",
            lambda reading: _column(reading.ledger.lost, column),
            _LOSS_CAUSE,
        ),
        _Counter(
            f"noted.{word}",
            unit,
            f"The {word} counted with less detail than the others, or worth a note.",
            lambda reading: _column(reading.ledger.noted, column),
            _NOTE,
        ),
    )


def _ledger_gauges(column: int, word: str, unit: str) -> tuple[_Gauge, ...]:
    return (
        _Gauge(
            f"open.{word}",
            unit,
            f"The {word} of live connections that are not finished.",
            lambda reading: reading.ledger.open[column],
        ),
        _Gauge(
            f"ledger.difference.{word}",
            unit,
            f"The {word} seen that no line of the ledger explains; 0 when it balances.",
            lambda reading: reading.ledger.difference[column],
        ),
    )


_COUNTERS: Final = (
    *_ledger_counters(0, "exchanges", "{exchange}"),
    *_ledger_counters(1, "bytes", "By"),
    _Counter(
        "dropped",
        "{item}",
        "Spans and metric batches that an export queue dropped.",
        lambda reading: reading.dropped,
        _SIGNAL,
    ),
    _Counter("spans", "{span}", "Spans made.", _one(lambda reading: reading.spans)),
    _Counter(
        "spans.released_early",
        "{span}",
        "Spans whose trace was decided before both ends of the call were known.",
        _one(lambda reading: reading.spans_released_early),
    ),
    _Counter(
        "causes.ambiguous",
        "{span}",
        "Client spans without a parent because more than one was possible.",
        _one(lambda reading: reading.ambiguous_causes),
    ),
    _Counter(
        "overflowed.exchanges",
        "{exchange}",
        "The exchanges counted in series over a service's cap of attribute sets.",
        _one(lambda reading: reading.overflowed),
    ),
    _Counter(
        "cpu.time",
        "s",
        "CPU time of the agent's process.",
        _one(lambda reading: reading.cpu_time_ns / 1e9),
    ),
    _Counter(
        "program.runs",
        "{run}",
        "Runs of a BPF program.",
        lambda reading: reading.program_runs,
        _PROGRAM,
    ),
    _Counter(
        "program.time",
        "s",
        "Kernel time spent in a BPF program.",
        lambda reading: {k: ns / 1e9 for k, ns in reading.program_time_ns.items()},
        _PROGRAM,
    ),
)
_GAUGES: Final = (
    *_ledger_gauges(0, "exchanges", "{exchange}"),
    *_ledger_gauges(1, "bytes", "By"),
    _Gauge(
        "rung",
        "{rung}",
        "How bytes are seen: 1 by socket tracepoints, 2 by fexit programs; the kernel decides.",
        lambda reading: reading.rung,
    ),
    _Gauge(
        "memory.usage",
        "By",
        "Resident memory of the agent's process.",
        lambda reading: reading.memory_bytes,
    ),
)


def build(
    now: AgentReading,
    temporality: AggregationTemporality,
    previous: AgentReading | None = None,
) -> list[Metric]:
    """Counters as of `now`: cumulative, or what came since `previous` (None: the start)."""
    if temporality is not AggregationTemporality.DELTA:
        previous = None
    counters = (_sum(counter, now, previous, temporality) for counter in _COUNTERS)
    return [
        *(metric for metric in counters if metric is not None),
        *(_gauge(gauge, now) for gauge in _GAUGES),
    ]


def _sum(
    counter: _Counter,
    now: AgentReading,
    previous: AgentReading | None,
    temporality: AggregationTemporality,
) -> Metric | None:
    start_unix_ns = now.start_unix_ns if previous is None else previous.time_unix_ns
    start_unix_ns = min(start_unix_ns, now.time_unix_ns)  # the clock may be set back
    earlier = {} if previous is None else counter.values(previous)
    points = [
        NumberDataPoint(
            {counter.attribute: key} if counter.attribute else {},
            start_unix_ns,
            now.time_unix_ns,
            value - earlier.get(key, 0),
        )
        for key, value in counter.values(now).items()
    ]
    if not points:
        return None
    return Metric(
        _PREFIX + counter.name,
        counter.description,
        counter.unit,
        Sum(points, temporality, is_monotonic=True),
    )


def _gauge(gauge: _Gauge, now: AgentReading) -> Metric:
    start_unix_ns = min(now.start_unix_ns, now.time_unix_ns)
    point = NumberDataPoint({}, start_unix_ns, now.time_unix_ns, gauge.value(now))
    return Metric(_PREFIX + gauge.name, gauge.description, gauge.unit, Gauge([point]))
