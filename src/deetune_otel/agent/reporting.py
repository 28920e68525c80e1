# SPDX-License-Identifier: Apache-2.0
"""Everything that is measured, as one reader wants it: cumulative, or what came since last time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deetune_otel.agent.usage_metrics import UsageMetrics
from deetune_otel.identity.usage import Usage
from deetune_otel.signals import agent, metrics
from deetune_otel.signals.service_graph import ServiceGraphMetrics
from deetune_otel.signals.tcp import TcpMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Lock

    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData

    from deetune_otel.model import Owner, Service
    from deetune_otel.signals.agent import AgentReading
    from deetune_otel.signals.exemplars import Exemplars
    from deetune_otel.signals.red import Accumulators
    from deetune_otel.signals.resource import Resources
    from deetune_otel.topology.model import EdgeTotal

__all__ = ["Reporter", "Sums"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What all readers share; `lock` guards it."""

    accumulators: Accumulators
    exemplars: Exemplars
    resources: Resources
    lock: Lock


class Reporter:
    """For one reader, one thread at a time. Without `usage` processes are left out."""

    def __init__(
        self,
        sums: Sums,
        temporality: AggregationTemporality,
        *,
        own: Service,
        edge_totals: Callable[[], list[EdgeTotal]],
        usage: Usage | None,
    ) -> None:
        self._sums = sums
        self._temporality = temporality
        self._own = own
        self._edge_totals = edge_totals
        self._of_edges = (ServiceGraphMetrics(temporality), TcpMetrics(temporality))
        self._usage = usage
        self._usage_metrics = UsageMetrics(temporality)
        self._previous: AgentReading | None = None

    def build(
        self, reading: AgentReading, processes: Iterable[tuple[Owner, Service]]
    ) -> MetricsData:
        """All metrics as of the last reading of the kernel."""
        more = [(self._own, agent.build(reading, self._temporality, self._previous))]
        self._previous = reading
        totals = self._edge_totals()
        more += [
            (self._own, one.build(totals, now_unix_ns=reading.time_unix_ns))
            for one in self._of_edges
        ]
        if self._usage is not None:
            more += self._usage_metrics.build(
                self._usage.read(processes), now_unix_ns=reading.time_unix_ns
            )
        sums = self._sums
        with sums.lock:
            return metrics.build(
                sums.accumulators.collect(self._temporality),
                resources=sums.resources,
                exemplars=sums.exemplars,
                more=more,
            )
