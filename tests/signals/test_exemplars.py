# SPDX-License-Identifier: Apache-2.0
"""The newest kept exchange of a bucket, within bounds."""

from __future__ import annotations

from deetune_otel.model import Protocol, Role
from deetune_otel.signals.exemplars import Exemplars
from deetune_otel.signals.red import SeriesId
from deetune_otel.signals.resource import ServiceKey


def series(number: int) -> SeriesId:
    return SeriesId(
        ServiceKey("", "s", ""), Protocol.HTTP, Role.SERVER, (("n", number),)
    )


def offer(exemplars: Exemplars, number: int, ms: float, at: int) -> None:
    exemplars.offer(
        series(number),
        duration_ns=int(ms * 1e6),
        end_unix_ns=at,
        trace_id=at,
        span_id=at,
    )


def test_newest_of_each_bucket() -> None:
    exemplars = Exemplars()
    for ms, at in [(5, 1), (4, 3), (3, 2), (5.1, 4), (99999, 5)]:
        offer(exemplars, 1, ms, at)
    found = exemplars.of(series(1), since_unix_ns=0)
    assert [(e.value, e.span_id) for e in found] == [
        (0.004, 3),
        (0.0051, 4),
        (99.999, 5),
    ]
    assert [e.span_id for e in exemplars.of(series(1), since_unix_ns=4)] == [4, 5]
    assert exemplars.of(series(2), since_unix_ns=0) == []


def test_bounded() -> None:
    exemplars = Exemplars(max_series=2)
    for number in range(3):
        offer(exemplars, number, 1, 1)
    assert exemplars.of(series(0), since_unix_ns=0) == []
    assert exemplars.of(series(2), since_unix_ns=0)
