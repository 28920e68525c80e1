# SPDX-License-Identifier: Apache-2.0
"""The map for Graphviz: `deetune map --format dot | dot -Tsvg >map.svg`.

Thicker is busier, red has errors, dashed was seen at one end only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from deetune_otel.topology.model import Edge, Ends, Node, NodeKind, ServiceMap
from deetune_otel.topology.writing import edge_words, has_many_errors, name_of, plain

__all__ = ["lines"]

SHAPES: Final = {
    NodeKind.SERVICE: "box",
    NodeKind.DATABASE: "cylinder",
    NodeKind.EXTERNAL: "ellipse",
    NodeKind.ADDRESS: "ellipse",
    NodeKind.CLIENTS: "house",
    NodeKind.VIRTUAL: "diamond",
    NodeKind.OTHER: "note",
}
RED: Final = "#b3261e"
GREY: Final = "#5f6368"


def lines(one: ServiceMap) -> Iterator[str]:
    # Ids of our own: a node's may hold anything.
    names = {node.id: f"n{i}" for i, node in enumerate(one.nodes)}
    yield "digraph deetune {"
    yield '  graph [rankdir=LR, fontname="sans-serif"]'
    yield '  node [fontname="sans-serif", fontsize=11]'
    yield '  edge [fontname="sans-serif", fontsize=9]'
    for node in one.nodes:
        yield f"  {names[node.id]} [{_node(node)}]"
    for edge in one.edges:
        yield (
            f"  {names[edge.client]} -> {names[edge.server]} "
            f"[{_edge(edge, one.window_s)}]"
        )
    yield "}"


def _node(node: Node) -> str:
    label = name_of(node)
    if len(node.instances) > 1:
        label += f"\n{len(node.instances)} instances"
    return _attributes(label=label, shape=SHAPES[node.kind], tooltip=plain(node.id))


def _edge(edge: Edge, window_s: float) -> str:
    calls = sum(one.calls.count for one in edge.calls)
    rate = calls / window_s if window_s > 0 else 0.0
    words = edge_words(edge, window_s)
    return _attributes(
        label="\n".join(words),
        tooltip=plain(edge.id),
        color=RED if has_many_errors(edge) else GREY,
        penwidth=f"{1 + math.log10(1 + rate):.1f}",
        style="solid" if edge.ends is Ends.BOTH else "dashed",
    )


def _attributes(**values: str) -> str:
    return ", ".join(f"{name}={_quoted(value)}" for name, value in values.items())


def _quoted(text: str) -> str:
    r"""A quoted id of the DOT language; a `\n` in it is a new line of the label."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
