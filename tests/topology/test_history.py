# SPDX-License-Identifier: Apache-2.0
"""The past is what it was: any window, any order of readings, however long ago."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.topology import history
from deetune_otel.topology.history import Boundary, Past, Timeline

S = 10**9
VALUES = st.integers(-(2**40), 2**62)
ROWS = st.lists(st.lists(VALUES, max_size=6), max_size=60)


def widened(row: list[int], width: int) -> list[int]:
    return [*row, *([0] * (width - len(row)))]


def growing(rows: list[list[int]]) -> list[list[int]]:
    """Sums' length only grows."""
    width, made = 0, []
    for row in rows:
        width = max(width, len(row))
        made.append(widened(row, width))
    return made


def kept(rows: list[list[int]], *, is_fine: bool = True, every: int = 1) -> Past:
    past = Past()
    for number, row in enumerate(rows, start=1):
        past.keep(Boundary(is_fine, number * every, 0), row)
    return past


@given(ROWS, st.booleans())
def test_every_row_comes_back(rows: list[list[int]], is_fine: bool) -> None:  # noqa: FBT001
    rows = growing(rows)
    past = kept(rows, is_fine=is_fine)
    assert list(past.at(Boundary(is_fine, 0, 0))) == []
    for number, row in enumerate(rows, start=1):
        assert list(past.at(Boundary(is_fine, number, 0))) == row


@given(ROWS, ROWS, st.permutations(range(6)))
def test_two_pasts_become_one(
    first: list[list[int]], second: list[list[int]], columns: list[int]
) -> None:
    first, second = growing(first), growing(second)
    past, other = kept(first), kept(second, every=2)
    apart = [
        (list(past.at(end)), list(other.at(end)))
        for end in (Boundary(is_fine=True, number=n, end_ns=0) for n in range(130))
    ]
    past.absorb(other, columns)
    for number, (own, others) in enumerate(apart):
        expected = widened(own, 6)
        for column, value in zip(columns, others, strict=False):
            expected[column] += value
        found = list(past.at(Boundary(is_fine=True, number=number, end_ns=0)))
        assert widened(found, 6) == expected


def test_steps_end_with_readings() -> None:
    timeline = Timeline(0)
    assert timeline.end_reading(4 * S) == []
    [fine] = timeline.end_reading(int(9.8 * S))  # a little early
    assert (fine.is_fine, fine.number, fine.end_ns) == (True, 1, int(9.8 * S))
    assert timeline.end_reading(int(9.8 * S)) == []  # not later
    both = timeline.end_reading(75 * S)  # a late one is one long step
    assert [(end.is_fine, end.number) for end in both] == [(True, 2), (False, 1)]


def test_the_past_moves_with_a_clock_that_is_set_back() -> None:
    """By an hour, within a step: the steps go on, and windows keep their lengths."""
    timeline, hour = Timeline(5000 * S), 3600 * S
    for at_s in range(5010, 5110, 10):
        timeline.end_reading(at_s * S)
    assert timeline.since(30 * S).end_ns == 5070 * S
    assert timeline.end_reading(5103 * S - hour) == []
    assert timeline.now_ns == 5103 * S - hour
    [fine] = timeline.end_reading(5113 * S - hour)
    assert (fine.number, fine.end_ns) == (11, 5113 * S - hour)
    begin = timeline.since(30 * S)
    assert timeline.now_ns - begin.end_ns == 30 * S
    assert [end.number for end in timeline.steps_since(begin)] == [9, 10, 11]


@pytest.mark.parametrize(
    ("window_s", "end_s"),
    [(10, 1990), (14, 1990), (60, 1940), (0, 1990), (880, 1120), (930, 1080)],
)
def test_a_window_begins_at_the_nearest_step(window_s: int, end_s: int) -> None:
    timeline = Timeline(0)
    for n in range(1, 201):
        timeline.end_reading(n * 10 * S)
    assert timeline.since(window_s * S).end_ns == end_s * S


def test_older_than_all_is_the_start() -> None:
    timeline = Timeline(5)
    assert timeline.since(10).end_ns == 5
    timeline.end_reading(7 + 10 * S)
    assert timeline.since(10**20).end_ns == 5


def test_the_steps_of_a_window_reach_up_to_now() -> None:
    timeline = Timeline(0)
    for second in (10, 20, 30, 34):
        timeline.end_reading(second * S)
    steps = timeline.steps_since(timeline.since(22 * S))
    assert [step.end_ns // S for step in steps] == [20, 30, 34]


def test_memory_is_bounded() -> None:
    """Of an edge that is busy all day; the numbers of the module's docstring."""
    timeline, past = Timeline(0), Past()
    sums = [0] * 54
    for n in range(1, 8641):
        for i in (0, 1, 2, 3, 6, 7, 8, 21, 22, 23, 24, 25, 26, 27, 28, 42, 43):
            sums[i] += (n * 7919 * (i + 1)) % (10**7 if i in {2, 25} else 900)
        for end in timeline.end_reading(n * 10 * S):
            past.keep(end, sums)
            past.drop(timeline)
    assert past.fine_bytes < 9_000
    assert past.coarse_bytes < 110_000
    begin = timeline.since(86_400 * S)
    assert begin.number == 0
    assert timeline.now_ns - begin.end_ns == 86_400 * S


def test_what_is_dropped_changes_nothing_that_can_be_asked() -> None:
    timeline, past = Timeline(0), Past()
    for n in range(1, 500):
        for end in timeline.end_reading(n * 10 * S):
            past.keep(end, [end.end_ns // S])
            past.drop(timeline)
    for window_s in range(10, 4990, 130):
        begin = timeline.since(window_s * S)
        assert sum(past.at(begin)) == begin.end_ns // S
    while timeline.drop_oldest_coarse():
        past.drop(timeline)
    begin = timeline.since(10**20)
    assert not begin.is_fine
    assert timeline.now_ns - begin.end_ns >= (
        history.FINE_STEPS * history.FINE_STEP_NS - history.COARSE_STEP_NS
    )
    assert sum(past.at(begin)) == begin.end_ns // S


def test_a_window_older_than_the_agent_has_all_its_steps() -> None:
    timeline = Timeline(0)
    for n in range(1, 5):
        timeline.end_reading(n * 10 * S)
    begin = timeline.since(60 * S)
    assert begin.is_fine
    assert [end.end_ns // S for end in timeline.steps_since(begin)] == [10, 20, 30, 40]
