# SPDX-License-Identifier: Apache-2.0
"""Whose calls they are, decided from what both ends counted."""

from __future__ import annotations

import pytest
from tests.factories import edge

from deetune_otel.model import End, Protocol, Role, Service
from deetune_otel.topology import ends
from deetune_otel.topology.ends import CallKey, Joined, KernelEnd, split
from deetune_otel.topology.far import Far
from deetune_otel.topology.model import NodeKind
from deetune_otel.topology.places import Places, service_place

PLACES = Places("h")
OK = CallKey(Protocol.HTTP, 1, 200, End.COMPLETE, "GET /")
WEB, API = Service(name="web"), Service(name="api")


def kernel_end(id_: int, service: Service, role: Role = Role.CLIENT) -> KernelEnd:
    return KernelEnd(edge(role, id=id_), service_place(service), service, 0, 0)


def joined(total: int = 1) -> tuple[dict[int, KernelEnd], KernelEnd, KernelEnd]:
    client, server = kernel_end(1, WEB), kernel_end(2, API, Role.SERVER)
    client.joins[2] = server.joins[1] = Joined(total)
    client.joined = server.joined = total
    return {1: client, 2: server}, client, server


def row(count: int) -> list[int]:
    return [count, 0, 0, 0, 0, 0, 0, count, *(0,) * 14]


@pytest.mark.parametrize("which", [1, 2])
def test_joined_ends_are_each_others(which: int) -> None:
    both, _, _ = joined()
    found = split(both[which], both, PLACES)
    assert [place.id for place in found.places] == [both[3 - which].owner.id]
    assert found.elsewhere == frozenset()


def test_a_connection_counts_as_elsewhere_after_a_reading() -> None:
    both, client, server = joined()
    client.opened = 2
    client.add(OK, row(5))
    server.add(OK, row(2))
    assert len(split(client, both, PLACES).places) == 1
    client.opened_before = 2
    found = split(client, both, PLACES)
    assert found.elsewhere == {1}
    assert [model[OK[:4]][0] for model in found.models] == [2, 3]


def test_a_server_that_counted_earlier_owes_nothing() -> None:
    """Three calls were counted at the server alone, when the reading came between."""
    both, client, server = joined()
    client.opened = client.opened_before = 2
    client.add(OK, row(7))
    server.add(OK, row(10))
    assert split(client, both, PLACES).elsewhere == frozenset()
    assert client.owed == 3
    client.end_interval()
    server.end_interval()
    client.add(OK, row(10))
    server.add(OK, row(7))
    assert split(client, both, PLACES).elsewhere == frozenset()
    assert client.owed == 0


def test_an_answer_that_says_less_replaces_none_that_says_more() -> None:
    end = kernel_end(1, WEB)
    end.know(Far(address="10.0.0.9", port=80, service=API), 1)
    end.know(Far(address="10.0.0.9", port=80, name="api.test"), 2)
    assert end.elsewhere(PLACES).id == "service:/api"


def test_answers_hold_as_long_as_the_newest() -> None:
    end = kernel_end(1, WEB)
    end.know(Far(address="10.0.0.8", port=80, is_translated=True), 1)
    assert end.elsewhere(PLACES).id == "address:10.0.0.8:80"
    end.know(Far(address="10.0.0.9", port=80, is_translated=True), 3)
    assert end.elsewhere(PLACES).kind is NodeKind.VIRTUAL
    end.know(
        Far(address="10.0.0.9", port=80, is_translated=True), 2 + ends.ANSWER_READINGS
    )
    assert end.elsewhere(PLACES).id == "address:10.0.0.9:80"


def test_answers_are_bounded() -> None:
    end = kernel_end(1, WEB)
    for port in range(1000):
        end.know(Far(address="10.0.0.8", port=port), 1)
    assert len(end.answers) == ends.MAX_ANSWERS
    assert ("10.0.0.8", 999, "") in end.answers


def test_of_a_server_with_many_callers_the_address() -> None:
    end = kernel_end(1, API, Role.SERVER)
    for name in ("a", "b"):
        end.know(Far(address=name, port=0, service=Service(name=name)), 1)
    assert end.elsewhere(PLACES).id == "clients:10.0.0.2"
