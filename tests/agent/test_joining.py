# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end: agents, then translation, then names; within bounds, and once."""

from __future__ import annotations

import ipaddress
import struct
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
from tests.factories import edge

from deetune_otel.agent.joining import (
    MAX_QUESTIONS,
    MAX_SEARCHES,
    SAMPLE,
    SEARCHES,
    Joining,
    disguised,
)
from deetune_otel.model import (
    DnsAnswer,
    Edge,
    Link,
    Pair,
    Role,
    Service,
    Transport,
)
from deetune_otel.netlink.conntrack import TCP, UDP, Flow
from deetune_otel.topology.addresses import AddressBook
from deetune_otel.topology.far import Far, OpenEdge

S = 1_000_000_000
NETNS = 4026531840
CONNECTED_NS = 100 * S

CLIENT_EDGE = edge(
    peer_address="10.96.0.1", server_port=80, owner_id=1, first_ns=CONNECTED_NS
)
SERVER_EDGE = edge(Role.SERVER, id=2, server_port=8080, first_ns=CONNECTED_NS)
SERVICE = Service(name="orders", namespace="shop")


@dataclass
class World:
    """What there is to know, what was asked, and what the graph was told."""

    edges: list[Edge] = field(default_factory=lambda: [CLIENT_EDGE])
    links: list[Link] = field(default_factory=list)
    flows: dict[Flow, Flow] = field(default_factory=dict)
    services: dict[tuple[Pair, Role], Service] = field(default_factory=dict)
    asked: list[Flow] = field(default_factory=list)
    rested: int = 0
    told: defaultdict[int, list[Far]] = field(default_factory=lambda: defaultdict(list))
    joined: list[tuple[int, int, int]] = field(default_factory=list)

    def read_links(self) -> list[Link]:
        return self.links

    def open_edges(self) -> list[OpenEdge]:
        return [OpenEdge(one, NETNS, one.id in self.told) for one in self.edges]

    def know(self, edge_id: int, far: Far) -> None:
        self.told[edge_id].append(far)

    def join(self, client_edge_id: int, server_edge_id: int, connections: int) -> None:
        self.joined.append((client_edge_id, server_edge_id, connections))

    def translated(self, flow: Flow, *, netns: int) -> Flow | None:
        assert netns == NETNS
        self.asked.append(flow)
        return self.flows.get(flow)

    origin = translated

    def destinations(self, flow: Flow, *, netns: int) -> list[Flow]:
        assert netns == NETNS
        self.asked.append(flow)
        return [seen for sent, seen in self.flows.items() if sent == flow]

    def rest(self) -> None:
        self.rested += 1

    def service_at(self, pair: Pair, role: Role) -> Service | None:
        known = {(disguised(one), of): who for (one, of), who in self.services.items()}
        return known.get((pair, role))

    def connect(self, to: str = "", port: int = 8080) -> Pair:
        """A connection to the virtual address, which led there."""
        number = len(self.links)
        pair = Pair(number * 7919 % 1009, number)
        flow = Flow(TCP, "10.0.0.1", 40_000 + number, "10.96.0.1", 80)
        self.links.append(Link(pair, CLIENT_EDGE.id, 0, flow.source_port, 80))
        if to:
            self.flows[flow] = flow._replace(destination=to, destination_port=port)
        return pair


def joining(
    world: World,
    book: AddressBook | None = None,
    *,
    max_questions: int = MAX_QUESTIONS,
) -> Joining:
    return Joining(
        kernel=world,
        graph=world,
        book=book or AddressBook(),
        conntrack=world,
        peers=world,
        max_questions=max_questions,
    )


def dns(name: str, address: str, *, at_s: float, owner_id: int = 1) -> DnsAnswer:
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    message = struct.pack(">HHHHHH", 1, 0x8180, 1, 1, 0, 0) + labels + b"\0\0\1\0\1"
    message += struct.pack(">HHHIH", 0xC00C, 1, 1, 30, 4)
    message += ipaddress.ip_address(address).packed
    return DnsAnswer(owner_id, NETNS, int(at_s * S), message)


def test_a_virtual_address_stands_for_several() -> None:
    world = World()
    for to in ("10.1.0.1", "10.1.0.2", "10.1.0.1"):
        world.connect(to)
    joining(world).read()
    expected = [
        Far(address=to, port=8080, is_translated=True)
        for to in ("10.1.0.1", "10.1.0.2", "10.1.0.1")
    ]
    assert sorted(world.told[1], key=str) == sorted(expected, key=str)
    assert world.rested == 1


def test_a_connection_is_asked_about_and_told_once() -> None:
    world = World()
    world.connect("10.1.0.1")
    of = joining(world)
    of.read()
    of.read()
    assert len(world.asked) == len(world.told[1]) == 1
    world.connect("10.1.0.2")
    of.read()
    assert [far.address for far in world.told[1]] == ["10.1.0.1", "10.1.0.2"]
    assert of.counts["translated"] == 2


def test_a_servers_caller_behind_a_router() -> None:
    world = World([SERVER_EDGE])
    seen = Flow(TCP, "10.0.0.2", 50_000, "10.0.0.1", 8080)
    world.flows[seen] = seen._replace(source="192.0.2.7")
    world.links = [Link(Pair(1, 2), 0, SERVER_EDGE.id, 8080, 50_000)]
    joining(world, AddressBook({"192.0.2.7": "office"})).read()
    assert world.told[2] == [
        Far(
            address="192.0.2.7",
            port=0,
            name="office",
            found_by="config",
            is_translated=True,
        )
    ]


def test_what_is_not_translated_is_told_nothing_of() -> None:
    world = World()
    world.connect()
    joining(world).read()
    assert len(world.asked) == 1
    assert not world.told


def test_another_agent_knows_the_service() -> None:
    world = World([CLIENT_EDGE, SERVER_EDGE])
    pair = world.connect()
    world.links.append(Link(Pair(5, 6), 0, SERVER_EDGE.id, 8080, 50_000))
    world.services[pair, Role.SERVER] = SERVICE
    world.services[Pair(5, 6), Role.CLIENT] = Service(name="web")
    world.services[pair, Role.CLIENT] = Service(name="itself")
    joining(world).read()
    assert world.told[1] == [Far(address="10.96.0.1", port=80, service=SERVICE)]
    assert world.told[2] == [
        Far(address="10.0.0.2", port=0, service=Service(name="web"))
    ]


def test_an_agent_that_answers_later_completes_what_is_known() -> None:
    world = World()
    pair = world.connect("10.1.0.1")
    of = joining(world)
    of.read()
    world.services[pair, Role.SERVER] = SERVICE
    of.read()
    first, second = world.told[1]
    assert second == replace(first, service=SERVICE)


def test_a_name_that_was_asked_for_before_the_connection() -> None:
    world = World()
    of = joining(world)
    of.learn(dns("orders.example", "10.96.0.1", at_s=99))
    of.learn(dns("later.example", "10.96.0.1", at_s=101))
    of.read()
    of.read()
    assert world.told[1] == [
        Far(address="10.96.0.1", port=80, name="orders.example", found_by="dns")
    ]


def test_an_answer_that_comes_after_the_reading() -> None:
    world = World()
    of = joining(world)
    of.read()
    assert not world.told
    of.learn(dns("orders.example", "10.96.0.1", at_s=99))
    of.read()
    assert world.told[1][0].name == "orders.example"


def test_what_is_behind_has_the_name_that_was_called() -> None:
    world = World()
    world.connect("10.1.0.1")
    of = joining(world)
    of.learn(dns("orders.example", "10.96.0.1", at_s=99))
    of.read()
    assert world.told[1] == [
        Far(
            address="10.1.0.1",
            port=8080,
            name="orders.example",
            found_by="dns",
            is_translated=True,
        )
    ]


def test_dns_names_no_callers() -> None:
    world = World([SERVER_EDGE])
    of = joining(world)
    of.learn(dns("db.example", "10.0.0.2", at_s=99))
    of.read()
    assert not world.told


@pytest.mark.parametrize(
    "of",
    [
        CLIENT_EDGE._replace(overflow=True),
        CLIENT_EDGE._replace(role=Role.UNKNOWN),
        CLIENT_EDGE._replace(transport=Transport.UNIX, peer_address="10.96.0.1"),
    ],
)
def test_what_has_no_other_end_to_ask_about(of: Edge) -> None:
    world = World([of])
    world.connect("10.1.0.1")
    joining(world, AddressBook({"10.96.0.1": "name"})).read()
    assert not world.told
    assert not world.asked


def test_the_two_ends_of_datagrams_are_joined_once() -> None:
    client = CLIENT_EDGE._replace(
        transport=Transport.UDP, peer_address="127.0.0.1", server_port=53
    )
    server = edge(
        Role.SERVER,
        id=2,
        transport=Transport.UDP,
        peer_address="",
        local_address="127.0.0.1",
        server_port=53,
    )
    world = World([client, server])
    of = joining(world)
    of.read()
    of.read()
    assert world.joined == [(1, 2, 1)]


RESOLVER = edge(
    Role.CLIENT,
    transport=Transport.UDP,
    peer_address="10.96.0.10",
    local_address="10.0.0.1",
    server_port=53,
    first_ns=CONNECTED_NS,
)
LOOK_UPS = Flow(UDP, "10.0.0.1", 0, "10.96.0.10", 53)


def test_datagrams_to_a_virtual_address() -> None:
    """One answer of a server elsewhere; the edge has the name that it was called by."""
    world = World([RESOLVER])
    world.flows[LOOK_UPS] = LOOK_UPS._replace(destination="10.1.0.7")
    book = AddressBook({"10.96.0.10": "dns"})
    of = joining(world, book)
    for _ in range(5):
        of.read()
    assert world.told[1] == [
        Far(
            address="10.1.0.7",
            port=53,
            name="dns",
            found_by="config",
            is_translated=True,
        )
    ]
    assert world.asked == [LOOK_UPS] * SEARCHES


def test_datagrams_to_a_virtual_address_whose_server_is_here() -> None:
    server = edge(
        Role.SERVER,
        id=2,
        transport=Transport.UDP,
        peer_address="10.0.0.1",
        local_address="10.1.0.7",
        server_port=53,
    )
    world = World([RESOLVER, server])
    world.flows[LOOK_UPS] = LOOK_UPS._replace(destination="10.1.0.7")
    with_names = AddressBook({"10.96.0.10": "dns"})
    joining(world, with_names).read()
    assert world.joined == [(1, 2, 1)]
    assert not world.told


def test_searches_are_bounded() -> None:
    world = World([RESOLVER._replace(id=i) for i in range(1, 2 * MAX_SEARCHES + 1)])
    of = joining(world)
    of.read()
    assert len(world.asked) == of.counts["postponed"] == MAX_SEARCHES


def test_the_number_of_an_ended_process_inherits_no_name() -> None:
    world = World()
    of = joining(world)
    of.learn(dns("orders.example", "10.96.0.1", at_s=50))
    of.forget({1})
    of.read()
    assert not world.told


def test_questions_are_bounded_and_go_on_at_the_next_reading() -> None:
    world = World()
    for _ in range(10):
        world.connect("10.1.0.1")
    of = joining(world, max_questions=4)
    for asked, postponed in ((4, 6), (8, 8), (10, 8)):
        of.read()
        assert (len(world.asked), of.counts["postponed"]) == (asked, postponed)
    assert len(world.told[1]) == 10


def test_of_many_connections_both_ends_choose_the_same() -> None:
    world, other = World(), World()
    for number in range(1000):
        pair = world.connect()
        other.links.insert(0, Link(pair, 0, SERVER_EDGE.id, 8080, number))
    other.links.append(Link(Pair(0, 0), 7, 8, 1, 2))  # both ends here: not asked about
    here, there = joining(world), joining(other)
    here.read()
    there.read()
    assert len(here.pairs_of()[1]) == SAMPLE
    assert here.pairs_of()[1] == there.pairs_of()[2]
    assert len(world.asked) == SAMPLE
    assert there.pairs_of().keys() == {2}


def test_without_connection_tracking_and_other_agents() -> None:
    world = World()
    world.connect("10.1.0.1")
    book = AddressBook({"10.96.0.1:80": "orders"})
    Joining(kernel=world, graph=world, book=book).read()
    assert [far.name for far in world.told[1]] == ["orders"]
    assert not world.asked


def test_answers_that_wait_are_bounded_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deetune_otel.agent.joining.MAX_WAITING", 3)
    of = joining(World())
    for i in range(5):
        of.learn(dns("a.example", f"10.0.0.{i}", at_s=1))
    assert of.counts["dropped"] == 2
    of.read()
    of.learn(DnsAnswer(1, NETNS, 0, b"garbage"))
    of.read()
    assert of.counts["dropped"] == 2


def test_nobody_is_told_sequence_numbers() -> None:
    world = World()
    pair = Pair(123_456_789, 987_654_321)
    world.links.append(Link(pair, CLIENT_EDGE.id, 0, 1, 80))
    of = joining(world)
    of.read()
    [told] = of.pairs_of()[CLIENT_EDGE.id]
    assert told == disguised(pair)
    assert not set(pair) & set(told)
