# SPDX-License-Identifier: Apache-2.0
"""Tallies add up, and quantiles lie where the durations lay."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.model import DURATION_BOUNDS_S, RTT_BOUNDS_S
from deetune_otel.topology import tally
from deetune_otel.topology.model import Network, Tally

COUNTS = st.integers(0, 10**12)
SECONDS = st.integers(0, 2**40).map(lambda n: n / 1024)  # exact in a float
TALLIES = st.builds(
    Tally,
    count=COUNTS,
    errors=COUNTS,
    duration_sum_s=SECONDS,
    duration_buckets=st.tuples(*[COUNTS] * 15),
    request_bytes=COUNTS,
    response_bytes=COUNTS,
)
NETWORKS = st.builds(
    Network,
    active=COUNTS,
    connects=COUNTS,
    connect_failures=st.dictionaries(
        st.sampled_from(["ECONNREFUSED", "ETIMEDOUT"]), st.integers(1, 9)
    ),
    connect_sum_s=SECONDS,
    connect_buckets=st.tuples(*[COUNTS] * 15),
    rtt_sum_s=SECONDS,
    rtt_buckets=st.tuples(*[COUNTS] * 12),
    retransmits=COUNTS,
    sent_bytes=COUNTS,
    received_bytes=COUNTS,
)


@given(TALLIES, TALLIES)
def test_minus_undoes_plus(a: Tally, b: Tally) -> None:
    assert tally.minus(tally.plus(a, b), b) == a
    assert tally.total([a, b]) == tally.plus(b, a)
    assert tally.plus(a, tally.NO_CALLS) == a


@given(NETWORKS, NETWORKS)
def test_networks_too_but_for_what_is_of_now(a: Network, b: Network) -> None:
    both = tally.network_plus(a, b)
    assert both.active == a.active + b.active
    back = tally.network_minus(both, b)
    assert back.active == both.active
    assert tally.network_plus(back, tally.NO_NETWORK).connects == a.connects
    assert back.connect_failures == a.connect_failures
    assert (back.rtt_sum_s, back.rtt_buckets) == (a.rtt_sum_s, a.rtt_buckets)
    assert (back.connect_sum_s, back.connect_buckets) == (
        a.connect_sum_s,
        a.connect_buckets,
    )
    assert (back.retransmits, back.sent_bytes, back.received_bytes) == (
        a.retransmits,
        a.sent_bytes,
        a.received_bytes,
    )
    assert tally.network_sum([a, b]) == both


def test_nothing_has_no_mean_and_no_ratio() -> None:
    assert tally.mean_s(tally.NO_CALLS) is None
    assert tally.error_ratio(tally.NO_CALLS) is None
    assert tally.rate(Tally(count=3), 0) == 0


def test_rate_ratio_and_mean() -> None:
    some = Tally(count=8, errors=2, duration_sum_s=4.0)
    assert tally.rate(some, 4) == 2
    assert tally.error_ratio(some) == 0.25
    assert tally.mean_s(some) == 0.5


@given(st.lists(st.floats(0.0001, 9.9), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_duration(
    durations: list[float], q: float
) -> None:
    buckets = [0] * 15
    for duration in durations:
        buckets[bisect_left(DURATION_BOUNDS_S, duration)] += 1
    found = tally.quantile(buckets, q)
    assert found is not None
    bucket = bisect_left(DURATION_BOUNDS_S, found)
    wanted = q * len(durations)
    assert sum(buckets[:bucket]) <= wanted * (1 + 1e-9)
    assert sum(buckets[: bucket + 1]) >= wanted * (1 - 1e-9)


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ((0,) * 15, 0.5, None),
        ((4, *(0,) * 14), 0.5, 0.0025),  # even within a bucket
        ((1, 1, *(0,) * 13), 1.0, 0.01),
        ((*(0,) * 14, 7), 0.5, 10.0),  # a lower limit
    ],
)
def test_quantiles(buckets: tuple[int, ...], q: float, expected: float | None) -> None:
    assert tally.quantile(buckets, q) == expected


def test_quantiles_of_other_bounds() -> None:
    assert tally.quantile((0, 2, *(0,) * 10), 1.0, bounds=RTT_BOUNDS_S) == 0.001
