# SPDX-License-Identifier: Apache-2.0
"""What several agents saw of one world: every call once, between the right two."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.topology.maps import (
    START,
    TIME,
    UNSEEN,
    Flow,
    calls,
    edge,
    network,
    node,
    seen_by,
    service_map,
    shuffled,
    worlds,
)

from deetune_otel.model import Pair, Protocol, Transport
from deetune_otel.topology.merge import MergeError, merge
from deetune_otel.topology.model import AgentView, Ends, Instance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deetune_otel.topology.model import Edge, Node, ServiceMap

WEB, API, OTHER_API = "service:shop/web", "service:shop/api", "service:shop/api2"
PAIRS = tuple(Pair(n, n + 1) for n in range(8))


def client_half(
    count: int, *, to: str = "address:10.0.0.2:80", pairs: int = 8, client: str = WEB
) -> Edge:
    return edge(
        client,
        to,
        calls(count),
        ends=Ends.CLIENT,
        network=network(8, connect_failures={"ETIMEDOUT": 1}),
        pairs=PAIRS[:pairs],
    )


def server_half(
    count: int,
    *,
    server: str = API,
    frm: str = "clients:10.0.0.1",
    pairs: Iterable[Pair] = PAIRS,
) -> Edge:
    return edge(frm, server, calls(count), ends=Ends.SERVER, pairs=tuple(pairs))


def api_node(**changes: object) -> Node:
    return node(API, **{"addresses": ("10.0.0.2:80",), **changes})


def by_id(one: ServiceMap) -> dict[str, Edge]:
    return {made.id: made for made in one.edges}


def one_edge(one: ServiceMap) -> Edge:
    (made,) = one.edges
    return made


def test_two_halves_become_one_edge() -> None:
    merged = merge(
        [
            service_map([client_half(100)], host="a"),
            service_map([server_half(99)], host="b"),
        ]
    )
    made = one_edge(merged)
    assert (made.client, made.server, made.ends) == (WEB, API, Ends.BOTH)
    (of_http,) = made.calls
    assert of_http.calls == calls(100).calls
    assert of_http.at_server == calls(99).calls
    assert of_http.total == 200
    assert not of_http.is_estimated
    assert made.network == client_half(100).network
    assert made.pairs == ()
    assert [one.id for one in merged.nodes] == [API, WEB]
    assert [one.host for one in merged.agents] == ["a", "b"]


def test_a_virtual_address_is_kept_as_the_way_there() -> None:
    merged = merge(
        [
            service_map([client_half(10, to="address:10.96.0.1:80")], host="a"),
            service_map([server_half(10)], [api_node()], host="b"),
        ]
    )
    assert one_edge(merged).via == ("10.96.0.1:80",)


def test_an_address_that_leads_to_several_is_divided_as_they_counted() -> None:
    virtual = "address:10.96.0.1:80"
    merged = merge(
        [
            service_map([client_half(100, to=virtual)], host="a"),
            service_map([server_half(70, pairs=PAIRS[:2])], host="b"),
            service_map([server_half(30, server=OTHER_API, pairs=PAIRS[2:])], host="c"),
        ]
    )
    made = by_id(merged)
    first, second = made[f"{WEB}→{API}"], made[f"{WEB}→{OTHER_API}"]
    assert len(made) == 2
    assert [one.calls[0].calls.count for one in (first, second)] == [70, 30]
    assert [one.calls[0].at_server for one in (first, second)] == [
        calls(70).calls,
        calls(30).calls,
    ]
    assert first.calls[0].is_estimated
    assert first.network.connects + second.network.connects == 8
    assert first.network.connect_failures == {"ETIMEDOUT": 1}


def test_what_unobserved_clients_call_stays_theirs() -> None:
    """Behind the same router are a client with an agent and some without."""
    merged = merge(
        [
            service_map([client_half(100, pairs=4)], host="a"),
            service_map([server_half(150, frm="clients:10.9.9.9")], host="b"),
        ]
    )
    made = by_id(merged)
    assert made[f"{WEB}→{API}"].calls[0].calls.count == 100
    assert made[f"{WEB}→{API}"].calls[0].at_server is None
    rest = made[f"clients:10.9.9.9→{API}"]
    assert rest.ends is Ends.SERVER
    assert rest.calls[0].calls.count == 50
    assert rest.calls[0].is_estimated
    assert set(rest.pairs) == set(PAIRS[4:])


def test_what_goes_to_servers_that_nobody_observes_stays_with_the_address() -> None:
    merged = merge(
        [
            service_map([client_half(100)], host="a"),
            service_map([server_half(60, pairs=PAIRS[:4])], host="b"),
        ]
    )
    made = by_id(merged)
    assert made[f"{WEB}→{API}"].calls[0].calls.count == 60
    assert made[f"{WEB}→{API}"].calls[0].at_server == calls(60).calls
    rest = made[f"{WEB}→address:10.0.0.2:80"]
    assert (rest.ends, rest.calls[0].calls.count) == (Ends.CLIENT, 40)
    assert set(rest.pairs) == set(PAIRS[4:])


def test_a_connection_made_between_the_two_readings_is_no_other_client() -> None:
    merged = merge(
        [
            service_map([client_half(100, pairs=6)], host="a"),
            service_map([server_half(103)], host="b"),
        ]
    )
    assert one_edge(merged).calls[0].calls.count == 100


def test_two_clients_behind_one_address_are_told_apart() -> None:
    worker = "service:shop/worker"
    merged = merge(
        [
            service_map(
                [
                    client_half(100, pairs=4),
                    replace(client_half(50, client=worker), pairs=PAIRS[4:]),
                ],
                host="a",
            ),
            service_map([server_half(150, frm="clients:10.9.9.9")], host="b"),
        ]
    )
    made = by_id(merged)
    assert {one: edge.calls[0].calls for one, edge in made.items()} == {
        f"{WEB}→{API}": calls(100).calls,
        f"{worker}→{API}": calls(50).calls,
    }
    assert all(edge.calls[0].at_server is None for edge in made.values())


def test_without_common_connections_the_address_decides() -> None:
    merged = merge(
        [
            service_map([client_half(100, pairs=0)], host="a"),
            service_map([server_half(98, pairs=())], [api_node()], host="b"),
        ]
    )
    assert one_edge(merged).id == f"{WEB}→{API}"


@pytest.mark.parametrize(
    ("client", "server", "nodes"),
    [
        pytest.param(
            client_half(100, pairs=0),
            [server_half(500, pairs=())],
            [api_node()],
            id="other counts",
        ),
        pytest.param(
            client_half(100, pairs=0, to="address:127.0.0.1:80"),
            [server_half(100, pairs=())],
            [api_node(addresses=("127.0.0.1:80",))],
            id="loopback",
        ),
        pytest.param(
            client_half(100, pairs=0),
            [server_half(100, pairs=())],
            [api_node(), node(OTHER_API, addresses=("10.0.0.2:80",))],
            id="two serve there",
        ),
        pytest.param(
            client_half(100, pairs=0),
            [
                server_half(100, pairs=()),
                server_half(99, pairs=(), frm="clients:10.0.0.5"),
            ],
            [api_node()],
            id="two may have called",
        ),
        pytest.param(
            client_half(100, pairs=0),
            [
                replace(
                    server_half(100, pairs=()),
                    calls=(calls(100, protocol=Protocol.REDIS),),
                )
            ],
            [api_node()],
            id="another protocol",
        ),
        pytest.param(
            client_half(100, pairs=0),
            [replace(server_half(100, pairs=()), transports=(Transport.UDP,))],
            [api_node()],
            id="another transport",
        ),
    ],
)
def test_an_address_alone_proves_nothing(
    client: Edge, server: list[Edge], nodes: list[Node]
) -> None:
    given_maps = [
        service_map([client], host="a"),
        service_map(server, nodes, host="b"),
    ]
    merged = merge(given_maps)
    assert {one.id for one in merged.edges} == {
        one.id for given_map in given_maps for one in given_map.edges
    }


NAMED = "name:shop.test:8125"
BATCH = "service:/batch"


def sends(
    sent: int, received: int = 0, *, client: str = BATCH, to: str = NAMED
) -> Edge:
    return datagrams(client, to, sent, received, Ends.CLIENT)


def receives(
    sent: int, received: int = 0, *, frm: str = "clients:10.0.0.1", server: str = API
) -> Edge:
    """Bytes as the client sees them, as everywhere on the map."""
    return datagrams(frm, server, sent, received, Ends.SERVER)


def datagrams(client: str, server: str, sent: int, received: int, ends: Ends) -> Edge:
    return edge(
        client,
        server,
        ends=ends,
        transports=(Transport.UDP,),
        network=network(0, sent_bytes=sent, received_bytes=received),
    )


def merged_ids(
    clients: Iterable[Edge], servers: Iterable[Edge], *nodes: Node
) -> set[str]:
    at = ("10.0.0.2:8125",)
    clients = list(clients)
    named = [node(NAMED, addresses=at)] if clients[0].server == NAMED else []
    merged = merge(
        [
            service_map(clients, named, host="a"),
            service_map(servers, [api_node(addresses=at), *nodes], host="b"),
        ]
    )
    assert {one.id for one in merged.nodes} == {
        end for one in merged.edges for end in (one.client, one.server)
    } | {one.id for one in nodes}
    return {one.id for one in merged.edges}


@pytest.mark.parametrize(
    "to", [pytest.param(NAMED, id="name"), pytest.param("address:10.0.0.2:8125")]
)
@pytest.mark.parametrize(
    "frm", ["clients:10.0.0.1", "clients:10.9.9.9", "clients:unknown"]
)
def test_datagrams_to_a_name_are_one_edge(to: str, frm: str) -> None:
    clients, servers = [sends(9_000, 70, to=to)], [receives(8_000, 70, frm=frm)]
    assert merged_ids(clients, servers) == {f"{BATCH}→{API}"}


def test_datagrams_of_several_are_one_edge_each() -> None:
    """One host's address, and they are its services."""
    clients = [sends(90_000, 10), sends(500, client=WEB)]
    assert merged_ids(clients, [receives(90_400, 10)]) == {
        f"{BATCH}→{API}",
        f"{WEB}→{API}",
    }


def test_datagrams_of_one_that_the_server_saw_in_two_ways() -> None:
    servers = [receives(0, 9_000), receives(9_000, frm="clients:unknown")]
    assert merged_ids([sends(9_000, 9_000)], servers) == {f"{BATCH}→{API}"}


@pytest.mark.parametrize(
    ("clients", "servers", "nodes"),
    [
        pytest.param([sends(9_000)], [receives(90_000)], [], id="more than was sent"),
        pytest.param(
            [sends(9_000, 50_000)], [receives(9_000, 10)], [], id="more than answered"
        ),
        pytest.param(
            [sends(50_000), sends(50_000, client=WEB)],
            [receives(60_000)],
            [],
            id="one of two",
        ),
        pytest.param(
            [sends(50_000)],
            [receives(50_000), receives(50_000, frm="clients:10.9.9.9")],
            [],
            id="two may have called",
        ),
        pytest.param(
            [sends(9_000)],
            [receives(9_000)],
            [node(OTHER_API, addresses=("10.0.0.2:8125",))],
            id="two serve there",
        ),
        pytest.param(
            [sends(9_000, to="address:10.0.0.3:8125")],
            [receives(9_000)],
            [],
            id="another address",
        ),
        pytest.param(
            [replace(sends(9_000), transports=(Transport.TCP,))],
            [receives(9_000)],
            [],
            id="another transport",
        ),
    ],
)
def test_datagrams_that_may_be_anothers_stay_halves(
    clients: list[Edge], servers: list[Edge], nodes: list[Node]
) -> None:
    given_edges = {one.id for one in (*clients, *servers)}
    assert merged_ids(clients, servers, *nodes) == given_edges


def test_datagrams_beside_calls_leave_the_calls_as_they_are() -> None:
    both = (Transport.TCP, Transport.UDP)
    client = [client_half(100), sends(9_000)]
    merged = merge(
        [
            service_map(client, [node(NAMED, addresses=("10.0.0.2:8125",))], host="a"),
            service_map(
                [replace(server_half(99), transports=both)],
                [api_node(addresses=("10.0.0.2:80", "10.0.0.2:8125"))],
                host="b",
            ),
        ]
    )
    made = by_id(merged)
    assert made.keys() == {f"{WEB}→{API}", f"{BATCH}→{API}"}
    assert made[f"{WEB}→{API}"].calls[0].at_server == calls(99).calls
    assert made[f"{BATCH}→{API}"].calls == ()


def test_an_idle_connection_is_one_edge_too() -> None:
    merged = merge(
        [
            service_map([replace(client_half(1), calls=())], host="a"),
            service_map([replace(server_half(1), calls=())], host="b"),
        ]
    )
    assert one_edge(merged).ends is Ends.BOTH


def test_agents_that_know_each_other_do_not_double() -> None:
    """Each names the other's end already, and each saw its own end only."""
    merged = merge(
        [
            service_map([client_half(100, to=API)], host="a"),
            service_map([server_half(101, frm=WEB)], host="b"),
        ]
    )
    (of_http,) = one_edge(merged).calls
    assert of_http.calls.count == 100
    assert of_http.at_server == calls(101).calls


def test_a_half_that_is_in_the_other_agents_edge_already_adds_nothing() -> None:
    """B saw both ends of its own web's calls, and the server's end of a's."""
    both = edge(WEB, API, calls(150, at_server=150), pairs=PAIRS)
    merged = merge(
        [
            service_map([client_half(100, to=API)], host="a"),
            service_map([both], host="b"),
        ]
    )
    assert one_edge(merged).calls[0].calls.count == 150


def test_a_failed_connect_is_the_clients_alone() -> None:
    refused = calls(5, protocol=Protocol.CONNECT, errors=5)
    merged = merge(
        [
            service_map(
                [replace(client_half(100), calls=(refused, calls(100)))], host="a"
            ),
            service_map([server_half(100)], host="b"),
        ]
    )
    assert {one.protocol: one.at_server for one in one_edge(merged).calls} == {
        Protocol.CONNECT: None,
        Protocol.HTTP: calls(100).calls,
    }


def test_instances_of_a_service_unite() -> None:
    def of(host: str) -> ServiceMap:
        return service_map(
            [edge(WEB, API, calls(10, at_server=10))],
            [
                node(
                    API,
                    instances=(Instance(id=f"{host}:1", host=host, pid=1),),
                    addresses=(f"10.0.0.{ord(host)}:80",),
                    zones=(f"zone-{host}",),
                    served=(calls(10),),
                )
            ],
            host=host,
        )

    merged = merge([of("a"), of("b")])
    api = next(one for one in merged.nodes if one.id == API)
    assert [one.host for one in api.instances] == ["a", "b"]
    assert len(api.addresses) == 2
    assert api.zones == ("zone-a", "zone-b")
    assert api.served[0].calls.count == 20
    assert one_edge(merged).calls[0].calls.count == 20
    assert one_edge(merged).calls[0].at_server == calls(20).calls


def test_zones_of_the_two_ends_are_compared() -> None:
    merged = merge(
        [
            service_map([client_half(10)], [node(WEB, zones=("eu-1",))], host="a"),
            service_map([server_half(10)], [api_node(zones=("eu-2",))], host="b"),
        ]
    )
    assert one_edge(merged).is_cross_zone is True


# ---- agents given twice ----------------------------------------------------------------------


def test_an_agent_given_twice_counts_once_and_its_newest_map_is_taken() -> None:
    old = service_map([client_half(90)], host="a", time_unix_ns=TIME - 1)
    new = service_map([client_half(100)], host="a")
    merged = merge([old, new, new])
    assert one_edge(merged).calls[0].calls.count == 100
    assert len(merged.agents) == 1


def test_hosts_of_one_name_are_told_apart_by_their_start() -> None:
    def started(at: int) -> ServiceMap:
        return service_map(
            [client_half(100)],
            agents=(AgentView(host="localhost", version="1"),),
            start_unix_ns=at,
        )

    merged = merge([started(START), started(START + 1)])
    assert one_edge(merged).calls[0].calls.count == 200


def test_a_map_that_is_a_part_of_a_merged_one_adds_nothing() -> None:
    maps = [service_map([client_half(9)], host=one) for one in "ab"]
    merged = merge(maps)
    assert merge([merged, maps[0]]) == merged


def test_merged_maps_that_share_an_agent_are_refused() -> None:
    a, b, c = (service_map([client_half(9)], host=one) for one in "abc")
    with pytest.raises(MergeError, match=r"^b: in two maps"):
        merge([merge([a, b]), merge([b, c])])


def test_no_map_is_an_error() -> None:
    with pytest.raises(ValueError, match="no map"):
        merge([])


# ---- any world -------------------------------------------------------------------------------


def truth(flows: list[Flow]) -> dict[tuple[str, str], int]:
    """Edges between observed ends, and their calls."""
    made: Counter[tuple[str, str]] = Counter()
    for flow in flows:
        if UNSEEN not in (flow.client_host, flow.server_host):
            made[f"service:/{flow.client}", f"service:/{flow.server}"] += flow.total
    return dict(made)


def between_services(one: ServiceMap) -> dict[tuple[str, str], int]:
    return {
        (made.client, made.server): sum(part.calls.count for part in made.calls)
        for made in one.edges
        if made.client.startswith("service:") and made.server.startswith("service:")
    }


def counted(maps: Iterable[ServiceMap], *ends: Ends) -> int:
    return sum(
        part.calls.count
        for one in maps
        for made in one.edges
        if made.ends in ends
        for part in made.calls
    )


@given(worlds())
def test_the_edges_are_the_worlds(flows: list[Flow]) -> None:
    merged = merge([seen_by(host, flows) for host in "abc"])
    expected = truth(flows)
    found = between_services(merged)
    assert found.keys() == expected.keys()
    assert sum(found.values()) == sum(expected.values())


@given(worlds())
def test_the_calls_of_each_edge_are_the_worlds_where_one_side_tells(
    flows: list[Flow],
) -> None:
    plain = [flow._replace(called="", from_address="") for flow in flows]
    merged = merge([seen_by(host, plain) for host in "abc"])
    assert between_services(merged) == truth(plain)


@given(worlds())
def test_each_call_that_a_client_saw_is_there_once(flows: list[Flow]) -> None:
    maps = [seen_by(host, flows) for host in "abc"]
    merged = merge(maps)
    clients = (Ends.CLIENT, Ends.BOTH)
    assert counted([merged], *clients) == counted(maps, *clients)
    unseen = sum(
        flow.total
        for flow in flows
        if flow.client_host == UNSEEN and flow.server_host != UNSEEN
    )
    assert counted([merged], Ends.SERVER) == unseen


@given(worlds(), st.integers())
def test_the_order_does_not_matter(flows: list[Flow], seed: int) -> None:
    maps = [seen_by(host, flows) for host in "abc"]
    assert merge(shuffled(maps, seed)) == merge(maps)


@given(worlds())
def test_the_same_maps_twice_are_the_same(flows: list[Flow]) -> None:
    maps = [seen_by(host, flows) for host in "abc"]
    assert merge([*maps, *maps]) == merge(maps)
    assert merge([merge(maps), *maps]) == merge(maps)


@given(worlds())
def test_merging_step_by_step_finds_the_same_edges(flows: list[Flow]) -> None:
    """Where addresses stand for themselves; what was divided cannot be put together again."""
    plain = [flow._replace(called="", from_address="") for flow in flows]
    a, b, c = (seen_by(host, plain) for host in "abc")
    assert between_services(merge([merge([a, b]), c])) == between_services(
        merge([a, merge([b, c])])
    )
