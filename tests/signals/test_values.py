# SPDX-License-Identifier: Apache-2.0
"""Adding and taking away the same leaves nothing over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.model import SeriesValue
from deetune_otel.signals.values import ZERO, minus, plus

counts = st.integers(0, 2**64 - 1)
values = st.builds(
    SeriesValue,
    *[counts] * 7,
    *[st.lists(counts, min_size=n, max_size=n).map(tuple) for n in map(len, ZERO[7:])],
)


@given(a=values, b=values)
def test_plus_and_minus(a: SeriesValue, b: SeriesValue) -> None:
    assert minus(plus(a, b), b) == a
    assert plus(a, ZERO) == a
    assert (
        plus(a, b).duration_buckets[3] == a.duration_buckets[3] + b.duration_buckets[3]
    )
