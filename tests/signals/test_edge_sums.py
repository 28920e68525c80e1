# SPDX-License-Identifier: Apache-2.0
"""Whatever edges come and go: one point a set of attributes, which never decreases."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import AggregationTemporality, Sum
from tests.signals.edge_totals import edge_total, points

from deetune_otel.signals.edge_sums import (
    EdgeInstrument,
    EdgePart,
    EdgeSums,
    Kind,
    edge_attributes,
)
from deetune_otel.topology.model import NodeKind

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
COUNTER = EdgeInstrument(name="c", unit="1", description="")
GAUGE = EdgeInstrument(name="g", unit="1", description="", kind=Kind.UP_DOWN_COUNTER)
HISTOGRAM = EdgeInstrument(
    name="h", unit="s", description="", kind=Kind.HISTOGRAM, bounds=(1.0,)
)
A = (("client", "a"),)
B = (("client", "b"),)


def part(
    edge: str, *values: float, of: EdgeInstrument = COUNTER, **more: Any
) -> EdgePart:
    rest: dict[str, Any] = {"start_unix_ns": 10, "attributes": A} | more
    return EdgePart(edge_id=edge, instrument=of, values=values, **rest)


def test_edges_with_the_same_attributes_are_one_point() -> None:
    sums = EdgeSums(CUMULATIVE)
    made = sums.build(
        [
            part("x", 3, start_unix_ns=30),
            part("y", 4, start_unix_ns=20),
            part("z", 5, attributes=B),
        ],
        now_unix_ns=40,
    )
    found = points(made)["c"]
    assert (found["client=a"].value, found["client=b"].value) == (7, 5)
    assert (found["client=a"].start, found["client=a"].time) == (20, 40)


def test_what_an_edge_brought_stays_when_it_is_forgotten() -> None:
    sums = EdgeSums(CUMULATIVE)
    sums.build([part("x", 3), part("y", 4)], now_unix_ns=20)
    [metric] = sums.build([part("y", 5)], now_unix_ns=30)
    assert points([metric])["c"]["client=a"].value == 8
    anew = [part("x", 1, start_unix_ns=35), part("y", 5)]
    [metric] = sums.build(anew, now_unix_ns=40)
    assert points([metric])["c"]["client=a"].value == 9
    assert sums.build([], now_unix_ns=50) == []


def test_deltas_begin_where_the_last_ended() -> None:
    sums = EdgeSums(DELTA)
    sums.build([part("x", 3), part("y", 4)], now_unix_ns=20)
    [metric] = sums.build(
        [part("x", 5), part("z", 2, attributes=B, start_unix_ns=25)], now_unix_ns=30
    )
    found = points([metric])["c"]
    assert (found["client=a"].value, found["client=a"].start) == (2, 20)
    assert (found["client=b"].value, found["client=b"].start) == (2, 25)
    assert isinstance(metric.data, Sum)
    assert metric.data.aggregation_temporality is DELTA
    assert sums.build([part("x", 5)], now_unix_ns=40) == []


def test_a_histogram_counts_what_is_in_its_buckets() -> None:
    sums = EdgeSums(DELTA)
    sums.build([part("x", 0.5, 1, 0, of=HISTOGRAM)], now_unix_ns=20)
    made = sums.build([part("x", 3.5, 2, 1, of=HISTOGRAM)], now_unix_ns=30)
    point = points(made)["h"]["client=a"]
    assert (point.value, point.sum, point.buckets) == (2, 3.0, (1, 1))


def test_what_goes_up_and_down_is_of_now_in_any_temporality() -> None:
    for temporality in (CUMULATIVE, DELTA):
        sums = EdgeSums(temporality)
        sums.build([part("x", 3, of=GAUGE), part("y", 4, of=GAUGE)], now_unix_ns=20)
        [metric] = sums.build([part("x", 1, of=GAUGE)], now_unix_ns=30)
        assert points([metric])["g"]["client=a"].value == 1
        assert isinstance(metric.data, Sum)
        assert not metric.data.is_monotonic
        assert metric.data.aggregation_temporality is CUMULATIVE


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("xyz"), st.integers(min_value=0, max_value=9), max_size=3
        )
    )
)
def test_deltas_add_up_to_what_edges_counted(steps: list[dict[str, int]]) -> None:
    """Edges come, count, are forgotten and come anew; nothing is lost or told twice."""
    sums = EdgeSums(DELTA)
    alive: dict[str, tuple[int, int]] = {}  # start, count
    expected, reported = 0, 0
    for now, step in enumerate(steps, start=1):
        alive = {
            edge: (start, count + step[edge])
            for edge, (start, count) in alive.items()
            if edge in step
        } | {edge: (now, new) for edge, new in step.items() if edge not in alive}
        expected += sum(step.values())
        parts = [
            part(edge, n, start_unix_ns=start) for edge, (start, n) in alive.items()
        ]
        found: Counter[str] = Counter()
        for of_metric in points(sums.build(parts, now_unix_ns=now)).values():
            found.update({words: int(p.value) for words, p in of_metric.items()})
        assert all(value > 0 for value in found.values())
        reported += found.total()
    assert reported == expected


def test_names_of_an_edge() -> None:
    plain = dict(edge_attributes(edge_total()))
    assert plain == {"client": "shop", "server": "orders"}
    named = edge_total(client_namespace="eu", server_namespace="us")
    assert dict(edge_attributes(named)) == plain | {
        "client_service_namespace": "eu",
        "server_service_namespace": "us",
    }


def test_what_is_over_a_bound_says_so() -> None:
    for change in ({"client_kind": NodeKind.OTHER}, {"server_kind": NodeKind.OTHER}):
        attributes = dict(edge_attributes(edge_total(**change)))
        assert attributes["otel.metric.overflow"] is True
