# SPDX-License-Identifier: Apache-2.0
"""TCP's facts of an edge, told once however many agents observe it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality
from tests.signals.edge_totals import NETWORK, edge_total, points

from deetune_otel.model import RTT_BOUNDS_S, Transport
from deetune_otel.signals.tcp import TcpMetrics
from deetune_otel.topology.model import EdgeTotal, Ends, NodeKind

if TYPE_CHECKING:
    from tests.signals.edge_totals import Point

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
WORDS = "client=shop,server=orders"
EVERYTHING = {
    "deetune.tcp.connections.active",
    "deetune.tcp.connect.duration",
    "deetune.tcp.connect.failures",
    "deetune.tcp.rtt",
    "deetune.tcp.retransmits",
    "deetune.tcp.io",
}


def built(*totals: EdgeTotal) -> dict[str, dict[str, Point]]:
    return points(TcpMetrics(CUMULATIVE).build(totals, now_unix_ns=20))


def test_everything() -> None:
    found = built(edge_total(network=NETWORK))
    assert found.keys() == EVERYTHING
    numbers = {
        f"{name.removeprefix('deetune.tcp.')} {words.removeprefix(WORDS)}": point.value
        for name, of in found.items()
        for words, point in of.items()
    }
    assert numbers == {
        "connections.active ": 3,
        "connect.duration ": 5,
        "connect.failures ,error.type=ECONNREFUSED": 2,
        "connect.failures ,error.type=ETIMEDOUT": 1,
        "rtt ": 6,
        "retransmits ": 7,
        "io ,network.io.direction=transmit": 1000,
        "io ,network.io.direction=receive": 2000,
    }
    connect = found["deetune.tcp.connect.duration"][WORDS]
    assert (connect.sum, connect.buckets) == (0.25, NETWORK.connect_buckets)
    rtt = found["deetune.tcp.rtt"][WORDS]
    assert (rtt.sum, rtt.buckets) == (0.5, NETWORK.rtt_buckets)
    assert len(rtt.buckets) == len(RTT_BOUNDS_S) + 1


def test_an_edge_where_all_is_well_has_no_failures_but_zeros() -> None:
    """A counter that appears with its first count shows no increase."""
    found = built(edge_total())
    assert found.keys() == EVERYTHING - {"deetune.tcp.connect.failures"}
    assert found["deetune.tcp.retransmits"][WORDS].value == 0


def test_a_client_that_another_agent_observes() -> None:
    """Its agent tells the rest; what this end sent again only this end knows."""
    found = built(edge_total(network=NETWORK, ends=Ends.SERVER))
    assert found.keys() == {"deetune.tcp.retransmits"}


def test_clients_without_an_agent() -> None:
    found = built(
        edge_total(network=NETWORK, ends=Ends.SERVER, client_kind=NodeKind.CLIENTS)
    )
    assert found.keys() == EVERYTHING


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.UNIX])
def test_what_is_not_tcp_is_left_out(transport: Transport) -> None:
    assert built(edge_total(network=NETWORK, transports=(transport,))) == {}


def test_deltas() -> None:
    reader = TcpMetrics(DELTA)
    reader.build([edge_total(network=NETWORK)], now_unix_ns=20)
    later = replace(
        NETWORK, active=1, retransmits=9, connect_failures={"ECONNREFUSED": 3}
    )
    found = points(reader.build([edge_total(network=later)], now_unix_ns=30))
    assert {name: [p.value for p in of.values()] for name, of in found.items()} == {
        "deetune.tcp.retransmits": [2],
        "deetune.tcp.connections.active": [1],
        "deetune.tcp.connect.failures": [1],
    }
