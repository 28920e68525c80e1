# SPDX-License-Identifier: Apache-2.0
"""Who or what stands at an end of an edge: the node it is drawn as, and its id.

Ids are those of `topology.model`. A service is a place of its own; what was not observed is a
name, an address, a Unix socket or a caller.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.model import Edge, Transport
from deetune_otel.topology.model import NodeKind

if TYPE_CHECKING:
    from deetune_otel.model import Service
    from deetune_otel.topology.far import Far

__all__ = [
    "MORE_CLIENTS",
    "OTHER",
    "UNKNOWN_CALLERS",
    "Place",
    "Places",
    "Sureness",
    "endpoint",
    "service_place",
]

# What marks the service of what is over a bound (signals.red.OVERFLOW_SERVICE).
OVERFLOW: Final = "overflow"


class Sureness(IntEnum):
    """How well a place is known; what was counted at a less sure one follows to a surer one."""

    NOTHING = 0
    ADDRESS = 1  # nothing but the address that was called
    NAME = 2  # a name, or what is behind a translated address
    SERVICE = 3


class Place(NamedTuple):
    id: str
    kind: NodeKind
    name: str
    namespace: str = ""
    found_by: str = ""
    sureness: Sureness = Sureness.SERVICE
    address: str = ""  # "10.0.0.7:80": where it serves
    host: str = ""  # the address alone, for its zone


OTHER: Final = Place("other", NodeKind.OTHER, "other")
# Callers of one server over its bound of client nodes.
MORE_CLIENTS: Final = Place(
    "clients:more", NodeKind.CLIENTS, "more clients", sureness=Sureness.ADDRESS
)
# Of datagrams whose sender the kernel does not tell.
UNKNOWN_CALLERS: Final = Place(
    "clients:unknown",
    NodeKind.CLIENTS,
    "unknown callers",
    sureness=Sureness.NOTHING,
)
INTERNET: Final = Place(
    "clients:internet", NodeKind.CLIENTS, "internet", sureness=Sureness.ADDRESS
)


class Places:
    """Of one host: its loopback addresses and Unix sockets are its own.

    `own_netns` is the agent's network namespace; 0: every loopback address says its namespace.
    """

    def __init__(self, host: str, *, own_netns: int = 0) -> None:
        self._host = host
        self._own_netns = own_netns

    def called(self, edge: Edge, netns: int) -> Place:
        """What a client calls, by nothing but its address."""
        address, port = edge.peer_address, edge.server_port
        if edge.transport is Transport.UNIX:
            return Place(
                f"unix:{self._host}:{address}",
                NodeKind.ADDRESS,
                address or "unnamed socket",
                sureness=Sureness.ADDRESS,
                address=address,
            )
        where = endpoint(address, port)
        return Place(
            f"address:{self._scope(address, netns)}{where}",
            NodeKind.EXTERNAL if is_public(address) else NodeKind.ADDRESS,
            where,
            sureness=Sureness.ADDRESS,
            address=where,
            host=address,
        )

    def server(self, far: Far, edge: Edge, netns: int) -> Place:
        """What a client calls, as an answer has it."""
        where = endpoint(far.address, far.port)
        if far.service is not None:
            found = service_place(far.service)
            return found._replace(address=where, host=far.address)
        kind = NodeKind.EXTERNAL if is_public(far.address) else NodeKind.ADDRESS
        if far.name:
            return Place(
                f"name:{far.name}:{far.port or edge.server_port}",
                kind,
                far.name,
                found_by=far.found_by,
                sureness=Sureness.NAME,
                address=where,
                host=far.address,
            )
        if not far.address:
            return self.called(edge, netns)
        return Place(
            f"address:{self._scope(far.address, netns)}{where}",
            kind,
            where,
            sureness=Sureness.NAME if far.is_translated else Sureness.ADDRESS,
            address=where,
            host=far.address,
        )

    def caller(self, edge: Edge, netns: int) -> Place:
        """Who calls a server, by nothing but its address."""
        if edge.transport is Transport.UNIX:
            return Place(
                f"clients:unix:{self._host}",
                NodeKind.CLIENTS,
                "unix clients",
                sureness=Sureness.ADDRESS,
            )
        return self._caller(edge.peer_address, netns, Sureness.ADDRESS)

    def client(self, far: Far, netns: int) -> Place:
        """Who calls a server, as an answer has it."""
        if far.service is not None:
            return service_place(far.service)._replace(host=far.address)
        if far.name:
            return Place(
                f"clients:{far.name}",
                NodeKind.CLIENTS,
                far.name,
                found_by=far.found_by,
                sureness=Sureness.NAME,
                host=far.address,
            )
        return self._caller(
            far.address,
            netns,
            Sureness.NAME if far.is_translated else Sureness.ADDRESS,
        )

    def _caller(self, address: str, netns: int, sureness: Sureness) -> Place:
        if not address:
            return UNKNOWN_CALLERS
        if is_public(address):
            return INTERNET
        return Place(
            f"clients:{self._scope(address, netns)}{address}",
            NodeKind.CLIENTS,
            address,
            sureness=sureness,
            host=address,
        )

    @staticmethod
    def is_own(address: str) -> bool:
        """Whether it is on this host whoever says it: a loopback address."""
        ip = _ip(address)
        return ip is not None and ip.is_loopback

    def _scope(self, address: str, netns: int) -> str:
        if not self.is_own(address):
            return ""
        if netns == self._own_netns:
            return f"{self._host}/"
        return f"{self._host}/{netns}/"


def service_place(service: Service) -> Place:
    if service.found_by == OVERFLOW:
        return OTHER
    return Place(
        f"service:{service.namespace}/{service.name}",
        NodeKind.SERVICE,
        service.name,
        service.namespace,
        service.found_by,
    )


def endpoint(address: str, port: int) -> str:
    """ "10.0.0.7:80", "[::1]:80", "/run/php.sock"."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def is_public(address: str) -> bool:
    ip = _ip(address)
    return ip is not None and ip.is_global and not ip.is_multicast


@lru_cache(maxsize=4_096)  # as many peers as a busy host has; parsing takes 2 µs
def _ip(address: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
