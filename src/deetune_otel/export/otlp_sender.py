# SPDX-License-Identifier: Apache-2.0
"""The SDK's exporters, made to try once and to say what came of it.

On their own they sleep and retry for up to the timeout, hand on nothing but success or failure,
and log every attempt. Here the queue does the waiting, so the transport makes one attempt, notes
what it saw in `Seen`, and what the SDK wants to log becomes the reason of last resort.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from deetune_otel.export.items import split
from deetune_otel.export.queue import Delivery
from deetune_otel.export.ranges import RangeCheck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from deetune_otel.export.otlp import OtlpTarget

__all__ = ["ReadingSender", "Seen", "SpanSender", "listen_to"]

_log = logging.getLogger(__name__)

# About 300 bytes each: gRPC receivers refuse above 4 MiB.
MAX_POINTS: Final = 10_000


@dataclass(slots=True)
class Seen:
    """What the transport saw of the request under way."""

    failure: Delivery[Any] | None = None
    refused: int = 0

    def note_partial(self, response: Any) -> None:
        """Reads an Export*ServiceResponse: a receiver may take a part only."""
        partial = response.partial_success
        self.refused = getattr(
            partial, "rejected_spans", getattr(partial, "rejected_data_points", 0)
        )


class _SdkLog(logging.Filter):
    """Keeps the exporters' log lines to itself: the queue says it once, and with advice."""

    def __init__(self) -> None:
        super().__init__()
        self._last = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        self._last.text = record.getMessage()
        return False

    def take(self) -> str:
        text = getattr(self._last, "text", "")
        self._last.text = ""
        return text or "the exporter gave no reason"


# One for the process, as the SDK's loggers are.
_SDK_LOG: Final = _SdkLog()


def listen_to(*loggers: str) -> None:
    for name in loggers:
        logging.getLogger(name).addFilter(_SDK_LOG)


class _Sender:
    def __init__(self, target: OtlpTarget, seen: Seen) -> None:
        self._target = target
        self._seen = seen
        self._check = RangeCheck(_log)

    @property
    def endpoint(self) -> str:
        return f"{self._target.shown_endpoint} ({self._target.protocol})"

    def _start(self) -> None:
        self._seen.failure = None
        self._seen.refused = 0
        _SDK_LOG.take()

    def _failure(self) -> Delivery[Any]:
        return self._seen.failure or Delivery(
            sent=False, retry=False, reason=_SDK_LOG.take()
        )


class SpanSender(_Sender):
    def __init__(self, target: OtlpTarget, sdk: SpanExporter, seen: Seen) -> None:
        super().__init__(target, seen)
        self._sdk = sdk

    def export(self, batch: Sequence[ReadableSpan]) -> Delivery[ReadableSpan]:
        self._start()
        spans, refused = self._check.spans(batch)
        if not spans or self._sdk.export(spans) is SpanExportResult.SUCCESS:
            return Delivery(sent=True, refused=refused + self._seen.refused)
        return self._failure()

    def shutdown(self) -> None:
        self._sdk.shutdown()


class ReadingSender(_Sender):
    """Sends a large reading in parts; after a failure only what is left is to be sent."""

    def __init__(self, target: OtlpTarget, sdk: MetricExporter, seen: Seen) -> None:
        super().__init__(target, seen)
        self._sdk = sdk

    def export(self, batch: Sequence[MetricsData]) -> Delivery[MetricsData]:
        parts = []
        refused = 0
        for one in batch:
            reading, left_out = self._check.reading(one)
            parts += split(reading, MAX_POINTS)
            refused += left_out
        for done, part in enumerate(parts):
            self._start()
            if self._sdk.export(part) is not MetricExportResult.SUCCESS:
                return replace(self._failure(), remaining=parts[done:], refused=refused)
            refused += self._seen.refused
        return Delivery(sent=True, refused=refused)

    def shutdown(self) -> None:
        self._sdk.shutdown()
