# SPDX-License-Identifier: Apache-2.0
"""Grafana's and an APM's view of a real run: names, rules, alerts, every query of the dashboard."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExportResult,
)
from tests.backends.prometheus import Prometheus
from tests.e2e.agent import Agent
from tests.e2e.shop import EDGES, Shop
from tests.process import free_port, wait_for_equal, wait_until
from tests.signals.edge_totals import NETWORK, edge_total, http, tally
from tests.views import hurried_rules, metrics_in, queries, rules

from deetune_otel.kernel.libbpf import Libbpf
from deetune_otel.model import Service
from deetune_otel.signals import metrics
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.signals.service_graph import ServiceGraphMetrics
from deetune_otel.signals.tcp import TcpMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backends.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
MET: Final = 2
BOUGHT: Final = 15
FAILED: Final = 15
REFUSED: Final = 10

# What Grafana's Tempo data source asks for, and Tempo's documentation queries.
GRAFANA: Final = {
    "traces_service_graph_request_total",
    "traces_service_graph_request_failed_total",
    "traces_service_graph_request_server_seconds_sum",
    "traces_service_graph_request_server_seconds_count",
    "traces_service_graph_request_server_seconds_bucket",
    "traces_service_graph_request_client_seconds_sum",
    "traces_service_graph_request_client_seconds_count",
    "traces_service_graph_request_client_seconds_bucket",
}


def test_the_collectors_names_are_those_that_grafana_queries(
    collector: Collector,
) -> None:
    totals = [edge_total(http(tally(5), tally(5)), network=NETWORK)]
    made = [
        *ServiceGraphMetrics(CUMULATIVE).build(totals, now_unix_ns=20),
        *TcpMetrics(CUMULATIVE).build(totals, now_unix_ns=20),
    ]
    data = metrics.build(
        Accumulators(start_unix_ns=1).collect(CUMULATIVE),
        resources=Resources("1"),
        more=[(Service(name="deetune", instance_id="names:1"), made)],
    )
    exporter = OTLPMetricExporter(endpoint=collector.grpc_endpoint, insecure=True)
    assert exporter.export(data) is MetricExportResult.SUCCESS
    exporter.shutdown()

    def shown() -> set[str]:
        return {
            sample.name
            for sample in collector.prometheus()
            if sample.labels.get("instance") == "names:1"
            and sample.labels.get("client") == "shop"
        }

    of_rules = {name for rule in rules() for name in metrics_in(rule["expr"])}
    of_edges = {name for name in of_rules if name.startswith("deetune_tcp_")}
    wanted = GRAFANA | of_edges
    assert wait_until(lambda: wanted <= shown() and shown(), f"{wanted} on the page")
    assert {name for name in shown() if name.startswith("traces_")} == GRAFANA


class Watched(NamedTuple):
    """A shop, the agent that watches it, and a Prometheus with our rules behind the Collector."""

    shop: Shop
    agent: Agent
    prometheus: Prometheus


def refuse(port: int) -> None:
    for _ in range(REFUSED):
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Watched]:
    """Calls and connects went well at first, and then failed."""
    folder = tmp_path_factory.mktemp("watched")
    closed = free_port()
    with (
        Libbpf().run_time_statistics(),  # the dashboard shows what programs cost
        Shop(folder) as shop,
        Agent.start(folder, shop.settings(collector.grpc_endpoint)) as agent,
        Prometheus.start(
            folder,
            {"services": collector.ports.prometheus},
            rules=hurried_rules(folder),
        ) as prometheus,
    ):
        shop.buy(MET)
        refuse(closed)
        # A rate is made of two samples: the first are there before the trouble begins.
        edges = 'count(count by (client, server) (traces_service_graph_request_total{client=~"e2e-.*"}))'
        wait_until(lambda: prometheus.query_value(edges), "the first calls arrived")
        refused = "sum(deetune_tcp_connect_failures_total)"
        wait_until(lambda: prometheus.query_value(refused), "the first refusals")
        shop.buy(BOUGHT, failing=FAILED)
        refuse(closed)
        yield Watched(shop, agent, prometheus)


def test_the_edges_are_the_shops_and_each_call_counts_once(watched: Watched) -> None:
    promql = (
        'sum by (client, server) (traces_service_graph_request_total{source="deetune"})'
    )
    every = MET + BOUGHT + FAILED
    expected: dict[tuple[str, str], float] = {
        ("e2e-client", "e2e-front"): every,
        ("e2e-front", "e2e-orders"): every,
        ("e2e-orders", "aio"): MET + BOUGHT,
        ("e2e-orders", "e2e-redis"): MET + BOUGHT,
        ("aio", "e2e-redis"): MET + BOUGHT,
    }
    assert expected.keys() == EDGES

    def counted() -> dict[tuple[str, str], float]:
        found = {
            (one.labels["client"], one.labels["server"]): one.value
            for one in watched.prometheus.query(promql)
        }
        return {edge: count for edge, count in found.items() if edge in expected}

    wait_for_equal(counted, expected, "every call of every edge, once")


@pytest.mark.parametrize("name", [one["record"] for one in rules() if "record" in one])
def test_every_recording_rule_gives_values(name: str, watched: Watched) -> None:
    wait_until(lambda: watched.prometheus.query(name), f"{name} has values")


def test_an_alert_fires_when_a_service_fails(watched: Watched) -> None:
    def firing() -> frozenset[tuple[str, str]]:
        found = watched.prometheus.query(
            'ALERTS{alertname="DeetuneEdgeFailsFast", alertstate="firing"}'
        )
        # Whatever else fails on this machine is seen, too.
        return EDGES & {(one.labels["client"], one.labels["server"]) for one in found}

    wait_until(firing, "the alert fires")
    failing = frozenset({("e2e-client", "e2e-front"), ("e2e-front", "e2e-orders")})
    wait_for_equal(firing, failing, "it fires for the edges that fail, and no other")


def test_an_alert_fires_when_connects_fail(watched: Watched) -> None:
    promql = 'ALERTS{alertname="DeetuneConnectsFail", alertstate="firing"}'
    found = wait_until(lambda: watched.prometheus.query(promql), "the alert fires")
    assert {one.labels["error_type"] for one in found} == {"ECONNREFUSED"}


@pytest.mark.parametrize("query", queries(), ids=lambda one: f"{one.panel} {one.ref}")
def test_every_query_of_the_dashboard_gives_something(
    query: tuple[str, str, str], watched: Watched
) -> None:
    *_, promql = query
    wait_until(lambda: watched.prometheus.query(promql), promql)


def test_an_alert_fires_when_an_agent_is_gone(tmp_path: Path) -> None:
    """The agent is scraped itself: there is no Collector between."""
    alert = 'ALERTS{alertname="DeetuneAgentDown", alertstate="firing"}'
    with (
        Agent.start(tmp_path, {}) as agent,
        Prometheus.start(
            tmp_path,
            {"deetune": int(agent.url.rpartition(":")[2])},
            rules=hurried_rules(tmp_path),
        ) as prometheus,
    ):
        alive = "deetune_agent_cpu_time_seconds_total"
        wait_until(lambda: prometheus.query(alive), "the agent reports")
        assert prometheus.query(alert) == []
        agent.kill()
        [gone] = wait_until(lambda: prometheus.query(alert), "the alert fires")
        assert gone.labels["host"] == socket.gethostname()
