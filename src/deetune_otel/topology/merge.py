# SPDX-License-Identifier: Apache-2.0
"""The maps of several agents as one: what each saw of the same calls becomes one edge.

An edge of which an agent saw one end is a half: a client's half leads to an address or a name, a
server's half comes from `clients:…`. Halves belong together when

1. they have connections in common, by their pairs of sequence numbers, which NAT does not change;
2. else, when exactly one service of the maps serves at the address that was called (never a
   loopback one), and exactly one half of its callers has as many calls: addresses repeat from
   host to host, so the address alone proves nothing;
3. else, for datagrams, which have no connections and often no calls: when exactly one service of
   the maps serves at the address that was called, and what all its callers sent there is what it
   received, and back (or there is but one caller and one half of the server's: datagrams get
   lost, so less may have arrived, never more). The server's half may say a router's address, or
   that the sender is unknown.

Halves that belong together, directly or through others, are a group. Its calls are divided so
that each client's half gives all its calls away and each server's half gets what it counted
(iterative proportional fitting, begun with the connections in common). One client and one server
is the usual group, and there is nothing to divide.

The client's numbers stay, the server's go beside them, so that the calls that were seen by a
client come to the same sum before and after. What only one side saw remains a half: where some
of its connections were not found on the other side, and the counts differ by more than the maps'
moments can explain.

Over a window, a merged map is as exact as its maps are of the same time.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final, NamedTuple

from deetune_otel.model import Pair, Protocol, Transport
from deetune_otel.topology.model import (
    AgentView,
    Calls,
    Edge,
    Ends,
    Node,
    NodeKind,
    ServiceMap,
    Tally,
)
from deetune_otel.topology.shares import divided, divided_network
from deetune_otel.topology.tally import network_plus, plus

__all__ = ["MergeError", "merge"]

# Two maps are asked for within a second or so, and read at different moments of the traffic.
TOLERANCE: Final = 0.1
TOLERANCE_CALLS: Final = 10
TOLERANCE_BYTES: Final = 2_000  # so many short calls
# It converges in two or three; the bound is for groups whose evidence contradicts itself.
FITTING_ROUNDS: Final = 40
MAX_ADDRESSES: Final = 16


class MergeError(ValueError):
    """These maps cannot be told apart: an agent is in two that were merged before."""


def merge(maps: Iterable[ServiceMap]) -> ServiceMap:
    """One map; an agent that is in it twice counts once, by its newest map.

    Raises MergeError, and ValueError when there is no map at all.
    """
    chosen = _one_of_each_agent(maps)
    if len(chosen) == 1:
        return chosen[0]
    nodes = _united_nodes(one.nodes for one in chosen)
    halves = _Halves(edge for one in chosen for edge in one.edges)
    had_edges = {end for edge in halves.all() for end in (edge.client, edge.server)}
    edges = _Edges(nodes)
    for edge in halves.both:
        edges.add(edge)
    for group in _groups(halves, nodes):
        for edge in _joined(group, nodes):
            edges.add(edge)
    made = edges.finished()
    ends = {end for edge in made for end in (edge.client, edge.server)}
    return ServiceMap(
        agents=tuple(
            sorted(
                (agent for one in chosen for agent in _agents(one)), key=_agent_order
            )
        ),
        start_unix_ns=min(one.start_unix_ns for one in chosen),
        time_unix_ns=max(one.time_unix_ns for one in chosen),
        window_s=max(one.window_s for one in chosen),
        nodes=tuple(
            node
            for _, node in sorted(nodes.items())
            if node.id in ends or node.id not in had_edges or _is_observed(node)
        ),
        edges=made,
    )


# Agents


def _one_of_each_agent(maps: Iterable[ServiceMap]) -> list[ServiceMap]:
    """In an order that does not depend on the order in which they were given."""
    seen: set[tuple[str, int]] = set()
    chosen = []
    for one in sorted(maps, key=_newest_and_largest_first):
        keys = {(agent.host, agent.start_unix_ns) for agent in _agents(one)}
        known = keys & seen
        if known == keys:
            continue
        if known:
            hosts = ", ".join(sorted(host for host, _ in known))
            raise MergeError(f"{hosts}: in two maps that were merged before")
        seen |= keys
        chosen.append(one)
    if not chosen:
        raise ValueError("no map to merge")
    return chosen


def _newest_and_largest_first(one: ServiceMap) -> tuple[int, int, list[object]]:
    order: list[object] = [_agent_order(agent) for agent in _agents(one)]
    return -len(one.agents), -one.time_unix_ns, order


def _agents(one: ServiceMap) -> tuple[AgentView, ...]:
    if len(one.agents) == 1 and not one.agents[0].start_unix_ns:
        return (replace(one.agents[0], start_unix_ns=one.start_unix_ns),)
    return one.agents


def _agent_order(agent: AgentView) -> tuple[str, int, str]:
    return agent.host, agent.start_unix_ns, agent.url


# Nodes


def _united_nodes(lists: Iterable[Iterable[Node]]) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for node in (one for nodes_of_one in lists for one in nodes_of_one):
        known = nodes.get(node.id)
        nodes[node.id] = node if known is None else _united(known, node)
    return nodes


def _united(one: Node, other: Node) -> Node:
    """Who observed its processes knows it best."""
    first, second = sorted(
        (one, other), key=lambda node: (not node.instances, node.found_by, node.kind)
    )
    return replace(
        first,
        found_by=first.found_by or second.found_by,
        instances=tuple(
            sorted(
                {(i.host, i.id): i for i in (*second.instances, *first.instances)}
                .values(),
                key=attrgetter("host", "id"),
            )
        ),
        addresses=_some({*first.addresses, *second.addresses}),
        zones=tuple(sorted({*first.zones, *second.zones})),
        served=_added_calls([*first.served, *second.served]),
        last_seen_unix_ns=max(first.last_seen_unix_ns, second.last_seen_unix_ns),
    )  # fmt: skip


def _is_observed(node: Node) -> bool:
    return node.kind is NodeKind.SERVICE


def _some(addresses: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(addresses)[:MAX_ADDRESSES])


# Halves and groups


class _Halves:
    """The maps' edges by what was seen of them; two agents' halves with one id are one."""

    def __init__(self, edges: Iterable[Edge]) -> None:
        by_id: dict[tuple[str, Ends], Edge] = {}
        for edge in edges:
            key = (edge.id, edge.ends)
            known = by_id.get(key)
            by_id[key] = edge if known is None else _added(known, edge)
        self.clients = [one for (_, ends), one in by_id.items() if ends is Ends.CLIENT]
        self.servers = [one for (_, ends), one in by_id.items() if ends is Ends.SERVER]
        self.both = [one for (_, ends), one in by_id.items() if ends is Ends.BOTH]
        self._leave_out_what_is_in_both()

    def _leave_out_what_is_in_both(self) -> None:
        """An agent that asks others knows both ends' names, and only one end's calls.

        Its edge holds them together with calls of which it saw both ends; the other agent's
        half, of the same connections, holds nothing more.
        """
        pairs = {one.id: set(one.pairs) for one in self.both}

        def is_new(half: Edge) -> bool:
            return not pairs.get(half.id, set()) & set(half.pairs)

        self.clients = [one for one in self.clients if is_new(one)]
        self.servers = [one for one in self.servers if is_new(one)]

    def all(self) -> Iterator[Edge]:
        yield from self.clients
        yield from self.servers
        yield from self.both


@dataclass(slots=True)
class _Group:
    """Halves that belong together; `common` by their places in the two lists."""

    clients: list[Edge] = field(default_factory=list)
    servers: list[Edge] = field(default_factory=list)
    common: dict[tuple[int, int], int] = field(default_factory=dict)


def _groups(halves: _Halves, nodes: Mapping[str, Node]) -> Iterator[_Group]:
    """Connected components; a half without another is a group of its own."""
    clients = sorted(halves.clients, key=attrgetter("id"))
    servers = sorted(halves.servers, key=attrgetter("id"))
    common = _common(clients, servers)
    common |= _by_address(clients, servers, common, nodes)
    common |= _of_datagrams(clients, servers, common, nodes)
    of_client: dict[int, list[int]] = defaultdict(list)
    of_server: dict[int, list[int]] = defaultdict(list)
    for i, j in common:
        of_client[i].append(j)
        of_server[j].append(i)
    done: set[int] = set()
    for start in range(len(clients)):
        if start in done:
            continue
        rows, columns = _reach(start, of_client, of_server)
        done.update(rows)
        place = {old: new for new, old in enumerate(rows)}
        other = {old: new for new, old in enumerate(columns)}
        yield _Group(
            [clients[i] for i in rows],
            [servers[j] for j in columns],
            {(place[i], other[j]): common[i, j] for i in rows for j in of_client[i]},
        )
    for j, half in enumerate(servers):
        if j not in of_server:
            yield _Group(servers=[half])


def _reach(
    start: int, of_client: Mapping[int, list[int]], of_server: Mapping[int, list[int]]
) -> tuple[list[int], list[int]]:
    rows, columns, waiting = {start}, set(), [start]
    while waiting:
        for j in of_client.get(waiting.pop(), ()):
            if j in columns:
                continue
            columns.add(j)
            new = [i for i in of_server[j] if i not in rows]
            rows.update(new)
            waiting += new
    return sorted(rows), sorted(columns)


def _common(
    clients: Sequence[Edge], servers: Sequence[Edge]
) -> dict[tuple[int, int], int]:
    """How many connections two halves have in common."""
    server_of = {pair: j for j, half in enumerate(servers) for pair in half.pairs}
    place = {half.id: j for j, half in enumerate(servers)}
    found: Counter[tuple[int, int]] = Counter()
    for i, half in enumerate(clients):
        for pair in set(half.pairs):
            if pair in server_of:
                found[i, server_of[pair]] += 1
        if half.id in place:  # both agents know both names
            found[i, place[half.id]] += 1
    return dict(found)


def _by_address(
    clients: Sequence[Edge],
    servers: Sequence[Edge],
    common: Collection[tuple[int, int]],
    nodes: Mapping[str, Node],
) -> dict[tuple[int, int], int]:
    """What has no connection in common any more, by the second rule."""
    with_client = {i for i, _ in common}
    with_server = {j for _, j in common}
    serving = _serving(nodes)
    candidates: dict[str, list[int]] = defaultdict(list)
    for j, half in enumerate(servers):
        if j not in with_server:
            candidates[half.server].append(j)
    found: dict[int, int] = {}
    for i, half in enumerate(clients):
        server = "" if i in with_client else _server(half, nodes, serving)
        fitting = [j for j in candidates[server] if _fit(half, servers[j])]
        if len(fitting) == 1:
            found[i] = fitting[0]
    taken = Counter(found.values())
    return {(i, j): 1 for i, j in found.items() if taken[j] == 1}


def _of_datagrams(
    clients: Sequence[Edge],
    servers: Sequence[Edge],
    common: Collection[tuple[int, int]],
    nodes: Mapping[str, Node],
) -> dict[tuple[int, int], int]:
    """By the third rule."""
    with_client = {i for i, _ in common}
    with_server = {j for _, j in common}
    serving = _serving(nodes)
    callers: dict[str, list[int]] = defaultdict(list)
    for i, half in enumerate(clients):
        if Transport.UDP in half.transports and i not in with_client:
            callers[_server(half, nodes, serving)].append(i)
    called: dict[str, list[int]] = defaultdict(list)
    for j, half in enumerate(servers):
        # what is known of a half with TCP too, is known of that
        if Transport.UDP in half.transports and (
            j not in with_server or not _is_datagrams(half)
        ):
            called[half.server].append(j)
    return {
        (i, j): 1
        for server, rows in callers.items()
        if _explain([clients[i] for i in rows], [servers[j] for j in called[server]])
        for i in rows
        for j in called[server]
    }


def _explain(clients: Sequence[Edge], servers: Sequence[Edge]) -> bool:
    """Whether the servers' halves are these clients' datagrams, and nobody else's."""
    is_one = len({half.client for half in clients}) == len(servers) == 1
    if not all(map(_is_datagrams, (*clients, *servers))):
        return is_one
    asked, got = (
        sum(half.network.sent_bytes for half in one) for one in (clients, servers)
    )
    told, answered = (
        sum(half.network.received_bytes for half in one) for one in (clients, servers)
    )
    return all(
        received <= sent + max(TOLERANCE_BYTES, TOLERANCE * sent)
        and (is_one or sent <= received + max(TOLERANCE_BYTES, TOLERANCE * sent))
        for sent, received in ((asked, got), (answered, told))
    )


def _is_datagrams(half: Edge) -> bool:
    return half.transports == (Transport.UDP,)


def _serving(nodes: Mapping[str, Node]) -> dict[str, set[str]]:
    """The observed services by the addresses at which they serve."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in nodes.values():
        if _is_observed(node):
            for address in node.addresses:
                found[address].add(node.id)
    return found


def _server(
    half: Edge, nodes: Mapping[str, Node], serving: Mapping[str, set[str]]
) -> str:
    """The only service at the address that was called; "": it may be another's, or no one's."""
    if _is_observed(nodes[half.server]):
        return ""
    called = [one for one in _called(half, nodes) if not _is_loopback(one)]
    found = {node for one in called for node in serving.get(one, ())}
    return found.pop() if len(found) == 1 else ""


def _called(half: Edge, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    kind, _, rest = half.server.partition(":")
    own = (rest,) if kind == "address" else ()
    return (*own, *nodes[half.server].addresses)


def _is_loopback(endpoint: str) -> bool:
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == ""


def _fit(client: Edge, server: Edge) -> bool:
    counts = _counts([client]), _counts([server])
    return (
        bool(counts[0])
        and counts[0].keys() == counts[1].keys()
        and all(_agree(n, counts[1][protocol]) for protocol, n in counts[0].items())
        and bool(set(client.transports) & set(server.transports))
    )


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= max(TOLERANCE_CALLS, TOLERANCE * max(one, other))


def _counts(halves: Iterable[Edge]) -> Counter[Protocol]:
    """Calls that both ends can count: a failed connect is known to the client alone."""
    counts: Counter[Protocol] = Counter()
    for half in halves:
        for calls in half.calls:
            if calls.protocol is not Protocol.CONNECT:
                counts[calls.protocol] += calls.calls.count
    return +counts


# Dividing a group's calls


class _Table(NamedTuple):
    """How much goes from each client's half to each server's; what stays halves."""

    cells: dict[tuple[int, int], float]
    client_rest: list[float]  # per client's half: with no server that was observed
    server_rest: list[float]  # per server's half: from no client that was observed


def _joined(group: _Group, nodes: Mapping[str, Node]) -> Iterator[Edge]:
    if not group.common:
        yield from group.clients
        yield from group.servers
        return
    table = _fitted(group)
    parts = _client_parts(group, table)
    for (i, server), part in parts.items():
        if server is None:
            yield replace(part, pairs=_unmatched(part.pairs, group.servers))
            continue
        fed = [j for j, half in enumerate(group.servers) if half.server == server]
        rows = {row for row, j in table.cells if j in fed}
        # who sends datagrams beside has no part in the calls
        calling = {row for row in rows if _counts([group.clients[row]])} or rows
        is_alone = (
            i in calling
            and len({group.clients[row].client for row in calling}) == 1
            and not any(table.server_rest[j] for j in fed)
        )
        yield _with_server(
            part,
            # of several halves of the same client, the first brings the server's numbers
            [group.servers[j] for j in fed] if is_alone else None,
            is_first=i == min(calling),
            via=_via(group.clients[i], server, nodes),
        )
    for j, half in enumerate(group.servers):
        rest = table.server_rest[j]
        if rest:
            count = sum(_counts([half]).values())
            kept = _parts(half, [count - rest, rest])[1]
            yield replace(kept, pairs=_unmatched(half.pairs, group.clients))


def _client_parts(
    group: _Group, table: _Table
) -> dict[tuple[int, str | None], Edge]:  # fmt: skip
    """Each client's half by the service that it leads to; None: to the address still."""
    parts: dict[tuple[int, str | None], Edge] = {}
    for i, half in enumerate(group.clients):
        shares: dict[str | None, float] = defaultdict(float)
        for (row, j), amount in sorted(table.cells.items()):
            if row == i:
                shares[group.servers[j].server] += amount
        if table.client_rest[i]:
            shares[None] += table.client_rest[i]
        divided_half = _parts(half, list(shares.values()))
        for server, part in zip(shares, divided_half, strict=True):
            to = half.server if server is None else server
            parts[i, server] = replace(part, server=to, id=f"{half.client}→{to}")
    return parts


def _fitted(group: _Group) -> _Table:
    rows = [float(sum(_counts([half]).values())) for half in group.clients]
    columns = [float(sum(_counts([half]).values())) for half in group.servers]
    alone = (
        _alone(group.clients, group.servers),
        _alone(group.servers, group.clients),
    )
    more = sum(rows) - sum(columns)
    has_rest = not _agree(sum(rows), sum(columns))
    client_rest = more if has_rest and more > 0 and any(alone[0]) else 0.0
    server_rest = -more if has_rest and more < 0 and any(alone[1]) else 0.0
    cells: dict[tuple[int, int], float] = {
        at: float(n) for at, n in group.common.items()
    }
    if not sum(rows) or not sum(columns):
        return _Table(cells, [0.0] * len(rows), [0.0] * len(columns))
    nobody_client, nobody_server = len(rows), len(columns)
    if client_rest:
        cells |= {(i, nobody_server): float(n) for i, n in enumerate(alone[0]) if n}
        columns.append(client_rest)
    if server_rest:
        cells |= {(nobody_client, j): float(n) for j, n in enumerate(alone[1]) if n}
        rows.append(server_rest)
    for _ in range(FITTING_ROUNDS):
        _scale(cells, columns, axis=1)
        _scale(cells, rows, axis=0)
    return _Table(
        {at: n for at, n in cells.items() if at in group.common},
        [cells.get((i, nobody_server), 0.0) for i in range(len(group.clients))],
        [cells.get((nobody_client, j), 0.0) for j in range(len(group.servers))],
    )


def _scale(
    cells: dict[tuple[int, int], float], targets: Sequence[float], *, axis: int
) -> None:
    sums = [0.0] * len(targets)
    for at, amount in cells.items():
        sums[at[axis]] += amount
    for at in cells:
        total = sums[at[axis]]
        # A half without calls keeps its evidence: its connections go somewhere, too.
        if total and targets[at[axis]]:
            cells[at] *= targets[at[axis]] / total


def _alone(halves: Iterable[Edge], others: Iterable[Edge]) -> list[int]:
    """How many connections of each half were not found on the other side."""
    known = {pair for other in others for pair in other.pairs}
    return [len(set(half.pairs) - known) for half in halves]


def _unmatched(pairs: Iterable[Pair], others: Iterable[Edge]) -> tuple[Pair, ...]:
    known = {pair for other in others for pair in other.pairs}
    return tuple(pair for pair in pairs if pair not in known)


def _parts(edge: Edge, shares: Sequence[float]) -> list[Edge]:
    """The edge in as many, which come to the same sums."""
    if len(shares) == 1:
        return [edge]
    calls: list[list[Calls]] = [[] for _ in shares]
    for one in edge.calls:
        tallies = divided(one.calls, shares)
        totals = divided(Tally(count=one.total, errors=one.total_errors), shares)
        for place, tally, total in zip(calls, tallies, totals, strict=True):
            if tally.count or total.count:
                place.append(
                    Calls(
                        protocol=one.protocol,
                        calls=tally,
                        total=total.count,
                        total_errors=total.errors,
                        is_estimated=True,
                    )
                )
    return [
        replace(edge, calls=tuple(of_part), network=network)
        for of_part, network in zip(
            calls, divided_network(edge.network, shares), strict=True
        )
    ]


def _with_server(
    part: Edge, servers: Sequence[Edge] | None, *, is_first: bool, via: Collection[str]
) -> Edge:
    """The client's part with the server's numbers beside it; None: not to be told apart."""
    seen: dict[Protocol, Calls] = {}
    if servers is not None and is_first:
        seen = {
            one.protocol: one
            for one in _added_calls([one for half in servers for one in half.calls])
        }
    calls = []
    for one in part.calls:
        server = seen.pop(one.protocol, None)
        at_server = None
        if servers is not None and one.protocol is not Protocol.CONNECT:
            at_server = server.calls if server else Tally()
        calls.append(replace(one, at_server=at_server))
    if not any(one.protocol is Protocol.UNKNOWN for one in part.calls):
        # A client that was met in the middle of its connection does not know the protocol:
        # its calls are there already, without a name.
        calls += [replace(one, at_server=one.calls) for one in seen.values()]
    ends = [part, *(servers or ())]
    return replace(
        part,
        ends=Ends.BOTH,
        transports=_transports(ends),
        calls=tuple(sorted(calls, key=attrgetter("protocol"))),
        via=tuple(sorted({*part.via, *via})),
        is_cross_zone=None,
        first_seen_unix_ns=_first_seen(ends),
        last_seen_unix_ns=max(one.last_seen_unix_ns for one in ends),
        pairs=(),
    )


def _via(half: Edge, server: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """An address that was called and at which the service does not serve itself."""
    kind, _, called = half.server.partition(":")
    if kind != "address" or called in nodes[server].addresses:
        return ()
    return (called,)


# Adding


class _Edges:
    """The merged edges: parts with the same ends add up."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._edges: dict[str, Edge] = {}

    def add(self, edge: Edge) -> None:
        known = self._edges.get(edge.id)
        self._edges[edge.id] = edge if known is None else _added(known, edge)

    def finished(self) -> tuple[Edge, ...]:
        return tuple(
            edge
            if edge.is_cross_zone is not None
            else replace(edge, is_cross_zone=self._crosses(edge))
            for _, edge in sorted(self._edges.items())
        )

    def _crosses(self, edge: Edge) -> bool | None:
        """Known where each service is in one zone."""
        zones = [self._nodes[end].zones for end in (edge.client, edge.server)]
        if any(len(one) != 1 for one in zones):
            return None
        return zones[0] != zones[1]


def _added(one: Edge, other: Edge) -> Edge:
    is_same = one.ends is other.ends
    return replace(
        one,
        ends=one.ends if is_same else Ends.BOTH,
        transports=_transports([one, other]),
        calls=_added_calls([*one.calls, *other.calls]),
        network=network_plus(one.network, other.network),
        via=tuple(sorted({*one.via, *other.via})),
        is_cross_zone=_either(one.is_cross_zone, other.is_cross_zone),
        first_seen_unix_ns=_first_seen([one, other]),
        last_seen_unix_ns=max(one.last_seen_unix_ns, other.last_seen_unix_ns),
        pairs=tuple(sorted({*one.pairs, *other.pairs})),
    )


def _either(one: bool | None, other: bool | None) -> bool | None:  # noqa: FBT001
    return other if one is None else one if other is None else one or other


def _first_seen(edges: Iterable[Edge]) -> int:
    return min(
        (one.first_seen_unix_ns for one in edges if one.first_seen_unix_ns), default=0
    )


def _transports(edges: Iterable[Edge]) -> tuple[Transport, ...]:
    return tuple(sorted({one for edge in edges for one in edge.transports}))


def _added_calls(calls: Iterable[Calls]) -> tuple[Calls, ...]:
    by_protocol: dict[Protocol, Calls] = {}
    for one in calls:
        known = by_protocol.get(one.protocol)
        by_protocol[one.protocol] = one if known is None else _sum(known, one)
    return tuple(one for _, one in sorted(by_protocol.items()))


def _sum(one: Calls, other: Calls) -> Calls:
    at_server = None
    if one.at_server is not None and other.at_server is not None:
        at_server = plus(one.at_server, other.at_server)
    return Calls(
        protocol=one.protocol,
        calls=plus(one.calls, other.calls),
        at_server=at_server,
        total=one.total + other.total,
        total_errors=one.total_errors + other.total_errors,
        is_estimated=one.is_estimated or other.is_estimated,
        at_server_is_estimated=one.at_server_is_estimated
        or other.at_server_is_estimated,
    )
