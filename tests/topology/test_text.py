# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows: all of it, in columns, and nothing that only colour says."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

from hypothesis import given
from rich.cells import cell_len
from tests.topology.maps import (
    calls,
    edge,
    network,
    node,
    service_map,
    service_maps,
)

from deetune_otel.model import Protocol, Transport
from deetune_otel.topology import text
from deetune_otel.topology.model import AgentView, Ends, Instance, ServiceMap

WEB, API, DB = "service:shop/web", "service:shop/api", "name:db.internal:5432"


def shown(one: ServiceMap) -> str:
    return "\n".join(line.plain for line in text.lines(one))


def test_each_client_with_what_it_calls_the_busiest_first() -> None:
    one = service_map(
        [
            edge(WEB, API, calls(6000, errors=60), network=network(3)),
            edge(API, DB, calls(9000, each_s=0.3), ends=Ends.CLIENT),
            edge(API, "address:10.0.0.9:80", calls(12), is_cross_zone=True),
        ],
        [
            node(
                API,
                instances=tuple(Instance(id=str(i), host="a", pid=i) for i in (1, 2)),
            )
        ],
    )
    assert (
        shown(one)
        == dedent("""\
        a · last 60 s · 1 service, 3 edges

                              protocol   rate  errors  4xx     p50     p99
        shop/api (2 instances)
          → db.internal:5432  http      150/s     0 %  0 %  375 ms  498 ms  seen at the client
          → 10.0.0.9:80       http      0.2/s     0 %  0 %   18 ms   25 ms  crosses zones
        shop/web
          → shop/api          http      100/s   1.0 %  0 %   18 ms   25 ms  3 connects (p99 < 5 ms)""")
    )


def test_what_is_not_zero_is_noted() -> None:
    tcp = network(
        0,
        active=2,
        connect_failures={"ETIMEDOUT": 2, "ECONNREFUSED": 1000, "X": 0},
        retransmits=7,
    )
    one = service_map(
        [
            edge(
                WEB,
                API,
                replace(calls(3), is_estimated=True),
                calls(1, protocol=Protocol.REDIS),
                network=tcp,
                via=("10.96.0.1:80",),
            )
        ]
    )
    lines = shown(one).splitlines()
    assert lines[-2].endswith(
        "1,000 ECONNREFUSED, 2 ETIMEDOUT, 2 open, 7 retransmitted, via 10.96.0.1:80"
    )
    assert "≈ 3.0/min" in lines[-2]
    assert lines[-1].rstrip().endswith("25 ms")


def test_an_edge_without_calls_is_there_too() -> None:
    one = service_map(
        [edge(WEB, API, transports=(Transport.UDP,), network=network(0, active=1))]
    )
    assert shown(one).splitlines()[-1].split() == [
        *("→", "shop/api", "udp", "-", "-", "-", "-", "-", "1", "open")
    ]  # fmt: skip


def test_a_map_without_calls_says_so() -> None:
    one = service_map(nodes=[node(WEB)])
    assert "No calls were seen." in shown(one)
    assert "without calls: shop/web" in shown(one)


def test_what_an_agent_lost_is_said() -> None:
    agent = AgentView(host="a", version="1", exchanges_lost=1234)
    one = service_map(agents=(agent,))
    assert "1,234 exchanges lost on a" in shown(one)


def test_wide_characters_keep_the_columns() -> None:
    one = service_map(
        [edge("service:/客户", "service:/服务", calls(1)), edge(WEB, API, calls(1))]
    )
    rows = [line.plain for line in text.lines(one) if "http" in line.plain]
    assert len({cell_len(row.partition("http")[0]) for row in rows}) == 1


def test_failures_stand_out_where_there_is_colour() -> None:
    one = service_map([edge(WEB, API, calls(10, errors=5))])
    styles = {span.style for line in text.lines(one) for span in line.spans}
    assert "bold red" in styles


@given(service_maps())
def test_any_map_can_be_shown(one: ServiceMap) -> None:
    lines = [line.plain for line in text.lines(one)]
    assert all(line.isprintable() for line in lines)
    assert sum("→" in line for line in lines) >= len(one.edges)
