# SPDX-License-Identifier: Apache-2.0
"""Differences: none lost, none twice, held back at most once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.factories import key
from tests.readings import value

from deetune_otel.agent.deltas import Deltas, JoinDeltas, TrafficDeltas
from deetune_otel.model import NO_TRAFFIC, Join

A, B = key(edge_id=1), key(edge_id=2)


def test_each_reading_gives_what_was_added() -> None:
    deltas = Deltas()
    named = {"is_named": lambda _: True}
    assert deltas.take({A: value(3)}, **named) == [(A, value(3))]
    assert deltas.take({A: value(3)}, **named) == []
    assert deltas.take({A: value(5), B: value(1)}, **named) == [
        (A, value(2)),
        (B, value(1)),
    ]


def test_what_has_no_name_is_held_back_once() -> None:
    deltas = Deltas()
    assert deltas.take({A: value(3)}, is_named=lambda _: False) == []
    assert deltas.held == 1
    assert deltas.take({A: value(4)}, is_named=lambda _: False) == [(A, value(4))]
    assert deltas.held == 0


def test_time_that_comes_after_its_count_is_not_lost() -> None:
    deltas = Deltas()
    early = value(1, duration_sum_ns=0)
    deltas.take({A: early}, is_named=lambda _: True)
    [(_, late)] = deltas.take({A: value(1)}, is_named=lambda _: True)
    assert (late.count, late.duration_sum_ns) == (0, value(1).duration_sum_ns)


def test_the_last_values_end_the_series() -> None:
    deltas = Deltas()
    deltas.take({A: value(3), B: value(1)}, is_named=lambda _: True)
    assert deltas.take_last({A: value(7)}, {1}) == [(A, value(4))]
    assert len(deltas) == 1


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=20),
    st.integers(0, 3),
)
def test_the_sum_of_all_differences_is_the_last_value(
    steps: list[tuple[int, bool]], last: int
) -> None:
    deltas, count, taken = Deltas(), 0, 0
    for added, is_named in steps:
        count += added
        names = {A} if is_named else set()
        for _, delta in deltas.take({A: value(count)}, is_named=names.__contains__):
            taken += delta.count
    for _, delta in deltas.take_last({A: value(count + last)}, {1}):
        taken += delta.count
    assert taken == count + last


def test_traffic_is_what_came_since() -> None:
    deltas = TrafficDeltas()
    first = NO_TRAFFIC._replace(opened=2, sent_bytes=10)
    assert deltas.take({1: first, 2: NO_TRAFFIC}) == [(1, first)]
    assert deltas.take({1: first}) == []
    buckets = (3, *NO_TRAFFIC.rtt_buckets[1:])
    more = first._replace(opened=1, sent_bytes=15, rtt_sum_ns=9, rtt_buckets=buckets)
    assert deltas.take({1: more}) == [
        (
            1,
            NO_TRAFFIC._replace(
                opened=-1, sent_bytes=5, rtt_sum_ns=9, rtt_buckets=buckets
            ),
        )
    ]


def test_an_edge_that_is_gone_starts_again() -> None:
    deltas = TrafficDeltas()
    deltas.take({1: NO_TRAFFIC._replace(opened=2)})
    deltas.take({})
    again = NO_TRAFFIC._replace(opened=1)
    assert deltas.take({1: again}) == [(1, again)]


def test_joins_only_grow() -> None:
    deltas = JoinDeltas()
    assert deltas.take([Join(1, 2, 3)]) == [Join(1, 2, 3)]
    assert deltas.take([Join(1, 2, 2), Join(1, 3, 1)]) == [Join(1, 3, 1)]
    assert deltas.take([Join(1, 2, 4), Join(1, 3, 1)]) == [Join(1, 2, 1)]
    assert deltas.take([]) == []
