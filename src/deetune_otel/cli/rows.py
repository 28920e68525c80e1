# SPDX-License-Identifier: Apache-2.0
"""The map as rows of a table: one kind of row for edges, services and operations.

Pure. `COLUMNS` is the only list of what there is to show and to sort by; tables, `--sort` and the
keys that change the order read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from deetune_otel.model import Protocol
from deetune_otel.topology import tally
from deetune_otel.topology.model import (
    Calls,
    Edge,
    Ends,
    Network,
    Node,
    NodeDetails,
    ServiceMap,
    Tally,
)
from deetune_otel.topology.writing import name_of, plain

__all__ = [
    "SORTS",
    "By",
    "Row",
    "RowKey",
    "arranged",
    "connect_s",
    "labels",
    "matching",
    "rows",
    "rtt_s",
    "to_json",
]

# 95 % sure: half of one failure is no reason to stand first.
CONFIDENCE: Final = 1.96


class By(StrEnum):
    EDGE = "edge"
    SERVICE = "service"
    OPERATION = "operation"


class RowKey(NamedTuple):
    """The same row in a later map."""

    by: By
    id: str
    protocol: str
    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`id` is what its details are asked by: an edge's, or a node's."""

    by: By
    id: str
    client: str = ""  # edges only
    server: str = ""
    operation: str = ""
    protocol: str = ""  # "http", "http, redis"; "" where nothing was recognised
    window_s: float
    calls: Tally = field(default_factory=Tally)
    network: Network = field(default_factory=Network)
    total: int = 0  # calls since the agent started
    total_errors: int = 0
    ends: Ends | None = None
    is_cross_zone: bool | None = None
    is_estimated: bool = False

    @property
    def key(self) -> RowKey:
        return RowKey(self.by, self.id, self.protocol, self.operation)

    @property
    def connect_failures(self) -> int:
        return sum(self.network.connect_failures.values())

    @property
    def attempts(self) -> int:
        """Calls, and those that did not even get a connection."""
        return self.calls.count + self.connect_failures

    @property
    def failures(self) -> int:
        return self.calls.errors + self.connect_failures

    @property
    def client_error_share(self) -> float | None:
        """Of answers that say that the caller was wrong; None where nothing of this kind is known."""
        if "http" not in self.protocol or not self.calls.count:
            return None
        return min(1.0, self.calls.client_errors / self.calls.count)

    @property
    def failed_share(self) -> float | None:
        """0 to 1, whatever an agent says; None where nothing was tried."""
        return min(1.0, self.failures / self.attempts) if self.attempts else None

    def per_second(self, count: float) -> float:
        return count / self.window_s if self.window_s > 0 else 0.0


def _brokenness(row: Row) -> float | None:
    """The least share of failures that is plausible (Wilson's lower bound).

    By the plain share one failed call of one would stand above a service of which half fails.
    """
    tried, share = row.attempts, row.failed_share
    if not share:
        return share
    z2 = CONFIDENCE**2
    spread = math.sqrt(share * (1 - share) / tried + z2 / (4 * tried**2))
    return (share + z2 / (2 * tried) - CONFIDENCE * spread) / (1 + z2 / tried)


# What rows can be sorted by, the most first; None stands last.
SORTS: Final[Mapping[str, Callable[[Row], float | None]]] = {
    "rate": lambda row: row.per_second(row.calls.count),
    "errors": _brokenness,
    "4xx": lambda row: row.client_error_share,
    "mean": lambda row: tally.mean_s(row.calls),
    "p50": lambda row: _quantile_s(row.calls, 0.5),
    "p99": lambda row: _quantile_s(row.calls, 0.99),
    "time": lambda row: row.calls.duration_sum_s,
    "connects": lambda row: row.network.connects,
    "failed": lambda row: row.connect_failures,
    "active": lambda row: row.network.active,
    "rtt": lambda row: rtt_s(row.network),
    "retransmits": lambda row: row.network.retransmits,
    "bytes": lambda row: row.network.sent_bytes + row.network.received_bytes,
}


def rows(
    shown: ServiceMap, by: By, details: Iterable[NodeDetails] = ()
) -> Iterator[Row]:
    """`details` are needed by operation alone: of the services whose operations to list."""
    match by:
        case By.EDGE:
            names = labels(shown)
            for edge in shown.edges:
                yield from _edge_rows(edge, names, shown.window_s)
        case By.SERVICE:
            callers: dict[str, list[Edge]] = {node.id: [] for node in shown.nodes}
            for edge in shown.edges:
                callers.setdefault(edge.server, []).append(edge)
            for node in shown.nodes:
                if node.served or callers[node.id]:
                    yield _service_row(node, callers[node.id], shown.window_s)
        case By.OPERATION:
            for one in details:
                yield from _operation_rows(one, shown.window_s)


def labels(shown: ServiceMap) -> dict[str, str]:
    """What people call each node, by id."""
    return {node.id: name_of(node) for node in shown.nodes}


def matching(found: Iterable[Row], text: str) -> list[Row]:
    """Rows in which every word of `text` occurs, in any column of text, in any case."""
    words = text.casefold().split()
    return [row for row in found if all(word in _searched(row) for word in words)]


def arranged(
    found: Iterable[Row], sort: str, *, is_reversed: bool = False
) -> list[Row]:
    """By one of SORTS; among equals the busier first, then by name."""
    value = SORTS[sort]
    sign = 1 if is_reversed else -1

    def order(row: Row) -> tuple[bool, float, float, str, RowKey]:
        by = value(row)
        named = f"{row.client} {row.server}"
        return by is None, sign * (by or 0.0), -row.attempts, named, row.key

    return sorted(found, key=order)


def to_json(row: Row) -> dict[str, Any]:
    """Flat, and null where there is nothing to tell; times in seconds."""
    calls, network = row.calls, row.network
    common = {
        "id": row.id,
        "protocol": row.protocol,
        "rate": row.per_second(calls.count),
        "count": calls.count,
        "errors": calls.errors,
        "client_errors": calls.client_errors,
        "error_ratio": tally.error_ratio(calls),
        "mean_s": tally.mean_s(calls),
        "p50_s": _quantile_s(calls, 0.5),
        "p90_s": _quantile_s(calls, 0.9),
        "p99_s": _quantile_s(calls, 0.99),
        "request_bytes": calls.request_bytes,
        "response_bytes": calls.response_bytes,
    }
    if row.by is By.OPERATION:
        return {"service": row.server, "operation": row.operation, **common}
    common |= {
        "active": network.active,
        "connects": network.connects,
        "connect_failures": dict(network.connect_failures),
        "connect_mean_s": connect_s(network),
        "rtt_mean_s": rtt_s(network),
        "retransmits": network.retransmits,
        "sent_bytes": network.sent_bytes,
        "received_bytes": network.received_bytes,
        "total": row.total,
        "total_errors": row.total_errors,
    }
    if row.by is By.SERVICE:
        return {"service": row.server, **common}
    return {
        "client": row.client,
        "server": row.server,
        **common,
        "ends": row.ends,
        "is_cross_zone": row.is_cross_zone,
        "is_estimated": row.is_estimated,
    }


def rtt_s(network: Network) -> float | None:
    """The mean of the smoothed round trip times; None where none was sampled."""
    samples = sum(network.rtt_buckets)
    return network.rtt_sum_s / samples if samples else None


def connect_s(network: Network) -> float | None:
    made = sum(network.connect_buckets)
    return network.connect_sum_s / made if made else None


def _quantile_s(calls: Tally, q: float) -> float | None:
    return tally.quantile(calls.duration_buckets, q)


def _edge_rows(edge: Edge, names: Mapping[str, str], window_s: float) -> Iterator[Row]:
    """One a protocol: latencies of two protocols together would be nobody's.

    The network's facts are the edge's: they stand in its first row, so that sums are right.
    Failed connects are told by them, not as calls of a protocol.
    """
    row = Row(
        by=By.EDGE,
        id=edge.id,
        client=names.get(edge.client, edge.client),
        server=names.get(edge.server, edge.server),
        protocol=", ".join(edge.transports),
        window_s=window_s,
        network=edge.network,
        ends=edge.ends,
        is_cross_zone=edge.is_cross_zone,
    )
    calls = [one for one in edge.calls if one.protocol is not Protocol.CONNECT]
    if not calls:
        yield row
    for one in sorted(calls, key=lambda one: -one.calls.count):
        yield replace(
            row,
            protocol=one.protocol,
            calls=one.calls,
            total=one.total,
            total_errors=one.total_errors,
            is_estimated=one.is_estimated,
        )
        row = replace(row, network=Network())


def _service_row(node: Node, callers: list[Edge], window_s: float) -> Row:
    """What it served as it saw it itself; where it was not observed, as its callers did."""
    served: list[Calls] = [
        one
        for one in node.served or [calls for edge in callers for calls in edge.calls]
        if one.protocol is not Protocol.CONNECT
    ]
    protocols = dict.fromkeys(
        one.protocol for one in sorted(served, key=lambda one: -one.calls.count)
    )
    return Row(
        by=By.SERVICE,
        id=node.id,
        server=name_of(node),
        protocol=", ".join(protocols),
        window_s=window_s,
        calls=tally.total(one.calls for one in served),
        network=tally.network_sum(edge.network for edge in callers),
        total=sum(one.total for one in served),
        total_errors=sum(one.total_errors for one in served),
    )


def _operation_rows(details: NodeDetails, window_s: float) -> Iterator[Row]:
    for operation in details.operations:
        if operation.calls.count:
            yield Row(
                by=By.OPERATION,
                id=details.node.id,
                server=name_of(details.node),
                operation=plain(operation.name),
                protocol=operation.protocol,
                window_s=window_s,
                calls=operation.calls,
            )


def _searched(row: Row) -> str:
    words = (row.client, row.server, row.operation, row.protocol)
    return " ".join((*words, *row.network.connect_failures)).casefold()
