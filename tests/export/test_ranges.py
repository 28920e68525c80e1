# SPDX-License-Identifier: Apache-2.0
"""What OTLP's numbers can hold: the bounds, and what is said of what lies beyond them."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import IntEnum
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from tests.export.makers import buckets, gauge, histogram, number, reading, span

from deetune_otel.export.ranges import RangeCheck

LOG = logging.getLogger(__name__)
LEAST, MOST = -(1 << 63), (1 << 63) - 1


class Named(IntEnum):
    LARGE = MOST


@pytest.mark.timeout(10)  # counting up to a large number would take years
@pytest.mark.parametrize(
    "value", [LEAST, -1, 0, MOST, Named.LARGE, 1e300, float("nan")]
)
def test_what_can_be_held_is_not_touched(value: float) -> None:
    whole = reading(gauge("g", number(value)), histogram("h", buckets(0, 1, 2)))
    checked, left_out = RangeCheck(LOG).reading(whole)
    assert checked is whole
    assert left_out == 0
    encode_metrics(checked)


@pytest.mark.parametrize(
    "beyond",
    [
        number(LEAST - 1),
        number(MOST + 1),
        number(0xFF01010101000101),
        buckets(3, -1, 0),
        replace(buckets(1, 2, 3), count=-1),
        replace(buckets(1, 2, 3), bucket_counts=[1 << 64, 0, 0]),
    ],
)
def test_what_the_encoder_refuses_is_left_out(
    beyond: Any, caplog: pytest.LogCaptureFixture
) -> None:
    metric = histogram if hasattr(beyond, "bucket_counts") else gauge
    broken = reading(metric("broken", beyond))
    with pytest.raises(Exception, match=r"[Oo]ut of range"):
        encode_metrics(broken)
    whole = reading(metric("broken", beyond), gauge("sound", number(1)))
    checked, left_out = RangeCheck(LOG).reading(whole)
    assert left_out == 1
    names = [m.name for m in checked.resource_metrics[0].scope_metrics[0].metrics]
    assert names == ["sound"]
    encode_metrics(checked)
    assert "broken: a number is out of range" in caplog.text


def test_a_name_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    check = RangeCheck(LOG)
    for _ in range(3):
        check.reading(reading(gauge("g", number(1 << 64), number(1 << 65, k="v"))))
    assert caplog.text.count("g: a number is out of range") == 1


def test_spans_out_of_range_are_left_out() -> None:
    sound, broken = span("sound"), span("broken")
    broken._start_time = -1
    with pytest.raises(Exception, match=r"[Oo]ut of range"):
        encode_spans([broken])
    kept, left_out = RangeCheck(LOG).spans([sound, broken])
    assert (kept, left_out) == ([sound], 1)
    encode_spans(kept)
