# SPDX-License-Identifier: Apache-2.0
"""MetricsData as it arrives: through the official encoder, as OTLP."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import (  # type: ignore[import-untyped]
    MessageToDict,
)
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    NumberDataPoint,
)
from tests.factories import edge

from deetune_otel.model import (
    End,
    Operation,
    Protocol,
    Role,
    SeriesKey,
    Service,
)
from deetune_otel.signals import metrics
from deetune_otel.signals.exemplars import Exemplars
from deetune_otel.signals.red import Accumulators, identify
from deetune_otel.signals.resource import Resources
from deetune_otel.signals.values import ZERO

SHOP = Service(name="shop", instance_id="h:1")
SERVER = edge(Role.SERVER, peer_address="10.0.0.9")
CLIENT = SERVER._replace(id=2, role=Role.CLIENT)
GET = Operation(name="GET /", attributes={"http.request.method": "GET"})
VALUE = ZERO._replace(
    count=3,
    duration_sum_ns=4_500_000_000,
    request_body_bytes=100,
    response_body_bytes=9000,
    duration_buckets=(1, *(0,) * 9, 2, 0, 0, 0, 0),
    request_body_buckets=(2, 0, 0, 1, *(0,) * 7),
    response_body_buckets=(0,) * 10 + (3,),
)


def key(protocol: Protocol, outcome: int = 0) -> SeriesKey:
    return SeriesKey(1, protocol, 7, outcome, End.COMPLETE)


def encoded(
    temporality: AggregationTemporality = AggregationTemporality.CUMULATIVE,
    **arguments: Any,
) -> list[dict[str, Any]]:
    sums = Accumulators(start_unix_ns=10)
    sums.add(SHOP, SERVER, GET, key(Protocol.HTTP, 200), VALUE)
    sums.add(SHOP, CLIENT, GET, key(Protocol.HTTP, 500), VALUE)
    sums.add(SHOP, CLIENT, GET, key(Protocol.REDIS), VALUE)
    sums.add(SHOP, SERVER, GET, key(Protocol.REDIS), VALUE)
    sums.add(SHOP, CLIENT, GET, key(Protocol.UNKNOWN), VALUE)
    sums.add(SHOP, CLIENT, GET, key(Protocol.CONNECT, 111), VALUE)
    sums.end_interval(20)
    data = metrics.build(
        sums.collect(temporality), resources=Resources("1.2.3"), **arguments
    )
    request = MessageToDict(encode_metrics(data))
    return list(request["resourceMetrics"])


def by_name(resource_metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    [scope] = resource_metrics["scopeMetrics"]
    return {metric["name"]: metric for metric in scope["metrics"]}


def attributes(point: dict[str, Any]) -> dict[str, Any]:
    return {
        a["key"]: next(iter(a["value"].values())) for a in point.get("attributes", [])
    }


def test_names_and_units() -> None:
    [shop] = encoded()
    assert {name: metric["unit"] for name, metric in by_name(shop).items()} == {
        "http.server.request.duration": "s",
        "http.server.request.body.size": "By",
        "http.server.response.body.size": "By",
        "http.client.request.duration": "s",
        "http.client.request.body.size": "By",
        "http.client.response.body.size": "By",
        "db.client.operation.duration": "s",
        "db.server.operation.duration": "s",
        "deetune.exchange.duration": "s",
    }
    scope = shop["scopeMetrics"][0]["scope"]
    assert (scope["name"], scope["version"]) == ("deetune_otel", "1.2.3")
    assert shop["scopeMetrics"][0]["schemaUrl"]


def test_histogram_points() -> None:
    found = by_name(encoded()[0])
    metric = found["http.server.request.duration"]["histogram"]
    assert metric["aggregationTemporality"] == "AGGREGATION_TEMPORALITY_CUMULATIVE"
    [point] = metric["dataPoints"]
    assert (point["startTimeUnixNano"], point["timeUnixNano"]) == ("10", "20")
    assert (point["count"], point["sum"]) == ("3", 4.5)
    assert point["explicitBounds"][:2] == [0.005, 0.01]
    assert [int(c) for c in point["bucketCounts"]] == list(VALUE.duration_buckets)
    assert "min" not in point
    assert "max" not in point
    [size] = found["http.server.response.body.size"]["histogram"]["dataPoints"]
    assert (size["sum"], size["bucketCounts"][-1]) == (9000.0, "3")
    [size] = found["http.server.request.body.size"]["histogram"]["dataPoints"]
    assert (size["sum"], size["bucketCounts"][3]) == (100.0, "1")
    for metric in found.values():
        for point in metric.get("histogram", {}).get("dataPoints", []):
            assert sum(map(int, point["bucketCounts"])) == int(point["count"])


@pytest.mark.parametrize("temporality", AggregationTemporality)
def test_no_point_ends_before_its_start_when_the_clock_is_set_back(
    temporality: AggregationTemporality,
) -> None:
    if temporality is AggregationTemporality.UNSPECIFIED:
        return
    sums = Accumulators(start_unix_ns=10_000)
    for now_unix_ns in (10_010, 6_410, 6_420, 10_030):
        sums.add(SHOP, SERVER, GET, key(Protocol.HTTP, 200), VALUE)
        sums.end_interval(now_unix_ns)
        data = metrics.build(sums.collect(temporality), resources=Resources("1"))
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        ]
        assert points
        for point in points:
            assert point.start_time_unix_nano is not None
            assert point.start_time_unix_nano <= point.time_unix_nano == now_unix_ns


def test_errors() -> None:
    found = by_name(encoded()[0])
    [point] = found["http.client.request.duration"]["histogram"]["dataPoints"]
    assert attributes(point)["error.type"] == "500"
    assert attributes(point)["server.address"] == "10.0.0.9"


def test_delta() -> None:
    metric = by_name(encoded(AggregationTemporality.DELTA)[0])[
        "http.server.request.duration"
    ]
    assert metric["histogram"]["aggregationTemporality"].endswith("_DELTA")


def test_exemplars_lead_to_spans() -> None:
    exemplars = Exemplars()
    exemplars.offer(
        identify(SHOP, SERVER, GET, key(Protocol.HTTP, 200)),
        duration_ns=2_000_000_000,
        end_unix_ns=15,
        trace_id=0xABC,
        span_id=0xDEF,
    )
    found = by_name(encoded(exemplars=exemplars)[0])
    [point] = found["http.server.request.duration"]["histogram"]["dataPoints"]
    [exemplar] = point["exemplars"]
    assert exemplar["asDouble"] == pytest.approx(2.0)
    assert exemplar["timeUnixNano"] == "15"
    [size] = found["http.server.request.body.size"]["histogram"]["dataPoints"]
    assert "exemplars" not in size


def test_other_metrics_join_their_service() -> None:
    gauge = Metric(
        "process.thread.count", "", "", Gauge([NumberDataPoint({}, 0, 1, 5)])
    )
    other = Service(name="agent")
    both = encoded(more=[(SHOP, [gauge]), (other, [gauge]), (Service(name="none"), [])])
    assert len(both) == 2
    assert "process.thread.count" in by_name(both[0])
    assert "http.server.request.duration" in by_name(both[0])
    assert list(by_name(both[1])) == ["process.thread.count"]
