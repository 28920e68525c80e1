# SPDX-License-Identifier: Apache-2.0
"""The map: every call once, between the right two, with the right numbers, whenever one looks."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import edge, key

from deetune_otel.model import (
    NO_TRAFFIC,
    Edge,
    Operation,
    Pair,
    Protocol,
    Role,
    SeriesKey,
    Service,
    Traffic,
    Transport,
)
from deetune_otel.signals.red import OVERFLOW_SERVICE
from deetune_otel.signals.values import ZERO
from deetune_otel.topology import graph as graph_module
from deetune_otel.topology.far import Far
from deetune_otel.topology.graph import Graph
from deetune_otel.topology.model import (
    Edge as MapEdge,
)
from deetune_otel.topology.model import (
    EdgeTotal,
    Ends,
    Example,
    Node,
    NodeKind,
    ServiceMap,
)
from deetune_otel.topology.sums import (
    BUCKETS,
    COUNT,
    ERRORS,
    UNSURE,
    CallsGroup,
    FailureGroup,
    Side,
)
from deetune_otel.topology.zones import Zones

WEB = Service(
    name="web",
    instance_id="h:1",
    found_by="script",
    attributes={"host.name": "h", "process.pid": 1, "container.id": "c1"},
)
API = Service(name="api", instance_id="h:2", found_by="script")
JOB = Service(name="job", namespace="batch", instance_id="h:3", found_by="script")
GET = Operation(name="GET /")
S = 10**9
PUBLIC = "93.184.216.34"
VIP = "10.96.0.1"


@dataclass
class Host:
    """Feeds a graph as the agent does: one reading every ten seconds."""

    graph: Graph = field(
        default_factory=lambda: Graph(start_unix_ns=0, host="h", version="1")
    )
    time_s: int = 0
    ids: int = 0
    edges: dict[int, Edge] = field(default_factory=dict)

    def meet(self, service: Service, one: Edge, *, netns: int = 0) -> int:
        self.ids += 1
        self.edges[self.ids] = one._replace(id=self.ids)
        self.graph.meet(self.edges[self.ids], service, netns=netns)
        return self.ids

    def call(
        self,
        edge_id: int,
        count: int = 1,
        *,
        bucket: int = 0,
        operation: Operation = GET,
        **of_key: Any,
    ) -> None:
        value = ZERO._replace(
            count=count,
            duration_sum_ns=count * 10**6,
            request_bytes=10 * count,
            response_bytes=20 * count,
            duration_buckets=tuple(count if i == bucket else 0 for i in range(15)),
        )
        self.graph.add(edge_id, operation, key(edge_id=edge_id, **of_key), value)

    def fail_connect(self, edge_id: int, count: int = 1) -> None:
        self.call(edge_id, count, protocol=Protocol.CONNECT, outcome=111)

    def traffic(self, edge_id: int, opened: int = 0, **changes: Any) -> None:
        self.graph.add_traffic(edge_id, NO_TRAFFIC._replace(opened=opened, **changes))

    def read(self, times: int = 1) -> None:
        for _ in range(times):
            self.time_s += 10
            self.graph.end_interval(self.time_s * S)

    def map(self, window_s: float = 60) -> ServiceMap:
        return self.graph.service_map(window_s=window_s, now_unix_ns=self.time_s * S)

    def shape(self, window_s: float = 10**6) -> dict[tuple[str, str], int]:
        return {
            (one.client, one.server): sum(calls.calls.count for calls in one.calls)
            for one in self.map(window_s).edges
        }

    def only(self, window_s: float = 10**6) -> MapEdge:
        [one] = self.map(window_s).edges
        return one

    def node(self, id_: str) -> Node:
        [found] = [one for one in self.map().nodes if one.id == id_]
        return found

    def published(self) -> dict[str, int]:
        return {one.id: sum(counted(one)) for one in self.graph.edges_total()}


@pytest.fixture
def host() -> Host:
    return Host()


def counted(one: EdgeTotal) -> list[int]:
    """By protocol; at the client where it was observed."""
    tallies = (calls.at_client or calls.at_server for calls in one.calls)
    return [tally.count for tally in tallies if tally is not None]


def calls(server: str = "10.0.0.2", port: int = 80, of: str = "10.0.0.1") -> Edge:
    return edge(Role.CLIENT, peer_address=server, server_port=port, local_address=of)


def serves(client: str = "10.0.0.1", port: int = 80, at: str = "10.0.0.2") -> Edge:
    return edge(Role.SERVER, peer_address=client, server_port=port, local_address=at)


WEB_ID, API_ID, JOB_ID = "service:/web", "service:/api", "service:batch/job"
UNKNOWN = "address:10.0.0.2:80"


# ---- both ends here ------------------------------------------------------------------------


def test_a_call_seen_at_both_ends_is_one_edge(host: Host) -> None:
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.traffic(web, 1, sent_bytes=7, received_bytes=9, retransmits=1)
    host.traffic(api, 1, sent_bytes=9, received_bytes=7, retransmits=2)
    host.call(web, 5, bucket=3)
    host.call(api, 4, bucket=1)
    host.read()
    one = host.only()
    assert (one.client, one.server, one.ends) == (WEB_ID, API_ID, Ends.BOTH)
    [http] = one.calls
    assert (http.calls.count, http.total, http.is_estimated) == (5, 5, False)
    assert http.at_server is not None
    assert http.at_server.count == 4
    assert http.at_server.duration_buckets[1] == 4
    assert http.calls.request_bytes == 50
    assert http.calls.duration_sum_s == pytest.approx(0.005)
    assert (one.network.active, one.network.connects) == (1, 1)
    assert (one.network.sent_bytes, one.network.received_bytes) == (7, 9)
    assert one.network.retransmits == 3  # of both ends
    assert host.node(API_ID).served[0].calls.count == 4
    assert host.node(API_ID).addresses == ("10.0.0.2:80",)
    assert (one.first_seen_unix_ns, one.last_seen_unix_ns) == (0, 10 * S)


def test_through_nat_the_called_address_is_the_way(host: Host) -> None:
    web, api = host.meet(WEB, calls(VIP)), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.call(web)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 1}
    assert host.only().via == (f"{VIP}:80",)


def test_both_ends_in_one_service_are_a_self_edge(host: Host) -> None:
    one, other = host.meet(WEB, calls()), host.meet(WEB, serves())
    host.graph.join(one, other, 1)
    host.call(one, 3)
    host.call(other, 3)
    host.read()
    assert host.shape() == {(WEB_ID, WEB_ID): 3}
    assert host.only().ends is Ends.BOTH


def test_unix_sockets(host: Host) -> None:
    path = "/run/php.sock"
    of = {"transport": Transport.UNIX, "server_port": 0, "local_address": ""}
    web = host.meet(WEB, edge(Role.CLIENT, peer_address=path, **of))
    host.call(web)
    host.read()
    assert host.shape() == {(WEB_ID, "unix:h:/run/php.sock"): 1}
    php = host.meet(API, edge(Role.SERVER, peer_address=path, **of))
    host.graph.join(web, php, 1)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 1}
    assert host.only().transports == (Transport.UNIX,)
    assert host.node(API_ID).addresses == (path,)
    assert host.only().via == ()
    alone = host.meet(JOB, edge(Role.SERVER, peer_address="/x", **of))
    host.call(alone)
    host.read()
    assert ("clients:unix:h", JOB_ID) in host.shape()


def test_an_idle_connection_is_an_edge_until_it_closes(host: Host) -> None:
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.traffic(web, 1)
    host.traffic(api, 1)
    host.graph.join(web, api, 1)
    host.read(30)
    assert host.shape(window_s=60) == {(WEB_ID, API_ID): 0}
    assert host.only(60).last_seen_unix_ns == 300 * S
    host.traffic(web, closed=1)
    host.traffic(api, closed=1)
    host.read(10)
    assert host.shape(window_s=60) == {}
    assert {node.id for node in host.map().nodes} == {WEB_ID, API_ID}  # they live


# ---- one address, several services ---------------------------------------------------------


def virtual(host: Host) -> tuple[int, int, int]:
    """web calls one address, behind which api and job are."""
    web = host.meet(WEB, calls(VIP))
    api, job = host.meet(API, serves()), host.meet(JOB, serves(at="10.0.0.3"))
    host.graph.join(web, api, 1)
    host.graph.join(web, job, 3)
    return web, api, job


def test_only_who_was_busy_was_called(host: Host) -> None:
    web, api, _ = virtual(host)
    host.call(web, 6)
    host.call(api, 6)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 6}


def test_what_callers_do_wrong_stands_apart_from_what_fails(host: Host) -> None:
    """At both ends, in the window, since the start, and for counters."""
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    for end in (web, api):
        for status, count in ((200, 4), (404, 3), (429, 1), (500, 2)):
            host.call(end, count, outcome=status)
    host.read()
    (edge,) = host.map().edges
    (one,) = edge.calls
    assert one.at_server is not None
    for tally in (one.calls, one.at_server):
        assert (tally.count, tally.errors, tally.client_errors) == (10, 2, 4)
    assert one.total_errors == 2
    (total,) = host.graph.edges_total()
    assert total.calls[0].at_client is not None
    assert total.calls[0].at_client.errors == 2


def test_the_servers_tell_the_calls_apart(host: Host) -> None:
    web, api, job = virtual(host)
    host.call(web, 8, bucket=2)  # fast
    host.call(web, 2, bucket=9)  # slow
    host.call(web, 3, outcome=500, bucket=4)
    host.call(api, 8, bucket=1)
    host.call(api, 3, outcome=500, bucket=4)
    host.call(job, 2, bucket=8)
    host.read()
    by_server = {one.server: one.calls[0] for one in host.map().edges}
    api_calls, job_calls = by_server[API_ID].calls, by_server[JOB_ID].calls
    assert (api_calls.count, api_calls.errors) == (11, 3)
    assert (job_calls.count, job_calls.errors) == (2, 0)
    assert job_calls.duration_buckets[9] == 2
    assert api_calls.duration_buckets[2] == 8
    assert not any(one.is_estimated for one in by_server.values())


def test_calls_that_nobody_tells_apart_are_an_estimate(host: Host) -> None:
    web, api, job = virtual(host)
    cron = host.meet(Service(name="cron", instance_id="h:9"), calls(VIP))
    host.graph.join(cron, api, 1)
    host.graph.join(cron, job, 1)
    host.call(web, 7)
    host.call(api, 20)
    host.call(job, 20)
    host.read()
    edges = {(one.client, one.server): one for one in host.map().edges}
    mine = [edges[WEB_ID, server].calls[0] for server in (API_ID, JOB_ID)]
    assert [one.calls.count for one in mine] == [2, 5]  # 7 by 1 to 3
    assert all(one.is_estimated for one in mine)
    # nor do the servers know whose calls they were, while both clients are busy
    host.call(cron, 5)
    host.call(web, 5)
    host.call(api, 10)
    host.read()
    told = [one.calls[0] for one in host.map(10).edges]
    assert all(one.at_server_is_estimated for one in told)
    assert sum(one.at_server.count for one in told if one.at_server) == 10
    assert [
        [one.at_server_is_estimated for one in edge.calls]
        for edge in host.graph.edges_total()
        if edge.server == "api"
    ] == [[True], [True]]
    assert host.node(API_ID).served[0].calls.count == 30


def test_an_address_that_moves_leaves_what_was(host: Host) -> None:
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.traffic(web, 1)
    host.call(web, 5)
    host.call(api, 5)
    host.read()
    host.graph.forget([api])
    host.graph.forget_service(API)
    host.read()
    job = host.meet(JOB, serves())
    host.graph.join(web, job, 1)
    host.traffic(web, 1)
    host.call(web, 3)
    host.call(job, 3)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 5, (WEB_ID, JOB_ID): 3}


def test_a_server_that_is_gone_is_who_cannot_be_reached(host: Host) -> None:
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.traffic(web, 1)
    host.call(web, 5)
    host.read()
    host.graph.forget([api])
    host.read()
    host.fail_connect(web, 2)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 5}
    assert host.only().network.connect_failures == {"ECONNREFUSED": 2}
    # until somebody else, whom this kernel does not see, answers there
    host.traffic(web, 1)
    host.read()
    host.call(web, 4)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 5, (WEB_ID, UNKNOWN): 4}


def test_an_address_of_which_some_servers_are_here(host: Host) -> None:
    web, api = host.meet(WEB, calls(VIP)), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.traffic(web, 2)
    host.read()
    host.call(web, 10)
    host.call(api, 4)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 4, (WEB_ID, f"address:{VIP}:80"): 6}
    assert [one.edge.id for one in host.graph.open_edges()] == [web]
    host.graph.know(
        web, Far(address="10.9.9.9", port=8080, service=JOB, is_translated=True)
    )
    host.read()
    assert host.shape()[WEB_ID, API_ID] == 4


def test_connections_in_flight_are_not_elsewhere(host: Host) -> None:
    """Ten thousand short ones: some joins always come a reading late."""
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    late = 0
    for _ in range(10):
        host.traffic(web, 1000, closed=1000)
        host.graph.join(web, api, 990 + late)
        late = 10
        host.call(web, 1000)
        host.call(api, 997)
        host.read()
    assert host.shape() == {(WEB_ID, API_ID): 10_000}


# ---- one end alone -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "id_", "kind"),
    [
        (calls(), UNKNOWN, NodeKind.ADDRESS),
        (calls(PUBLIC, 443), f"address:{PUBLIC}:443", NodeKind.EXTERNAL),
        (calls("127.0.0.1"), "address:h/127.0.0.1:80", NodeKind.ADDRESS),
        (calls("::1"), "address:h/[::1]:80", NodeKind.ADDRESS),
        (calls("::ffff:10.0.0.9"), "address:[::ffff:10.0.0.9]:80", NodeKind.ADDRESS),
        (edge(overflow=True, peer_address=""), "other", NodeKind.OTHER),
    ],
)
def test_unresolved_ends_are_what_they_are(
    host: Host, one: Edge, id_: str, kind: NodeKind
) -> None:
    host.call(host.meet(WEB, one))
    host.read()
    assert host.shape() == {(WEB_ID, id_): 1}
    assert host.node(id_).kind is kind
    assert host.only().ends is Ends.CLIENT


def test_loopback_of_another_network_namespace_is_another_place(host: Host) -> None:
    host.call(host.meet(WEB, calls("127.0.0.1"), netns=7))
    host.read()
    assert host.shape() == {(WEB_ID, "address:h/7/127.0.0.1:80"): 1}


def test_failed_connects_alone_are_an_edge(host: Host) -> None:
    web = host.meet(WEB, calls())
    host.fail_connect(web, 3)
    host.read()
    one = host.only()
    assert (one.server, one.calls) == (UNKNOWN, ())
    assert one.network.connect_failures == {"ECONNREFUSED": 3}
    details = host.graph.edge_details(one.id, window_s=60, now_unix_ns=0)
    assert details is not None
    assert details.history.error_ratio == (1.0,)


def test_a_database_by_what_is_spoken_to_it(host: Host) -> None:
    host.call(host.meet(WEB, calls(port=6379)), protocol=Protocol.REDIS, outcome=0)
    host.read()
    assert host.node("address:10.0.0.2:6379").kind is NodeKind.DATABASE


def test_names(host: Host) -> None:
    web = host.meet(WEB, calls(PUBLIC, 443))
    host.graph.know(
        web, Far(address=PUBLIC, port=443, name="api.example.com", found_by="dns")
    )
    host.call(web)
    host.read()
    node = host.node("name:api.example.com:443")
    assert (node.kind, node.found_by) == (NodeKind.EXTERNAL, "dns")
    assert node.addresses == (f"{PUBLIC}:443",)
    assert host.shape() == {(WEB_ID, node.id): 1}


def test_an_address_that_stands_for_several(host: Host) -> None:
    web = host.meet(WEB, calls(VIP))
    for last in (8, 9):
        far = Far(address=f"10.9.9.{last}", port=8080, is_translated=True)
        host.graph.know(web, far)
    host.call(web)
    host.read()
    node = host.node(f"address:{VIP}:80")
    assert node.kind is NodeKind.VIRTUAL
    assert node.addresses == ("10.9.9.8:8080", "10.9.9.9:8080")


def test_two_services_at_one_address_are_a_load_balancer(host: Host) -> None:
    web = host.meet(WEB, calls(VIP))
    for service in (API, JOB):
        host.graph.know(web, Far(address=VIP, port=80, service=service))
    host.graph.know(web, Far(address=VIP, port=80))
    host.call(web, 3)
    host.read()
    assert host.node(host.only().server).kind is NodeKind.VIRTUAL


def test_a_process_that_moves_takes_only_what_comes(host: Host) -> None:
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.traffic(web, 1)
    host.traffic(api, 1)
    host.call(web, 3)
    host.call(api, 3)
    host.read()
    host.graph.meet(host.edges[api], JOB, netns=0)
    host.call(web, 2)
    host.call(api, 2)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 3, (WEB_ID, JOB_ID): 2}
    assert host.node(API_ID).instances == ()
    assert [one.id for one in host.node(JOB_ID).instances] == [JOB.instance_id]
    active = {one.server: one.network.active for one in host.map().edges}
    assert active == {API_ID: 0, JOB_ID: 1}


def test_several_addresses_of_one_service_are_the_service(host: Host) -> None:
    web = host.meet(WEB, calls(VIP))
    for last in (8, 9):
        far = Far(address=f"10.9.9.{last}", port=8080, is_translated=True, service=API)
        host.graph.know(web, far)
    host.call(web)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 1}
    assert host.only().via == (f"{VIP}:80",)
    assert [one.id for one in host.node(API_ID).instances] == ["h:2"]


def test_callers_from_elsewhere(host: Host) -> None:
    for client in (PUBLIC, "8.8.8.8", "10.7.7.7", "127.0.0.1"):
        host.call(host.meet(API, serves(client)), 2)
    known = host.meet(API, serves("10.5.5.5"))
    host.graph.know(known, Far(address="10.1.1.1", port=0, service=WEB))
    host.traffic(known, 1, sent_bytes=5, received_bytes=3)
    host.call(known)
    host.read()
    assert host.shape() == {
        ("clients:internet", API_ID): 4,
        ("clients:10.7.7.7", API_ID): 2,
        ("clients:h/127.0.0.1", API_ID): 2,
        (WEB_ID, API_ID): 1,
    }
    [one] = [one for one in host.map().edges if one.client == WEB_ID]
    assert one.ends is Ends.SERVER
    assert (one.network.sent_bytes, one.network.received_bytes) == (3, 5)
    assert host.node("clients:internet").kind is NodeKind.CLIENTS
    assert one.calls[0].at_server == one.calls[0].calls


def test_callers_by_address_are_bounded(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "MAX_CLIENTS_PER_SERVER", 3)
    for n in range(10):
        host.call(host.meet(API, serves(f"10.1.1.{n}")))
    host.read()
    assert host.shape()["clients:more", API_ID] == 7


def test_a_servers_local_and_other_callers_behind_one_address(host: Host) -> None:
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.traffic(web, 1)
    host.traffic(api, 3)
    host.read()
    host.call(web, 4)
    host.call(api, 10)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 4, ("clients:10.0.0.1", API_ID): 6}
    [both] = [one for one in host.map().edges if one.client == WEB_ID]
    assert both.calls[0].at_server is not None
    assert both.calls[0].at_server.count == 4


# ---- datagrams: a server is not told who sent ------------------------------------------------


def sends(to: str = "10.0.0.2", **changes: Any) -> Edge:
    return calls(to, 8125)._replace(transport=Transport.UDP, **changes)


def receives(client: str = "", port: int = 8125) -> Edge:
    return serves(client, port)._replace(transport=Transport.UDP)


def bytes_of(host: Host) -> dict[str, tuple[int, int]]:
    return {
        one.client: (one.network.sent_bytes, one.network.received_bytes)
        for one in host.map(10**6).edges
    }


def test_senders_that_nobody_knows_are_one_node(host: Host) -> None:
    host.traffic(host.meet(API, receives()), received_bytes=50)
    host.traffic(host.meet(JOB, receives()), received_bytes=7)
    host.read()
    assert set(host.shape()) == {
        ("clients:unknown", API_ID),
        ("clients:unknown", JOB_ID),
    }
    found = host.node("clients:unknown")
    assert (found.kind, found.name) == (NodeKind.CLIENTS, "unknown callers")


@pytest.mark.parametrize("late", [0, 1, 5])
def test_who_was_answered_had_sent(host: Host, late: int) -> None:
    host.traffic(host.meet(API, receives()), received_bytes=50)
    host.read(late)
    host.traffic(host.meet(API, receives("10.7.7.7")), sent_bytes=20)
    host.traffic(host.meet(API, receives("10.7.7.8", port=53)), sent_bytes=1)
    host.read()
    assert bytes_of(host) == {"clients:10.7.7.7": (50, 20), "clients:10.7.7.8": (0, 1)}


@pytest.mark.parametrize("late", [0, 1])
def test_a_joined_client_tells_what_it_sent(host: Host, late: int) -> None:
    web, api = host.meet(WEB, sends()), host.meet(API, receives("10.0.0.1"))
    nameless = host.meet(API, receives())
    host.traffic(web, sent_bytes=50, received_bytes=20)
    host.traffic(nameless, received_bytes=50)
    host.read(late)
    host.traffic(api, sent_bytes=20)
    host.graph.join(web, api, 1)
    host.read()
    assert bytes_of(host) == {WEB_ID: (50, 20)}
    assert host.only().ends is Ends.BOTH


def test_a_joined_sender_that_gets_no_answer(host: Host) -> None:
    web, nameless = host.meet(WEB, sends()), host.meet(API, receives())
    host.traffic(web, sent_bytes=50)
    host.traffic(nameless, received_bytes=50)
    host.graph.join(web, nameless, 1)
    host.read()
    assert bytes_of(host) == {WEB_ID: (50, 0)}
    # a second client may still be joined
    assert nameless in {one.edge.id for one in host.graph.open_edges()}


def test_what_was_received_is_divided_by_what_is_known(host: Host) -> None:
    web, nameless = host.meet(WEB, sends()), host.meet(API, receives())
    host.graph.join(web, nameless, 1)
    host.traffic(web, sent_bytes=1_000)
    host.traffic(nameless, received_bytes=1_300)
    for client, answered in (("10.7.7.7", 20), ("10.7.7.8", 10)):
        host.traffic(host.meet(API, receives(client)), sent_bytes=answered)
    host.read()
    assert bytes_of(host) == {
        WEB_ID: (1_000, 0),
        "clients:10.7.7.7": (200, 20),
        "clients:10.7.7.8": (100, 10),
    }


def test_look_ups_that_nobody_answered_are_the_callers(host: Host) -> None:
    web, nameless = host.meet(WEB, sends()), host.meet(API, receives())
    host.graph.join(web, nameless, 1)
    for one in (web, nameless):
        host.call(one, 3, protocol=Protocol.DNS)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 3}
    assert host.only().calls[0].at_server == host.only().calls[0].calls


# ---- what is known late --------------------------------------------------------------------


@pytest.mark.parametrize("has_traffic", [True, False])
def test_a_join_that_comes_late_leaves_no_ghost(host: Host, has_traffic: bool) -> None:  # noqa: FBT001
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    if has_traffic:
        host.traffic(web, 1)
        host.traffic(api, 1)
    host.call(web, 5)
    host.call(api, 5)
    host.read()
    assert set(host.shape()) == {(WEB_ID, UNKNOWN), ("clients:10.0.0.1", API_ID)}
    assert host.published() == {}  # a counter cannot take it back
    host.graph.join(web, api, 1)
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 5}
    assert host.shape(window_s=10) in ({}, {(WEB_ID, API_ID): 0})  # it is of then
    assert host.only().ends is Ends.BOTH
    assert host.only().calls[0].at_server == host.only().calls[0].calls
    assert host.published() == {f"{WEB_ID}→{API_ID}": 5}


def test_a_name_that_comes_late_leaves_no_ghost(host: Host) -> None:
    web = host.meet(WEB, calls(PUBLIC, 443))
    host.call(web, 5)
    host.read(5)
    assert host.published() == {f"{WEB_ID}→address:{PUBLIC}:443": 5}
    host.graph.know(web, Far(address=PUBLIC, port=443, name="x.test"))
    host.call(web)
    host.read(3)
    assert host.shape() == {(WEB_ID, "name:x.test:443"): 6}
    host.graph.know(web, Far(address=PUBLIC, port=443, service=API))
    host.read()
    assert host.shape() == {(WEB_ID, API_ID): 6}
    # the counters stay where they were published
    assert host.published() == {
        f"{WEB_ID}→address:{PUBLIC}:443": 5,
        f"{WEB_ID}→name:x.test:443": 1,
    }


def test_connections_that_were_others_stay(host: Host) -> None:
    web = host.meet(WEB, calls())
    host.traffic(web, 1, closed=1)
    host.call(web, 5)
    host.read()
    api = host.meet(API, serves())
    host.traffic(web, 1)
    host.graph.join(web, api, 1)
    host.call(web, 2)
    host.call(api, 2)
    host.read()
    assert host.shape() == {(WEB_ID, UNKNOWN): 5, (WEB_ID, API_ID): 2}


def test_an_answer_after_too_long_leaves_what_was(host: Host) -> None:
    web = host.meet(WEB, calls())
    host.call(web, 5)
    host.read(graph_module.RESOLVE_READINGS + 1)
    host.graph.know(web, Far(address="10.0.0.2", port=80, service=API))
    host.call(web)
    host.read()
    assert host.shape() == {(WEB_ID, UNKNOWN): 5, (WEB_ID, API_ID): 1}


def test_what_ended_stays_as_it_was(host: Host) -> None:
    web = host.meet(WEB, calls())
    host.call(web, 5)
    host.graph.forget([web])
    host.graph.forget_service(WEB)
    host.read()
    assert host.shape() == {(WEB_ID, UNKNOWN): 5}
    assert host.published() == {f"{WEB_ID}→{UNKNOWN}": 5}
    host.graph.know(web, Far(address="10.0.0.2", port=80, service=API))
    host.graph.add_example(web, example())
    host.read()
    assert host.shape() == {(WEB_ID, UNKNOWN): 5}
    assert host.node(WEB_ID).instances == ()
    host.read(10)
    assert host.map().nodes == ()


# ---- counts --------------------------------------------------------------------------------

_ACTS = st.one_of(
    st.tuples(st.just("call"), st.integers(1, 6), st.integers(1, 40)),
    st.tuples(st.just("fail"), st.integers(1, 6), st.integers(1, 3)),
    st.tuples(st.just("open"), st.integers(1, 6), st.integers(1, 3)),
    st.tuples(st.just("join"), st.integers(1, 3), st.integers(4, 6)),
    st.tuples(st.just("name"), st.integers(1, 6), st.integers(0, 3)),
    st.tuples(st.just("forget"), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("read"), st.integers(1, 3), st.just(0)),
)


def act(host: Host, what: str, one: int, other: int, sums: Counter[str]) -> None:
    is_client = one <= 3
    if what == "call":
        host.call(one, other, bucket=other % 15, outcome=(200, 500)[other % 2])
        sums["client" if is_client or one not in host.edges else "server"] += other
    elif what == "fail" and is_client:
        host.fail_connect(one, other)
        sums["failures"] += other
    elif what == "open":
        host.traffic(one, other, sent_bytes=other)
    elif what == "join":
        host.graph.join(one, other, 1)
    elif what == "name":
        service = (None, API, WEB, JOB)[other]
        host.graph.know(
            one, Far(address=f"10.9.0.{other}", port=0, name="n", service=service)
        )
    elif what == "forget":
        host.graph.forget([one])
    elif what == "read":
        host.read(one)


@given(st.lists(_ACTS, max_size=40))
def test_the_total_of_all_edges_is_the_total_of_all_deltas(
    acts: list[tuple[str, int, int]],
) -> None:
    host, sums = Host(), Counter[str]()
    for service, met in (
        (WEB, calls(VIP)),
        (JOB, calls(VIP)),
        (WEB, calls()),
        (API, serves()),
        (JOB, serves(at="10.0.0.3")),
        (API, serves("10.0.0.9")),
    ):
        host.meet(service, met)
    before: dict[str, int] = {}
    for what, one, other in acts:
        # counts of an edge that is forgotten would be `other`'s
        if what in {"call", "fail", "open"} and one not in host.graph._ends:
            continue
        act(host, what, one, other, sums)
        now = host.published()
        assert all(now[id_] >= count for id_, count in before.items())
        before = now
    host.read(2)
    seen = seen_in(host.graph)
    assert seen["CLIENT"] == sums["client"]
    assert seen["failures"] == sums["failures"]
    assert seen["served"] == sums["server"]
    # with what several clients share: that is marked at each of them
    assert seen["SERVER"] + seen["ALONE"] <= sums["server"]
    assert seen["SERVER"] + seen["ALONE"] + seen["untold"] >= sums["server"]
    edges = host.map(10**6).edges
    # a window that reaches the start is the total
    assert sum(one.calls.count for two in edges for one in two.calls) == sum(
        one.total for two in edges for one in two.calls
    )


def seen_in(graph: Graph) -> Counter[str]:
    seen: Counter[str] = Counter()
    for drawn in graph._drawn.values():
        for group, numbers in drawn.total().items():
            if isinstance(group, FailureGroup):
                seen["failures"] += numbers[0]
            elif isinstance(group, CallsGroup):
                seen[group.side.name] += numbers[COUNT]
                assert numbers[COUNT] == sum(numbers[BUCKETS:])
                assert numbers[ERRORS] <= numbers[COUNT]
                if group.side is Side.SERVER:
                    seen["untold"] += numbers[UNSURE]
    for node in graph._nodes.values():
        for numbers in node.served.sums.groups().values():
            seen["served"] += numbers[COUNT]
    return seen


def test_windows_hold_what_was_counted_in_them(host: Host) -> None:
    web = host.meet(WEB, calls())
    for n in range(1, 7):
        host.call(web, n, operation=Operation(name=f"GET /{n % 2}"))
        host.read()
    assert host.shape(window_s=10) == {(WEB_ID, UNKNOWN): 6}
    assert host.shape(window_s=30) == {(WEB_ID, UNKNOWN): 15}
    assert host.map(30).window_s == 30
    assert host.map(3600).window_s == 60
    assert host.only().calls[0].total == 21
    details = host.graph.edge_details(host.only().id, window_s=40, now_unix_ns=0)
    assert details is not None
    assert [(one.name, one.calls.count) for one in details.operations] == [
        ("GET /0", 10),
        ("GET /1", 8),
    ]
    assert details.history.rate == (0.3, 0.4, 0.5, 0.6)
    assert details.history.step_s == 10
    assert details.history.p50_s[0] == pytest.approx(0.0025)


def test_details_of_nodes(host: Host) -> None:
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    host.call(web, 3)
    host.call(api, 2)
    host.graph.add_example(web, example(is_error=True, time_unix_ns=2))
    host.graph.add_example(api, example(time_unix_ns=1))
    host.read()
    one = f"{WEB_ID}→{API_ID}"
    of_api = host.graph.node_details(API_ID, window_s=60, now_unix_ns=0)
    of_web = host.graph.node_details(WEB_ID, window_s=60, now_unix_ns=0)
    assert of_api is not None
    assert of_web is not None
    assert (of_api.callers, of_api.callees) == ((one,), ())
    assert (of_web.callers, of_web.callees) == ((), (one,))
    assert [op.calls.count for op in of_api.operations] == [2]
    assert of_api.history.rate == (0.2,)
    assert of_web.history.rate == (0.3,)  # of what it calls
    assert [shown.time_unix_ns for shown in of_api.examples] == [2, 1]
    assert host.graph.node_details("service:/x", window_s=1, now_unix_ns=0) is None
    assert host.graph.edge_details("x", window_s=1, now_unix_ns=0) is None


def test_counts_of_no_edge_are_others(host: Host) -> None:
    host.graph.add(0, GET, SeriesKey(0, Protocol.HTTP, 1, 200, key().end), one_call())
    host.call(77, 2)
    over = host.meet(OVERFLOW_SERVICE, edge(Role.SERVER, overflow=True))
    host.call(over, 4)
    host.read()
    assert host.shape() == {("other", "other"): 7}
    assert host.node("other").kind is NodeKind.OTHER


def test_what_is_known_of_an_overflow_edge_is_said(host: Host) -> None:
    """Its joined peers are who they are, and each call is one; the rest is of others."""
    probing = host.meet(WEB, edge(overflow=True, peer_address=""))
    probed = host.meet(API, edge(Role.SERVER, overflow=True, peer_address=""))
    job = host.meet(JOB, serves())
    host.graph.join(probing, probed, 3)
    host.graph.join(probing, job, 1)
    host.traffic(probing, 5)
    host.traffic(probed, 3)
    host.traffic(job, 1)
    host.read(2)
    host.call(probing, 9)
    host.call(probed, 6)
    host.call(job, 2)
    host.read()
    assert host.shape() == {
        (WEB_ID, API_ID): 6,
        (WEB_ID, JOB_ID): 2,
        (WEB_ID, "other"): 1,
    }
    assert {one.ends for one in host.map().edges if one.server != "other"} == {
        Ends.BOTH
    }


def test_edges_over_the_bound_are_others() -> None:
    host = Host(Graph(start_unix_ns=0, host="h", version="1", max_edges=3))
    for n in range(10):
        host.call(host.meet(WEB, calls(f"10.1.1.{n}")))
    host.read()
    assert host.shape()[WEB_ID, "other"] == 7
    assert sum(host.shape().values()) == 10


def test_a_connection_that_goes_over_to_another_process(host: Host) -> None:
    """`opened` goes down here and up there; a counter does not go down."""
    web, job = host.meet(WEB, calls()), host.meet(JOB, calls())
    host.traffic(web, 2)
    host.read(4)
    host.traffic(web, -1)
    host.traffic(job, 1)
    host.read(4)
    connects = {one.client: one.network.connects for one in host.graph.edges_total()}
    assert connects == {"web": 2, "job": 1}
    assert {one.client: one.network.active for one in host.map().edges} == {
        WEB_ID: 1,
        JOB_ID: 1,
    }
    host.traffic(web, 3)
    host.read()
    connects = {one.client: one.network.connects for one in host.graph.edges_total()}
    assert connects == {"web": 4, "job": 1}


def test_zones() -> None:
    graph = Graph(
        start_unix_ns=0,
        host="h",
        version="1",
        zone="eu-1a",
        zones=Zones({"10.0.0.0/16": "eu-1a", "10.1.0.0/16": "eu-1b"}),
    )
    host = Host(graph)
    for server in ("10.0.0.2", "10.1.0.2", "10.2.0.2"):
        host.call(host.meet(WEB, calls(server)))
    host.read()
    assert [one.is_cross_zone for one in host.map().edges] == [False, True, None]
    assert host.node(WEB_ID).zones == ("eu-1a",)
    [instance] = host.node(WEB_ID).instances
    assert (instance.host, instance.pid, instance.container_id, instance.zone) == (
        "h",
        1,
        "c1",
        "eu-1a",
    )


def test_pairs_are_of_edges_with_one_end(host: Host) -> None:
    alone = host.meet(WEB, calls(PUBLIC))
    web, api = host.meet(WEB, calls()), host.meet(API, serves())
    host.graph.join(web, api, 1)
    for id_ in (alone, web, api):
        host.call(id_)
    host.read()
    shown = host.graph.service_map(
        window_s=60,
        now_unix_ns=0,
        pairs_of={alone: (Pair(1, 2),), web: (Pair(3, 4),), 99: (Pair(5, 6),)},
    )
    assert {one.server: one.pairs for one in shown.edges} == {
        f"address:{PUBLIC}:80": (Pair(1, 2),),
        API_ID: (),
    }


def test_open_edges(host: Host) -> None:
    web = host.meet(WEB, calls(), netns=5)
    host.meet(WEB, edge(overflow=True))
    host.meet(WEB, edge(transport=Transport.UNIX))
    [one] = host.graph.open_edges()
    assert (one.edge.id, one.netns, one.is_known) == (web, 5, False)
    host.graph.know(web, Far(address="10.0.0.2", port=80))
    assert host.graph.open_edges()[0].is_known
    host.graph.join(web, host.meet(API, serves()), 1)
    assert host.graph.open_edges() == []


def test_what_is_a_day_old_is_forgotten(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "HISTORY_BYTES", 0)  # as little as can be
    web = host.meet(WEB, calls())
    host.call(web)
    host.graph.forget([web])
    host.graph.forget_service(WEB)
    host.read(200)
    assert host.shape(10**6) == {}
    assert host.published() == {}
    assert host.graph._nodes == {}


def test_first_and_last_seen() -> None:
    host = Host(
        Graph(start_unix_ns=0, host="h", version="1", wall_clock_offset_ns=1000)
    )
    web = host.meet(WEB, calls()._replace(first_ns=234))
    host.call(web)
    host.read(3)
    assert host.only().first_seen_unix_ns == 1234
    assert host.only().last_seen_unix_ns == 10 * S


def test_is_fed_and_read_by_threads(host: Host) -> None:
    web = host.meet(WEB, calls())
    stop = threading.Event()
    failed: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                host.map()
                host.graph.edges_total()
                host.graph.open_edges()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(200):
        host.call(web)
        host.call(host.meet(API, serves(f"10.3.3.{n}")))
        host.read()
    stop.set()
    thread.join(10)
    assert not failed
    assert host.shape()[WEB_ID, UNKNOWN] == 200


def one_call() -> Any:
    return ZERO._replace(count=1, duration_buckets=(1, *(0,) * 14))


def example(**changes: Any) -> Example:
    values = {
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
        "time_unix_ns": 1,
        "duration_s": 0.1,
        "operation": "GET /",
        "role": "client",
        "result": "500",
        "is_error": False,
    }
    return Example(**{**values, **changes})


def test_traffic_is_whole(host: Host) -> None:
    assert Traffic(*NO_TRAFFIC) == NO_TRAFFIC
    web, api, job = virtual(host)
    del api, job
    host.traffic(web, 5, rtt_sum_ns=7, rtt_buckets=(5, *(0,) * 11), sent_bytes=11)
    host.read()
    networks = [one.network for one in host.map().edges]
    assert sum(one.connects for one in networks) == 5
    assert sum(one.sent_bytes for one in networks) == 11
    assert sum(sum(one.rtt_buckets) for one in networks) == 5
