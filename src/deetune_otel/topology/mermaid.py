# SPDX-License-Identifier: Apache-2.0
"""The map as a Mermaid flowchart, for READMEs, wikis and chats.

What draws it gives up above some hundred edges, and people do before: the busiest are drawn,
and a last node says how many are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deetune_otel.topology.model import Edge, Ends, Node, NodeKind, ServiceMap
from deetune_otel.topology.writing import edge_words, has_many_errors, name_of

__all__ = ["lines"]

# Mermaid draws no more than 500 edges and 50,000 characters, where nobody configured it.
MAX_EDGES: Final = 150
BRACKETS: Final = {
    NodeKind.SERVICE: ("[", "]"),
    NodeKind.DATABASE: ("[(", ")]"),
    NodeKind.EXTERNAL: ("([", "])"),
    NodeKind.ADDRESS: ("([", "])"),
    NodeKind.CLIENTS: ("[/", "\\]"),
    NodeKind.VIRTUAL: ("{{", "}}"),
    NodeKind.OTHER: (">", "]"),
}
# Of Mermaid's own: entity codes, written with # in place of &.
ESCAPES: Final = {ord(one): f"#{ord(one)};" for one in '#"&<>`\\|'}


def lines(one: ServiceMap) -> Iterator[str]:
    edges = sorted(one.edges, key=lambda edge: (-_count(edge), edge.id))[:MAX_EDGES]
    left_out = len(one.edges) - len(edges)
    ends = {end for edge in edges for end in (edge.client, edge.server)}
    # Nodes without edges are shown, unless there is no room for edges either.
    nodes = [node for node in one.nodes if node.id in ends or not left_out]
    names = {node.id: f"n{i}" for i, node in enumerate(nodes)}
    yield "flowchart LR"
    for node in nodes:
        yield f"  {names[node.id]}{_node(node)}"
    for edge in edges:
        arrow = "-->" if edge.ends is Ends.BOTH else "-.->"
        words = ", ".join(edge_words(edge, one.window_s))
        label = f"|{_quoted(words)}|" if words else ""
        yield f"  {names[edge.client]} {arrow}{label} {names[edge.server]}"
    if left_out:
        yield f"  more[{_quoted(f'… {left_out} edges with fewer calls')}]"
    failing = [str(i) for i, edge in enumerate(edges) if has_many_errors(edge)]
    if failing:
        yield f"  linkStyle {','.join(failing)} stroke:#b3261e"


def _node(node: Node) -> str:
    opening, closing = BRACKETS[node.kind]
    return f"{opening}{_quoted(name_of(node))}{closing}"


def _quoted(text: str) -> str:
    return f'"{text.translate(ESCAPES)}"'


def _count(edge: Edge) -> int:
    return sum(one.calls.count for one in edge.calls)
