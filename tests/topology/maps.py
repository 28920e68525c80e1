# SPDX-License-Identifier: Apache-2.0
"""Maps for tests: small ones by hand, any by hypothesis, and what agents see of a known world."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from deetune_otel.model import (
    DURATION_BOUNDS_S,
    RTT_BOUNDS_S,
    Pair,
    Protocol,
    Transport,
)
from deetune_otel.topology.model import (
    AgentView,
    Calls,
    Edge,
    EdgeDetails,
    Ends,
    Example,
    History,
    Instance,
    Network,
    Node,
    NodeDetails,
    NodeKind,
    Operation,
    ServiceMap,
    Tally,
)

__all__ = [
    "Flow",
    "calls",
    "details",
    "edge",
    "network",
    "node",
    "node_details",
    "seen_by",
    "service_map",
    "service_maps",
    "shuffled",
    "tally",
    "worlds",
]

START: Final = 1_700_000_000_000_000_000
TIME: Final = START + 120 * 10**9


def tally(count: int, *, errors: int = 0, each_s: float = 0.02) -> Tally:
    buckets = [0] * (len(DURATION_BOUNDS_S) + 1)
    buckets[bisect_left(DURATION_BOUNDS_S, each_s)] = count
    return Tally(
        count=count,
        errors=errors,
        duration_sum_s=count * each_s,
        duration_buckets=tuple(buckets),
        request_bytes=count * 10,
        response_bytes=count * 100,
    )


def calls(
    count: int,
    *,
    protocol: Protocol = Protocol.HTTP,
    at_server: int | None = None,
    **of_tally: Any,
) -> Calls:
    return Calls(
        protocol=protocol,
        calls=tally(count, **of_tally),
        at_server=None if at_server is None else tally(at_server),
        total=count * 2,
    )


def network(connects: int, **changes: Any) -> Network:
    connect, rtt = [0] * 15, [0] * 12
    connect[0] = rtt[1] = connects
    return Network(
        **{
            "active": connects,
            "connects": connects,
            "connect_sum_s": connects * 0.001,
            "connect_buckets": tuple(connect),
            "rtt_sum_s": connects * 0.0007,
            "rtt_buckets": tuple(rtt),
            "sent_bytes": connects * 1000,
            "received_bytes": connects * 2000,
            **changes,
        }
    )


def node(node_id: str, **changes: Any) -> Node:
    kind, _, rest = node_id.partition(":")
    namespace, _, name = rest.rpartition("/")
    kinds = {
        "service": NodeKind.SERVICE,
        "address": NodeKind.ADDRESS,
        "name": NodeKind.EXTERNAL,
        "clients": NodeKind.CLIENTS,
    }
    is_service = kind == "service"
    return Node(
        **{
            "id": node_id,
            "kind": kinds.get(kind, NodeKind.OTHER),
            "name": name if is_service else rest,
            "namespace": namespace if is_service else "",
            "last_seen_unix_ns": TIME,
            **changes,
        }
    )


def edge(client: str, server: str, *of_calls: Calls, **changes: Any) -> Edge:
    return Edge(
        **{
            "id": f"{client}→{server}",
            "client": client,
            "server": server,
            "ends": Ends.BOTH,
            "transports": (Transport.TCP,),
            "calls": of_calls,
            "first_seen_unix_ns": START,
            "last_seen_unix_ns": TIME,
            **changes,
        }
    )


def service_map(
    edges: Iterable[Edge] = (),
    nodes: Iterable[Node] = (),
    *,
    host: str = "a",
    **changes: Any,
) -> ServiceMap:
    """Nodes that only edges name are made."""
    edges = tuple(edges)
    known = {one.id: one for one in nodes}
    for one in edges:
        for end in (one.client, one.server):
            known.setdefault(end, node(end))
    return ServiceMap(
        **{
            "agents": (AgentView(host=host, version="1", start_unix_ns=START),),
            "start_unix_ns": START,
            "time_unix_ns": TIME,
            "window_s": 60.0,
            "nodes": tuple(known[one] for one in sorted(known)),
            "edges": tuple(sorted(edges, key=lambda one: one.id)),
            **changes,
        }
    )


def details(of: Edge) -> EdgeDetails:
    return EdgeDetails(
        edge=of,
        operations=(
            Operation(name="GET /", protocol=Protocol.HTTP, calls=tally(5)),
        ),
        history=History(
            step_s=10,
            end_unix_ns=TIME,
            rate=(0.0, 1.5),
            error_ratio=(None, 0.25),
            p50_s=(None, 0.01),
            p99_s=(None, 0.1),
        ),
        examples=(
            Example(
                trace_id="ab" * 16,
                span_id="cd" * 8,
                time_unix_ns=TIME,
                duration_s=1.25,
                operation="GET /",
                role="client",
                result="500",
                is_error=True,
            ),
        ),
    )  # fmt: skip


def node_details(of: Node) -> NodeDetails:
    one = details(edge("service:/a", of.id))
    return NodeDetails(
        node=of,
        operations=one.operations,
        history=one.history,
        examples=one.examples,
        callers=(one.edge.id,),
        callees=(),
    )


# ---- any map ---------------------------------------------------------------------------------

_WHOLE: Final = st.integers(0, 2**40)
_FLOAT: Final = st.floats(0, 1e9, allow_nan=False)
_WORDS: Final = st.text(max_size=8) | st.sampled_from(['"', "→", "\x1b[31m", "a\nb"])


def _buckets(length: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(_WHOLE, min_size=length, max_size=length).map(tuple)


_TALLIES: Final = st.builds(
    Tally,
    count=_WHOLE,
    errors=_WHOLE,
    duration_sum_s=_FLOAT,
    duration_buckets=_buckets(len(DURATION_BOUNDS_S) + 1),
    request_bytes=_WHOLE,
    response_bytes=_WHOLE,
)
_CALLS: Final = st.builds(
    Calls,
    protocol=st.sampled_from(Protocol),
    calls=_TALLIES,
    at_server=st.none() | _TALLIES,
    total=_WHOLE,
    total_errors=_WHOLE,
    is_estimated=st.booleans(),
)
_NETWORKS: Final = st.builds(
    Network,
    active=_WHOLE,
    connects=_WHOLE,
    connect_failures=st.dictionaries(_WORDS, _WHOLE, max_size=2),
    connect_sum_s=_FLOAT,
    connect_buckets=_buckets(len(DURATION_BOUNDS_S) + 1),
    rtt_sum_s=_FLOAT,
    rtt_buckets=_buckets(len(RTT_BOUNDS_S) + 1),
    retransmits=_WHOLE,
    sent_bytes=_WHOLE,
    received_bytes=_WHOLE,
)
_PAIRS: Final = st.builds(
    Pair, client_seq=st.integers(0, 2**64 - 1), server_seq=st.integers(0, 2**64 - 1)
)


def _some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=2).map(tuple)


@st.composite
def service_maps(draw: DrawFn) -> ServiceMap:
    """Any values in it; only its references fit."""
    ids = draw(st.lists(_WORDS, min_size=1, max_size=4, unique=True))
    ends = draw(
        st.lists(
            st.tuples(st.sampled_from(ids), st.sampled_from(ids)),
            max_size=4,
            unique_by="→".join,
        )
    )
    nodes = [
        Node(
            id=one,
            kind=draw(st.sampled_from(NodeKind)),
            name=draw(_WORDS),
            namespace=draw(_WORDS),
            found_by=draw(_WORDS),
            instances=draw(
                _some(st.builds(Instance, id=_WORDS, host=_WORDS, pid=_WHOLE))
            ),
            addresses=draw(_some(_WORDS)),
            zones=draw(_some(_WORDS)),
            served=draw(_some(_CALLS)),
            last_seen_unix_ns=draw(_WHOLE),
        )
        for one in ids
    ]
    edges = [
        Edge(
            id=f"{client}→{server}",
            client=client,
            server=server,
            ends=draw(st.sampled_from(Ends)),
            transports=draw(_some(st.sampled_from(Transport))),
            calls=draw(_some(_CALLS)),
            network=draw(_NETWORKS),
            via=draw(_some(_WORDS)),
            is_cross_zone=draw(st.none() | st.booleans()),
            first_seen_unix_ns=draw(_WHOLE),
            last_seen_unix_ns=draw(_WHOLE),
            pairs=draw(_some(_PAIRS)),
        )
        for client, server in ends
    ]
    return ServiceMap(
        agents=draw(_some(st.builds(AgentView, host=_WORDS, version=_WORDS))),
        start_unix_ns=draw(_WHOLE),
        time_unix_ns=draw(_WHOLE),
        window_s=draw(st.floats(0, 1e6)),
        nodes=tuple(nodes),
        edges=tuple(edges),
    )


# ---- a known world, and what the agents on its hosts see of it -------------------------------


class Flow(NamedTuple):
    """Connections of one service to another; hosts are "a" to "d", where "d" has no agent."""

    client: str
    client_host: str
    server: str
    server_host: str
    connections: int
    calls_each: int
    called: str = ""  # a virtual address that stands for the server
    from_address: str = ""  # the router's, behind which the client is

    @property
    def total(self) -> int:
        return self.connections * self.calls_each


UNSEEN: Final = "d"


def address_of(host: str) -> str:
    return f"10.0.0.{ord(host) - ord('a') + 1}"


def port_of(service: str) -> int:
    return 8000 + ord(service[0])


def seen_by(host: str, flows: Sequence[Flow]) -> ServiceMap:
    """The map of the agent on one host."""
    edges: dict[str, list[tuple[Flow, int, Ends]]] = defaultdict(list)
    nodes: dict[str, Node] = {}

    def met(service: str) -> str:
        made = node(
            f"service:/{service}",
            instances=(Instance(id=f"{host}:{service}", host=host, pid=7),),
        )
        nodes.setdefault(made.id, made)
        return made.id

    for number, flow in enumerate(flows):
        at_client, at_server = flow.client_host == host, flow.server_host == host
        if not at_client and not at_server:
            continue
        served = f"{address_of(flow.server_host)}:{port_of(flow.server)}"
        if at_client:
            client = met(flow.client)
        else:
            client = f"clients:{flow.from_address or address_of(flow.client_host)}"
        if at_server:
            server = met(flow.server)
            known = nodes[server]
            nodes[server] = node(
                server,
                instances=known.instances,
                addresses=tuple(sorted({*known.addresses, served})),
            )
        else:
            server = f"address:{flow.called or served}"
        ends = (
            Ends.BOTH
            if at_client and at_server
            else Ends.CLIENT
            if at_client
            else Ends.SERVER
        )
        edges[f"{client}→{server}"].append((flow, number, ends))
    return service_map(
        (_summed(edge_id, parts) for edge_id, parts in edges.items()),
        nodes.values(),
        host=host,
    )


def _summed(edge_id: str, parts: Sequence[tuple[Flow, int, Ends]]) -> Edge:
    client, _, server = edge_id.partition("→")
    count = sum(flow.total for flow, _, _ in parts)
    ends = parts[0][2]
    pairs = (
        ()
        if ends is Ends.BOTH
        else tuple(
            Pair(number + 1, connection + 1)
            for flow, number, _ in parts
            for connection in range(flow.connections)
        )
    )
    return edge(
        client,
        server,
        calls(count, at_server=count if ends is Ends.BOTH else None),
        ends=ends,
        network=network(sum(flow.connections for flow, _, _ in parts)),
        pairs=pairs,
    )


@st.composite
def worlds(draw: DrawFn) -> list[Flow]:
    """Whoever is behind a router or a virtual address is on a host with an agent.

    Who is not, there, could be told from the others by guessing only.
    """
    count = draw(st.integers(1, 8))
    made = []
    for _ in range(count):
        client_host = draw(st.sampled_from("abcd"))
        server_host = draw(st.sampled_from("abcd"))
        is_seen = UNSEEN not in (client_host, server_host)
        is_far = client_host != server_host
        server = draw(st.sampled_from(["x", "y", "z"]))
        made.append(
            Flow(
                client=draw(st.sampled_from(["u", "v", "w"])),
                client_host=client_host,
                server=server,
                server_host=server_host,
                connections=draw(st.integers(1, 4)),
                calls_each=draw(st.integers(1, 50)),
                called="10.96.0.1:80"
                if is_seen and is_far and draw(st.booleans())
                else "",
                from_address="10.9.9.9"
                if is_seen and is_far and draw(st.booleans())
                else "",
            )
        )
    return made


def shuffled(maps: Sequence[ServiceMap], seed: int) -> list[ServiceMap]:
    order = list(maps)
    random.Random(seed).shuffle(order)
    return order
