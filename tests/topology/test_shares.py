# SPDX-License-Identifier: Apache-2.0
"""Parts that come to the whole, and are each a whole of their own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx  # noqa: PT013 - it reads as a word
from tests.topology.maps import network, tally

from deetune_otel.topology.model import Network, Tally
from deetune_otel.topology.shares import apportioned, divided, divided_network
from deetune_otel.topology.tally import network_sum, total

SHARES = st.lists(st.floats(0, 1e6), min_size=1, max_size=5)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    buckets = draw(st.lists(st.integers(0, 10**6), min_size=15, max_size=15))
    count = sum(buckets)
    return Tally(
        count=count,
        errors=draw(st.integers(0, count)),
        duration_sum_s=draw(st.floats(0, 1e6)),
        duration_buckets=tuple(buckets),
        request_bytes=draw(st.integers(0, 10**12)),
        response_bytes=draw(st.integers(0, 10**12)),
    )


def test_the_largest_remainders_get_what_does_not_divide() -> None:
    assert apportioned(10, [1, 1, 1]) == [4, 3, 3]
    assert apportioned(10, [70, 30]) == [7, 3]
    assert apportioned(1, [0.4, 0.6]) == [0, 1]


def test_without_shares_all_is_the_firsts() -> None:
    assert apportioned(7, [0, 0]) == [7, 0]


@given(st.integers(0, 10**9), SHARES)
def test_parts_come_to_the_amount(amount: int, shares: list[float]) -> None:
    parts = apportioned(amount, shares)
    assert sum(parts) == amount
    assert all(part >= 0 for part in parts)


@given(tallies(), SHARES)
def test_a_divided_tally_is_tallies(whole: Tally, shares: list[float]) -> None:
    parts = divided(whole, shares)
    made = total(parts)
    assert made == Tally(
        count=whole.count,
        errors=whole.errors,
        duration_sum_s=approx(whole.duration_sum_s) if parts else 0,  # type: ignore[arg-type]
        duration_buckets=whole.duration_buckets,
        request_bytes=whole.request_bytes,
        response_bytes=whole.response_bytes,
    )
    for part in parts:
        assert sum(part.duration_buckets) == part.count
        assert 0 <= part.errors <= part.count


def test_a_divided_network_comes_to_the_same() -> None:
    whole = network(
        11, connect_failures={"ECONNREFUSED": 3, "ETIMEDOUT": 1}, retransmits=5
    )
    parts = divided_network(whole, [2, 1])
    assert [part.connects for part in parts] == [7, 4]
    assert [sum(part.connect_buckets) for part in parts] == [7, 4]
    assert network_sum(parts) == Network(
        active=11,
        connects=11,
        connect_failures=whole.connect_failures,
        connect_sum_s=approx(whole.connect_sum_s),  # type: ignore[arg-type]
        connect_buckets=whole.connect_buckets,
        rtt_sum_s=approx(whole.rtt_sum_s),  # type: ignore[arg-type]
        rtt_buckets=whole.rtt_buckets,
        retransmits=5,
        sent_bytes=whole.sent_bytes,
        received_bytes=whole.received_bytes,
    )


def test_the_time_of_calls_goes_with_them() -> None:
    parts = divided(tally(10, each_s=0.5), [3, 1])
    assert [part.duration_sum_s / part.count for part in parts] == approx([0.5, 0.5])
