# SPDX-License-Identifier: Apache-2.0
"""No count is lost, merged wrongly, or counted twice, whatever the caps and temporality."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import AggregationTemporality

from deetune_otel.agent.process_registry import no_edge
from deetune_otel.model import (
    Edge,
    End,
    Operation,
    Protocol,
    Role,
    SeriesKey,
    SeriesValue,
    Service,
    Transport,
)
from deetune_otel.protocols.routes import OVERFLOW
from deetune_otel.signals.red import (
    OVERFLOW_SERVICE,
    Accumulators,
    Collection,
    identify,
)
from deetune_otel.signals.values import ZERO, minus, plus

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
SHOP = Service(name="shop", instance_id="h:1")
GET = Operation(name="GET /", attributes={"http.route": "/"})


def value(count: int = 1, duration_ns: int = 10) -> SeriesValue:
    return ZERO._replace(
        count=count,
        duration_sum_ns=count * duration_ns,
        duration_buckets=(count, *(0,) * 14),
        request_body_buckets=(count, *(0,) * 10),
        response_body_buckets=(0, count, *(0,) * 9),
    )


def edge(
    peer: str = "10.0.0.9", role: Role = Role.SERVER, *, over: bool = False
) -> Edge:
    return Edge(1, 1, role, Transport.TCP, peer, 80, "10.0.0.1", over)


def key(status: int = 200, protocol: Protocol = Protocol.HTTP) -> SeriesKey:
    return SeriesKey(1, protocol, 7, status, End.COMPLETE)


def total(collection: Collection) -> int:
    return sum(
        series.value.count
        for service in collection.services
        for series in service.series
    )


def made(**changes: int) -> Accumulators:
    return Accumulators(start_unix_ns=100, **changes)


def test_clients_of_a_server_are_one_series() -> None:
    sums = made()
    for peer in ("10.0.0.9", "10.0.0.8"):
        sums.add(SHOP, edge(peer), GET, key(), value(3))
    sums.end_interval(200)
    collection = sums.collect(CUMULATIVE)
    assert collection.time_unix_ns == 200
    [(service, [series])] = collection.services
    assert service == SHOP
    assert series.value == value(6)
    assert series.start_unix_ns == 100
    assert dict(series.id.attributes) == {
        "http.route": "/",
        "http.response.status_code": 200,
        "server.address": "10.0.0.1",
        "server.port": 80,
    }


def test_servers_of_a_client_are_two_series() -> None:
    sums = made()
    for peer in ("10.0.0.9", "10.0.0.8"):
        sums.add(SHOP, edge(peer, Role.CLIENT), GET, key(), value())
    [(_, series)] = sums.collect(CUMULATIVE).services
    assert {dict(s.id.attributes)["server.address"] for s in series} == {
        "10.0.0.9",
        "10.0.0.8",
    }


def test_cumulative_goes_on_and_delta_starts_where_the_last_ended() -> None:
    sums = made()
    sums.add(SHOP, edge(), GET, key(), value(2))
    sums.end_interval(200)
    assert total(sums.collect(DELTA)) == 2
    sums.end_interval(300)
    assert sums.collect(DELTA).services == []
    sums.add(SHOP, edge(), GET, key(), value(5))
    sums.add(SHOP, edge(), GET, key(500), value(1))
    sums.end_interval(400)
    delta = sums.collect(DELTA)
    assert [(s.value.count, s.start_unix_ns) for s in delta.services[0].series] == [
        (5, 300),
        (1, 300),
    ]
    everything = sums.collect(CUMULATIVE).services[0].series
    assert [(s.value.count, s.start_unix_ns) for s in everything] == [
        (7, 100),
        (1, 300),
    ]


def test_an_ended_service_stays_for_slow_readers_then_goes() -> None:
    sums = made(linger_ns=50)
    sums.add(SHOP, edge(), GET, key(), value())
    sums.end_interval(200)
    sums.forget(SHOP)
    sums.end_interval(249)
    assert total(sums.collect(CUMULATIVE)) == 1
    sums.end_interval(250)
    assert sums.collect(CUMULATIVE).services == []
    sums.add(SHOP, edge(), GET, key(), value())
    [series] = sums.collect(CUMULATIVE).services[0].series
    assert series.start_unix_ns == 250  # a new start: not a counter that went backwards


def test_of_many_that_ended_the_oldest_go_first_once_they_were_collected() -> None:
    sums = made(max_ended=2, linger_ns=10**9)
    several = [replace(SHOP, instance_id=f"h:{pid}") for pid in range(5)]
    for number, one in enumerate(several):
        sums.add(one, edge(), GET, key(), value())
        if number:
            sums.forget(one)
        sums.end_interval(200 + number)
        assert one in [found for found, _ in sums.collect(CUMULATIVE).services]
    left = [found for found, _ in sums.collect(CUMULATIVE).services]
    assert left == [several[0], *several[3:]]  # who lives, and the last ones


def test_a_service_that_comes_back_is_not_forgotten() -> None:
    sums = made(linger_ns=50)
    sums.add(SHOP, edge(), GET, key(), value())
    sums.forget(SHOP)
    sums.add(SHOP, edge(), GET, key(), value())
    sums.end_interval(500)
    assert total(sums.collect(CUMULATIVE)) == 2


def test_over_the_cap_of_series() -> None:
    sums = made(max_series_per_service=2)
    for status in (200, 201, 202, 203, 200):
        sums.add(SHOP, edge(), GET, key(status), value())
    [(_, series)] = sums.collect(CUMULATIVE).services
    assert [s.value.count for s in series] == [2, 1, 2]
    assert series[-1].id.attributes == (("otel.metric.overflow", True),)
    assert sums.overflowed == 2


def test_over_the_cap_of_services() -> None:
    sums = made(max_services=1)
    for name in "abc":
        sums.add(Service(name=name), edge(), GET, key(), value())
    services = sums.collect(CUMULATIVE).services
    assert [s.service.name for s in services] == ["a", OVERFLOW_SERVICE.name]
    assert services[1].series[0].value.count == 2
    assert sums.overflowed == 2


def test_the_kernels_overflow_is_marked() -> None:
    by_edge = dict(identify(SHOP, edge(over=True), GET, key()).attributes)
    assert by_edge["otel.metric.overflow"] is True
    by_map = dict(
        identify(OVERFLOW_SERVICE, no_edge(Role.SERVER), OVERFLOW, key()).attributes
    )
    assert by_map == {"otel.metric.overflow": True, "http.response.status_code": 200}
    by_signature = identify(SHOP, edge(), OVERFLOW, key()._replace(signature=1))
    attributes = dict(by_signature.attributes)
    assert attributes["otel.metric.overflow"] is True
    assert attributes["http.response.status_code"] == 200


def test_a_connection_without_a_role_is_measured_too() -> None:
    series = identify(SHOP, edge(role=Role.UNKNOWN), GET, key(500))
    assert dict(series.attributes)["deetune.role"] == "unknown"


adds = st.tuples(
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["10.0.0.8", "10.0.0.9"]),
    st.sampled_from(list(Role)),
    st.sampled_from(list(Protocol)),
    st.integers(0, 3),
    st.integers(0, 5),
)


@given(
    intervals=st.lists(st.lists(adds, max_size=8), max_size=6),
    max_series=st.integers(1, 4),
    max_services=st.integers(1, 4),
)
def test_the_total_is_the_total(
    intervals: list[list[tuple[str, str, Role, Protocol, int, int]]],
    max_series: int,
    max_services: int,
) -> None:
    sums = made(max_series_per_service=max_series, max_services=max_services)
    fed = ZERO
    deltas: Counter[object] = Counter()
    for number, interval in enumerate(intervals):
        for name, peer, role, protocol, outcome, count in interval:
            delta = value(count, duration_ns=outcome)
            fed = plus(fed, delta)
            service = Service(name=name)
            sums.add(service, edge(peer, role), GET, key(outcome, protocol), delta)
        sums.end_interval(200 + number)
        for service_series in sums.collect(DELTA).services:
            for series in service_series.series:
                assert series.value.count > 0
                deltas[series.id] += series.value.count
    everything = ZERO
    for service_series in sums.collect(CUMULATIVE).services:
        for series in service_series.series:
            everything = plus(everything, series.value)
            assert deltas[series.id] == series.value.count
    assert everything == fed
    assert minus(everything, fed) == ZERO
