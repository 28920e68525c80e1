# SPDX-License-Identifier: Apache-2.0
"""What is worth looking at stays, and is bounded."""

from __future__ import annotations

from deetune_otel.topology.examples import (
    MAX_FAILED,
    MAX_SHOWN,
    MAX_SLOW,
    SLOW_FOR_NS,
    Examples,
    newest,
)
from deetune_otel.topology.model import Example


def example(at_ns: int, duration_s: float = 0.1, *, is_error: bool = False) -> Example:
    return Example(
        trace_id="1" * 32,
        span_id="2" * 16,
        time_unix_ns=at_ns,
        duration_s=duration_s,
        operation="GET /",
        role="client",
        result="500" if is_error else "",
        is_error=is_error,
    )


def test_failures_do_not_push_out_what_is_slow() -> None:
    kept = Examples()
    kept.add(example(0, 9.0))
    for n in range(1, 1000):
        kept.add(example(n, is_error=True))
    shown = newest([kept])
    assert len(shown) == MAX_FAILED + 1
    assert (shown[0].time_unix_ns, shown[-1].duration_s) == (999, 9.0)


def test_the_slowest_stay() -> None:
    kept = Examples()
    for n in range(200):
        kept.add(example(n, n % 100 + 1))
    assert {one.duration_s for one in kept.all()} >= set(range(90, 101))
    assert len(kept.all()) == MAX_SLOW


def test_what_was_slow_long_ago_goes_first() -> None:
    kept = Examples()
    for n in range(MAX_SLOW):
        kept.add(example(n, 9.0))
    kept.add(example(SLOW_FOR_NS + 10**9, 0.001))
    assert min(one.time_unix_ns for one in kept.all()) == 1


def test_two_become_one() -> None:
    first, second = Examples(), Examples()
    for n in range(100):
        first.add(example(2 * n, is_error=True))
        second.add(example(2 * n + 1, is_error=True))
    first.absorb(second)
    assert [one.time_unix_ns for one in newest([first])][:3] == [199, 197, 195]
    assert len(newest([first, second, second])) <= MAX_SHOWN
