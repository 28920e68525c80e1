# SPDX-License-Identifier: Apache-2.0
"""What the agent adds to the map that the graph draws."""

from __future__ import annotations

import time
from typing import Any, cast

from tests.factories import edge, key
from tests.readings import Maps, value

from deetune_otel.agent.joining import disguised
from deetune_otel.agent.map_service import MapService, zone_of
from deetune_otel.agent.process_registry import ProcessRegistry
from deetune_otel.config.schema import TopologySettings
from deetune_otel.model import Ledger, LedgerLine, Link, Operation, Pair, Service
from deetune_otel.protocols.routes import Routes
from deetune_otel.topology.graph import Graph

NOTHING = LedgerLine(0, 0)
PAIR = Pair(1, 2)


class Linked(Maps):
    """One connection, of which the client's end is here."""

    def read_links(self) -> list[Link]:
        return [Link(PAIR, 1, 0, 40_000, 80)]


def atlas(**changes: Any) -> MapService:
    maps = Linked()
    return MapService(
        TopologySettings(conntrack=False, **changes),
        kernel=cast("Any", maps),
        names=ProcessRegistry(
            maps, service_of=lambda _: Service(name="x"), routes=Routes()
        ),
        graph=Graph(start_unix_ns=time.time_ns(), host="host", version="1"),
        interval_s=10,
    )


def test_the_map_says_whose_it_is_what_was_lost_and_which_connections() -> None:
    made = atlas(names={"10.0.0.2": "orders"})
    made.graph.meet(edge(), Service(name="web"), netns=1)
    made.graph.add(1, Operation(name="GET /"), key(), value(3))
    made.joining.read()
    now_unix_ns = time.time_ns()
    made.graph.end_interval(now_unix_ns)
    lost = {"midstream": LedgerLine(2, 10), "unparsed": LedgerLine(1, 5)}
    ledger = Ledger(seen=NOTHING, counted=NOTHING, open=NOTHING, lost=lost, noted={})
    pairs = []
    for with_pairs in (True, False):
        drawn = made.service_map(
            window_s=60,
            now_unix_ns=now_unix_ns,
            with_pairs=with_pairs,
            ledger=ledger,
            url="http://127.0.0.1:1",
        )
        [agent] = drawn.agents
        assert (agent.host, agent.url, agent.exchanges_lost) == (
            "host",
            "http://127.0.0.1:1",
            3,
        )
        [one] = drawn.edges
        assert one.server == "name:orders:80"
        pairs.append(one.pairs)
    assert pairs == [(disguised(PAIR),), ()]
    made.close()


def test_the_zone_is_the_configurations_else_the_environments() -> None:
    told: dict[str, str | int] = {"cloud.availability_zone": "eu-1a"}
    assert zone_of(TopologySettings(zone="here"), told) == "here"
    assert zone_of(TopologySettings(), told) == "eu-1a"
    assert zone_of(TopologySettings(), {}) == ""
