# SPDX-License-Identifier: Apache-2.0
"""The picture: every call once, between the right two, with the right numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import edge, key

from deetune_otel.model import (
    Edge,
    Operation,
    Protocol,
    Role,
    SeriesKey,
    Service,
    Transport,
)
from deetune_otel.signals.values import ZERO
from deetune_otel.topology.snapshot import (
    EdgeView,
    Ends,
    Snapshot,
    SnapshotBuilder,
    quantile,
)

WEB = Service(name="web", instance_id="h:1", found_by="script")
API = Service(name="api", instance_id="h:2", found_by="script")
JOB = Service(name="job", instance_id="h:3", found_by="script")
GET = Operation(name="GET /")
SECOND = 10**9


class Host:
    """Feeds a builder as the agent does."""

    def __init__(self, **changes: int) -> None:
        self.builder = SnapshotBuilder(start_unix_ns=0, **changes)

    def add(
        self,
        service: Service,
        one: Edge,
        count: int = 1,
        *,
        series: SeriesKey | None = None,
        bucket: int = 0,
        netns: int = 1,
        operation: Operation = GET,
    ) -> None:
        value = ZERO._replace(
            count=count,
            request_bytes=10 * count,
            response_bytes=20 * count,
            duration_buckets=tuple(count if i == bucket else 0 for i in range(15)),
        )
        self.builder.add(service, one, operation, series or key(), value, netns=netns)

    def snapshot(self, at_s: float = 1) -> Snapshot:
        return self.builder.build(int(at_s * SECOND))


def calls(server: str, port: int = 80, of: str = "127.0.0.1") -> Edge:
    return edge(Role.CLIENT, peer_address=server, server_port=port, local_address=of)


def serves(client: str, port: int = 80, at: str = "127.0.0.1") -> Edge:
    return edge(Role.SERVER, peer_address=client, server_port=port, local_address=at)


def shape(snapshot: Snapshot) -> list[tuple[str, str, Ends, int]]:
    return [(e.client, e.server, e.ends, e.total.count) for e in snapshot.edges]


def only(snapshot: Snapshot) -> EdgeView:
    [one] = snapshot.edges
    return one


def test_a_call_seen_at_both_ends_is_one_edge() -> None:
    host = Host()
    host.add(WEB, calls("127.0.0.1"), 5, bucket=3)
    host.add(API, serves("127.0.0.1"), 4, bucket=1)
    one = only(host.snapshot())
    assert (one.client, one.server, one.ends) == ("web", "api", Ends.BOTH)
    assert one.total.count == 5
    assert one.server_total is not None
    assert one.server_total.count == 4
    assert one.total.p50_s is not None
    assert one.server_total.p50_s is not None
    assert one.server_total.p50_s < one.total.p50_s


def test_two_services_that_call_from_one_address() -> None:
    host = Host()
    host.add(WEB, calls("127.0.0.1"), 5)
    host.add(JOB, calls("127.0.0.1"), 2)
    host.add(API, serves("127.0.0.1"), 7)
    snapshot = host.snapshot()
    assert shape(snapshot) == [
        ("job", "api", Ends.BOTH, 2),
        ("web", "api", Ends.BOTH, 5),
    ]
    assert all(e.server_total is None for e in snapshot.edges)


def test_loopback_of_another_network_namespace_is_another_place() -> None:
    host = Host()
    host.add(WEB, calls("127.0.0.1"), netns=1)
    host.add(API, serves("127.0.0.1"), netns=2)
    assert shape(host.snapshot()) == [
        ("127.0.0.1", "api", Ends.SERVER, 1),
        ("web", "127.0.0.1:80", Ends.CLIENT, 1),
    ]


def test_containers_meet_by_address_across_network_namespaces() -> None:
    host = Host()
    host.add(WEB, calls("172.17.0.3", of="172.17.0.2"), netns=1)
    host.add(API, serves("172.17.0.2", at="172.17.0.3"), netns=2)
    assert shape(host.snapshot()) == [("web", "api", Ends.BOTH, 1)]


def test_peers_elsewhere_are_shown_by_address() -> None:
    host = Host()
    host.add(WEB, calls("10.0.0.9", 5432, of="10.0.0.1"))
    host.add(WEB, calls("2001:db8::1", 443, of="10.0.0.1"))
    host.add(WEB, serves("10.7.7.7", at="10.0.0.1"))
    host.add(WEB, serves("10.8.8.8", at="10.0.0.1"))
    assert shape(host.snapshot()) == [
        ("10.7.7.7", "web", Ends.SERVER, 1),
        ("10.8.8.8", "web", Ends.SERVER, 1),
        ("web", "10.0.0.9:5432", Ends.CLIENT, 1),
        ("web", "[2001:db8::1]:443", Ends.CLIENT, 1),
    ]


def test_a_remote_client_is_not_joined_to_a_local_one() -> None:
    host = Host()
    host.add(WEB, calls("10.0.0.1", of="10.0.0.1"), 3)
    host.add(API, serves("10.0.0.1", at="10.0.0.1"), 3)
    host.add(API, serves("10.7.7.7", at="10.0.0.1"), 4)
    assert shape(host.snapshot()) == [
        ("10.7.7.7", "api", Ends.SERVER, 4),
        ("web", "api", Ends.BOTH, 3),
    ]


def test_ends_that_disagree_on_the_protocol_are_both_shown() -> None:
    host = Host()
    unknown = key(0, Protocol.UNKNOWN)
    for port, count in ((80, 2), (81, 6)):
        host.add(WEB, calls("127.0.0.1", port), 3)
        host.add(API, serves("127.0.0.1", port), count, series=unknown)
    found = {
        e.protocol: (e.client, e.ends, e.total.count) for e in host.snapshot().edges
    }
    assert found == {
        Protocol.HTTP: ("web", Ends.CLIENT, 6),
        Protocol.UNKNOWN: ("web", Ends.SERVER, 8),
    }


def test_unix_sockets_join_by_path() -> None:
    unix: dict[str, Any] = {
        "transport": Transport.UNIX,
        "peer_address": "/run/a.sock",
        "server_port": 0,
        "local_address": "",
    }
    host = Host()
    host.add(WEB, edge(Role.CLIENT, **unix), 2)
    host.add(API, edge(Role.SERVER, **unix), 2)
    host.add(JOB, edge(Role.CLIENT, **(unix | {"peer_address": "/run/b.sock"})))
    assert shape(host.snapshot()) == [
        ("job", "/run/b.sock", Ends.CLIENT, 1),
        ("web", "api", Ends.BOTH, 2),
    ]


def test_processes_of_a_service_are_one() -> None:
    host = Host()
    for pid in range(3):
        worker = Service(name="api", instance_id=f"h:{pid}")
        host.add(worker, serves("10.7.7.7"), pid + 1)
    snapshot = host.snapshot()
    [service] = snapshot.services
    assert (service.name, service.instances, service.total.count) == ("api", 3, 6)
    host.builder.forget(Service(name="api", instance_id="h:0"))
    [service] = host.snapshot(2).services
    assert (service.instances, service.total.count) == (2, 6)


def test_namespaces_tell_services_apart() -> None:
    host = Host()
    host.add(Service(name="api", namespace="a"), serves("10.7.7.7"))
    host.add(Service(name="api"), serves("10.7.7.7"))
    assert [s.name for s in host.snapshot().services] == ["a/api", "api"]


def test_rates_are_of_the_interval_and_totals_since_the_start() -> None:
    host = Host()
    host.add(API, serves("10.7.7.7"), 6)
    host.add(API, serves("10.7.7.7"), 2, series=key(500))
    first = host.snapshot(2)
    assert only(first).now.rate == 4
    assert only(first).now.error_ratio == 0.25
    assert first.interval_s == 2
    host.add(API, serves("10.7.7.7"), 8)
    second = host.snapshot(4)
    one = only(second)
    assert (one.now.count, one.now.errors, one.now.rate) == (8, 0, 4)
    assert (one.total.count, one.total.errors, one.total.rate) == (16, 2, 4)
    assert (one.total.request_bytes, one.total.response_bytes) == (160, 320)
    idle = only(host.snapshot(5))
    assert (idle.now.count, idle.now.rate, idle.now.p50_s) == (0, 0, None)
    assert idle.total.count == 16


def test_the_mean_is_the_sum_by_the_count() -> None:
    builder = SnapshotBuilder(start_unix_ns=0)
    for count, sum_ns in ((1, 40_000), (3, 360_000)):
        value = ZERO._replace(count=count, duration_sum_ns=sum_ns)
        builder.add(WEB, serves("10.0.0.1"), GET, key(), value, netns=1)
    total = only(builder.build(SECOND)).total
    assert total.mean_s == pytest.approx(0.0001)


def test_operations_of_a_service() -> None:
    host = Host()
    host.add(API, serves("10.7.7.7"), 2, operation=Operation(name="GET /b"))
    host.add(API, serves("10.8.8.8"), 3, operation=Operation(name="GET /a"))
    redis = key(2, Protocol.REDIS)
    host.add(
        API, calls("127.0.0.1", 6379), series=redis, operation=Operation(name="SET")
    )
    [api] = host.snapshot().services
    found = [(o.name, o.protocol, o.role, o.total.count) for o in api.operations]
    assert found == [
        ("GET /a", Protocol.HTTP, Role.SERVER, 3),
        ("GET /b", Protocol.HTTP, Role.SERVER, 2),
        ("SET", Protocol.REDIS, Role.CLIENT, 1),
    ]
    assert api.operations[2].total.errors == 1
    assert (api.total.count, api.total.errors) == (5, 0)  # what it serves


def test_a_role_that_is_not_known() -> None:
    host = Host()
    host.add(WEB, edge(Role.UNKNOWN, peer_address="10.0.0.9"))
    assert shape(host.snapshot()) == [("web", "10.0.0.9:80", Ends.UNKNOWN, 1)]


def test_over_the_caps_counts_stay() -> None:
    host = Host(max_endpoints=2, max_services=2)
    for number in range(4):
        host.add(WEB, calls(f"10.0.0.{number}"), series=key())
    for name in ("a", "b"):
        host.add(Service(name=name), serves("10.7.7.7"))
    snapshot = host.snapshot()
    assert sum(e.total.count for e in snapshot.edges) == 6
    assert ("web", "other", Ends.CLIENT, 2) in shape(snapshot)
    assert [s.name for s in snapshot.services] == ["a", "other", "web"]
    assert snapshot.services[1].operations[0].name == "other"


def test_what_has_no_address_is_joined_to_nothing() -> None:
    host = Host()
    nowhere = {"peer_address": "", "server_port": 0, "local_address": ""}
    host.add(WEB, edge(Role.CLIENT, overflow=True, **nowhere), 2)
    host.add(API, edge(Role.SERVER, overflow=True, **nowhere), 3)
    assert shape(host.snapshot()) == [
        ("other", "api", Ends.SERVER, 3),
        ("web", "other", Ends.CLIENT, 2),
    ]


def test_json_is_plain_and_has_the_fields_names() -> None:
    host = Host()
    host.add(WEB, calls("127.0.0.1"))
    host.add(API, serves("127.0.0.1"))
    found = json.loads(json.dumps(host.snapshot().to_json()))
    assert set(found) == {
        "start_unix_ns",
        "time_unix_ns",
        "interval_s",
        "services",
        "edges",
    }
    [one] = found["edges"]
    assert (one["client"], one["server"], one["ends"]) == ("web", "api", "both")
    assert one["protocol"] == "http"
    assert set(one["total"]) == {
        "count",
        "errors",
        "rate",
        "error_ratio",
        "p50_s",
        "p90_s",
        "p99_s",
        "mean_s",
        "request_bytes",
        "response_bytes",
    }
    assert found["services"][0]["operations"][0]["name"] == "GET /"


QUANTILES = [
    ({}, 0.5, None),
    ({0: 10}, 0.5, 0.0025),
    ({0: 10}, 1.0, 0.005),
    ({1: 4}, 0.25, 0.00625),
    ({0: 5, 2: 5}, 0.5, 0.005),
    ({0: 5, 2: 5}, 0.9, 0.022),
    ({14: 3}, 0.5, 10.0),
    ({0: 99, 14: 1}, 0.99, 0.005),
]


@pytest.mark.parametrize(("counts", "q", "seconds"), QUANTILES)
def test_quantile(counts: dict[int, int], q: float, seconds: float | None) -> None:
    buckets = [counts.get(i, 0) for i in range(15)]
    assert quantile(buckets, q) == (None if seconds is None else pytest.approx(seconds))


@given(
    buckets=st.lists(st.integers(0, 5), min_size=15, max_size=15),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
)
def test_quantiles_do_not_cross(buckets: list[int], low: float, high: float) -> None:
    low, high = sorted((low, high))
    below, above = quantile(buckets, low), quantile(buckets, high)
    assert (below is None) == (above is None) == (sum(buckets) == 0)
    if below is not None and above is not None:
        assert 0 <= below <= above <= 10
