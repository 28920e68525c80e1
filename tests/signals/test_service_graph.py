# SPDX-License-Identifier: Apache-2.0
"""Every call once in request_total, whichever ends and however many agents observe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality
from tests.export.parsers import parse_text
from tests.signals.edge_totals import edge_total, http, points, tally

from deetune_otel.export.prometheus import Exposition
from deetune_otel.model import Protocol, Service
from deetune_otel.signals import metrics
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.signals.service_graph import ServiceGraphMetrics
from deetune_otel.topology.model import CallsTotal, EdgeTotal, Ends, NodeKind

if TYPE_CHECKING:
    from tests.signals.edge_totals import Point

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
TOTAL = "traces_service_graph_request_total"
FAILED = "traces_service_graph_request_failed_total"
SERVER = "traces_service_graph_request_server"
CLIENT = "traces_service_graph_request_client"
WORDS = "client=shop,server=orders,source=deetune"


def built(*totals: EdgeTotal) -> dict[str, dict[str, Point]]:
    return points(ServiceGraphMetrics(CUMULATIVE).build(totals, now_unix_ns=20))


def only(found: dict[str, dict[str, Point]]) -> dict[str, Point]:
    """The one point of each metric."""
    return {name: point for name, of in found.items() for point in [*of.values()]}


def test_both_ends_are_observed() -> None:
    found = built(
        edge_total(http(tally(5, errors=2, bucket=1), tally(5, errors=1, bucket=0)))
    )
    assert found.keys() == {TOTAL, FAILED, SERVER, CLIENT}
    assert all([*of] == [WORDS] for of in found.values())
    one = only(found)
    assert (one[TOTAL].value, one[FAILED].value) == (5, 2)
    assert one[SERVER].buckets[:2] == (5, 0)
    assert one[CLIENT].buckets[:2] == (0, 5)
    assert (one[CLIENT].value, one[CLIENT].sum) == (5, 1.25)
    assert {(point.start, point.time) for point in one.values()} == {(10, 20)}


def test_a_service_that_another_agent_observes() -> None:
    """Its own agent tells what calls took there."""
    at_client = edge_total(http(client=tally(5)), ends=Ends.CLIENT)
    assert built(at_client).keys() == {TOTAL, FAILED, CLIENT}


def test_a_caller_that_another_agent_observes() -> None:
    """Its own agent counts the calls."""
    at_server = edge_total(http(server=tally(5)), ends=Ends.SERVER)
    assert built(at_server).keys() == {SERVER}


def test_two_agents_together_count_each_call_once() -> None:
    halves = [
        built(edge_total(http(client=tally(5, bucket=1)), ends=Ends.CLIENT)),
        built(edge_total(http(server=tally(5, bucket=0)), ends=Ends.SERVER)),
    ]
    whole = built(edge_total(http(tally(5, bucket=1), tally(5, bucket=0))))
    assert {name: of for half in halves for name, of in half.items()} == whole
    assert sum(len(half) for half in halves) == len(whole)


@pytest.mark.parametrize(
    ("kind", "connection_type"),
    [
        (NodeKind.DATABASE, "database"),
        (NodeKind.EXTERNAL, "virtual_node"),
        (NodeKind.ADDRESS, "virtual_node"),
        (NodeKind.VIRTUAL, "virtual_node"),
    ],
)
def test_a_server_without_an_agent(kind: NodeKind, connection_type: str) -> None:
    """What calls took is known from the client alone; graphs divide by request_server."""
    found = built(edge_total(http(client=tally(5)), ends=Ends.CLIENT, server_kind=kind))
    assert found.keys() == {TOTAL, FAILED, SERVER, CLIENT}
    for of in found.values():
        assert [*of] == [f"{WORDS},connection_type={connection_type}"]
    assert only(found)[SERVER] == only(found)[CLIENT]


def test_callers_without_an_agent() -> None:
    found = built(
        edge_total(
            http(server=tally(5, errors=1)),
            ends=Ends.SERVER,
            client="internet",
            client_kind=NodeKind.CLIENTS,
        )
    )
    words = "client=internet,server=orders,source=deetune,connection_type=virtual_node"
    assert found.keys() == {TOTAL, FAILED, SERVER}
    assert all([*of] == [words] for of in found.values())
    assert (only(found)[TOTAL].value, only(found)[FAILED].value) == (5, 1)


def test_ends_that_name_the_protocol_differently_count_once() -> None:
    """The server's first request came before the agent: it cannot tell what it is."""
    found = built(
        edge_total(
            http(client=tally(5)),
            CallsTotal(protocol=Protocol.UNKNOWN, at_server=tally(4)),
        )
    )
    assert (found[TOTAL][WORDS].value, found[SERVER][WORDS].value) == (5, 4)


def test_protocols_of_one_edge_are_summed_but_for_databases() -> None:
    found = built(
        edge_total(
            http(tally(5), tally(5)),
            CallsTotal(
                protocol=Protocol.UNKNOWN, at_client=tally(1), at_server=tally(1)
            ),
            CallsTotal(protocol=Protocol.REDIS, at_client=tally(2), at_server=tally(2)),
        )
    )
    assert {words: point.value for words, point in found[TOTAL].items()} == {
        WORDS: 6,
        f"{WORDS},connection_type=database": 2,
    }


def test_deltas() -> None:
    reader = ServiceGraphMetrics(DELTA)
    reader.build([edge_total(http(tally(5), tally(5)))], now_unix_ns=20)
    made = reader.build(
        [edge_total(http(tally(8, errors=1), tally(8)))], now_unix_ns=30
    )
    one = only(points(made))
    assert (one[TOTAL].value, one[FAILED].value, one[SERVER].sum) == (3, 1, 0.75)
    assert {point.start for point in one.values()} == {20}
    assert all(m.data.aggregation_temporality is DELTA for m in made)  # type: ignore[union-attr]


def test_an_edge_without_calls_is_left_out() -> None:
    assert built(edge_total()) == {}


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA])
def test_no_point_ends_before_its_start_when_the_clock_is_set_back(
    temporality: AggregationTemporality,
) -> None:
    reader = ServiceGraphMetrics(temporality)
    for count, now_unix_ns in enumerate((30, 7, 8, 40), start=1):
        made = points(
            reader.build([edge_total(http(tally(count)))], now_unix_ns=now_unix_ns)
        )
        assert made
        assert all(
            one.start <= now_unix_ns
            for found in made.values()
            for one in found.values()
        )


def test_what_several_callers_share_is_marked() -> None:
    calls = CallsTotal(
        protocol=Protocol.HTTP,
        at_client=tally(3),
        at_server=tally(3),
        at_server_is_estimated=True,
    )
    made = ServiceGraphMetrics(CUMULATIVE).build([edge_total(calls)], now_unix_ns=20)
    marked = {
        metric.name: dict(point.attributes or {}).get("deetune.estimated")
        for metric in made
        for point in metric.data.data_points
    }
    assert marked == {TOTAL: None, FAILED: None, SERVER: True, CLIENT: None}


def test_names_on_the_agents_page() -> None:
    """Those that Grafana and Tempo query: nothing doubled, the unit where it belongs."""
    made = ServiceGraphMetrics(CUMULATIVE).build(
        [edge_total(http(tally(5), tally(5)))], now_unix_ns=20
    )
    data = metrics.build(
        Accumulators(start_unix_ns=1).collect(CUMULATIVE),
        resources=Resources("1"),
        more=[(Service(name="deetune", instance_id="web1:7"), made)],
    )
    page = b"".join(Exposition(lambda: data).written()[1]).decode()
    samples = {s.name: s for family in parse_text(page) for s in family.samples}
    assert {name for name in samples if name.startswith("traces_")} == {
        TOTAL,
        FAILED,
        *(f"{SERVER}_seconds_{end}" for end in ("bucket", "count", "sum")),
        *(f"{CLIENT}_seconds_{end}" for end in ("bucket", "count", "sum")),
    }
    assert samples[TOTAL].labels == {
        "client": "shop",
        "server": "orders",
        "source": "deetune",
        "job": "deetune",
        "instance": "web1:7",
    }
