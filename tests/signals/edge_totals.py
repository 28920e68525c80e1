# SPDX-License-Identifier: Apache-2.0
"""Edges with counts, and the points that become of them, through the official encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import (  # type: ignore[import-untyped]
    MessageToDict,
)
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import AggregationTemporality

from deetune_otel.model import Protocol, Service, Transport
from deetune_otel.signals import metrics
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.topology.model import (
    CallsTotal,
    EdgeTotal,
    Ends,
    Network,
    NodeKind,
    Tally,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.metrics.export import Metric

__all__ = ["NETWORK", "Point", "edge_total", "http", "points", "tally"]

NETWORK = Network(
    active=3,
    connects=5,
    connect_failures={"ECONNREFUSED": 2, "ETIMEDOUT": 1},
    connect_sum_s=0.25,
    connect_buckets=(4, 1, *(0,) * 13),
    rtt_sum_s=0.5,
    rtt_buckets=(0, 6, *(0,) * 10),
    retransmits=7,
    sent_bytes=1000,
    received_bytes=2000,
)


class Point(NamedTuple):
    value: float  # of a histogram: its count
    sum: float
    buckets: tuple[int, ...]
    start: int
    time: int


def tally(count: int, *, errors: int = 0, bucket: int = 0) -> Tally:
    """So many calls of a quarter of a second, in one bucket."""
    buckets = tuple(count if i == bucket else 0 for i in range(15))
    return Tally(
        count=count, errors=errors, duration_sum_s=count / 4, duration_buckets=buckets
    )


def http(client: Tally | None = None, server: Tally | None = None) -> CallsTotal:
    return CallsTotal(protocol=Protocol.HTTP, at_client=client, at_server=server)


def edge_total(*calls: CallsTotal, **changes: Any) -> EdgeTotal:
    """`shop` calls `orders`, both observed."""
    values: dict[str, Any] = {
        "id": "service:/shop→service:/orders",
        "client": "shop",
        "client_namespace": "",
        "client_kind": NodeKind.SERVICE,
        "server": "orders",
        "server_namespace": "",
        "server_kind": NodeKind.SERVICE,
        "ends": Ends.BOTH,
        "transports": (Transport.TCP,),
        "start_unix_ns": 10,
        "calls": calls,
    }
    return EdgeTotal(**(values | changes))


def points(made: Sequence[Metric]) -> dict[str, dict[str, Point]]:
    """By metric's name, then by attributes ("client=shop,server=orders"), as they arrive."""
    sums = Accumulators(start_unix_ns=1)
    data = metrics.build(
        sums.collect(AggregationTemporality.CUMULATIVE),
        resources=Resources("1"),
        more=[(Service(name="deetune"), made)],
    )
    found: dict[str, dict[str, Point]] = {}
    for resource in MessageToDict(encode_metrics(data)).get("resourceMetrics", []):
        for metric in resource["scopeMetrics"][0]["metrics"]:
            of_metric = found.setdefault(metric["name"], {})
            for point in (metric.get("sum") or metric.get("histogram"))["dataPoints"]:
                words = _words(point)
                assert words not in of_metric, "one set of attributes, one point"
                of_metric[words] = _point(point)
    return found


def _words(point: dict[str, Any]) -> str:
    return ",".join(
        f"{one['key']}={next(iter(one['value'].values()))}"
        for one in point["attributes"]
    )


def _point(point: dict[str, Any]) -> Point:
    value = point.get("asInt", point.get("asDouble", point.get("count", 0)))
    return Point(
        float(value),
        float(point.get("sum", 0)),
        tuple(map(int, point.get("bucketCounts", ()))),
        int(point["startTimeUnixNano"]),
        int(point["timeUnixNano"]),
    )
