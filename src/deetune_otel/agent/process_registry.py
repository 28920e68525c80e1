# SPDX-License-Identifier: Apache-2.0
"""What the kernel side's numbers mean: owners, edges, operations.

Owners and samples of operations come through the ring, at once; both are also read from the maps,
because a full ring loses records. An owner's number is used again after it was forgotten, an
edge's never.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from typing import Protocol as Shape

from opentelemetry.semconv._incubating.attributes.container_attributes import (
    CONTAINER_ID,
)

from deetune_otel.model import (
    Edge,
    Join,
    Operation,
    Protocol,
    Role,
    SeriesKey,
    Transport,
)
from deetune_otel.protocols import PROTOCOLS, http
from deetune_otel.protocols.routes import OVERFLOW, Routes
from deetune_otel.recording.model import Process
from deetune_otel.signals.red import OVERFLOW_SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from deetune_otel.model import (
        Link,
        OperationSample,
        Owner,
        Pair,
        SeriesValue,
        Service,
    )

__all__ = ["Named", "ProcessRegistry", "no_edge"]

_HASHES: Final = 16  # DT_SIGNATURE_HASHES: below are operations beyond the kernel's cap
_OVERFLOWS: Final = {1: OVERFLOW} | {
    signature: http.beyond_cap(method)
    for signature, method in enumerate(http.OVERFLOWS, start=2)
}
_GENERIC: Final = {
    protocol: module.operation(b"", Routes()) for protocol, module in PROTOCOLS.items()
}


_Operations: TypeAlias = "dict[tuple[Protocol, int], Operation]"


class Named(NamedTuple):
    """Whose edge it is, and what its operations are called."""

    service: Service
    edge: Edge
    netns: int
    operations: _Operations

    def is_named(self, key: SeriesKey) -> bool:
        """Whether the operation has the name that it will keep."""
        return (
            key.signature < _HASHES or (key.protocol, key.signature) in self.operations
        )

    def operation(self, key: SeriesKey) -> Operation:
        """The protocol's generic one where the sample never came."""
        found = self.operations.get((key.protocol, key.signature))
        return found or _OVERFLOWS.get(key.signature) or _GENERIC[key.protocol]


class _Maps(Shape):
    """What is asked of `kernel.session.Kernel`."""

    def read_edges(self) -> dict[int, Edge]: ...
    def read_owners(self) -> dict[int, Owner]: ...
    def read_joins(self) -> list[Join]: ...
    def read_link(self, pair: Pair) -> Link | None: ...


@dataclass(slots=True)
class _Known:
    """A process and the operations it was named."""

    owner: Owner
    operations: _Operations = field(default_factory=dict)


class ProcessRegistry:
    """Thread-safe. `service_of` never raises; what is not known is `other`."""

    def __init__(
        self, maps: _Maps, *, service_of: Callable[[Owner], Service], routes: Routes
    ) -> None:
        self._maps = maps
        self._service_of = service_of
        self._routes = routes
        self._lock = Lock()
        self._refreshing = Lock()  # an older reading never replaces a newer one
        self._known: dict[int, _Known] = {}
        self._edges: dict[int, Edge] = {}
        self._routes_of: dict[tuple[str, str], Routes] = {}  # by namespace and name
        self._joins: list[Join] = []
        self._servers: dict[
            int, set[int]
        ] = {}  # by client edge: the edges of its servers
        self.local_addresses: frozenset[str] = frozenset()  # of sockets seen

    def refresh(self) -> None:
        """Read joins, edges and owners, in this order: none is without its owner."""
        with self._refreshing:
            joins = self._maps.read_joins()
            edges = self._maps.read_edges()
            owners = self._maps.read_owners()
            with self._lock:
                self._learn_maps(joins, edges, owners)

    def meet(self, owner: Owner) -> Service:
        """A process was seen for the first time: name it while it lives."""
        with self._lock:
            self._meet(owner)
        return self._service_of(owner)

    def learn(self, sample: OperationSample) -> None:
        """Name an operation by the first bytes of one of its requests."""
        self.learn_from(
            sample.owner_id, sample.protocol, sample.signature, sample.request_head
        )

    def learn_from(
        self, owner_id: int, protocol: Protocol, signature: int, head: bytes
    ) -> None:
        """Does nothing where there is a name already, or nothing to read one from."""
        if signature < _HASHES or not head:
            return
        with self._lock:
            known = self._known.get(owner_id)
            if known is None or (protocol, signature) in known.operations:
                return
            owner = known.owner
        service = self._service_of(owner)
        with self._lock:
            routes = self._routes_of.setdefault(
                (service.namespace, service.name), self._routes.for_service()
            )
            operation = PROTOCOLS[protocol].operation(head, routes)
            known.operations[protocol, signature] = operation

    def program(self, owner_id: int) -> str:
        """The service's name; "other" over the kernel's bound."""
        with self._lock:
            known = self._known.get(owner_id)
        service = self._service_of(known.owner) if known else OVERFLOW_SERVICE
        return service.name

    def service_of(self, owner: Owner) -> Service:
        return self._service_of(owner)

    def process(self, owner_id: int) -> Process | None:
        """Who it is in a recording; None over the kernel's bound, or when it was forgotten."""
        with self._lock:
            known = self._known.get(owner_id)
        if known is None:
            return None
        owner, service = known.owner, self._service_of(known.owner)
        return Process(
            service=service.name,
            service_namespace=service.namespace,
            pid=owner.local_pid or owner.process.pid,
            command=owner.comm,
            container_id=str(service.attributes.get(CONTAINER_ID, "")),
        )

    def operation_name(self, owner_id: int, protocol: Protocol, head: bytes) -> str:
        """What the first bytes of a request ask for, in this owner's route names."""
        with self._lock:
            known = self._known.get(owner_id)
        if known is None or protocol not in PROTOCOLS:
            return ""
        service = self._service_of(known.owner)
        with self._lock:
            routes = self._routes_of.setdefault(
                (service.namespace, service.name), self._routes.for_service()
            )
            return PROTOCOLS[protocol].operation(head, routes).name

    def server_path(self, edge_id: int) -> str:
        """Of a Unix socket; "" when it has none."""
        edge = self.edge(edge_id)
        if edge is None:
            self.refresh()
            edge = self.edge(edge_id)
        return edge.server_address if edge is not None else ""

    def owners(self) -> list[Owner]:
        with self._lock:
            return [known.owner for known in self._known.values()]

    def edges(self) -> list[Edge]:
        with self._lock:
            return list(self._edges.values())

    def joins(self) -> list[Join]:
        """Which edges are two ends of the same connections, as of the last refresh."""
        with self._lock:
            return self._joins

    def edge(self, edge_id: int) -> Edge | None:
        with self._lock:
            return self._edges.get(edge_id)

    def named(self, edge: Edge) -> Named:
        """Edges of processes over the kernel's bound belong to `other`."""
        with self._lock:
            known = self._known.get(edge.owner_id)
        if known is None:
            return Named(OVERFLOW_SERVICE, edge, 0, {})
        service = self._service_of(known.owner)
        return Named(service, edge, known.owner.netns, known.operations)

    def peer(self, edge: Edge) -> str:
        """The service that answers a client on this host; "" when not known, or in doubt."""
        with self._lock:
            servers = [
                self._known.get(self._edges[edge_id].owner_id)
                for edge_id in self._servers.get(edge.id, ())
                if edge_id in self._edges
            ]
        names = {
            self._service_of(server.owner).name
            for server in servers
            if server is not None
        }
        return names.pop() if len(names) == 1 and None not in servers else ""

    def service_at(self, pair: Pair, role: Role) -> str:
        """The service at that end of a recent connection; "" if it is not of this host."""
        link = self._maps.read_link(pair)
        if link is None:
            return ""
        edge_id = link.server_edge_id if role is Role.SERVER else link.client_edge_id
        if not edge_id:
            return ""
        if self.edge(edge_id) is None:
            self.refresh()
        edge = self.edge(edge_id)
        return self.named(edge).service.name if edge is not None else ""

    def by_protocol(
        self, series: Mapping[SeriesKey, SeriesValue]
    ) -> Counter[tuple[int, Protocol]]:
        """Exchanges by owner id and protocol, of the kernel's series just read."""
        self.refresh()
        found: Counter[tuple[int, Protocol]] = Counter()
        for key, value in series.items():
            edge = self.edge(key.edge_id)
            if edge is not None:
                found[edge.owner_id, key.protocol] += value.count
        return found

    def operations(self) -> int:
        with self._lock:
            return sum(len(known.operations) for known in self._known.values())

    def forget(self, owner_ids: Collection[int]) -> None:
        """Before the kernel gives the numbers to others."""
        with self._lock:
            for owner_id in owner_ids:
                self._known.pop(owner_id, None)

    def keep_routes(self, services: Iterable[Service]) -> None:
        """Let go of the route names of all services but these."""
        kept = {(service.namespace, service.name) for service in services}
        with self._lock:
            for name in self._routes_of.keys() - kept:
                del self._routes_of[name]

    def _learn_maps(
        self, joins: list[Join], edges: dict[int, Edge], owners: dict[int, Owner]
    ) -> None:
        self._joins = joins
        self._edges = edges
        for owner in owners.values():
            self._meet(owner)
        self._servers = {}
        for join in joins:
            self._servers.setdefault(join.client_edge_id, set()).add(
                join.server_edge_id
            )
        self.local_addresses = frozenset(
            edge.local_address for edge in edges.values() if edge.local_address
        )

    def _meet(self, owner: Owner) -> None:
        known = self._known.get(owner.id)
        if known is None or known.owner != owner:
            self._known[owner.id] = _Known(owner)


def no_edge(role: Role) -> Edge:
    """The edge of series that have none: over a bound, or of an owner forgotten."""
    return Edge(0, 0, role, Transport.TCP, "", 0, "", overflow=True)
