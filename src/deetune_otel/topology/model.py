# SPDX-License-Identifier: Apache-2.0
"""The service map as values: nodes, edges, and what a person opens to look closer.

Everything that shows or sends the map (page, terminal, `deetune map`, OTLP) reads these, and
`to_json`/`from_json` carry them unchanged between agents. A map is of a window that ends now;
`total` is since the agent started. Directions are the handshake's: `client` called `server`.

Ids are the same at every agent, so that two maps can be merged and two times compared:

    service:NAMESPACE/NAME     a service that was observed at an agent's own end
    name:NAME:PORT             a peer without an agent, by the name that DNS or the configuration gave it
    address:ADDRESS:PORT       a peer without an agent and without a name
    address:HOST/ADDRESS:PORT  the same of a loopback address: it is that host's alone;
                               HOST/NETNS/… outside the agent's own network namespace
    unix:HOST:PATH             a Unix socket whose server was not observed
    clients:SCOPE              callers without an agent: `internet` (public addresses, one node),
                               one private address each, HOST/127.0.0.1 (loopback), unix:HOST
                               (Unix sockets), a name, `more` (over a server's bound of them),
                               `unknown` (a UDP server is not told who sent)
    other                      what is over a bound
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from deetune_otel.model import (
    DURATION_BOUNDS_S,
    RTT_BOUNDS_S,
    Pair,
    Protocol,
    Transport,
)

__all__ = [
    "MAP_FORMAT",
    "AgentView",
    "Calls",
    "CallsTotal",
    "Edge",
    "EdgeDetails",
    "EdgeTotal",
    "Ends",
    "Example",
    "History",
    "Instance",
    "Network",
    "Node",
    "NodeDetails",
    "NodeKind",
    "Operation",
    "ServiceMap",
    "Tally",
]

MAP_FORMAT: Final = 2  # 1: `errors` held 4xx as well


class NodeKind(StrEnum):
    SERVICE = "service"
    DATABASE = "database"  # not observed itself; a database's protocol is spoken to it
    EXTERNAL = "external"  # not observed; a public address or a name outside
    ADDRESS = "address"  # not observed; a private address, with or without a name
    CLIENTS = "clients"  # not observed; they call
    VIRTUAL = "virtual"  # an address that stands for several others
    OTHER = "other"  # over a bound


class Ends(StrEnum):
    """At which ends of an edge its calls were observed."""

    CLIENT = "client"
    SERVER = "server"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts that add up: over time, over processes, over agents."""

    count: int = 0
    errors: int = 0  # of what was called: 5xx, no answer, …
    client_errors: int = 0  # of who called: HTTP's 4xx; not among `errors`
    duration_sum_s: float = 0.0
    duration_buckets: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS_S) + 1)
    request_bytes: int = 0
    response_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The exchanges of an edge in one protocol, within the window.

    `calls` are the client's numbers where its end was observed (they hold the network and the
    wait in the accept queue), else the server's. `at_server` are the same calls as the server
    saw them; None where it was not observed.
    """

    protocol: Protocol
    calls: Tally
    at_server: Tally | None = None
    total: int = 0  # calls since the agent started
    total_errors: int = 0
    # One address led to several services at once and neither end tells their calls apart:
    # divided by their connections.
    is_estimated: bool = False
    # Several services called the server from one address: what it measured of all of them is
    # divided as they counted it.
    at_server_is_estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What TCP says of an edge within the window; sent: from client to server.

    `active` is of now, `connect_failures` are by errno's name ("ECONNREFUSED").
    """

    active: int = 0
    connects: int = 0
    connect_failures: dict[str, int] = field(default_factory=dict)
    connect_sum_s: float = 0.0
    connect_buckets: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS_S) + 1)
    rtt_sum_s: float = 0.0
    rtt_buckets: tuple[int, ...] = (0,) * (len(RTT_BOUNDS_S) + 1)
    retransmits: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A process that is a part of a service."""

    id: str  # service.instance.id
    host: str
    pid: int
    container_id: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    id: str
    kind: NodeKind
    name: str
    namespace: str = ""
    found_by: str = (
        ""  # what named it: "OTEL_SERVICE_NAME", "container", ..., "dns", "config"
    )
    instances: tuple[Instance, ...] = ()
    addresses: tuple[
        str, ...
    ] = ()  # "10.0.0.7:80": where it serves, as far as seen (16 at most)
    zones: tuple[str, ...] = ()
    served: tuple[
        Calls, ...
    ] = ()  # by protocol, of all its callers, as it saw them itself
    last_seen_unix_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    id: str  # "CLIENT_ID→SERVER_ID"
    client: str  # node ids
    server: str
    ends: Ends
    transports: tuple[Transport, ...]
    calls: tuple[
        Calls, ...
    ] = ()  # by protocol; empty for idle connections and plain UDP
    network: Network = field(default_factory=Network)
    via: tuple[str, ...] = ()  # virtual addresses that were called: "10.96.0.1:80"
    is_cross_zone: bool | None = None  # None: a zone is not known
    first_seen_unix_ns: int = 0
    last_seen_unix_ns: int = 0
    # Recent connections of an edge with one end, for the agent that sees the other.
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    host: str
    version: str
    zone: str = ""
    url: str = ""
    start_unix_ns: int = 0  # with `host`, tells one agent from another
    exchanges_lost: int = 0  # all lines of the ledger that are losses


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMap:
    """`window_s` is the time that the counts are of, for rates: what was asked for to the nearest
    step (10 s, beyond 15 minutes 60 s), or less when the agent is younger.
    """

    agents: tuple[AgentView, ...]
    start_unix_ns: int
    time_unix_ns: int
    window_s: float
    nodes: tuple[Node, ...]  # by id
    edges: tuple[Edge, ...]  # by id
    format: int = MAP_FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    name: str
    protocol: Protocol
    calls: Tally  # within the window


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Equal steps, oldest first, up to now; None where there was no call."""

    step_s: float
    end_unix_ns: int
    rate: tuple[float, ...] = ()
    error_ratio: tuple[float | None, ...] = ()
    p50_s: tuple[float | None, ...] = ()
    p99_s: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A recent slow or failed exchange, with the span that was made of it."""

    trace_id: str  # 32 hex digits
    span_id: str
    time_unix_ns: int
    duration_s: float
    operation: str
    role: str  # of the end that it was seen at: "client", "server"
    result: str  # "500", "ECONNREFUSED", "WRONGTYPE"; "" when it went well
    is_error: bool
    trace_url: str = (
        ""  # where a person can open it; "" when no web.trace_url is configured
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeDetails:
    edge: Edge
    operations: tuple[Operation, ...]  # most calls first
    history: History
    examples: tuple[Example, ...]  # newest first, 50 at most


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDetails:
    node: Node
    operations: tuple[Operation, ...]  # that it serves
    history: (
        History  # of what it serves; of what it calls, for a node that serves nothing
    )
    examples: tuple[Example, ...]
    callers: tuple[str, ...]  # edge ids
    callees: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsTotal:
    """Exchanges of an edge in one protocol; None at an end that was not observed.

    Where both are there they are the same calls, told by either end. The server's are divided
    between several callers where they cannot be told apart (`at_server_is_estimated`).
    """

    protocol: Protocol
    at_client: Tally | None = None
    at_server: Tally | None = None
    at_server_is_estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTotal:
    """An edge for counters: cumulative since `start_unix_ns`, when it was first published.

    Nothing in it decreases for one `id` but `network.active`. What is not resolved yet is held
    back for two readings, because a name may be on its way; after that it stays where it was
    published, although the map moves it when the answer comes later.
    """

    id: str  # as `Edge.id`
    client: str  # names, not node ids
    client_namespace: str
    client_kind: NodeKind
    server: str
    server_namespace: str
    server_kind: NodeKind
    ends: Ends
    transports: tuple[Transport, ...]
    start_unix_ns: int
    calls: tuple[CallsTotal, ...] = ()  # by protocol; failed connects are in `network`
    network: Network = field(default_factory=Network)
    is_cross_zone: bool | None = None
