# SPDX-License-Identifier: Apache-2.0
"""Graphviz itself reads what is written, and finds every node and edge in it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from hypothesis import given, settings
from tests.programs import program
from tests.topology.maps import calls, edge, node, service_map, service_maps

from deetune_otel.topology import dot
from deetune_otel.topology.model import Ends, NodeKind, ServiceMap


def read_by_graphviz(one: ServiceMap) -> Any:
    done = subprocess.run(
        [program("dot", "graphviz"), "-Tdot_json"],
        input="\n".join(dot.lines(one)),
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
    )
    assert not done.stderr
    return json.loads(done.stdout)


@settings(max_examples=15)
@given(service_maps())
def test_every_node_and_edge_is_there(one: ServiceMap) -> None:
    drawn = read_by_graphviz(one)
    assert drawn["directed"]
    assert len(drawn.get("objects", [])) == len(one.nodes)
    assert len(drawn.get("edges", [])) == len(one.edges)


def test_what_is_drawn() -> None:
    one = service_map(
        [
            edge("service:/web", "service:/api", calls(600, errors=60)),
            edge("service:/api", "address:x", calls(6), ends=Ends.CLIENT),
        ],
        [node("address:x", kind=NodeKind.DATABASE, name='a "b" \\n c')],
    )
    drawn = read_by_graphviz(one)
    of = {edge["tooltip"]: edge for edge in drawn["edges"]}
    failing = of["service:/web→service:/api"]
    assert failing["label"] == r"http 10.0/s\n10.0 % errors\np99 25 ms"
    assert failing["color"] == dot.RED
    assert of["service:/api→address:x"]["style"] == "dashed"
    database = next(one for one in drawn["objects"] if one["shape"] == "cylinder")
    assert database["label"] == r'a "b" \\n c'
