# SPDX-License-Identifier: Apache-2.0
"""Where telemetry goes: a queue and a thread for every signal and every exporter chosen."""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import AggregationTemporality

from deetune_otel.config import ConfigError
from deetune_otel.export import otlp
from deetune_otel.export.items import ReadingFold, reading_bytes, span_bytes
from deetune_otel.export.queue import READING_LIMITS, SPAN_LIMITS, ExportWorker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from deetune_otel.config import Config, Problem
    from deetune_otel.export.otlp import OtlpTarget
    from deetune_otel.export.queue import Exporter, ExportStats

__all__ = ["Exporters", "Outlet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """One exporter of one signal, as /status and a log line show it."""

    signal: str  # "spans", "metrics"
    endpoint: str
    stats: ExportStats

    def to_json(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, **asdict(self.stats)}


class Exporters:
    """Sends from construction until `close`; raises ConfigError for what cannot work."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._spans: list[ExportWorker[ReadableSpan]] = []
        self._metrics: list[ExportWorker[MetricsData]] = []
        self._endpoints: list[tuple[str, str, ExportWorker[Any]]] = []
        self._config = config
        self.temporality = AggregationTemporality.CUMULATIVE
        targets, temporality = _targets(config, environ)
        if temporality != "cumulative":
            self.temporality = AggregationTemporality.DELTA
        # Both are made before the first one has a thread: an error leaves none behind.
        traces, metrics = (targets.get(signal) for signal in otlp.Signal)
        to_traces = otlp.span_exporter(traces) if traces else None
        to_metrics = otlp.metric_exporter(metrics) if metrics else None
        if to_traces is not None:
            self._add_spans(to_traces)
        if to_metrics is not None:
            self._add_metrics(to_metrics)
        printed = {
            signal
            for signal in otlp.Signal
            if config.console.enabled
            or "console" in otlp.named_exporters(signal, environ)
        }
        if printed:
            self._add_console(printed, as_json=config.console.format == "json")

    @property
    def take_spans(self) -> bool:
        return bool(self._spans)

    @property
    def take_metrics(self) -> bool:
        return bool(self._metrics)

    def put_spans(self, spans: Sequence[ReadableSpan]) -> None:
        for worker in self._spans:
            worker.put(spans)

    def put_metrics(self, reading: MetricsData) -> None:
        for worker in self._metrics:
            worker.put([reading])

    def report(self) -> list[Outlet]:
        return [
            Outlet(signal=signal, endpoint=endpoint, stats=worker.stats())
            for signal, endpoint, worker in self._endpoints
        ]

    def close(self, deadline_s: float) -> None:
        """All at once: one that hangs takes no time from the others."""
        closing = [
            threading.Thread(target=worker.close, args=(deadline_s,))
            for *_, worker in self._endpoints
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _add_console(self, printed: set[otlp.Signal], *, as_json: bool) -> None:
        # Imported when chosen: 4 MB that an agent with a Collector has no use for.
        from deetune_otel.export.console import (  # noqa: PLC0415
            ConsoleMetricExporter,
            ConsoleSpanExporter,
        )

        if otlp.Signal.TRACES in printed and self._config.spans.enabled:
            self._add_spans(ConsoleSpanExporter(sys.stdout, as_json=as_json))
        if otlp.Signal.METRICS in printed:
            self._add_metrics(ConsoleMetricExporter(sys.stdout, as_json=as_json))

    def _add_spans(self, to: Exporter[ReadableSpan]) -> None:
        worker = ExportWorker(
            "spans",
            to,
            size_of=span_bytes,
            limits=replace(SPAN_LIMITS, max_items=self._config.limits.span_queue),
        )
        self._spans.append(worker)
        self._endpoints.append(("spans", to.endpoint, worker))

    def _add_metrics(self, to: Exporter[MetricsData]) -> None:
        worker = ExportWorker(
            "metrics",
            to,
            size_of=reading_bytes,
            limits=replace(READING_LIMITS, max_items=self._config.limits.metric_queue),
            fold=ReadingFold(),
        )
        self._metrics.append(worker)
        self._endpoints.append(("metrics", to.endpoint, worker))


def _targets(
    config: Config, environ: Mapping[str, str]
) -> tuple[dict[otlp.Signal, OtlpTarget], str]:
    """Of what goes over OTLP, and the temporality of metrics. ConfigError has all mistakes."""
    left_out = otlp.left_out(config.otlp, environ)
    targets: dict[otlp.Signal, OtlpTarget] = {}
    temporality = "cumulative"
    problems: dict[Problem, None] = {}  # both signals may have the same
    for signal in otlp.Signal:
        is_spans = signal is otlp.Signal.TRACES
        if signal in left_out or (is_spans and not config.spans.enabled):
            continue
        try:
            targets[signal] = otlp.resolve(config.otlp, signal, environ)
            if not is_spans:
                temporality = otlp.temporality(config.otlp, environ)
        except otlp.OtlpSettingsError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(problems)
    return targets, temporality
