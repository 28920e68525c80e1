# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of what this kernel sees one end of: once a reading, edge by edge.

Other agents know best, then connection tracking, then names; the address remains. Agents and
connection tracking are asked about connections, for one address may stand for many servers. Of
an edge's connections those with the smallest pairs are asked about: sequence numbers are random,
so this is a fair sample, and both ends of an edge choose the same ones without talking.
"""

from __future__ import annotations

import heapq
import struct
from collections import Counter, defaultdict, deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from typing import Protocol as Shape

from cachetools import LRUCache

from deetune_otel.model import Pair, Role, Transport
from deetune_otel.netlink.conntrack import TCP, UDP, Flow
from deetune_otel.protocols.dns import answers
from deetune_otel.topology.datagrams import two_ends
from deetune_otel.topology.far import Far

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from deetune_otel.model import DnsAnswer, Edge, Link, Service
    from deetune_otel.topology.addresses import AddressBook, Named
    from deetune_otel.topology.far import OpenEdge

__all__ = ["Joining", "disguised"]

# Connections of an edge that are looked at; the share of a server that gets a tenth of them is
# then known to some 5 %.
SAMPLE: Final = 32
# 10 µs in each of two namespaces: 40 ms a reading at worst.
MAX_QUESTIONS: Final = 2_000
# A search walks over the table of all connections: milliseconds where there are many. An edge is
# searched for in its first readings; servers that take turns have all been seen then.
MAX_SEARCHES: Final = 16
SEARCHES: Final = 3
# Connections whose answer is kept, 400 bytes each.
MAX_KEPT: Final = 16_384
# Pairs of UDP edges that the graph was told of, 150 bytes each.
MAX_JOINED: Final = 16_384
# DNS answers between two readings; 600 bytes each.
MAX_WAITING: Final = 4_096

_PAIR: Final = struct.Struct(">II")
_UNANSWERED: Final = object()


class _Kernel(Shape):
    """What is asked of `kernel.session.Kernel`."""

    def read_links(self) -> list[Link]: ...


class _Graph(Shape):
    """What is asked of, and told to, `topology.graph.Graph`."""

    def open_edges(self) -> list[OpenEdge]: ...
    def know(self, edge_id: int, far: Far) -> None: ...
    def join(
        self, client_edge_id: int, server_edge_id: int, connections: int
    ) -> None: ...


class _Conntrack(Shape):
    """What is asked of `netlink.conntrack.Conntrack`."""

    def translated(self, flow: Flow, *, netns: int) -> Flow | None: ...
    def origin(self, flow: Flow, *, netns: int) -> Flow | None: ...
    def destinations(self, flow: Flow, *, netns: int) -> list[Flow]: ...
    def rest(self) -> None: ...


class _Peers(Shape):
    """What is asked of `peers.RemoteAgents`."""

    def service_at(self, pair: Pair, role: Role) -> Service | None: ...


class Joining:
    """`learn` from any thread; the rest from one at a time.

    `addresses_of` gives those of a network namespace: which datagrams stay on this host.
    `counts`: `named`, `translated` and `peers` are answers given to the graph by what they came
    from; `postponed` are questions left for the next reading, `dropped` are DNS answers.
    """

    def __init__(  # noqa: PLR0913 - what it joins, each by its name
        self,
        *,
        kernel: _Kernel,
        graph: _Graph,
        book: AddressBook,
        conntrack: _Conntrack | None = None,
        peers: _Peers | None = None,
        addresses_of: Callable[[int], Collection[str]] | None = None,
        max_questions: int = MAX_QUESTIONS,
    ) -> None:
        self._kernel = kernel
        self._graph = graph
        self._book = book
        self._conntrack = conntrack
        self._peers = peers
        self._addresses_of = addresses_of or _no_addresses
        self._max_questions = max_questions
        self._waiting: deque[DnsAnswer] = deque(maxlen=MAX_WAITING)
        self._pairs: dict[int, tuple[Pair, ...]] = {}
        self._flows: LRUCache[Pair, Flow | None] = LRUCache(MAX_KEPT)
        self._told: LRUCache[Pair, Far] = LRUCache(MAX_KEPT)
        self._joined: LRUCache[tuple[int, int], None] = LRUCache(MAX_JOINED)
        self._moved: LRUCache[tuple[int, str, int], None] = LRUCache(MAX_JOINED)
        self._searched: LRUCache[int, int] = LRUCache(MAX_JOINED)  # times, by edge id
        # Left for this reading.
        self._questions = self._searches = 0
        self.counts = Counter(
            {"named": 0, "translated": 0, "peers": 0, "postponed": 0, "dropped": 0}
        )

    def learn(self, answer: DnsAnswer) -> None:
        """A process was told the addresses of a name."""
        self.counts["dropped"] += len(self._waiting) == MAX_WAITING
        self._waiting.append(answer)

    def read(self) -> None:
        """Tell the graph what has become known since the last reading."""
        self._read_answers()
        samples = _samples(self._kernel.read_links())
        self._pairs = {
            edge_id: tuple(link.pair for link in links)
            for edge_id, links in samples.items()
        }
        self._questions, self._searches = self._max_questions, MAX_SEARCHES
        open_edges = self._graph.open_edges()
        translated = self._join_datagrams(open_edges)
        # Unknown ones first, if there are more questions than a reading may ask.
        for open_edge in sorted(open_edges, key=lambda one: one.is_known):
            if open_edge.edge.overflow or open_edge.edge.role is Role.UNKNOWN:
                continue
            known = open_edge.is_known
            for link in samples.get(open_edge.edge.id, ()):
                known |= self._join(open_edge, link)
            if not known and open_edge.edge.id not in translated:
                self._name(open_edge.edge)
        if self._conntrack is not None:
            self._conntrack.rest()

    def pairs_of(self) -> dict[int, tuple[Pair, ...]]:
        """Recent connections by edge id, as of the last reading, of edges with one end here."""
        return self._pairs

    def forget(self, owner_ids: Collection[int]) -> None:
        """Of processes that ended, before the kernel gives their numbers to others."""
        self._read_answers()  # those that wait are theirs
        self._book.forget(owner_ids)

    def _read_answers(self) -> None:
        for _ in range(len(self._waiting)):
            told = self._waiting.popleft()
            read = answers(told.message)
            if read is not None:
                self._book.learn(read, told.owner_id, told.at_ns)

    def _join_datagrams(self, open_edges: Sequence[OpenEdge]) -> set[int]:
        """The kernel joins connections; UDP has none, so it goes by address.

        Gives the edges whose other end is known by that.
        """
        joined = self._join_ends(open_edges)
        moved = [
            one._replace(
                edge=one.edge._replace(
                    peer_address=seen.destination, server_port=seen.destination_port
                )
            )
            for one in open_edges
            if one not in joined
            for seen in self._destinations(one)
        ]
        if moved:
            called = {one.edge.id: one.edge for one in open_edges}
            joined = self._join_ends([*open_edges, *moved])
            for one in moved:
                if one not in joined:
                    self._tell_moved(called[one.edge.id], one.edge)
        return {one.edge.id for one in (*joined, *moved)}

    def _join_ends(self, edges: Iterable[OpenEdge]) -> set[OpenEdge]:
        """The client edges whose other end is here."""
        joined = set()
        for client, server in two_ends(edges, addresses_of=self._addresses_of):
            ends = (client.edge.id, server.edge.id)
            if ends not in self._joined:
                self._graph.join(*ends, 1)
            self._joined[ends] = None
            joined.add(client)
        return joined

    def _destinations(self, of: OpenEdge) -> list[Flow]:
        """Where connection tracking says that its datagrams went, if it was not there."""
        edge = of.edge
        if (
            self._conntrack is None
            or edge.transport is not Transport.UDP
            or edge.role is not Role.CLIENT
            or not edge.peer_address
            or self._searched.get(edge.id, 0) >= SEARCHES
        ):
            return []
        if self._searches <= 0:
            self.counts["postponed"] += 1
            return []
        self._searches -= 1
        self._searched[edge.id] = self._searched.get(edge.id, 0) + 1
        flow = Flow(UDP, edge.local_address, 0, edge.peer_address, edge.server_port)
        return self._conntrack.destinations(flow, netns=of.netns)

    def _tell_moved(self, called: Edge, moved: Edge) -> None:
        address, port = moved.peer_address, moved.server_port
        key = (called.id, address, port)
        if key not in self._moved:
            named = self._named(called, address, port)
            far = _far(address, port, named=named, is_translated=True)
            self._graph.know(called.id, far)
            self.counts["translated"] += 1
        self._moved[key] = None

    def _join(self, of: OpenEdge, link: Link) -> bool:
        """By its connection: whether there is an answer of another agent, or a translation."""
        edge, pair = of.edge, link.pair
        service = None
        if self._peers is not None:
            other = Role.SERVER if edge.role is Role.CLIENT else Role.CLIENT
            service = self._peers.service_at(pair, other)
        flow = self._translated(of, link)
        if service is None and flow is None:
            return False
        address, port = _far_end(edge, flow)
        named = self._named(edge, address, port)
        far = _far(
            address,
            port,
            named=named,
            service=service,
            is_translated=flow is not None,
        )
        if self._told.get(pair) != far:
            self._told[pair] = far
            self._graph.know(edge.id, far)
            self.counts["peers" if service else "translated"] += 1
        return True

    def _translated(self, of: OpenEdge, link: Link) -> Flow | None:
        """Asked once a connection: what it was translated to does not change."""
        edge, pair = of.edge, link.pair
        if self._conntrack is None or edge.transport is not Transport.TCP:
            return None
        if not edge.local_address or not edge.peer_address:
            return None
        known = self._flows.get(pair, _UNANSWERED)
        if known is not _UNANSWERED:
            return known  # type: ignore[return-value]  # the sentinel is left out
        if self._questions <= 0:
            self.counts["postponed"] += 1
            return None
        self._questions -= 1
        far = (edge.peer_address, link.peer_port)
        near = (edge.local_address, link.local_port)
        if edge.role is Role.CLIENT:
            ask, flow = self._conntrack.translated, Flow(TCP, *near, *far)
        else:
            ask, flow = self._conntrack.origin, Flow(TCP, *far, *near)
        found = self._flows[pair] = ask(flow, netns=of.netns)
        return found

    def _name(self, edge: Edge) -> None:
        address, port = _far_end(edge, None)
        named = self._named(edge, address, port)
        if named is not None:
            self._graph.know(edge.id, _far(address, port, named=named))
            self.counts["named"] += 1

    def _named(self, edge: Edge, address: str, port: int) -> Named | None:
        """By the real address, else by the one that was called."""
        if edge.transport is Transport.UNIX:
            return None
        if edge.role is Role.SERVER:
            return self._book.configured(address)
        for one in dict.fromkeys(
            [(address, port), (edge.peer_address, edge.server_port)]
        ):
            named = self._book.name_at(
                *one, owner_id=edge.owner_id, at_ns=edge.first_ns
            )
            if named is not None:
                return named
        return None


def _no_addresses(_: int) -> Collection[str]:
    return ()


def _samples(links: Iterable[Link]) -> dict[int, list[Link]]:
    """By edge, of connections with one end here: its smallest pairs."""
    by_edge: defaultdict[int, list[Link]] = defaultdict(list)
    for link in links:
        if not link.client_edge_id or not link.server_edge_id:
            by_edge[link.client_edge_id or link.server_edge_id].append(link)
    return {
        edge_id: [
            link._replace(pair=disguised(link.pair))
            for link in heapq.nsmallest(SAMPLE, links, key=lambda link: link.pair)
        ]
        for edge_id, links in by_edge.items()
    }


def disguised(pair: Pair) -> Pair:
    """The same at both ends still, but no sequence numbers: who knows those can forge segments."""
    digest = blake2b(_PAIR.pack(*pair), digest_size=_PAIR.size).digest()
    return Pair(*_PAIR.unpack(digest))


def _far(
    address: str,
    port: int,
    *,
    named: Named | None,
    service: Service | None = None,
    is_translated: bool = False,
) -> Far:
    return Far(
        address=address,
        port=port,
        name=named.name if named else "",
        found_by=named.found_by if named else "",
        service=service,
        is_translated=is_translated,
    )


def _far_end(edge: Edge, flow: Flow | None) -> tuple[str, int]:
    """A server's caller has no port that would mean something."""
    if edge.role is Role.SERVER:
        return (flow.source if flow else edge.peer_address), 0
    if flow is None:
        return edge.peer_address, edge.server_port
    return flow.destination, flow.destination_port
