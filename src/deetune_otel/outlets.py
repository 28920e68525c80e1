# SPDX-License-Identifier: Apache-2.0
"""Where telemetry goes: a queue and a thread for every signal and every exporter chosen."""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.export import AggregationTemporality

from deetune_otel.export import otlp
from deetune_otel.export.items import ReadingFold, reading_bytes, span_bytes
from deetune_otel.export.queue import READING_LIMITS, SPAN_LIMITS, ExportWorker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from deetune_otel.config import Config
    from deetune_otel.export.queue import Exporter, ExportStats

__all__ = ["Outlet", "Outlets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """One exporter of one signal, as /status and a log line show it."""

    signal: str  # "spans", "metrics"
    endpoint: str
    stats: ExportStats

    def to_json(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, **asdict(self.stats)}


class Outlets:
    """Sends from construction until `close`; raises OtlpSettingsError."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._spans: list[ExportWorker[ReadableSpan]] = []
        self._metrics: list[ExportWorker[MetricsData]] = []
        self._endpoints: list[tuple[str, str, ExportWorker[Any]]] = []
        self._config = config
        self.temporality = AggregationTemporality.CUMULATIVE
        if config.otlp.is_on(environ):
            traces, metrics = (
                otlp.resolve(config.otlp, signal, environ) for signal in otlp.Signal
            )
            if otlp.temporality(config.otlp, environ) != "cumulative":
                self.temporality = AggregationTemporality.DELTA
            self._add(otlp.span_exporter(traces), otlp.metric_exporter(metrics))
        if config.console.enabled:
            self._add_console(as_json=config.console.format == "json")

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

    def _add_console(self, *, as_json: bool) -> None:
        # Imported when chosen: 4 MB that an agent with a Collector has no use for.
        from deetune_otel.export.console import (  # noqa: PLC0415
            ConsoleMetricExporter,
            ConsoleSpanExporter,
        )

        self._add(
            ConsoleSpanExporter(sys.stdout, as_json=as_json),
            ConsoleMetricExporter(sys.stdout, as_json=as_json),
        )

    def _add(
        self, spans: Exporter[ReadableSpan], metrics: Exporter[MetricsData]
    ) -> None:
        limits: Final = self._config.limits
        if self._config.spans.enabled:
            of_spans = ExportWorker(
                "spans",
                spans,
                size_of=span_bytes,
                limits=replace(SPAN_LIMITS, max_items=limits.span_queue),
            )
            self._spans.append(of_spans)
            self._endpoints.append(("spans", spans.endpoint, of_spans))
        of_metrics = ExportWorker(
            "metrics",
            metrics,
            size_of=reading_bytes,
            limits=replace(READING_LIMITS, max_items=limits.metric_queue),
            fold=ReadingFold(),
        )
        self._metrics.append(of_metrics)
        self._endpoints.append(("metrics", metrics.endpoint, of_metrics))
