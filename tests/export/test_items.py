# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
from opentelemetry.sdk.resources import Resource
from tests.export.makers import (
    DELTA,
    START_NS,
    buckets,
    counter,
    exemplar,
    gauge,
    histogram,
    joined,
    number,
    reading,
    span,
)

from deetune_otel.export.items import (
    ReadingFold,
    points_of,
    reading_bytes,
    span_bytes,
    split,
    walk,
)

OTHER = Resource({"service.name": "other"})


def values(data: MetricsData) -> dict[tuple[str, str, str], object]:
    """Service, metric and attributes → value."""
    return {
        (
            str(at.resource.resource.attributes["service.name"]),
            at.metric.name,
            ",".join(str(v) for v in (point.attributes or {}).values()),
        ): list(point.bucket_counts)
        if isinstance(point, HistogramDataPoint)
        else point.value
        for at in walk(data)
        for point in points_of(at.metric)
    }


def test_delta_counts_add_up() -> None:
    older = reading(
        counter(
            "c", number(2, at=1, k="a"), number(5, at=1, k="gone"), temporality=DELTA
        ),
        histogram("h", buckets(1, 0, 2, at=1, total=4.0), temporality=DELTA),
    )
    newer = reading(
        counter(
            "c", number(3, at=9, k="a"), number(7, at=9, k="new"), temporality=DELTA
        ),
        histogram("h", buckets(0, 1, 1, at=9, total=3.0), temporality=DELTA),
    )
    folded, lost = ReadingFold()([older, newer])
    assert lost == 0
    assert values(folded) == {
        ("checkout", "c", "a"): 5,
        ("checkout", "c", "gone"): 5,
        ("checkout", "c", "new"): 7,
        ("checkout", "h", ""): [1, 1, 3],
    }
    points = [p for at in walk(folded) for p in points_of(at.metric)]
    added = [p for p in points if not p.attributes or p.attributes.get("k") == "a"]
    assert {p.start_time_unix_nano for p in added} == {START_NS}
    assert {p.time_unix_nano for p in added} == {START_NS + 9}
    sums = [(p.count, p.sum) for p in points if isinstance(p, HistogramDataPoint)]
    assert sums == [(5, 7.0)]


def test_of_cumulative_counts_and_gauges_the_newest_stands() -> None:
    older = reading(
        counter("c", number(2)), gauge("g", number(9)), gauge("x", number(1))
    )
    middle = reading(counter("c", number(3)))
    newer = reading(counter("c", number(8)), gauge("g", number(4)))
    folded, _ = ReadingFold()([older, middle, newer])
    assert values(folded) == {
        ("checkout", "c", ""): 8,
        ("checkout", "g", ""): 4,
        ("checkout", "x", ""): 1,
    }


def test_a_service_that_ended_keeps_its_last_counts() -> None:
    older = joined(
        reading(counter("c", number(2))),
        reading(counter("c", number(6)), resource=OTHER),
    )
    folded, _ = ReadingFold()([older, reading(counter("c", number(3)))])
    assert values(folded) == {("checkout", "c", ""): 3, ("other", "c", ""): 6}
    assert len(folded.resource_metrics) == 2


def test_an_exemplar_survives() -> None:
    older = reading(
        histogram("h", buckets(1, 0, 0, exemplars=[exemplar(0.05)]), temporality=DELTA)
    )
    newer = reading(histogram("h", buckets(1, 0, 0), temporality=DELTA))
    folded, _ = ReadingFold()([older, newer])
    (point,) = (p for at in walk(folded) for p in points_of(at.metric))
    assert [one.value for one in point.exemplars] == [0.05]


def test_a_fold_is_bounded_and_says_what_it_lost() -> None:
    readings = [
        reading(counter("c", *(number(n, k=f"{n}-{m}") for m in range(10))))
        for n in range(5)
    ]
    folded, lost = ReadingFold(max_points=15)([*readings])
    assert lost == 35
    kept = [key[2] for key in values(folded)]
    assert kept == [f"3-{m}" for m in range(5, 10)] + [f"4-{m}" for m in range(10)]


def test_the_newest_reading_stays_whole_whatever_the_bound() -> None:
    newest = reading(counter("c", *(number(1, k=str(n)) for n in range(10))))
    folded, lost = ReadingFold(max_points=3)([reading(gauge("g", number(1))), newest])
    assert lost == 1
    assert values(folded) == values(newest)


@pytest.mark.parametrize("max_points", [1, 2, 3, 4, 5, 6, 7, 8])
def test_split_keeps_every_point_once(max_points: int) -> None:
    whole = joined(
        reading(
            counter("c", *(number(n, k=str(n)) for n in range(4))),
            histogram("h", buckets(1, 2, 3), buckets(4, 5, 6, k="v")),
        ),
        reading(gauge("g", number(1)), resource=OTHER),
    )
    parts = split(whole, max_points)
    sizes = [sum(len(points_of(at.metric)) for at in walk(part)) for part in parts]
    assert all(0 < size <= max_points for size in sizes)
    assert sum(sizes) == 7
    together: dict[tuple[str, str, str], object] = {}
    for part in parts:
        together |= values(part)
    assert together == values(whole)


def test_a_small_reading_is_not_touched() -> None:
    whole = reading(gauge("g", number(1)))
    assert split(whole, 1) == [whole]


def test_sizes_grow_with_what_they_measure() -> None:
    assert span_bytes(span("s", attributes={"a": "x" * 1000})) > 1000
    small, large = (
        reading(counter("c", *(number(1, k=str(n)) for n in range(count))))
        for count in (1, 100)
    )
    assert reading_bytes(large) == 100 * reading_bytes(small)
