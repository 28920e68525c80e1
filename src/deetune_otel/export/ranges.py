# SPDX-License-Identifier: Apache-2.0
"""What OTLP's numbers can hold. One number over it makes the encoder refuse the whole batch.

Such a number is a fault of ours, so it is said in the log, once a name; everything else arrives.
(An attribute that cannot be encoded costs only itself: the encoder sees to that.)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData

from deetune_otel.export.items import Point, keep_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["RangeCheck"]

_INT64: Final = range(-(1 << 63), 1 << 63)
_FIXED64: Final = range(1 << 64)
_REMEMBERED: Final = 1000  # names that were said


class RangeCheck:
    """Leaves out what cannot be encoded, and counts it."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: set[str] = set()

    def reading(self, reading: MetricsData) -> tuple[MetricsData, int]:
        """The reading as it can be sent, and how many of its data points were left out."""
        return keep_points(reading, _point_fits, self._say)

    def spans(self, batch: Sequence[ReadableSpan]) -> tuple[list[ReadableSpan], int]:
        """The spans that can be sent, and how many were left out."""
        kept = []
        for span in batch:
            if _span_fits(span):
                kept.append(span)
            else:
                self._say(span.name)
        return kept, len(batch) - len(kept)

    def _say(self, name: str) -> None:
        if name in self._said or len(self._said) >= _REMEMBERED:
            return
        self._said.add(name)
        self._log.error(
            "%s: a number is out of range and was left out; please report this", name
        )


def _point_fits(point: Point) -> bool:
    if isinstance(point, HistogramDataPoint):
        return all(
            _is_in(_FIXED64, count) for count in (point.count, *point.bucket_counts)
        )
    return not isinstance(point.value, int) or _is_in(_INT64, point.value)


def _span_fits(span: ReadableSpan) -> bool:
    times = (span.start_time or 0, span.end_time or 0)
    return all(_is_in(_FIXED64, time) for time in times)


def _is_in(numbers: range, number: int) -> bool:
    """Not by `in`, which counts up to a number that is an enumeration's."""
    return numbers.start <= number < numbers.stop
