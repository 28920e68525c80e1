# SPDX-License-Identifier: Apache-2.0
"""Every line is a statement of the flowchart language, whatever the names are."""

from __future__ import annotations

import html
import re
from typing import Final

from hypothesis import given
from tests.topology.maps import calls, edge, node, service_map, service_maps

from deetune_otel.topology import mermaid
from deetune_otel.topology.model import Ends, NodeKind, ServiceMap

# In a quoted text, # begins an entity; the other characters end it or mean something.
QUOTED: Final = r'"(?:[^#"&<>`\\|]|#\d+;)*"'
SHAPES: Final = "|".join(
    re.escape(opening) + QUOTED + re.escape(closing)
    for opening, closing in mermaid.BRACKETS.values()
)
STATEMENTS: Final = {
    "node": re.compile(rf"  (?:n\d+|more)(?:{SHAPES})"),
    "edge": re.compile(rf"  n\d+ (?:-->|-\.->)(?:\|{QUOTED}\|)? n\d+"),
    "style": re.compile(r"  linkStyle \d+(?:,\d+)* stroke:#[0-9a-f]{6}"),
}


def read(one: ServiceMap) -> dict[str, list[str]]:
    head, *rest = mermaid.lines(one)
    assert head == "flowchart LR"
    found: dict[str, list[str]] = {kind: [] for kind in STATEMENTS}
    for line in rest:
        kinds = [kind for kind, one in STATEMENTS.items() if one.fullmatch(line)]
        assert len(kinds) == 1, line
        found[kinds[0]].append(line)
    return found


@given(service_maps())
def test_every_node_and_edge_is_there(one: ServiceMap) -> None:
    found = read(one)
    assert len(found["node"]) == len(one.nodes)
    assert len(found["edge"]) == len(one.edges)


def test_what_is_drawn() -> None:
    name = 'a "b" | `c` #1; <i>'
    one = service_map(
        [
            edge("service:/web", "address:x", calls(6)),
            edge(
                "service:/web", "service:/api", calls(60, errors=60), ends=Ends.CLIENT
            ),
        ],
        [node("address:x", kind=NodeKind.DATABASE, name=name)],
    )
    found = read(one)
    entities = found["node"][0].replace("#", "&#")
    assert html.unescape(entities) == f'  n0[("{name}")]'
    assert found["edge"] == [
        '  n2 -.->|"http 1.0/s, 100 % errors, p99 25 ms"| n1',
        '  n2 -->|"http 0.1/s, p99 25 ms"| n0',
    ]
    assert found["style"] == ["  linkStyle 0 stroke:#b3261e"]


def test_of_a_large_map_the_busiest_is_drawn() -> None:
    one = service_map(
        edge(f"service:/{i}", f"service:/{i + 1}", calls(i)) for i in range(2000)
    )
    found = read(one)
    assert len(found["edge"]) == mermaid.MAX_EDGES
    assert len(found["node"]) == mermaid.MAX_EDGES + 2
    assert found["node"][-1] == '  more["… 1850 edges with fewer calls"]'
    assert any('["2000"]' in line for line in found["node"])
    assert len("\n".join(mermaid.lines(one))) < 50_000
