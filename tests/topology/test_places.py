# SPDX-License-Identifier: Apache-2.0
"""Ids are the same at every agent, and no two places have the same."""

from __future__ import annotations

import pytest
from tests.factories import edge

from deetune_otel.model import Role, Service, Transport
from deetune_otel.topology.far import Far
from deetune_otel.topology.model import NodeKind
from deetune_otel.topology.places import (
    OTHER,
    Places,
    Sureness,
    endpoint,
    service_place,
)

PLACES = Places("h", own_netns=4)
API = Service(name="api", namespace="shop")


def far(address: str = "10.0.0.9", port: int = 80, **changes: object) -> Far:
    return Far(address=address, port=port, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "id_", "kind", "sureness"),
    [
        (far(), "address:10.0.0.9:80", NodeKind.ADDRESS, Sureness.ADDRESS),
        (
            far(is_translated=True),
            "address:10.0.0.9:80",
            NodeKind.ADDRESS,
            Sureness.NAME,
        ),
        (far(name="db.test"), "name:db.test:80", NodeKind.ADDRESS, Sureness.NAME),
        (
            far("2606:2800::1", name="x.test"),
            "name:x.test:80",
            NodeKind.EXTERNAL,
            Sureness.NAME,
        ),
        (
            far("2606:2800::1"),
            "address:[2606:2800::1]:80",
            NodeKind.EXTERNAL,
            Sureness.ADDRESS,
        ),
        (
            far(name="x", service=API),
            "service:shop/api",
            NodeKind.SERVICE,
            Sureness.SERVICE,
        ),
        (
            far("127.0.0.1"),
            "address:h/127.0.0.1:80",
            NodeKind.ADDRESS,
            Sureness.ADDRESS,
        ),
        (far(""), "address:10.0.0.2:80", NodeKind.ADDRESS, Sureness.ADDRESS),
        (far(port=0, name="n"), "name:n:80", NodeKind.ADDRESS, Sureness.NAME),
    ],
)
def test_servers(one: Far, id_: str, kind: NodeKind, sureness: Sureness) -> None:
    place = PLACES.server(one, edge(), 4)
    assert (place.id, place.kind, place.sureness) == (id_, kind, sureness)


@pytest.mark.parametrize(
    ("one", "id_"),
    [
        (far(port=0), "clients:10.0.0.9"),
        (far(port=0, name="office"), "clients:office"),
        (far(port=0, service=API), "service:shop/api"),
        (far("8.8.8.8", 0), "clients:internet"),
        (far("::1", 0), "clients:h/::1"),
    ],
)
def test_clients(one: Far, id_: str) -> None:
    assert PLACES.client(one, 4).id == id_


def test_what_is_one_hosts_alone() -> None:
    loopback = edge(peer_address="127.0.0.1")
    unix = edge(transport=Transport.UNIX, peer_address="@x", server_port=0)
    found = {
        Places(host, own_netns=1).called(one, netns).id
        for host in ("h", "i")
        for netns in (1, 2)
        for one in (loopback, unix)
    }
    assert len(found) == 2 * 2 + 2
    assert "address:h/127.0.0.1:80" in found
    assert "address:h/2/127.0.0.1:80" in found
    assert "unix:h:@x" in found
    assert PLACES.caller(edge(Role.SERVER, transport=Transport.UNIX), 4).id == (
        "clients:unix:h"
    )


def test_unnamed() -> None:
    unix = edge(transport=Transport.UNIX, peer_address="", server_port=0)
    assert PLACES.called(unix, 4).name == "unnamed socket"
    nobody = PLACES.caller(edge(Role.SERVER, peer_address=""), 4)
    assert (nobody.id, nobody.name) == ("clients:unknown", "unknown callers")


def test_what_is_over_a_bound() -> None:
    assert service_place(Service(name="other", found_by="overflow")) is OTHER
    assert service_place(Service(name="other")).id == "service:/other"


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [("1.2.3.4", 5, "1.2.3.4:5"), ("::1", 5, "[::1]:5"), ("/run/x", 0, "/run/x")],
)
def test_endpoints(address: str, port: int, text: str) -> None:
    assert endpoint(address, port) == text
