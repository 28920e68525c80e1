# SPDX-License-Identifier: Apache-2.0
"""Divided calls come to the same sum, and slow services stay slow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.topology.division import by_shares, by_shares_each, like
from deetune_otel.topology.sums import BUCKETS, COUNT, ERRORS

COUNTS = st.integers(0, 10**6)
SHARES = st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=5)


@st.composite
def calls(draw: st.DrawFn) -> list[int]:
    """As the kernel counts a series: all of one outcome."""
    buckets = draw(st.lists(COUNTS, min_size=15, max_size=15))
    count = sum(buckets)
    others = draw(st.lists(st.integers(0, 10**18), min_size=3, max_size=3))
    errors, client_errors = draw(st.sampled_from([(0, 0), (count, 0), (0, count)]))
    return [count, errors, *others, 0, client_errors, *buckets]


def summed(parts: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*parts, strict=True)]


@given(calls(), SHARES)
def test_shares_come_to_the_whole(numbers: list[int], shares: list[float]) -> None:
    parts = by_shares(numbers, shares)
    assert summed(parts) == numbers
    assert all(part[COUNT] == sum(part[BUCKETS:]) for part in parts)
    assert all(part[ERRORS] in {0, part[COUNT]} for part in parts)


@given(calls(), st.lists(calls(), min_size=1, max_size=4))
def test_likenesses_come_to_the_whole(
    numbers: list[int], models: list[list[int]]
) -> None:
    parts = like(numbers, models)
    assert summed(parts) == numbers
    assert all(part[COUNT] == sum(part[BUCKETS:]) for part in parts)
    assert all(part[ERRORS] in {0, part[COUNT]} for part in parts)


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=9), SHARES)
def test_facts_come_to_the_whole(numbers: list[int], shares: list[float]) -> None:
    assert summed(by_shares_each(numbers, shares)) == numbers


def row(**buckets: int) -> list[int]:
    """`b3=4`: four calls in bucket 3."""
    made = [buckets.get(f"b{i}", 0) for i in range(15)]
    return [sum(made), *(0,) * (BUCKETS - 1), *made]


def test_the_fastest_are_the_fastest_ones() -> None:
    """The client sees each call a bucket later than its server."""
    fast, slow = like(row(b2=8, b9=2), [row(b1=8), row(b8=2)])
    assert fast == row(b2=8)
    assert slow == row(b9=2)


def test_more_calls_than_the_servers_counted_yet() -> None:
    fast, slow = like(row(b2=80, b9=20), [row(b1=4), row(b8=1)])
    assert (fast, slow) == (row(b2=80), row(b9=20))
