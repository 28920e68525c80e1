# SPDX-License-Identifier: Apache-2.0
"""Edges as the four metrics that Grafana, Tempo and others draw service graphs from.

Every call is in `request_total` once, whoever observes it: the client's end tells; the server's
end tells only of callers that no agent observes. `request_client` is told by the client's end,
`request_server` by the server's, and by the client's where no agent observes the server: that is
what a service graph made of spans does for databases, and Grafana divides by it. What a server
measured of several callers that share an address is divided between them, as they counted it, and
has an attribute that says so; over all of them it is exact.

A node of kind SERVICE is one that an agent observes, this one or another that this one knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deetune_otel.model import DURATION_BOUNDS_S, Protocol
from deetune_otel.signals.edge_sums import (
    EdgeInstrument,
    EdgePart,
    EdgeSums,
    Kind,
    edge_attributes,
)
from deetune_otel.topology.model import NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric

    from deetune_otel.topology.model import CallsTotal, EdgeTotal, Tally

__all__ = ["ServiceGraphMetrics"]

ESTIMATED: Final = ("deetune.estimated", True)
SOURCE: Final = ("source", "deetune")  # tells these from graphs made of spans

_TOTAL: Final = EdgeInstrument(
    name="traces_service_graph_request_total",
    unit="1",
    description="Calls from client to server.",
)
_FAILED: Final = EdgeInstrument(
    name="traces_service_graph_request_failed_total",
    unit="1",
    description="Calls from client to server that failed.",
)
_AT_SERVER: Final = EdgeInstrument(
    name="traces_service_graph_request_server",
    unit="s",
    description="What calls took at the server.",
    kind=Kind.HISTOGRAM,
    bounds=DURATION_BOUNDS_S,
)
_AT_CLIENT: Final = EdgeInstrument(
    name="traces_service_graph_request_client",
    unit="s",
    description="What calls took at the client.",
    kind=Kind.HISTOGRAM,
    bounds=DURATION_BOUNDS_S,
)
_DATABASES: Final = frozenset({Protocol.REDIS})


class ServiceGraphMetrics:
    """One reader's view: remembers what it reported. Not thread-safe."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self._sums = EdgeSums(temporality)

    def build(self, totals: Iterable[EdgeTotal], *, now_unix_ns: int) -> list[Metric]:
        return self._sums.build(
            (
                part
                for total in totals
                for calls in total.calls
                for part in _parts(total, calls)
            ),
            now_unix_ns=now_unix_ns,
        )


def _parts(total: EdgeTotal, calls: CallsTotal) -> Iterator[EdgePart]:
    attributes = (*edge_attributes(total), SOURCE)
    connection_type = _connection_type(total, calls.protocol)
    if connection_type:
        attributes = (*attributes, ("connection_type", connection_type))

    def part(
        instrument: EdgeInstrument, *values: float, is_estimated: bool = False
    ) -> EdgePart:
        # One edge brings to a point once for each protocol.
        edge_id = f"{total.id} {calls.protocol}"
        marked = (*attributes, ESTIMATED) if is_estimated else attributes
        return EdgePart(edge_id, total.start_unix_ns, instrument, marked, values)

    counted, at_server = calls.at_client, calls.at_server
    if counted is None and total.client_kind is not NodeKind.SERVICE:
        counted = at_server
    if at_server is None and total.server_kind is not NodeKind.SERVICE:
        at_server = calls.at_client
    if counted is not None:
        yield part(_TOTAL, counted.count)
        yield part(_FAILED, counted.errors)
    if at_server is not None:
        is_estimated = calls.at_server_is_estimated
        yield part(_AT_SERVER, *_duration(at_server), is_estimated=is_estimated)
    if calls.at_client is not None:
        yield part(_AT_CLIENT, *_duration(calls.at_client))


def _duration(tally: Tally) -> tuple[float, ...]:
    return (tally.duration_sum_s, *tally.duration_buckets)


def _connection_type(total: EdgeTotal, protocol: Protocol) -> str:
    """`messaging_system` comes with the first such protocol."""
    if total.server_kind is NodeKind.DATABASE or protocol in _DATABASES:
        return "database"
    if {total.client_kind, total.server_kind} != {NodeKind.SERVICE}:
        return "virtual_node"
    return ""
