# SPDX-License-Identifier: Apache-2.0
"""Which UDP edges of this host are two ends of the same flows. Pure.

Datagrams carry no sequence numbers, so it is by address, and only where nothing else could be
meant. In one network namespace a server is bound to the address that was called, or to all of
them and the address is the namespace's own. A server in another namespace is reached by an
address that is its own alone; where two namespaces have it, nothing is said.

Of a server's edges, those to the caller's address are meant (its answers went there), else the
one whose callers are not known.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Final

from deetune_otel.model import Role, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from deetune_otel.topology.far import OpenEdge

__all__ = ["two_ends"]

_ANY: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - read, not bound


def two_ends(
    edges: Iterable[OpenEdge], *, addresses_of: Callable[[int], Collection[str]]
) -> Iterator[tuple[OpenEdge, OpenEdge]]:
    """Client and server; of other transports' edges the local addresses matter.

    `addresses_of` gives the addresses of a namespace, as far as they can be read.
    """
    local: defaultdict[int, set[str]] = defaultdict(set)
    clients: list[OpenEdge] = []
    servers: defaultdict[int, list[OpenEdge]] = defaultdict(list)
    for one in edges:
        edge = one.edge
        if edge.transport is not Transport.UNIX and edge.local_address not in _ANY:
            local[one.netns].add(edge.local_address)
        if edge.transport is not Transport.UDP or edge.overflow:
            continue
        if edge.role is Role.SERVER:
            servers[edge.server_port].append(one)
        elif edge.role is Role.CLIENT and edge.peer_address:
            clients.append(one)
    for netns in {one.netns for one in (*clients, *chain(*servers.values()))}:
        local[netns].update(addresses_of(netns))
    for client in clients:
        for server in _servers(client, servers[client.edge.server_port], local):
            yield client, server


def _servers(
    client: OpenEdge, servers: Iterable[OpenEdge], local: Mapping[int, set[str]]
) -> list[OpenEdge]:
    called = client.edge.peer_address
    here = _is_loopback(called) or called in local.get(client.netns, ())
    found = [
        one
        for one in servers
        if (one.netns == client.netns) == here and _is_at(one, called, local)
    ]
    if len({one.netns for one in found}) > 1:
        return []
    answered = [
        one
        for one in found
        if one.edge.peer_address
        and (one.edge.peer_address == client.edge.local_address or _is_unbound(client))
    ]
    return answered or [one for one in found if not one.edge.peer_address]


def _is_at(server: OpenEdge, called: str, local: Mapping[int, set[str]]) -> bool:
    bound = server.edge.local_address
    if bound not in _ANY:
        return bound == called
    return _is_loopback(called) or called in local.get(server.netns, ())


def _is_unbound(client: OpenEdge) -> bool:
    """Not connected: any of its host's addresses may have been the sender."""
    return client.edge.local_address in _ANY


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
