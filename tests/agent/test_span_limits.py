# SPDX-License-Identifier: Apache-2.0
"""Span limits follow rates."""

from __future__ import annotations

from tests.readings import Maps

from deetune_otel.agent.span_limits import SpanLimit, SpanLimiter, span_limits
from deetune_otel.model import Service


def test_a_quiet_service_keeps_everything() -> None:
    limits = span_limits({1: 10}, {1: Service(name="a")}, per_second=100, elapsed_s=1)
    assert limits == {1: SpanLimit(100, 1.0)}


def test_the_budget_is_divided_among_busy_processes() -> None:
    services = {number: Service(name="a", instance_id=str(number)) for number in (1, 2)}
    services[3] = Service(name="a")  # idle
    services[4] = Service(name="b")
    counts = {1: 100_000, 2: 1, 4: 1}
    limits = span_limits(counts, services, per_second=100, elapsed_s=10)
    assert {id_: one.per_second for id_, one in limits.items()} == {
        1: 50,
        2: 50,
        4: 100,
    }
    kept_a_second = limits[1].keep_fraction * 10_000
    assert 30 < kept_a_second < 0.75 * 50  # the kernel's own bound for these
    assert limits[2].keep_fraction == 1


def test_there_is_a_span_for_each_process_at_least() -> None:
    services = {number: Service(name="a") for number in range(1, 9)}
    limits = span_limits(
        dict.fromkeys(services, 5), services, per_second=3, elapsed_s=1
    )
    assert {one.per_second for one in limits.values()} == {1}  # 0: the default


def test_only_what_changed_is_written() -> None:
    maps = Maps()
    steering = SpanLimiter(maps)
    steering.limit({1: SpanLimit(5, 0.5)})
    assert maps.limits == {1: (5, 0.5)}
    maps.limits.clear()
    steering.limit({1: SpanLimit(5, 0.5)})
    assert maps.limits == {}


def test_a_number_that_went_to_another_is_written_anew() -> None:
    maps = Maps()
    steering = SpanLimiter(maps)
    steering.limit({1: SpanLimit(5, 0.5)})
    steering.forget({1})
    maps.limits.clear()
    steering.limit({1: SpanLimit(5, 0.5)})
    assert maps.limits == {1: (5, 0.5)}
