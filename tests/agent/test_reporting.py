# SPDX-License-Identifier: Apache-2.0
"""One reading for one reader: services, processes and the agent itself."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import AggregationTemporality, NumberDataPoint
from tests.factories import edge, key
from tests.readings import value

from deetune_otel.agent.reporting import Reporter, Sums
from deetune_otel.model import Ledger, LedgerLine, Operation, Service, Transport
from deetune_otel.signals.agent import AgentReading
from deetune_otel.signals.exemplars import Exemplars
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.topology.model import EdgeTotal, Ends, Network, NodeKind

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

OWN, SHOP = Service(name="deetune"), Service(name="shop")
NOTHING = LedgerLine(0, 0)


EDGE = EdgeTotal(
    id="a→b",
    client="a",
    client_namespace="",
    client_kind=NodeKind.SERVICE,
    server="b",
    server_namespace="",
    server_kind=NodeKind.SERVICE,
    ends=Ends.BOTH,
    transports=(Transport.TCP,),
    start_unix_ns=1,
    network=Network(active=3),
)


def reading(spans: int, time_unix_ns: int) -> AgentReading:
    ledger = Ledger(seen=NOTHING, counted=NOTHING, open=NOTHING, lost={}, noted={})
    return AgentReading(
        start_unix_ns=1,
        time_unix_ns=time_unix_ns,
        ledger=ledger,
        rung=1,
        spans=spans,
        memory_bytes=os.getpid(),
    )


def points(data: MetricsData, service: str, metric: str) -> list[float]:
    return [
        point.value if isinstance(point, NumberDataPoint) else point.count
        for resource in data.resource_metrics
        if resource.resource.attributes["service.name"] == service
        for one in resource.scope_metrics[0].metrics
        if one.name == metric
        for point in one.data.data_points
    ]


def counted(sums: Sums, count: int) -> None:
    with sums.lock:
        sums.accumulators.add(
            SHOP, edge(), Operation(name="GET /"), key(), value(count)
        )


def test_two_readers_do_not_take_from_each_other() -> None:
    sums = Sums(
        accumulators=Accumulators(start_unix_ns=0),
        exemplars=Exemplars(),
        resources=Resources("1"),
        lock=threading.Lock(),
    )
    cumulative, delta = (
        Reporter(sums, temporality, own=OWN, edge_totals=lambda: [EDGE], usage=None)
        for temporality in (
            AggregationTemporality.CUMULATIVE,
            AggregationTemporality.DELTA,
        )
    )
    name = "http.client.request.duration"
    seen = []
    for number, added in enumerate((3, 4), start=1):
        counted(sums, added)
        for reporter in (cumulative, delta):
            data = reporter.build(reading(10 * number, number), [])
            seen.append(
                points(data, "shop", name)
                + points(data, "deetune", "deetune.agent.spans")
                + points(data, "deetune", "deetune.tcp.connections.active")
            )
    assert seen == [[3, 10, 3], [3, 10, 3], [7, 20, 3], [4, 10, 3]]
