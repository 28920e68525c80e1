# SPDX-License-Identifier: Apache-2.0
"""The picture of a host at one time: services, edges between them, their operations.

A call between two services of this host is counted at both ends; the picture shows it once, by
the client's numbers, which hold the network and the wait in the accept queue, and keeps the
server's beside them. The ends are joined by address: what a client calls is whatever serves that
address and port (on loopback: in the same network namespace; for Unix sockets: that path). What
serves or calls from elsewhere is shown by its address.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from deetune_otel.model import DURATION_BOUNDS_S, Protocol, Role, Transport
from deetune_otel.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from deetune_otel.model import Edge, Operation, SeriesKey, SeriesValue, Service

__all__ = [
    "EdgeView",
    "Ends",
    "OperationView",
    "ServiceView",
    "Snapshot",
    "SnapshotBuilder",
    "Stats",
    "quantile",
]

# Each holds two readings of some 2 kB; the kernel's own cap of edges is lower.
MAX_ENDPOINTS: Final = 10_000
MAX_SERVICES: Final = 2_000
OTHER: Final = "other"  # stands for all beyond a cap


class Ends(StrEnum):
    """At which ends of an edge its exchanges were seen."""

    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"
    UNKNOWN = "unknown"  # one end, but not known which


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Rate, errors, duration. Seconds; None where nothing was measured."""

    count: int
    errors: int
    rate: float  # a second
    error_ratio: float  # 0 to 1
    mean_s: float | None  # exact; quantiles are as fine as the buckets
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    request_bytes: int
    response_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    name: str
    protocol: Protocol
    role: Role
    now: Stats
    total: Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """`now` and `total` are of what it serves; of what it calls, see the edges."""

    name: str
    found_by: str
    instances: int
    now: Stats
    total: Stats
    operations: tuple[OperationView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeView:
    """`server_now` and `server_total` are the same calls as the server saw them.

    None where it was not observed, or where several services call from the same address, so
    that the server's numbers cannot be told apart.
    """

    client: str
    server: str
    protocol: Protocol
    ends: Ends
    now: Stats
    total: Stats
    server_now: Stats | None
    server_total: Stats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`now` is of the last interval, `total` since the start."""

    start_unix_ns: int
    time_unix_ns: int
    interval_s: float
    services: tuple[ServiceView, ...]  # by name
    edges: tuple[EdgeView, ...]  # by client, server, protocol

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, with the names of the fields."""
        return asdict(self)


class _Endpoint(NamedTuple):
    """One side of the calls between a service and a peer."""

    service: str
    role: Role
    protocol: Protocol
    transport: Transport
    netns: int
    peer_address: str
    server_port: int
    local_address: str

    @property
    def server(self) -> _Address:
        """Where the calls of this endpoint are served."""
        if self.role is Role.SERVER and self.transport is not Transport.UNIX:
            return self._address(self.local_address)
        return self._address(self.peer_address)

    def _address(self, address: str) -> _Address:
        has_netns = self.transport is not Transport.UNIX and _is_loopback(address)
        return _Address(address, self.server_port, self.netns if has_netns else 0)

    @property
    def client_host(self) -> str:
        """ "" for Unix sockets, whose clients have no address."""
        if self.transport is Transport.UNIX:
            return ""
        return self.peer_address if self.role is Role.SERVER else self.local_address


class _Address(NamedTuple):
    """An address that means the same to all who use it."""

    address: str
    port: int
    netns: int  # of loopback addresses, else 0

    @property
    def label(self) -> str:
        if not self.address:
            return OTHER
        if not self.port:
            return self.address
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class _Count(NamedTuple):
    """The part of a series' value that the picture shows."""

    exchanges: int = 0
    errors: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    duration_sum_ns: int = 0
    duration_buckets: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS_S) + 1)

    def plus(self, other: _Count) -> _Count:
        return _Count(
            self.exchanges + other.exchanges,
            self.errors + other.errors,
            self.request_bytes + other.request_bytes,
            self.response_bytes + other.response_bytes,
            self.duration_sum_ns + other.duration_sum_ns,
            tuple(map(add, self.duration_buckets, other.duration_buckets)),
        )


_NOTHING: Final = _Count()


@dataclass(slots=True)
class _Tally:
    now: _Count = _NOTHING
    total: _Count = _NOTHING

    def add(self, count: _Count) -> None:
        self.now = self.now.plus(count)
        self.total = self.total.plus(count)

    def merge(self, other: _Tally) -> None:
        self.now = self.now.plus(other.now)
        self.total = self.total.plus(other.total)


@dataclass(slots=True)
class _ServiceState:
    found_by: str
    instances: set[str] = field(default_factory=set)
    operations: dict[tuple[str, Protocol, Role], _Tally] = field(default_factory=dict)


@dataclass(slots=True)
class _Edge:
    """An edge under construction: the numbers shown, and the server's beside them."""

    ends: Ends
    shown: _Tally = field(default_factory=_Tally)
    server: _Tally | None = None

    def add_server(self, tally: _Tally) -> None:
        if self.server is None:
            self.server = _Tally()
        self.server.merge(tally)


class SnapshotBuilder:
    """Takes what was added to every series and draws the picture, once per interval."""

    def __init__(
        self,
        *,
        start_unix_ns: int,
        max_endpoints: int = MAX_ENDPOINTS,
        max_services: int = MAX_SERVICES,
    ) -> None:
        self._start_unix_ns = start_unix_ns
        self._interval_unix_ns = start_unix_ns
        self._max_endpoints = max_endpoints
        self._max_services = max_services
        self._services: dict[str, _ServiceState] = {}
        self._endpoints: dict[_Endpoint, _Tally] = {}

    def add(  # noqa: PLR0913 - a series is of an edge of a service, and has a name
        self,
        service: Service,
        edge: Edge,
        operation: Operation,
        key: SeriesKey,
        delta: SeriesValue,
        *,
        netns: int,
    ) -> None:
        """`netns` is that of the edge's owner."""
        # The kernel adds the count first: its time may come next.
        if not any(delta[:5]):
            return
        name, state = self._service(service)
        outcome = PROTOCOLS[key.protocol].outcome(key, edge.role)
        count = _Count(
            delta.count,
            0 if outcome.error_type is None else delta.count,
            delta.request_bytes,
            delta.response_bytes,
            delta.duration_sum_ns,
            delta.duration_buckets,
        )
        endpoint = _Endpoint(
            name,
            edge.role,
            key.protocol,
            edge.transport,
            netns,
            edge.peer_address,
            edge.server_port,
            edge.local_address,
        )
        if endpoint not in self._endpoints and (
            len(self._endpoints) >= self._max_endpoints
        ):
            endpoint = endpoint._replace(
                netns=0, peer_address="", server_port=0, local_address=""
            )
        self._endpoints.setdefault(endpoint, _Tally()).add(count)
        operation_name = OTHER if name == OTHER else operation.name
        called = (operation_name, key.protocol, edge.role)
        state.operations.setdefault(called, _Tally()).add(count)

    def forget(self, service: Service) -> None:
        """An instance ended; what it did stays in the totals."""
        state = self._services.get(_label(service))
        if state is not None:
            state.instances.discard(service.instance_id)

    def build(self, now_unix_ns: int) -> Snapshot:
        """The picture as of now; the next interval begins."""
        interval_s = (now_unix_ns - self._interval_unix_ns) / 1e9
        clock = _Clock(interval_s, (now_unix_ns - self._start_unix_ns) / 1e9)
        snapshot = Snapshot(
            start_unix_ns=self._start_unix_ns,
            time_unix_ns=now_unix_ns,
            interval_s=interval_s,
            services=tuple(
                _service_view(name, state, clock)
                for name, state in sorted(self._services.items())
            ),
            edges=tuple(
                _edge_view(key, edge, clock)
                for key, edge in sorted(_edges(self._endpoints).items())
            ),
        )
        self._interval_unix_ns = now_unix_ns
        self._clear_interval()
        return snapshot

    def _clear_interval(self) -> None:
        for tally in self._endpoints.values():
            tally.now = _NOTHING
        for state in self._services.values():
            for tally in state.operations.values():
                tally.now = _NOTHING

    def _service(self, service: Service) -> tuple[str, _ServiceState]:
        name = _label(service)
        if name not in self._services and len(self._services) >= self._max_services:
            name = OTHER
        state = self._services.setdefault(name, _ServiceState(service.found_by))
        state.instances.add(service.instance_id)
        return name, state


def quantile(buckets: Sequence[int], q: float) -> float | None:
    """Seconds below which the share `q` of the durations lies; None when there are none.

    Even within a bucket; beyond the last bound, 10 s, that bound: a lower limit.
    """
    wanted = q * sum(buckets)
    if wanted == 0:
        return None
    below = 0
    for count, (low, high) in zip(
        buckets, pairwise((0.0, *DURATION_BOUNDS_S)), strict=False
    ):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below += count
    return DURATION_BOUNDS_S[-1]


class _Clock(NamedTuple):
    interval_s: float
    total_s: float


_EdgeKey = tuple[str, str, Protocol]  # client, server, protocol


def _edges(endpoints: dict[_Endpoint, _Tally]) -> dict[_EdgeKey, _Edge]:
    """Join the two ends of what was seen at both."""
    serving = {
        endpoint.server: endpoint.service
        for endpoint in endpoints
        if endpoint.role is Role.SERVER and endpoint.server.address
    }
    callers = _callers(endpoints)
    edges: dict[_EdgeKey, _Edge] = {}
    for endpoint, tally in endpoints.items():
        if endpoint.role is not Role.SERVER:
            server = serving.get(endpoint.server, endpoint.server.label)
            key = (endpoint.service, server, endpoint.protocol)
            edges.setdefault(key, _Edge(Ends(endpoint.role.value))).shown.merge(tally)
    at_clients = dict(edges)
    for endpoint, tally in endpoints.items():
        if endpoint.role is not Role.SERVER:
            continue
        clients = callers.get((endpoint.server, endpoint.client_host), frozenset())
        keys = [
            (client, endpoint.service, endpoint.protocol) for client in sorted(clients)
        ]
        joined = [at_clients[key] for key in keys if key in at_clients]
        if not joined:
            client = keys[0][0] if len(keys) == 1 else endpoint.client_host or OTHER
            key = (client, endpoint.service, endpoint.protocol)
            edges.setdefault(key, _Edge(Ends.SERVER)).shown.merge(tally)
        for edge in joined:
            edge.ends = Ends.BOTH
        if joined and len(clients) == 1:
            joined[0].add_server(tally)
    return edges


def _callers(
    endpoints: Iterable[_Endpoint],
) -> Mapping[tuple[_Address, str], AbstractSet[str]]:
    """The services that call a server from an address of this host."""
    callers: dict[tuple[_Address, str], set[str]] = {}
    for endpoint in endpoints:
        if endpoint.role is Role.CLIENT and endpoint.peer_address:
            place = (endpoint.server, endpoint.client_host)
            callers.setdefault(place, set()).add(endpoint.service)
    return callers


def _service_view(name: str, state: _ServiceState, clock: _Clock) -> ServiceView:
    served = _Tally()
    for (_, _, role), tally in state.operations.items():
        if role is Role.SERVER:
            served.merge(tally)
    return ServiceView(
        name=name,
        found_by=state.found_by,
        instances=len(state.instances),
        now=_stats(served.now, clock.interval_s),
        total=_stats(served.total, clock.total_s),
        operations=tuple(
            OperationView(
                name=operation,
                protocol=protocol,
                role=role,
                now=_stats(tally.now, clock.interval_s),
                total=_stats(tally.total, clock.total_s),
            )
            for (operation, protocol, role), tally in sorted(state.operations.items())
        ),
    )


def _edge_view(key: _EdgeKey, edge: _Edge, clock: _Clock) -> EdgeView:
    client, server, protocol = key
    view = EdgeView(
        client=client,
        server=server,
        protocol=protocol,
        ends=edge.ends,
        now=_stats(edge.shown.now, clock.interval_s),
        total=_stats(edge.shown.total, clock.total_s),
        server_now=None,
        server_total=None,
    )
    if edge.server is None:
        return view
    return replace(
        view,
        server_now=_stats(edge.server.now, clock.interval_s),
        server_total=_stats(edge.server.total, clock.total_s),
    )


def _stats(count: _Count, seconds: float) -> Stats:
    return Stats(
        count=count.exchanges,
        errors=count.errors,
        rate=count.exchanges / seconds if seconds > 0 else 0.0,
        error_ratio=count.errors / count.exchanges if count.exchanges else 0.0,
        mean_s=count.duration_sum_ns / 1e9 / count.exchanges
        if count.exchanges
        else None,
        p50_s=quantile(count.duration_buckets, 0.5),
        p90_s=quantile(count.duration_buckets, 0.9),
        p99_s=quantile(count.duration_buckets, 0.99),
        request_bytes=count.request_bytes,
        response_bytes=count.response_bytes,
    )


def _label(service: Service) -> str:
    return f"{service.namespace}/{service.name}" if service.namespace else service.name


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return ip.is_loopback
