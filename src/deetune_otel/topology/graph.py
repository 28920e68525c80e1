# SPDX-License-Identifier: Apache-2.0
"""The service map of one host: counts and facts go in, the map comes out for any window.

Counts are kept with the kernel edge they came from until the interval ends; then every kernel
edge is asked who was at its other end (`ends.split`), and what it counted goes to the edges of
the map, where it stays: an address may be another's tomorrow. The exception: what a kernel edge
counted towards an unresolved far end follows when the answer comes late (`drawn.Part`), unless
TCP's counts say that those connections were others.

A call that was seen at both ends is one edge, by the client's numbers, with the server's beside
them. Memory is bounded: kernel edges by the kernel, edges of the map and operations here, the
past by its bytes. What is over a bound is drawn as `other`; nothing is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.model import Protocol, Role, Transport
from deetune_otel.protocols import PROTOCOLS
from deetune_otel.topology import division, drawing, ends
from deetune_otel.topology.drawn import Book, DrawnEdge, Part
from deetune_otel.topology.ends import CallKey, Joined, KernelEnd, Split
from deetune_otel.topology.examples import MAX_SHOWN
from deetune_otel.topology.far import OpenEdge
from deetune_otel.topology.history import Timeline
from deetune_otel.topology.model import (
    AgentView,
    EdgeDetails,
    EdgeTotal,
    NodeDetails,
    NodeKind,
    ServiceMap,
)
from deetune_otel.topology.places import (
    MORE_CLIENTS,
    OTHER,
    Place,
    Places,
    Sureness,
    endpoint,
    service_place,
)
from deetune_otel.topology.shares import apportioned
from deetune_otel.topology.sums import (
    COUNT,
    NETWORK,
    NO_TRAFFIC,
    SERVER_NETWORK,
    UNSURE,
    CallsGroup,
    FailureGroup,
    Side,
    calls_numbers,
    traffic_numbers,
)
from deetune_otel.topology.zones import Zones

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from deetune_otel import model
    from deetune_otel.model import Pair, SeriesKey, SeriesValue, Service, Traffic
    from deetune_otel.topology.far import Far
    from deetune_otel.topology.history import Boundary
    from deetune_otel.topology.model import Example
    from deetune_otel.topology.sums import Group, Numbers, Sums

__all__ = ["Graph"]

# Twice what a person was promised to look at fluidly; the fine past of so many takes 25 MB.
MAX_EDGES: Final = 4_000
# Nodes for private addresses that call one server; a map of a thousand clients says less.
MAX_CLIENTS_PER_SERVER: Final = 64
# Of the past beyond 15 minutes, over all edges: 24 hours of some 500 edges that are always busy.
# With more, the past reaches less far.
HISTORY_BYTES: Final = 48 * 2**20
# What is unresolved is published after so many readings: joins and names come one late.
HOLD_READINGS: Final = 2
# What was counted at an unresolved end waits so long for an answer; other agents are asked
# every reading, and each kernel edge that waits has a past of its own.
RESOLVE_READINGS: Final = 30
MAX_ADDRESSES: Final = 16  # of one node: what a person reads
ZONE: Final = "cloud.availability_zone"


@dataclass(slots=True)
class _Node:
    """A node's own facts; its edges are looked up when it is drawn."""

    place: Place
    instances: dict[str, Service] = field(default_factory=dict)
    addresses: dict[str, None] = field(default_factory=dict)
    zones: set[str] = field(default_factory=set)
    served: Book = field(default_factory=Book)  # as it saw it itself
    clients: set[str] = field(default_factory=set)  # nodes of single addresses
    has_database: bool = False  # a database's protocol was spoken to it
    is_virtual: bool = False
    last_seen_ns: int = 0


class _Portion(NamedTuple):
    """One place's part of what an end counted in an interval."""

    place: Place
    side: Side
    share: float
    calls: list[tuple[CallKey, Numbers]]
    failures: Mapping[str, int]
    traffic: Numbers | None


class Graph:
    """Thread-safe: one lock. No I/O, no clock.

    `wall_clock_offset_ns` is Unix time less CLOCK_MONOTONIC; `own_netns` the agent's network
    namespace, whose loopback addresses need no further name.
    """

    def __init__(  # noqa: PLR0913 - who the agent is
        self,
        *,
        start_unix_ns: int,
        host: str,
        version: str,
        zone: str = "",
        zones: Zones | None = None,
        wall_clock_offset_ns: int = 0,
        own_netns: int = 0,
        max_edges: int = MAX_EDGES,
    ) -> None:
        self._lock = Lock()
        self._start_ns = start_unix_ns
        self._host = host
        self._version = version
        self._zone = zone
        self._zones = zones or Zones()
        self._offset_ns = wall_clock_offset_ns
        self._places = Places(host, own_netns=own_netns)
        self._max_edges = max_edges
        self._timeline = Timeline(start_unix_ns)
        self._before_ns = start_unix_ns  # the reading before the last
        self._reading = 0
        self._ends: dict[int, KernelEnd] = {}
        self._touched: dict[int, KernelEnd] = {}
        self._leaving: set[int] = set()
        self._waiting: dict[int, KernelEnd] = {}  # ends with a part
        self._drawn: dict[str, DrawnEdge] = {}
        self._nodes: dict[str, _Node] = {}

    # ---- what is fed ------------------------------------------------------------------------

    def meet(self, edge: model.Edge, service: Service, *, netns: int) -> None:
        """Once a kernel edge, before anything is added to it; again when its service changed.

        What was counted until then stays with the service that it was.
        """
        with self._lock:
            if not edge.id:
                return
            known = self._ends.get(edge.id)
            if known is not None:
                self._rename(known, service)
                return
            owner = service_place(service)
            first_ns = (
                edge.first_ns + self._offset_ns
                if edge.first_ns
                else self._timeline.now_ns
            )
            self._ends[edge.id] = KernelEnd(
                edge, owner, service, netns, max(first_ns, 0)
            )
            self._introduce_instance(edge, owner, service)

    def add(
        self,
        edge_id: int,
        operation: model.Operation,
        key: SeriesKey,
        delta: SeriesValue,
    ) -> None:
        """Counts of an edge that was never met, or of none, are `other`'s."""
        # The kernel adds the count first: its time may come next.
        if not any(delta[:5]):
            return
        with self._lock:
            end = self._end(edge_id, key.overflow_role)
            outcome = PROTOCOLS[key.protocol].outcome(key, end.edge.role)
            if key.protocol is Protocol.CONNECT:
                end.failures[outcome.error_type or "_OTHER"] += delta.count
                return
            end.add(
                CallKey(
                    key.protocol, key.signature, key.outcome, key.end, operation.name
                ),
                calls_numbers(
                    delta,
                    is_error=outcome.is_failure,
                    is_client_error=outcome.is_client_error,
                ),
            )

    def add_traffic(self, edge_id: int, delta: Traffic) -> None:
        with self._lock:
            end = self._end(edge_id, Role.CLIENT)
            end.opened += delta.opened
            end.closed += delta.closed
            numbers = traffic_numbers(delta, is_server=end.is_server)
            have = end.traffic or NO_TRAFFIC
            end.traffic = [a + b for a, b in zip(have, numbers, strict=True)]

    def join(self, client_edge_id: int, server_edge_id: int, connections: int) -> None:
        """`connections` are those that were joined since the last reading."""
        with self._lock:
            for id_, other_id in (
                (client_edge_id, server_edge_id),
                (server_edge_id, client_edge_id),
            ):
                end = self._ends.get(id_)
                if end is None:
                    continue
                joined = end.joins.setdefault(other_id, Joined())
                joined.total += connections
                joined.interval += connections
                end.joined += connections
                self._touched[id_] = end

    def know(self, edge_id: int, far: Far) -> None:
        """Who is at the other end, for ends that this kernel does not see."""
        with self._lock:
            end = self._ends.get(edge_id)
            if end is not None:
                end.know(far, self._reading)
                self._touched[edge_id] = end

    def add_example(self, edge_id: int, example: Example) -> None:
        """Dropped for an edge that is not there (any more)."""
        with self._lock:
            end = self._ends.get(edge_id)
            if end is not None and len(end.examples) < MAX_SHOWN:
                end.examples.append(example)
                self._touched[edge_id] = end

    def forget(self, edge_ids: Collection[int]) -> None:
        """Of processes that ended: at the end of this interval, with what came until then.

        What they did stays, attributed as it was.
        """
        with self._lock:
            self._leaving.update(edge_ids)

    def forget_service(self, service: Service) -> None:
        """An instance ended."""
        with self._lock:
            node = self._nodes.get(service_place(service).id)
            if node is not None:
                node.instances.pop(service.instance_id, None)

    def end_interval(self, now_unix_ns: int) -> None:
        """What was counted goes to the edges of the map."""
        with self._lock:
            self._reading += 1
            self._before_ns = self._timeline.now_ns
            steps = self._timeline.end_reading(now_unix_ns)
            # splits read the other ends' counts, so none is cleared before all are made
            splits = self._splits()
            for end, split in splits:
                self._resolve(end, split)
                self._attribute(end, split)
            for end, _ in splits:
                end.end_interval()
            self._touched.clear()
            self._age_parts()
            self._forget(self._leaving)
            self._leaving.clear()
            if steps:
                self._keep(steps)

    # ---- what comes out ---------------------------------------------------------------------

    def service_map(
        self,
        *,
        window_s: float,
        now_unix_ns: int,
        pairs_of: Mapping[int, tuple[Pair, ...]] | None = None,
    ) -> ServiceMap:
        """Of the window that ends with the last reading.

        `pairs_of`: recent connections by kernel edge; those of edges with one end are shown.
        """
        with self._lock:
            begin = self._timeline.since(int(window_s * 1e9))
            active = self._active()
            pairs = self._pairs(pairs_of or {})
            made = []
            for drawn in self._drawn.values():
                window = drawn.since(begin)
                if window or active.get(drawn.id):
                    made.append(
                        drawing.edge(
                            drawn,
                            window,
                            active=active.get(drawn.id, 0),
                            now_ns=self._timeline.now_ns,
                            pairs=pairs.get(drawn.id, ()),
                        )
                    )
            shown = {id_ for edge in made for id_ in (edge.client, edge.server)}
            far = self._far_instances()
            nodes = [
                self._drawn_node(node, begin, far)
                for id_, node in self._nodes.items()
                if id_ in shown or node.instances
            ]
            return ServiceMap(
                agents=(
                    AgentView(
                        host=self._host,
                        version=self._version,
                        zone=self._zone,
                        start_unix_ns=self._start_ns,
                    ),
                ),
                start_unix_ns=self._start_ns,
                time_unix_ns=max(now_unix_ns, self._timeline.now_ns),
                window_s=self._covered_s(begin),
                nodes=tuple(sorted(nodes, key=lambda node: node.id)),
                edges=tuple(sorted(made, key=lambda edge: edge.id)),
            )

    def edge_details(
        self, edge_id: str, *, window_s: float, now_unix_ns: int
    ) -> EdgeDetails | None:
        """`edge_id` as `model.Edge.id`; None when there is no such edge."""
        del now_unix_ns  # a window ends with the last reading
        with self._lock:
            drawn = self._drawn.get(edge_id)
            if drawn is None:
                return None
            begin = self._timeline.since(int(window_s * 1e9))
            books = drawn.books()
            return EdgeDetails(
                edge=drawing.edge(
                    drawn,
                    drawn.since(begin),
                    active=self._active().get(edge_id, 0),
                    now_ns=self._timeline.now_ns,
                ),
                operations=drawing.operations(books, begin),
                history=drawing.history(
                    [book.sums for book in books], self._timeline, begin
                ),
                examples=drawing.examples(books),
            )

    def node_details(
        self, node_id: str, *, window_s: float, now_unix_ns: int
    ) -> NodeDetails | None:
        """None when there is no such node."""
        del now_unix_ns
        with self._lock:
            node = self._nodes.get(node_id)
            if node is None:
                return None
            begin = self._timeline.since(int(window_s * 1e9))
            active = self._active()
            seen = {
                drawn.id
                for drawn in self._drawn.values()
                if drawn.since(begin) or active.get(drawn.id)
            }
            callers = [one for one in self._drawn.values() if one.server == node_id]
            callees = [one for one in self._drawn.values() if one.client == node_id]
            served = list(chain.from_iterable(one.books() for one in callers))
            calling = list(chain.from_iterable(one.books() for one in callees))
            books = [node.served] if node.served.sums else served
            return NodeDetails(
                node=self._drawn_node(node, begin, self._far_instances()),
                operations=drawing.operations(books, begin),
                history=drawing.history(
                    [book.sums for book in (books or calling)], self._timeline, begin
                ),
                examples=drawing.examples(served or calling),
                callers=tuple(sorted(one.id for one in callers if one.id in seen)),
                callees=tuple(sorted(one.id for one in callees if one.id in seen)),
            )

    def edges_total(self) -> list[EdgeTotal]:
        """For counters: nothing in it decreases for one edge but what is of now."""
        with self._lock:
            active = self._active()
            return [
                drawing.edge_total(
                    drawn,
                    client=self._node_value(drawn.client),
                    server=self._node_value(drawn.server),
                    active=active.get(drawn.id, 0),
                )
                for drawn in self._drawn.values()
                if drawn.published()
            ]

    def open_edges(self) -> list[OpenEdge]:
        """Edges of which some connection is not joined, and those without connections' counts.

        UDP servers always: one edge of theirs may have several callers. Overflow edges stand for all, and ends of Unix sockets are here: nobody else knows them.
        """
        with self._lock:
            return [
                OpenEdge(end.edge, end.netns, bool(end.answers))
                for end in self._ends.values()
                if not end.edge.overflow
                and end.edge.transport is not Transport.UNIX
                and (not end.joins or end.unjoined or end.is_udp_server)
            ]

    # ---- attribution ------------------------------------------------------------------------

    def _splits(self) -> list[tuple[KernelEnd, Split]]:
        # somebody may have been answered since it received something
        waiting = {id_: end for id_, end in self._waiting.items() if end.is_nameless}
        self._touched |= waiting
        nameless = {id_ for id_, end in self._touched.items() if end.is_nameless}
        servers = ends.DatagramServers(self._ends.values() if nameless else ())
        return [
            (
                end,
                ends.split_nameless(end, self._ends, self._places, servers)
                if id_ in nameless
                else ends.split(end, self._ends, self._places),
            )
            for id_, end in self._touched.items()
        ]

    def _introduce_instance(
        self, edge: model.Edge, owner: Place, service: Service
    ) -> None:
        node = self._node(owner)
        if owner.kind is NodeKind.SERVICE:
            node.instances[service.instance_id] = service
            node.zones.add(self._own_zone(service, edge.local_address))

    def _rename(self, end: KernelEnd, service: Service) -> None:
        """Another container, another program: from now on it is that one's."""
        if service == end.service:
            return
        before = self._nodes.get(end.owner.id)
        if before is not None:
            before.instances.pop(end.service.instance_id, None)
        end.service = service
        owner = service_place(service)
        self._introduce_instance(end.edge, owner, service)
        if owner.id == end.owner.id:
            return
        self._settle(end)
        end.owner, end.settled = owner, ""
        end.known.clear()
        for one in (end, *(self._ends.get(id_) for id_ in end.joins)):
            if one is not None:
                self._touched[one.edge.id] = one

    def _end(self, edge_id: int, role: Role) -> KernelEnd:
        end = self._ends.get(edge_id)
        if end is None:
            id_ = -2 if role is Role.SERVER else -1
            end = self._ends.get(id_)
            if end is None:
                end = self._ends[id_] = ends.overflow_end(id_, role, self._before_ns)
                self._node(OTHER)
            edge_id = id_
        self._touched[edge_id] = end
        return end

    def _resolve(self, end: KernelEnd, split: Split) -> None:
        """Whether what was counted at an unresolved end follows to who is there now."""
        part = end.part
        if part is None:
            return
        index = max(range(len(split.places)), key=lambda i: split.shares[i])
        place = self._bounded(end, split.places[index])
        is_join = not split.elsewhere
        if place.id == part.place.id and not is_join:
            part.place = place
            return
        if part.place.sureness is Sureness.NOTHING:
            is_join = index not in split.elsewhere
            follows = True
        elif is_join:
            follows = end.is_joined_whole or (
                not end.opened and self._reading - part.since <= ends.JOIN_READINGS
            )
        else:
            follows = len(split.places) == 1 and place.sureness > part.place.sureness
        if follows:
            if is_join and end.is_server:
                part.become_server()
            part.move(self._introduce(end, place), place)
            if len(split.places) > 1:
                part.mark_unsure()
        elif is_join or len(split.places) > 1:
            return  # some of its connections may still be joined
        if not follows or is_join or place.sureness is Sureness.SERVICE:
            self._settle(end)

    def _attribute(self, end: KernelEnd, split: Split) -> None:
        if end.is_server:
            served = self._nodes[end.owner.id].served
            for key, numbers in end.calls.items():
                served.add_call(
                    CallsGroup(Side.ALONE, key.protocol), key.operation, numbers
                )
        targets = []
        for portion in self._portions(end, split):
            drawn = self._introduce(end, portion.place)
            self._give(end, drawn, portion, is_only=len(split.places) == 1)
            if portion.side is not Side.SERVER:
                targets.append((drawn, portion.share))
            for example in end.examples if not targets[1:] else ():
                (end.part.book if end.part else drawn.main).examples.add(example)
        end.examples.clear()
        end.targets = tuple(targets)

    def _portions(self, end: KernelEnd, split: Split) -> list[_Portion]:
        many = len(split.places)
        calls = [
            (key, _divided(key, numbers, split)) for key, numbers in end.calls.items()
        ]
        failures = {
            errno: apportioned(count, split.shares)
            for errno, count in end.failures.items()
        }
        traffic = (
            division.by_shares_each(end.traffic, split.shares) if end.traffic else None
        )
        is_unsure = end.is_server and not split.is_told
        portions = []
        for i, place in enumerate(split.places):
            side = Side.CLIENT
            if end.is_server:
                side = Side.ALONE if i in split.elsewhere else Side.SERVER
            portions.append(
                _Portion(
                    self._bounded(end, place),
                    side,
                    split.shares[i] if many > 1 else 1.0,
                    [
                        (
                            key,
                            _unsure(parts[i])
                            if is_unsure and side is Side.SERVER
                            else parts[i],
                        )
                        for key, parts in calls
                    ],
                    {errno: parts[i] for errno, parts in failures.items() if parts[i]},
                    traffic[i] if traffic else None,
                )
            )
        return portions

    def _give(
        self, end: KernelEnd, drawn: DrawnEdge, portion: _Portion, *, is_only: bool
    ) -> None:
        place, side = portion.place, portion.side
        groups = _groups(portion)
        if not groups:
            return
        drawn.last_seen_ns = self._timeline.now_ns
        book, is_published = drawn.main, True
        if is_only and side is not Side.SERVER and place.sureness < Sureness.SERVICE:
            part = self._part(end, drawn, place)
            if part is not None:
                book, is_published = part.book, part.is_published
        server = self._nodes[drawn.server]
        for group, operation, numbers in groups:
            if isinstance(group, CallsGroup):
                book.add_call(group, operation, numbers)
                server.has_database |= group.protocol in _DATABASES
            else:
                book.sums.add(group, numbers)
            if is_published:
                drawn.publish({group: numbers}, since_ns=self._before_ns)
        for id_ in (drawn.client, drawn.server):
            self._nodes[id_].last_seen_ns = self._timeline.now_ns

    def _part(self, end: KernelEnd, drawn: DrawnEdge, place: Place) -> Part | None:
        """Where to count what may have to follow; None when that time is over."""
        if end.part is not None:
            return end.part if end.part.drawn is drawn else None
        if end.settled == place.id:
            return None
        end.part = Part(drawn, place, since=self._reading, since_ns=self._before_ns)
        self._waiting[end.edge.id] = end
        return end.part

    def _settle(self, end: KernelEnd) -> None:
        if end.part is not None:
            end.settled = end.part.place.id
            end.part.settle()
            end.part = None
            self._waiting.pop(end.edge.id, None)

    def _age_parts(self) -> None:
        for end in list(self._waiting.values()):
            if end.part is None:
                continue
            age = self._reading - end.part.since
            if age >= HOLD_READINGS:
                end.part.publish()
            if age >= RESOLVE_READINGS:
                self._settle(end)

    def _forget(self, edge_ids: Iterable[int]) -> None:
        for id_ in edge_ids:
            end = self._ends.pop(id_, None)
            if end is None:
                continue
            self._settle(end)
            self._touched.pop(id_, None)
            for other_id in end.joins:
                other = self._ends.get(other_id)
                if other is not None:
                    other.joins.pop(id_, None)
                    other.gone = end.owner
                    other.opened_when_gone = other.opened

    # ---- nodes and edges --------------------------------------------------------------------

    def _introduce(self, end: KernelEnd, place: Place) -> DrawnEdge:
        """The edge between this end's service and that place, and what the end says of it."""
        client, server = (place, end.owner) if end.is_server else (end.owner, place)
        if end.edge.overflow and end.owner is OTHER:
            client = server = OTHER
        id_ = f"{client.id}→{server.id}"
        drawn = self._drawn.get(id_)
        if drawn is None and len(self._drawn) >= self._max_edges:
            client, server = (OTHER, server) if end.is_server else (client, OTHER)
            if len(self._drawn) >= 2 * self._max_edges:
                client = server = OTHER
            place = OTHER
            drawn = self._drawn.get(f"{client.id}→{server.id}")
        if drawn is None:
            drawn = DrawnEdge(client.id, server.id, now_ns=end.first_seen_ns)
            self._drawn[drawn.id] = drawn
            self._node(client)
            self._node(server)
        facts = (drawn.id, len(end.joins), len(end.answers))
        if facts not in end.known:
            end.known = {facts}
            self._tell(end, place, drawn)
        return drawn

    def _tell(self, end: KernelEnd, place: Place, drawn: DrawnEdge) -> None:
        edge = end.edge
        drawn.transports.add(edge.transport)
        drawn.first_seen_ns = min(drawn.first_seen_ns, end.first_seen_ns)
        joined = [
            self._ends[id_]
            for id_ in end.joins
            if id_ in self._ends and self._ends[id_].owner.id == place.id
        ]
        if end.is_server:
            drawn.has_server = True
        else:
            drawn.has_client = True
        if joined:
            drawn.has_server = drawn.has_client = True
        own_zone = self._own_zone(end.service, edge.local_address)
        far_zone = (
            self._own_zone(joined[0].service, joined[0].edge.local_address)
            if joined
            else self._far_zone(end, place)
        )
        drawn.zones.add((far_zone, own_zone) if end.is_server else (own_zone, far_zone))
        far, own = self._node(place), self._node(end.owner)
        if far_zone:
            far.zones.add(far_zone)
        where = endpoint(
            edge.server_address,
            0 if edge.transport is Transport.UNIX else edge.server_port,
        )
        if end.is_server:
            _remember(own.addresses, where)
            return
        answers = [far_ for far_ in end.valid_answers() if far_.address]
        if place.kind is NodeKind.VIRTUAL:
            far.is_virtual = True
            for answer in answers:
                _remember(far.addresses, endpoint(answer.address, answer.port))
            return
        if place.address:
            _remember(far.addresses, place.address)
        real = {
            endpoint(one.edge.server_address, one.edge.server_port)
            for one in joined
            if edge.transport is not Transport.UNIX
        }
        if not joined and any(answer.is_translated for answer in answers):
            real = {place.address}
        if real - {where}:
            drawn.add_via(where)

    def _bounded(self, end: KernelEnd, place: Place) -> Place:
        """A server's callers by address, up to a bound of them."""
        if place.kind is not NodeKind.CLIENTS or not place.host:
            return place
        clients = self._nodes[end.owner.id].clients
        if place.id in clients or len(clients) < MAX_CLIENTS_PER_SERVER:
            clients.add(place.id)
            return place
        return MORE_CLIENTS

    def _node(self, place: Place) -> _Node:
        node = self._nodes.get(place.id)
        if node is None:
            node = self._nodes[place.id] = _Node(place)
        return node

    def _own_zone(self, service: Service, address: str) -> str:
        zone = service.attributes.get(ZONE)
        return str(zone) if zone else self._zone or self._zones.zone(address)

    def _far_zone(self, end: KernelEnd, place: Place) -> str:
        if end.is_nameless:
            return ""  # the edges beside it tell
        for far in end.valid_answers():
            if far.service is not None and far.service.attributes.get(ZONE):
                return str(far.service.attributes[ZONE])
        if self._places.is_own(place.host) or end.edge.transport is Transport.UNIX:
            return self._zone
        return self._zones.zone(place.host)

    # ---- drawing ----------------------------------------------------------------------------

    def _active(self) -> dict[str, int]:
        """Connections that are open now, by edge of the map."""
        active: dict[str, int] = {}
        for end in self._ends.values():
            if not end.active or not end.targets:
                continue
            counts = apportioned(end.active, [share for _, share in end.targets])
            for (drawn, _), count in zip(end.targets, counts, strict=True):
                active[drawn.id] = active.get(drawn.id, 0) + count
        return active

    def _pairs(
        self, pairs_of: Mapping[int, tuple[Pair, ...]]
    ) -> dict[str, tuple[Pair, ...]]:
        found: dict[str, tuple[Pair, ...]] = {}
        for edge_id, pairs in pairs_of.items():
            end = self._ends.get(edge_id)
            for drawn, _ in end.targets if end is not None else ():
                found[drawn.id] = (*found.get(drawn.id, ()), *pairs)
        return found

    def _far_instances(self) -> dict[str, dict[str, tuple[Service, str]]]:
        """Of services that other agents see: by node, by instance id; with their zone."""
        found: dict[str, dict[str, tuple[Service, str]]] = {}
        for end in self._ends.values():
            for far in end.valid_answers() if end.answers else ():
                if far.service is not None:
                    zone = str(far.service.attributes.get(ZONE, ""))
                    found.setdefault(service_place(far.service).id, {})[
                        far.service.instance_id
                    ] = (far.service, zone or self._zones.zone(far.address))
        return found

    def _drawn_node(
        self,
        node: _Node,
        begin: Boundary,
        far: Mapping[str, Mapping[str, tuple[Service, str]]],
    ) -> drawing.Node:
        instances = [
            drawing.instance(service, host=self._host, zone=self._own_zone(service, ""))
            for service in node.instances.values()
        ]
        instances += [
            drawing.instance(service, host="", zone=zone)
            for id_, (service, zone) in far.get(node.place.id, {}).items()
            if id_ not in node.instances
        ]
        return drawing.node(
            node.place,
            kind=self._kind(node),
            instances=instances,
            addresses=node.addresses,
            zones=node.zones,
            served=node.served,
            begin=begin,
            last_seen_ns=node.last_seen_ns,
        )

    def _kind(self, node: _Node) -> NodeKind:
        kind = node.place.kind
        if kind in {NodeKind.ADDRESS, NodeKind.EXTERNAL, NodeKind.VIRTUAL}:
            if node.is_virtual:
                return NodeKind.VIRTUAL
            if node.has_database:
                return NodeKind.DATABASE
        return kind

    def _node_value(self, id_: str) -> tuple[Place, NodeKind]:
        node = self._nodes[id_]
        return node.place, self._kind(node)

    def _covered_s(self, begin: Boundary) -> float:
        return (self._timeline.now_ns - begin.end_ns) / 1e9

    # ---- keeping ----------------------------------------------------------------------------

    def _keep(self, steps: list[Boundary]) -> None:
        for drawn in self._drawn.values():
            drawn.keep(steps, self._timeline)
        for node in self._nodes.values():
            node.served.keep(steps, self._timeline)
        if all(step.is_fine for step in steps):
            return
        while self._past_bytes() > HISTORY_BYTES:
            if not self._timeline.drop_oldest_coarse():
                break
            for sums in self._all_sums():
                sums.past.drop(self._timeline)
        self._forget_past()

    def _past_bytes(self) -> int:
        return sum(sums.past.coarse_bytes for sums in self._all_sums())

    def _all_sums(self) -> Iterator[Sums]:
        books = chain.from_iterable(drawn.books() for drawn in self._drawn.values())
        served = (node.served for node in self._nodes.values())
        for book in chain(books, served):
            yield from book.all_sums()

    def _forget_past(self) -> None:
        """Edges and nodes of which nothing lives, and nothing is kept any more."""
        oldest_ns = self._timeline.since(2**63).end_ns
        live = {drawn.id for end in self._ends.values() for drawn, _ in end.targets}
        live |= {end.part.drawn.id for end in self._waiting.values() if end.part}
        for id_ in [
            id_
            for id_, drawn in self._drawn.items()
            if drawn.last_seen_ns < oldest_ns and id_ not in live
        ]:
            del self._drawn[id_]
        used = {end.owner.id for end in self._ends.values()}
        for drawn in self._drawn.values():
            used |= {drawn.client, drawn.server}
        for id_ in self._nodes.keys() - used:
            if not self._nodes[id_].instances:
                del self._nodes[id_]
        for node in self._nodes.values():
            node.clients &= self._nodes.keys()


def _divided(key: CallKey, numbers: Numbers, split: Split) -> Sequence[Numbers]:
    if len(split.places) == 1:
        return [numbers]
    if not split.models:
        parts = division.by_shares(numbers, split.shares)
        for part in parts:
            part[UNSURE] = part[COUNT]
        return parts
    models = split.models_of(key)
    if any(model[COUNT] for model in models):
        return division.like(numbers, models)
    # of a kind that the other ends did not count in this interval
    busy = [
        float(sum(counts[COUNT] for counts in model.values())) for model in split.models
    ]
    return division.by_shares(numbers, busy if any(busy) else split.shares)


def _groups(portion: _Portion) -> list[tuple[Group, str, Numbers]]:
    """What there is to count, by group and operation."""
    groups: list[tuple[Group, str, Numbers]] = [
        (CallsGroup(portion.side, key.protocol), key.operation, numbers)
        for key, numbers in portion.calls
        if any(numbers)
    ]
    groups += [
        (FailureGroup(errno), "", [count]) for errno, count in portion.failures.items()
    ]
    if portion.traffic is not None and any(portion.traffic):
        network = SERVER_NETWORK if portion.side is Side.SERVER else NETWORK
        groups.append((network, "", portion.traffic))
    return groups


def _unsure(numbers: Numbers) -> Numbers:
    """A part of the calls of several services, divided as these counted them."""
    marked = list(numbers)
    marked[UNSURE] = numbers[COUNT]
    return marked


def _remember(addresses: dict[str, None], address: str) -> None:
    if address and len(addresses) < MAX_ADDRESSES:
        addresses[address] = None


# Protocols whose client metrics are a database client's.
_DATABASES: Final = frozenset(
    protocol
    for protocol, module in PROTOCOLS.items()
    if any(one.name.startswith("db.") for one in module.METRICS.get(Role.CLIENT, ()))
)
