# SPDX-License-Identifier: Apache-2.0
"""Numbers to names, whatever was lost on the way."""

from __future__ import annotations

from tests.factories import edge, key
from tests.readings import Maps, owner

from deetune_otel.agent.process_registry import ProcessRegistry, no_edge
from deetune_otel.model import (
    Join,
    OperationSample,
    Owner,
    Protocol,
    Role,
    Service,
)
from deetune_otel.protocols import http
from deetune_otel.protocols.routes import OVERFLOW, Routes
from deetune_otel.signals.red import OVERFLOW_SERVICE

HEAD = b"GET /users/17 HTTP/1.1\r\n"


def service_of(one: Owner) -> Service:
    return Service(name=one.comm)


def names_of(*entries: object, max_routes: int = 10) -> ProcessRegistry:
    maps = Maps()
    maps.add(*entries)  # type: ignore[arg-type]
    names = ProcessRegistry(maps, service_of=service_of, routes=Routes((), max_routes))
    names.refresh()
    return names


def sample(
    owner_id: int = 1, signature: int = 99, head: bytes = HEAD
) -> OperationSample:
    return OperationSample(owner_id, 1, Protocol.HTTP, signature, head)


def test_a_sample_names_its_operation_for_its_process_alone() -> None:
    names = names_of(owner(1), owner(2), edge())
    names.learn(sample())
    mine, other = names.named(edge()), names.named(edge(owner_id=2))
    assert mine.is_named(key())
    assert mine.operation(key()).name == "GET /users/{id}"
    assert not other.is_named(key())
    assert other.operation(key()).name == "HTTP"
    assert mine.service == Service(name="program1")


def test_what_names_no_operation_needs_no_sample() -> None:
    named = names_of(owner(1), edge()).named(edge())
    assert named.is_named(key(signature=0))
    assert named.is_named(key(signature=1))
    assert named.operation(key(signature=1)) is OVERFLOW
    for signature, method in enumerate(http.OVERFLOWS, start=2):
        assert named.is_named(key(signature=signature))
        operation = named.operation(key(signature=signature))
        assert operation.name == f"{method} /*"
        assert operation.attributes["otel.metric.overflow"] is True
    assert not named.is_named(key(signature=16))


def test_processes_of_one_service_share_its_cap() -> None:
    names = names_of(owner(1, comm="a"), owner(2, comm="a"), edge(), max_routes=1)
    names.learn(sample(1))
    names.learn(sample(2, head=b"GET /other HTTP/1.1\r\n"))
    assert names.named(edge(owner_id=2)).operation(key()).name == "GET /*"


def test_unknown_owners_are_other() -> None:
    names = names_of(edge(owner_id=0))
    assert names.named(edge(owner_id=0)).service is OVERFLOW_SERVICE
    assert names.program(0) == "other"
    assert no_edge(Role.SERVER).role is Role.SERVER


def test_a_number_used_again_inherits_nothing() -> None:
    names = names_of(owner(1), edge())
    names.learn(sample())
    names.meet(owner(1, comm="successor"))
    assert not names.named(edge()).is_named(key())
    assert names.program(1) == "successor"


def test_the_peer_of_a_client_is_who_serves_there() -> None:
    client = edge(id=1, peer_address="127.0.0.1")
    server = edge(Role.SERVER, id=2, owner_id=2, local_address="127.0.0.1")
    known = owner(1), owner(2), owner(3), client, server
    assert names_of(*known).peer(client) == ""
    assert names_of(*known, Join(1, 2, 5)).peer(client) == "program2"
    other = edge(Role.SERVER, id=3, owner_id=3)
    both = names_of(*known, other, Join(1, 2, 5), Join(1, 3, 1))
    assert both.peer(client) == ""
    assert both.peer(server) == ""


def test_what_was_forgotten_is_gone() -> None:
    names = names_of(owner(1), edge())
    names.learn(sample())
    assert names.operations() == 1
    names.forget({1})
    assert names.owners() == []
    assert names.operations() == 0
