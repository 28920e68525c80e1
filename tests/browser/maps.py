# SPDX-License-Identifier: Apache-2.0
"""Service maps as an agent draws them, made up: a shop with a bit of everything, and a large one."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from deetune_otel.model import DURATION_BOUNDS_S, RTT_BOUNDS_S, Protocol, Transport
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

__all__ = ["details_of_edge", "details_of_node", "large", "shop"]

NOW_NS: Final = 1_790_000_000 * 10**9
STEP_S: Final = 10.0


def buckets(bounds: tuple[float, ...], count: int, middle_s: float) -> tuple[int, ...]:
    """Most of them around `middle_s`, one in fifty five times as slow."""
    made = [0] * (len(bounds) + 1)
    late = count // 50

    def place(value: float) -> int:
        return sum(value > bound for bound in bounds)

    made[place(middle_s)] += count - late
    made[place(middle_s * 5)] += late
    return tuple(made)


def tally(count: int, middle_s: float, errors: int = 0) -> Tally:
    return Tally(
        count=count,
        errors=errors,
        duration_sum_s=count * middle_s,
        duration_buckets=buckets(DURATION_BOUNDS_S, count, middle_s),
        request_bytes=count * 320,
        response_bytes=count * 2100,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An edge in short."""

    client: str
    server: str
    protocol: Protocol = Protocol.HTTP
    rate: float = 0.0
    middle_s: float = 0.004
    error_share: float = 0.0
    failures: int = 0
    ends: Ends = Ends.BOTH
    transport: Transport = Transport.TCP
    is_cross: bool | None = False
    via: tuple[str, ...] = ()


def edge(line: Line, window_s: float, now_ns: int) -> Edge:
    count = round(line.rate * window_s)
    calls = tally(count, line.middle_s, round(count * line.error_share))
    return Edge(
        id=f"{line.client}→{line.server}",
        client=line.client,
        server=line.server,
        ends=line.ends,
        transports=(line.transport,),
        calls=(
            Calls(
                protocol=line.protocol,
                calls=calls,
                at_server=calls if line.ends is Ends.BOTH else None,
                total=count * 40,
                total_errors=calls.errors * 40,
            ),
        )
        if count
        else (),
        network=Network(
            active=4,
            connects=count // 90,
            connect_failures={"ECONNREFUSED": line.failures} if line.failures else {},
            connect_sum_s=0.0004 * (count // 90),
            connect_buckets=buckets(DURATION_BOUNDS_S, count // 90, 0.0004),
            rtt_sum_s=0.0003 * 40,
            rtt_buckets=buckets(RTT_BOUNDS_S, 40, 0.0003),
            retransmits=count // 4000,
            sent_bytes=count * 320,
            received_bytes=count * 2100,
        ),
        via=line.via,
        is_cross_zone=line.is_cross,
        first_seen_unix_ns=now_ns - 3600 * 10**9,
        last_seen_unix_ns=now_ns - 10**9,
    )


def service(name: str, *, pids: int = 1, port: int = 8080, zone: str = "eu-1a") -> Node:
    return Node(
        id=f"service:shop/{name}",
        kind=NodeKind.SERVICE,
        name=name,
        namespace="shop",
        found_by="container",
        instances=tuple(
            Instance(
                id=f"{name}-{i}",
                host="node-7",
                pid=2000 + 17 * i,
                container_id=f"{hash(name) & 0xFFFFFFFF:08x}{i:04x}" * 5,
                zone=zone,
            )
            for i in range(pids)
        ),
        addresses=(f"10.0.0.{7 + pids}:{port}",),
        zones=(zone,),
        last_seen_unix_ns=NOW_NS,
    )


def peer(node_id: str, kind: NodeKind, name: str, **more: tuple[str, ...]) -> Node:
    return Node(id=node_id, kind=kind, name=name, found_by="dns", **more)  # type: ignore[arg-type]


def s(name: str) -> str:
    return f"service:shop/{name}"


SHOP_NODES: Final = (
    peer("clients:internet", NodeKind.CLIENTS, "internet"),
    service("gateway", pids=2, port=80),
    service("storefront", pids=3),
    service("cart"),
    service("orders", pids=4),
    service("catalog", pids=2, zone="eu-1b"),
    service("search", zone="eu-1b"),
    service("payments"),
    service("mailer"),
    service("report-builder-nightly-aggregation"),
    peer(
        "name:postgres.shop.internal:5432", NodeKind.DATABASE, "postgres.shop.internal"
    ),
    peer("address:10.0.3.9:6379", NodeKind.DATABASE, "10.0.3.9:6379"),
    peer("name:api.stripe.com:443", NodeKind.EXTERNAL, "api.stripe.com"),
    peer("address:10.0.9.4:9200", NodeKind.ADDRESS, "10.0.9.4:9200"),
    peer("address:10.96.0.17:25", NodeKind.VIRTUAL, "10.96.0.17:25"),
    peer("unix:node-7:/run/php/fpm.sock", NodeKind.ADDRESS, "/run/php/fpm.sock"),
    peer("other", NodeKind.OTHER, "all others"),
)
PG, REDIS = "name:postgres.shop.internal:5432", "address:10.0.3.9:6379"
SHOP_LINES: Final = (
    Line(client="clients:internet", server=s("gateway"), rate=1240, middle_s=0.021, error_share=0.003, ends=Ends.SERVER),
    Line(client=s("gateway"), server=s("storefront"), rate=1180, middle_s=0.018, error_share=0.003),
    Line(client=s("gateway"), server="unix:node-7:/run/php/fpm.sock", rate=22, middle_s=0.008, transport=Transport.UNIX, ends=Ends.CLIENT),
    Line(client=s("storefront"), server=s("cart"), rate=310, middle_s=0.006),
    Line(client=s("storefront"), server=s("catalog"), rate=890, middle_s=0.009, is_cross=True, via=("10.96.0.21:8080",)),
    Line(client=s("storefront"), server=s("orders"), rate=46, middle_s=0.034, error_share=0.021),
    Line(client=s("cart"), server=REDIS, protocol=Protocol.REDIS, rate=1530, middle_s=0.0004, ends=Ends.CLIENT, is_cross=None),
    Line(client=s("catalog"), server=s("search"), rate=130, middle_s=0.22),
    Line(client=s("catalog"), server=PG, protocol=Protocol.UNKNOWN, rate=420, middle_s=0.003, ends=Ends.CLIENT, is_cross=None),
    Line(client=s("search"), server="address:10.0.9.4:9200", rate=131, middle_s=0.19, ends=Ends.CLIENT, is_cross=None),
    Line(client=s("orders"), server=PG, protocol=Protocol.UNKNOWN, rate=210, middle_s=0.005, ends=Ends.CLIENT, is_cross=True),
    Line(client=s("orders"), server=s("payments"), rate=44, middle_s=0.16, error_share=0.064),
    Line(client=s("orders"), server=s("mailer"), rate=0.4, middle_s=0.012),
    Line(client=s("payments"), server="name:api.stripe.com:443", protocol=Protocol.UNKNOWN, rate=44, middle_s=0.15, ends=Ends.CLIENT, is_cross=None),
    Line(client=s("payments"), server=s("orders"), rate=2.2, middle_s=0.011),
    Line(client=s("mailer"), server="address:10.96.0.17:25", failures=12, ends=Ends.CLIENT, is_cross=None),
    Line(client=s("report-builder-nightly-aggregation"), server=PG, ends=Ends.CLIENT, is_cross=None),
    Line(client=s("search"), server="other", rate=1.1, ends=Ends.CLIENT, is_cross=None),
)  # fmt: skip


def drawn(
    nodes: tuple[Node, ...], lines: tuple[Line, ...], window_s: float, now_ns: int
) -> ServiceMap:
    edges = tuple(
        sorted((edge(one, window_s, now_ns) for one in lines), key=lambda e: e.id)
    )

    def served(node: Node) -> tuple[Calls, ...]:
        return tuple(
            call for one in edges if one.server == node.id for call in one.calls
        )

    return ServiceMap(
        agents=(
            AgentView(
                host="node-7",
                version="0.1.0",
                zone="eu-1a",
                start_unix_ns=now_ns - 10**13,
            ),
        ),
        start_unix_ns=now_ns - 7200 * 10**9,
        time_unix_ns=now_ns,
        window_s=window_s,
        nodes=tuple(
            sorted(
                (
                    replace(one, served=served(one))
                    if one.kind is NodeKind.SERVICE
                    else one
                    for one in nodes
                ),
                key=lambda node: node.id,
            )
        ),
        edges=edges,
    )


def shop(
    window_s: float = 60.0,
    *,
    now_ns: int = NOW_NS,
    without: frozenset[str] = frozenset(),
) -> ServiceMap:
    """Without the nodes of these ids."""
    return drawn(
        tuple(one for one in SHOP_NODES if one.id not in without),
        tuple(one for one in SHOP_LINES if not {one.client, one.server} & without),
        window_s,
        now_ns,
    )


def large(nodes: int, edges: int, window_s: float = 60.0) -> ServiceMap:
    """Eight layers of services that call deeper ones."""
    chance = random.Random(7)
    ids = [f"svc-{i}" for i in range(nodes)]
    layer = {one: chance.randrange(8) for one in ids}
    pairs: set[tuple[str, str]] = set()
    while len(pairs) < edges:
        a, b = chance.choice(ids), chance.choice(ids)
        if layer[a] < layer[b] < layer[a] + 4:
            pairs.add((a, b))
    lines = tuple(
        Line(
            client=s(a),
            server=s(b),
            rate=chance.paretovariate(0.7),
            middle_s=chance.choice((0.002, 0.02, 0.02, 0.3)),
            error_share=chance.choice((0, 0, 0, 0, 0.03)),
        )
        for a, b in sorted(pairs)
    )
    return drawn(tuple(service(one) for one in ids), lines, window_s, NOW_NS)


def history(calls: tuple[Calls, ...], window_s: float, now_ns: int) -> History:
    chance = random.Random(11)
    steps = max(6, min(90, int(window_s / STEP_S)))
    count = sum(one.calls.count for one in calls)
    ratio = sum(one.calls.errors for one in calls) / count if count else None
    middle = calls[0].calls.duration_sum_s / count if count else None

    def noisy(value: float | None) -> tuple[float | None, ...]:
        return tuple(
            None if value is None else value * chance.uniform(0.7, 1.3)
            for _ in range(steps)
        )

    return History(
        step_s=STEP_S,
        end_unix_ns=now_ns,
        rate=tuple(one or 0.0 for one in noisy(count / window_s)),
        error_ratio=noisy(ratio),
        p50_s=noisy(middle),
        p99_s=noisy(middle and middle * 4),
    )


def operations(calls: tuple[Calls, ...]) -> tuple[Operation, ...]:
    names = {
        Protocol.HTTP: ("GET /orders/{id}", "POST /orders", "GET /health"),
        Protocol.REDIS: ("GET", "SET", "HGETALL"),
    }
    parts = (0.7, 0.25, 0.05)
    return tuple(
        Operation(
            name=name,
            protocol=one.protocol,
            calls=tally(
                round(one.calls.count * part),
                one.calls.duration_sum_s / one.calls.count,
                round(one.calls.errors * part),
            ),
        )
        for one in calls
        for name, part in zip(names.get(one.protocol, ("all",)), parts, strict=False)
    )


def examples(calls: tuple[Calls, ...], now_ns: int) -> tuple[Example, ...]:
    if not any(one.calls.errors for one in calls):
        return ()
    return tuple(
        Example(
            trace_id=f"{7 * i + 1:032x}",
            span_id=f"{i + 1:016x}",
            time_unix_ns=now_ns - i * 7 * 10**9,
            duration_s=0.04 * (i + 1),
            operation="POST /orders" if i % 2 else "GET /orders/{id}",
            role="client",
            result="" if i == 3 else "503" if i % 2 else "500",
            is_error=i != 3,
            trace_url=f"http://127.0.0.1:16686/trace/{7 * i + 1:032x}",
        )
        for i in range(5)
    )


def details_of_edge(one: ServiceMap, edge_id: str) -> EdgeDetails | None:
    for found in one.edges:
        if found.id == edge_id:
            return EdgeDetails(
                edge=found,
                operations=operations(found.calls),
                history=history(found.calls, one.window_s, one.time_unix_ns),
                examples=examples(found.calls, one.time_unix_ns),
            )
    return None


def details_of_node(one: ServiceMap, node_id: str) -> NodeDetails | None:
    callers = tuple(e for e in one.edges if e.server == node_id)
    callees = tuple(e for e in one.edges if e.client == node_id)
    for found in one.nodes:
        if found.id == node_id:
            calls = tuple(c for e in callers or callees for c in e.calls)
            return NodeDetails(
                node=found,
                operations=operations(calls),
                history=history(calls, one.window_s, one.time_unix_ns),
                examples=examples(calls, one.time_unix_ns),
                callers=tuple(e.id for e in callers),
                callees=tuple(e.id for e in callees),
            )
    return None
