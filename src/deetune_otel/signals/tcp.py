# SPDX-License-Identifier: Apache-2.0
"""What TCP says of each edge. `client` and `server` are those of the service graph.

Both ends of a connection know the same; the client's end tells, and the server's only of
clients that no agent observes. Segments sent again are known to their sender alone: each end
tells its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.semconv._incubating.attributes.network_attributes import (
    NETWORK_IO_DIRECTION,
    NetworkIoDirectionValues,
)
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE

from deetune_otel.model import DURATION_BOUNDS_S, RTT_BOUNDS_S, Transport
from deetune_otel.signals.edge_sums import (
    EdgeInstrument,
    EdgePart,
    EdgeSums,
    Kind,
    edge_attributes,
)
from deetune_otel.topology.model import Ends, NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric

    from deetune_otel.topology.model import EdgeTotal

__all__ = ["TcpMetrics"]

_ACTIVE: Final = EdgeInstrument(
    name="deetune.tcp.connections.active",
    unit="{connection}",
    description="Connections from client to server that are open.",
    kind=Kind.UP_DOWN_COUNTER,
)
_CONNECT: Final = EdgeInstrument(
    name="deetune.tcp.connect.duration",
    unit="s",
    description="Time from the SYN to the established connection.",
    kind=Kind.HISTOGRAM,
    bounds=DURATION_BOUNDS_S,
)
_FAILURES: Final = EdgeInstrument(
    name="deetune.tcp.connect.failures",
    unit="{failure}",
    description="TCP connects that failed, by errno.",
)
_RTT: Final = EdgeInstrument(
    name="deetune.tcp.rtt",
    unit="s",
    description="Smoothed round trip times, sampled at every reading and at the close.",
    kind=Kind.HISTOGRAM,
    bounds=RTT_BOUNDS_S,
)
_RETRANSMITS: Final = EdgeInstrument(
    name="deetune.tcp.retransmits",
    unit="{segment}",
    description="Segments sent again, by the ends that are observed.",
)
_IO: Final = EdgeInstrument(
    name="deetune.tcp.io",
    unit="By",
    description="Bytes between client and server; transmit: from the client.",
)


class TcpMetrics:
    """One reader's view: remembers what it reported. Not thread-safe."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self._sums = EdgeSums(temporality)

    def build(self, totals: Iterable[EdgeTotal], *, now_unix_ns: int) -> list[Metric]:
        return self._sums.build(
            (part for total in totals for part in _parts(total)),
            now_unix_ns=now_unix_ns,
        )


def _parts(total: EdgeTotal) -> Iterator[EdgePart]:
    if Transport.TCP not in total.transports:
        return
    edge, network = edge_attributes(total), total.network

    def part(
        instrument: EdgeInstrument, *values: float, more: tuple[str, str] | None = None
    ) -> EdgePart:
        attributes = edge if more is None else (*edge, more)
        return EdgePart(total.id, total.start_unix_ns, instrument, attributes, values)

    yield part(_RETRANSMITS, network.retransmits)
    if total.ends is Ends.SERVER and total.client_kind is NodeKind.SERVICE:
        return  # another agent tells the rest
    yield part(_ACTIVE, network.active)
    yield part(_CONNECT, network.connect_sum_s, *network.connect_buckets)
    for error, count in network.connect_failures.items():
        yield part(_FAILURES, count, more=(ERROR_TYPE, error))
    yield part(_RTT, network.rtt_sum_s, *network.rtt_buckets)
    for direction, count in (
        (NetworkIoDirectionValues.TRANSMIT, network.sent_bytes),
        (NetworkIoDirectionValues.RECEIVE, network.received_bytes),
    ):
        yield part(_IO, count, more=(NETWORK_IO_DIRECTION, direction.value))
