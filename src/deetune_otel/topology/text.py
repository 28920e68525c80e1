# SPDX-License-Identifier: Apache-2.0
"""The map for a terminal: every client with what it calls, the busiest first, in columns.

Rich texts, one a line: what prints them decides whether there is colour, which only repeats what
the words say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from deetune_otel.model import Protocol
from deetune_otel.topology import tally
from deetune_otel.topology.model import Calls, Edge, Ends, Network, Node, ServiceMap
from deetune_otel.topology.writing import (
    MANY_ERRORS,
    duration,
    name_of,
    percent,
    plain,
    rate,
)

__all__ = ["lines"]

HEADINGS: Final = ("", "protocol", "rate", "errors", "4xx", "p50", "p99")
SLOW_S: Final = 0.25


class _Row(NamedTuple):
    """A protocol of an edge; `notes` are behind the columns."""

    cells: tuple[Text, ...]
    notes: Text


def lines(one: ServiceMap) -> list[Text]:
    nodes = {node.id: node for node in one.nodes}
    blocks = [
        (nodes[client], list(_rows(edges, nodes, one.window_s)))
        for client, edges in _by_client(one.edges)
    ]
    heading = _Row(tuple(Text(word, style="dim") for word in HEADINGS), Text())
    rows = [heading, *(row for _, of_client in blocks for row in of_client)]
    widths = [
        max(cell_len(row.cells[i].plain) for row in rows) for i in range(len(HEADINGS))
    ]
    made = [_summary(one), Text()]
    if not blocks:
        made.append(Text("No calls were seen."))
    else:
        made.append(_aligned(heading, widths))
    for node, of_client in blocks:
        made.append(_client(node))
        made += (_aligned(row, widths) for row in of_client)
    made += _without_edges(one)
    return made


def _summary(one: ServiceMap) -> Text:
    hosts = ", ".join(plain(agent.host) for agent in one.agents) or "no agent"
    services = sum(1 for node in one.nodes if node.instances)
    text = Text(hosts, style="bold")
    text.append(
        f" · last {one.window_s:.0f} s · {_number(services, 'service')}, "
        f"{_number(len(one.edges), 'edge')}",
        style="not bold",
    )
    for agent in one.agents:
        if agent.exchanges_lost:
            text.append(
                f" · {agent.exchanges_lost:,} exchanges lost on {plain(agent.host)}",
                style="not bold yellow",
            )
    return text


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _by_client(edges: Iterable[Edge]) -> list[tuple[str, list[Edge]]]:
    by_client: dict[str, list[Edge]] = defaultdict(list)
    for edge in sorted(edges, key=lambda edge: (-_count(edge), edge.id)):
        by_client[edge.client].append(edge)
    return list(by_client.items())  # a client stands where its busiest edge is


def _count(edge: Edge) -> int:
    return sum(one.calls.count for one in edge.calls)


def _client(node: Node) -> Text:
    text = Text(name_of(node), style="bold")
    if len(node.instances) > 1:
        text.append(f" ({len(node.instances)} instances)", style="not bold dim")
    return text


def _rows(
    edges: Iterable[Edge], nodes: Mapping[str, Node], window_s: float
) -> Iterator[_Row]:
    for edge in edges:
        name = f"  → {name_of(nodes[edge.server])}"
        notes = _notes(edge)
        shown = [one for one in edge.calls if one.calls.count or not _is_connect(one)]
        if not shown:
            transports = ", ".join(edge.transports)
            cells = (Text(name), Text(transports, style="dim"), *map(Text, "-----"))
            yield _Row(cells, notes)
        for one in sorted(shown, key=lambda one: -one.calls.count):
            yield _Row(_cells(name, one, window_s), notes)
            notes = Text()


def _is_connect(one: Calls) -> bool:
    return one.protocol is Protocol.CONNECT


def _cells(name: str, one: Calls, window_s: float) -> tuple[Text, ...]:
    ratio = tally.error_ratio(one.calls) or 0.0
    p50 = tally.quantile(one.calls.duration_buckets, 0.5)
    p99 = tally.quantile(one.calls.duration_buckets, 0.99)
    about = "≈ " if one.is_estimated else ""
    return (
        Text(name),
        Text(one.protocol),
        Text(about + rate(tally.rate(one.calls, window_s))),
        Text(percent(ratio), style=_error_style(ratio)),
        Text(_client_errors(one), style="" if one.calls.client_errors else "dim"),
        Text(duration(p50), style=_latency_style(p50)),
        Text(duration(p99), style=_latency_style(p99)),
    )


def _client_errors(one: Calls) -> str:
    if one.protocol is not Protocol.HTTP or not one.calls.count:
        return "-"
    return percent(one.calls.client_errors / one.calls.count)


def _notes(edge: Edge) -> Text:
    text = Text(style="dim")
    for note, style in _all_notes(edge):
        text.append(f"{', ' if text else ''}{note}", style=style)
    return text


def _all_notes(edge: Edge) -> Iterator[tuple[str, str]]:
    network = edge.network
    for errno, count in sorted(network.connect_failures.items()):
        if count:
            yield f"{count:,} {plain(errno)}", "bold red"
    if network.connects:
        yield _connects(network), ""
    elif network.active:
        yield f"{network.active:,} open", ""
    if network.retransmits:
        yield f"{network.retransmits:,} retransmitted", "yellow"
    if edge.is_cross_zone:
        yield "crosses zones", ""
    if edge.via:
        yield f"via {', '.join(map(plain, edge.via))}", ""
    if edge.ends is not Ends.BOTH:
        yield f"seen at the {edge.ends}", ""


def _connects(network: Network) -> str:
    p99 = tally.quantile(network.connect_buckets, 0.99)
    took = f" (p99 {duration(p99)})" if p99 is not None else ""
    return f"{_number(network.connects, 'connect')}{took}"


def _aligned(row: _Row, widths: Iterable[int]) -> Text:
    """Names to the left, numbers to the right."""
    text = Text()
    for i, (cell, width) in enumerate(zip(row.cells, widths, strict=True)):
        room = " " * (width - cell_len(cell.plain))
        text.append("  " if i else "")
        text.append_text(Text(room) + cell if i > 1 else cell + Text(room))
    if row.notes:
        text.append("  ")
        text.append_text(row.notes)
    text.rstrip()
    return text


def _without_edges(one: ServiceMap) -> Iterator[Text]:
    ends = {end for edge in one.edges for end in (edge.client, edge.server)}
    alone = [name_of(node) for node in one.nodes if node.id not in ends]
    if alone:
        yield Text()
        yield Text(f"without calls: {', '.join(alone)}", style="dim")


def _error_style(ratio: float) -> str:
    if not ratio:
        return "dim"
    return "bold red" if ratio >= MANY_ERRORS else "yellow"


def _latency_style(seconds: float | None) -> str:
    return "yellow" if seconds is not None and seconds >= SLOW_S else ""
