# SPDX-License-Identifier: Apache-2.0
"""What was counted, as the values of the map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from deetune_otel.topology import tally
from deetune_otel.topology.drawn import calls_of, summed
from deetune_otel.topology.examples import newest
from deetune_otel.topology.model import (
    CallsTotal,
    Edge,
    EdgeTotal,
    Ends,
    Example,
    History,
    Instance,
    Node,
    NodeKind,
    Operation,
    Tally,
)
from deetune_otel.topology.sums import (
    NO_CALLS,
    UNSURE,
    CallsGroup,
    FailureGroup,
    Side,
    network_of,
    tally_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from deetune_otel.model import Pair, Protocol, Service
    from deetune_otel.topology.drawn import Book, DrawnEdge
    from deetune_otel.topology.history import Boundary, Timeline
    from deetune_otel.topology.places import Place
    from deetune_otel.topology.sums import Group, Numbers, Sums

__all__ = [
    "Node",
    "edge",
    "edge_total",
    "examples",
    "history",
    "instance",
    "node",
    "operations",
]

# A page's width; a look into the past takes 60 µs.
MAX_POINTS: Final = 120
MAX_PAIRS: Final = 64  # of one edge, for other agents: one that they find is enough


def edge(
    drawn: DrawnEdge,
    window: Mapping[Group, Numbers],
    *,
    active: int,
    now_ns: int,
    pairs: tuple[Pair, ...] = (),
) -> Edge:
    return Edge(
        id=drawn.id,
        client=drawn.client,
        server=drawn.server,
        ends=drawn.ends,
        transports=tuple(sorted(drawn.transports)),
        calls=calls_of(window, drawn.total()),
        network=network_of(window, active=active),
        via=tuple(sorted(drawn.via)),
        is_cross_zone=drawn.is_cross_zone,
        first_seen_unix_ns=drawn.first_seen_ns,
        last_seen_unix_ns=now_ns if active else drawn.last_seen_ns,
        pairs=() if drawn.ends is Ends.BOTH else pairs[:MAX_PAIRS],
    )


def node(  # noqa: PLR0913 - a node's facts
    place: Place,
    *,
    kind: NodeKind,
    instances: Iterable[Instance],
    addresses: Collection[str],
    zones: Collection[str],
    served: Book,
    begin: Boundary,
    last_seen_ns: int,
) -> Node:
    shown = tuple(sorted(instances, key=lambda one: one.id))
    return Node(
        id=place.id,
        kind=kind,
        name=place.name,
        namespace=place.namespace,
        found_by=place.found_by,
        instances=shown,
        addresses=tuple(sorted(addresses)),
        zones=tuple(sorted({*zones, *(one.zone for one in shown)} - {""})),
        served=tuple(
            replace(calls, at_server=None)
            for calls in calls_of(served.sums.since(begin), served.sums.groups())
        ),
        last_seen_unix_ns=last_seen_ns,
    )


def instance(service: Service, *, host: str, zone: str) -> Instance:
    """`host` where the service does not say its own."""
    said = service.attributes
    return Instance(
        id=service.instance_id,
        host=str(said.get("host.name", host)),
        pid=int(said.get("process.pid", 0)),
        container_id=str(said.get("container.id", "")),
        zone=zone,
    )


def operations(books: Iterable[Book], begin: Boundary) -> tuple[Operation, ...]:
    """Most calls first."""
    found: dict[tuple[Protocol, str], Tally] = {}
    for book in books:
        for key, sums in book.operations.items():
            calls = tally.total(map(tally_of, sums.since(begin).values()))
            if calls.count:
                found[key] = tally.plus(found.get(key, tally.NO_CALLS), calls)
    by_calls = sorted(found.items(), key=lambda one: (-one[1].count, one[0]))
    return tuple(
        Operation(name=name, protocol=protocol, calls=calls)
        for (protocol, name), calls in by_calls
    )


def history(sums: Sequence[Sums], timeline: Timeline, begin: Boundary) -> History:
    """Failed connects are errors of it; they have no duration."""
    steps = timeline.steps_since(begin)
    ends = steps[:: -max(1, -(-len(steps) // MAX_POINTS))][::-1]
    rates, errors, p50, p99 = [], [], [], []
    for before, end in zip([begin, *ends], ends, strict=False):
        is_open = end is ends[-1]
        groups = summed(one.between(before, None if is_open else end) for one in sums)
        calls = tally.total(
            tally_of(numbers)
            for group, numbers in groups.items()
            if isinstance(group, CallsGroup) and group.side is not Side.SERVER
        )
        failed = sum(
            numbers[0]
            for group, numbers in groups.items()
            if isinstance(group, FailureGroup)
        )
        everything = replace(
            calls, count=calls.count + failed, errors=calls.errors + failed
        )
        rates.append(tally.rate(everything, (end.end_ns - before.end_ns) / 1e9))
        errors.append(tally.error_ratio(everything))
        p50.append(tally.quantile(calls.duration_buckets, 0.5))
        p99.append(tally.quantile(calls.duration_buckets, 0.99))
    covered_s = (timeline.now_ns - begin.end_ns) / 1e9
    return History(
        step_s=covered_s / len(ends) if ends else 0.0,
        end_unix_ns=timeline.now_ns,
        rate=tuple(rates),
        error_ratio=tuple(errors),
        p50_s=tuple(p50),
        p99_s=tuple(p99),
    )


def examples(books: Iterable[Book]) -> tuple[Example, ...]:
    return newest(book.examples for book in books)


def edge_total(
    drawn: DrawnEdge,
    *,
    client: tuple[Place, NodeKind],
    server: tuple[Place, NodeKind],
    active: int,
) -> EdgeTotal:
    published = drawn.published()
    spoken = {group.protocol for group in published if isinstance(group, CallsGroup)}

    def seen(protocol: Protocol, *sides: Side) -> Tally | None:
        found = [
            tally_of(published[CallsGroup(side, protocol)])
            for side in sides
            if CallsGroup(side, protocol) in published
        ]
        return tally.total(found) if found else None

    return EdgeTotal(
        id=drawn.id,
        client=client[0].name,
        client_namespace=client[0].namespace,
        client_kind=client[1],
        server=server[0].name,
        server_namespace=server[0].namespace,
        server_kind=server[1],
        ends=drawn.ends,
        transports=tuple(sorted(drawn.transports)),
        start_unix_ns=drawn.published_ns,
        calls=tuple(
            CallsTotal(
                protocol=protocol,
                at_client=seen(protocol, Side.CLIENT),
                at_server=seen(protocol, Side.SERVER, Side.ALONE),
                at_server_is_estimated=any(
                    published.get(CallsGroup(side, protocol), NO_CALLS)[UNSURE]
                    for side in (Side.SERVER, Side.ALONE)
                ),
            )
            for protocol in sorted(spoken)
        ),
        network=network_of(published, active=active),
        is_cross_zone=drawn.is_cross_zone,
    )
