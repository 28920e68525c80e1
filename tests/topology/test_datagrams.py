# SPDX-License-Identifier: Apache-2.0
"""Two ends of UDP flows, by address, and never where it could be somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from types import MappingProxyType

import pytest
from tests.factories import edge

from deetune_otel.model import Role, Transport
from deetune_otel.topology.datagrams import two_ends
from deetune_otel.topology.far import OpenEdge

HERE, THERE, ELSEWHERE = 1, 2, 3

NOTHING: Mapping[int, frozenset[str]] = MappingProxyType({})

_ids = count(1)


def udp(
    role: Role, peer: str, local: str, *, netns: int = HERE, port: int = 53
) -> OpenEdge:
    return OpenEdge(
        edge(
            role,
            id=next(_ids),
            transport=Transport.UDP,
            peer_address=peer,
            local_address=local,
            server_port=port,
        ),
        netns,
        is_known=False,
    )


def client(peer: str, local: str = "", *, netns: int = HERE) -> OpenEdge:
    return udp(Role.CLIENT, peer, local, netns=netns)


def server(peer: str, local: str, *, netns: int = HERE, port: int = 53) -> OpenEdge:
    return udp(Role.SERVER, peer, local, netns=netns, port=port)


def tcp(local: str, *, netns: int) -> OpenEdge:
    """Only tells that the address is there."""
    return OpenEdge(edge(id=next(_ids), local_address=local), netns, is_known=False)


def found(
    *edges: OpenEdge, addresses: Mapping[int, frozenset[str]] = NOTHING
) -> list[tuple[int, int]]:
    ends = two_ends(edges, addresses_of=lambda netns: addresses.get(netns, frozenset()))
    return [(one.edge.id, other.edge.id) for one, other in ends]


@pytest.mark.parametrize(
    ("called", "bound"),
    [
        ("127.0.0.53", "127.0.0.53"),
        ("127.0.0.1", "0.0.0.0"),
        ("::1", "::"),
        ("127.0.0.1", ""),
    ],
)
def test_on_loopback(called: str, bound: str) -> None:
    one, other = client(called, called), server("", bound)
    assert found(one, other) == [(one.edge.id, other.edge.id)]
    assert found(one, server("", bound, netns=THERE)) == []
    assert found(one, server("", bound, port=54)) == []
    assert found(one, server("", "127.0.0.54")) == []


def test_the_edge_that_its_answers_went_to_is_meant() -> None:
    one = client("10.0.0.1", "10.0.0.1")
    received, answered = server("", "0.0.0.0"), server("10.0.0.1", "")
    strangers = server("192.0.2.1", "")
    assert found(one, received, answered, strangers) == [
        (one.edge.id, answered.edge.id)
    ]
    assert found(one, received, strangers) == [(one.edge.id, received.edge.id)]


def test_an_address_of_the_same_host() -> None:
    """A server on all addresses has it if anything there uses it."""
    one, other = client("10.0.0.1"), server("", "0.0.0.0")
    assert found(one, other) == []
    assert found(one, other, tcp("10.0.0.1", netns=HERE)) == [
        (one.edge.id, other.edge.id)
    ]


def test_a_server_in_another_namespace() -> None:
    one = client("172.17.0.2", "172.17.0.1")
    bound = server("", "172.17.0.2", netns=THERE)
    assert found(one, bound) == [(one.edge.id, bound.edge.id)]
    on_all = server("", "0.0.0.0", netns=THERE)
    assert found(one, on_all) == []
    address = tcp("172.17.0.2", netns=THERE)
    assert found(one, on_all, address) == [(one.edge.id, on_all.edge.id)]


def test_addresses_that_no_edge_shows() -> None:
    one = client("172.17.0.2", "172.17.0.1")
    other = server("", "0.0.0.0", netns=THERE)
    there = {THERE: frozenset({"127.0.0.1", "172.17.0.2"})}
    assert found(one, other, addresses=there) == [(one.edge.id, other.edge.id)]
    both = {**there, HERE: frozenset({"172.17.0.2"})}
    assert found(one, other, addresses=both) == [], "it is the client's own"


def test_an_address_that_two_namespaces_have_says_nothing() -> None:
    one = client("172.17.0.2", "172.17.0.1")
    there = server("", "172.17.0.2", netns=THERE)
    elsewhere = server("", "172.17.0.2", netns=ELSEWHERE)
    assert found(one, there, elsewhere) == []


def test_the_own_namespace_is_nearer_than_another() -> None:
    one = client("172.17.0.2", "172.17.0.2")
    here, there = server("", "0.0.0.0"), server("", "172.17.0.2", netns=THERE)
    assert found(one, here, there) == [(one.edge.id, here.edge.id)]


def test_other_transports_and_overflow_are_left_alone() -> None:
    one, other = client("127.0.0.1"), server("", "127.0.0.1")
    plain = other._replace(edge=other.edge._replace(transport=Transport.TCP))
    full = one._replace(edge=one.edge._replace(overflow=True, peer_address=""))
    assert found(one, plain) == []
    assert found(full, other) == []
