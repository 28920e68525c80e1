# SPDX-License-Identifier: Apache-2.0
"""What a person should hear of, and what is chance."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from tests.topology.maps import calls, edge, network, service_map, service_maps, tally

from deetune_otel.model import DURATION_BOUNDS_S, Protocol
from deetune_otel.topology.changes import (
    Change,
    ChangeKind,
    changes_to_json,
    diff,
    lines,
)
from deetune_otel.topology.model import Calls, Network, Tally
from deetune_otel.topology.tally import total

if TYPE_CHECKING:
    from deetune_otel.topology.model import ServiceMap

WEB, API = "service:shop/web", "service:shop/api"
Kind = ChangeKind


def of(*made: Tally | Calls, tcp: Network | None = None, **changes: Any) -> ServiceMap:
    parts = [
        one if isinstance(one, Calls) else Calls(protocol=Protocol.HTTP, calls=one)
        for one in made
    ]
    return service_map([edge(WEB, API, *parts, network=tcp or Network())], **changes)


def found(earlier: ServiceMap, later: ServiceMap) -> list[tuple[ChangeKind, str]]:
    return [(one.kind, one.measure) for one in diff(earlier, later)]


def test_nothing_changed() -> None:
    assert diff(of(tally(100)), of(tally(103))) == []


def test_what_appeared_and_what_vanished() -> None:
    earlier = service_map([edge(WEB, API, calls(5))])
    later = service_map([edge(WEB, "address:10.0.0.1:80", calls(5))])
    assert [(one.kind, one.name) for one in diff(earlier, later)] == [
        (Kind.NODE_VANISHED, "shop/api"),
        (Kind.EDGE_VANISHED, "shop/web → shop/api"),
        (Kind.NODE_APPEARED, "10.0.0.1:80"),
        (Kind.EDGE_APPEARED, "shop/web → 10.0.0.1:80"),
    ]


def test_slower_and_faster() -> None:
    slow = of(tally(100, each_s=0.2))
    assert found(of(tally(100)), slow) == [(Kind.SLOWER, "p50"), (Kind.SLOWER, "p99")]
    assert found(slow, of(tally(100))) == [(Kind.FASTER, "p50"), (Kind.FASTER, "p99")]


def test_a_slow_tail_is_seen_at_the_99th() -> None:
    tail = total([tally(950), tally(50, each_s=0.9)])
    assert found(of(tally(1000)), of(tail)) == [(Kind.SLOWER, "p99")]


def test_a_few_slow_calls_are_chance() -> None:
    tail = total([tally(97), tally(3, each_s=0.9)])
    assert found(of(tally(100)), of(tail)) == []


def test_few_calls_prove_nothing() -> None:
    assert found(of(tally(19)), of(tally(19, each_s=5.0))) == []


def test_within_a_bucket_nothing_is_known() -> None:
    assert found(of(tally(1000, each_s=0.011)), of(tally(1000, each_s=0.024))) == []


def test_failing_and_recovering() -> None:
    failing = of(tally(100, errors=30))
    assert found(of(tally(100)), failing) == [(Kind.STARTED_FAILING, "errors")]
    assert found(failing, of(tally(100))) == [(Kind.STOPPED_FAILING, "errors")]
    assert found(of(tally(100)), of(tally(100, errors=2))) == []
    many = 10**6
    assert found(of(tally(many)), of(tally(many, errors=many // 200))) == []  # 0.5 %


def test_failed_connects() -> None:
    refused = network(10, connect_failures={"ECONNREFUSED": 90})
    errors = calls(90, protocol=Protocol.CONNECT, errors=90)
    assert found(of(tcp=network(100)), of(errors, tcp=refused)) == [
        (Kind.STARTED_FAILING, "connects")
    ]


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        (100, 250, [(Kind.RATE_ROSE, "rate")]),
        (250, 100, [(Kind.RATE_FELL, "rate")]),
        (100, 0, [(Kind.RATE_FELL, "rate")]),
        (100, 180, []),
        (10, 19, []),
        (20, 41, []),  # 2.7 standard deviations
    ],
)
def test_rates(
    earlier: int, later: int, expected: list[tuple[ChangeKind, str]]
) -> None:
    assert found(of(tally(earlier)), of(tally(later))) == expected


def test_rates_are_of_their_windows() -> None:
    assert found(of(tally(1000)), of(tally(5000), window_s=300.0)) == []


def test_protocols_are_compared_on_their_own() -> None:
    def both(redis_s: float) -> ServiceMap:
        return of(calls(100), calls(100, protocol=Protocol.REDIS, each_s=redis_s))

    (p50, _) = diff(both(0.02), both(0.4))
    assert (p50.protocol, p50.measure) == (Protocol.REDIS, "p50")
    assert p50.before == pytest.approx(0.0175)
    assert p50.after == pytest.approx(0.375)


def drawn(random_calls: random.Random) -> Tally:
    """A thousand calls of one and the same program: most fast, one in twenty fails."""
    buckets = [0] * 15
    for _ in range(1000):
        buckets[bisect_left(DURATION_BOUNDS_S, random_calls.expovariate(1 / 0.05))] += 1
    errors = sum(random_calls.random() < 0.05 for _ in range(1000))
    return Tally(count=1000, errors=errors, duration_buckets=tuple(buckets))


def test_chance_is_not_reported() -> None:
    """Of 300 pairs of times between which nothing changed, four numbers each."""
    random_calls = random.Random(1)
    said = [
        one
        for _ in range(300)
        for one in found(of(drawn(random_calls)), of(drawn(random_calls)))
    ]
    assert said == []


def test_lines_for_people() -> None:
    earlier = of(tally(100), tcp=network(100))
    later = of(
        tally(100, each_s=0.2, errors=50),
        tcp=network(10, connect_failures={"ECONNREFUSED": 90}),
    )
    assert list(lines(diff(earlier, later))) == [
        "fails     shop/web → shop/api (failed connects: 0 % → 90.0 %)",
        "fails     shop/web → shop/api (http failed calls: 0 % → 50.0 %)",
        "slower    shop/web → shop/api (http p50: 18 ms → 175 ms)",
        "slower    shop/web → shop/api (http p99: 25 ms → 248 ms)",
    ]


def test_json() -> None:
    earlier, later = of(tally(100)), of(tally(300))
    assert changes_to_json(earlier, later, diff(earlier, later)) == {
        "earlier_unix_ns": earlier.time_unix_ns,
        "later_unix_ns": later.time_unix_ns,
        "changes": [
            {
                "kind": "rate_rose",
                "id": f"{WEB}→{API}",
                "name": "shop/web → shop/api",
                "protocol": "http",
                "measure": "rate",
                "before": pytest.approx(100 / 60),
                "after": 5.0,
            }
        ],
    }


@given(service_maps(), service_maps())
def test_any_two_maps_can_be_compared(one: ServiceMap, other: ServiceMap) -> None:
    assert diff(one, one) == []
    made: list[Change] = diff(one, other)
    assert all(line.isprintable() for line in lines(made))
