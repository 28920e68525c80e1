# SPDX-License-Identifier: Apache-2.0
"""The screen of `deetune top`: a state and an answer in, something for rich to draw out.

From above: what is shown, the table, the opened row's details, the keys. Pure but for the
time zone, in which people read times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from deetune_otel.cli.browsing import HELP, Browsing
from deetune_otel.cli.feed import Answer
from deetune_otel.cli.rows import By, Row, connect_s, labels, rtt_s
from deetune_otel.cli.terminal import (
    Look,
    duration,
    megabytes,
    per_second,
    rows_table,
    sparkline,
    whole_duration,
)
from deetune_otel.topology.model import (
    Edge,
    EdgeDetails,
    Ends,
    Example,
    History,
    Network,
    Node,
    NodeDetails,
    Operation,
    ServiceMap,
)
from deetune_otel.topology.writing import name_of, plain

__all__ = ["footer", "headline", "room_for_rows", "screen"]

ABOVE: Final = 3  # headline, what is shown, the table's header
BELOW: Final = 1  # the keys
LEAST_DETAILS: Final = 8
# Of the lines of an opened row: about itself, its network, its history, and headers.
ABOUT_LINES: Final = 6
SPARKLINE: Final = 30

KEYS: Final = "↑↓ select  Enter details  / filter  ←→ sort  b by  ? help  q end"
ENDS: Final = {
    Ends.BOTH: "seen at both ends",
    Ends.CLIENT: "seen at the client's end",
    Ends.SERVER: "seen at the server's end",
}


def headline(shown: ServiceMap) -> Text:
    """Whose map of how long, and how much there is in it."""
    hosts = ", ".join(plain(one.host) for one in shown.agents[:3])
    if len(shown.agents) > 3:
        hosts += f" and {len(shown.agents) - 3} more"
    text = Text(hosts, style="bold", no_wrap=True, overflow="ellipsis")
    text.append(
        f" · last {whole_duration(shown.window_s)} · {len(shown.nodes)} nodes,"
        f" {len(shown.edges)} edges",
        style="not bold",
    )
    lost = sum(one.exchanges_lost for one in shown.agents)
    if lost:
        text.append(f" · {lost:,} exchanges lost", style="not bold yellow")
    return text


def room_for_rows(height: int, state: Browsing) -> int:
    return max(1, height - ABOVE - BELOW - _room_for_details(height, state))


def screen(  # noqa: PLR0913 - all that there is on it
    state: Browsing,
    answer: Answer,
    shown: Sequence[Row],
    *,
    name: str,
    first: int,
    now_s: float,
    width: int,
    height: int,
) -> RenderableType:
    """`name` of the agent; `shown` are the rows in their order; `now_s` is monotonic."""
    if state.has_help:
        return Group(
            Text("Keys", style="bold"), Text(), _help(), Text(), Text("any key: back")
        )
    body = _body(state, answer, shown, first=first, width=width, height=height)
    is_old = bool(answer.problem) or answer.map is None
    return Group(
        headline(answer.map) if answer.map else Text(f"asking {name} …"),
        _problem(answer, name, now_s)
        if answer.problem
        else _what(state, answer, shown),
        Styled(body, "dim") if is_old else body,
    )


def footer(state: Browsing) -> Text:
    """The last line."""
    if state.is_typing:
        return Text.assemble(("/", "bold"), state.filter, ("▏", "bold"), no_wrap=True)
    return Text(KEYS, style="dim", no_wrap=True, overflow="ellipsis")


def _room_for_details(height: int, state: Browsing) -> int:
    if not state.has_details:
        return 0
    return max(LEAST_DETAILS, (height - ABOVE - BELOW) * 3 // 5)


def _problem(answer: Answer, name: str, now_s: float) -> Text:
    ago = whole_duration(now_s - answer.failing_since_s)
    said = answer.problem
    who = "" if name in said else f"{name}: "
    old = " · the last rows are shown" if answer.map else ""
    return Text(
        f"for {ago}{old} · {who}{plain(said, limit=400)}",
        style="bold red",
        no_wrap=True,
        overflow="ellipsis",
    )


def _what(state: Browsing, answer: Answer, shown: Sequence[Row]) -> Text:
    order = "the least first" if state.is_reversed else "the most first"
    text = Text(no_wrap=True, overflow="ellipsis")
    if state.is_held:
        text.append("held · ", style="bold yellow")
    text.append(f"{len(shown)} by {state.by}, sorted by {state.sort}, {order}")
    if state.filter:
        text.append(f" · filter: {plain(state.filter)}", style="bold")
        text.append(f" ({len(shown)} of {len(answer.rows)})")
    if answer.left_out:
        text.append(f" · {answer.left_out} less busy services left out", style="yellow")
    if answer.question.window_s != state.window_s or answer.question.by != state.by:
        text.append(" · asking …", style="dim")
    return text


def _body(  # noqa: PLR0913
    state: Browsing,
    answer: Answer,
    shown: Sequence[Row],
    *,
    first: int,
    width: int,
    height: int,
) -> Group:
    room = room_for_rows(height, state)
    look = Look(state.sort, state.is_reversed, state.selected, first)
    parts: list[RenderableType] = [
        rows_table(shown, by=state.by, width=width, room=room, look=look)
    ]
    if state.has_details:
        used = min(room, max(len(shown) - first, 0))
        parts += [Text()] * (room - used)
        parts.append(_opened(state, answer, width, _room_for_details(height, state)))
    return Group(*parts)


def _opened(state: Browsing, answer: Answer, width: int, room: int) -> RenderableType:
    details, selected = answer.details, state.selected
    is_asked = selected is not None and answer.question.opened == selected.id
    if details is None or not is_asked or answer.map is None:
        return Text("\nasking for its details …", style="dim")
    names = labels(answer.map)
    match details:
        case EdgeDetails():
            about = list(_about_edge(details.edge, names, answer.map.window_s))
            server = names.get(details.edge.server, details.edge.server)
        case NodeDetails():
            about = list(_about_node(details, names))
            server = name_of(details.node)
    about.append(_history(details.history))
    left = max(room - ABOUT_LINES, 2)
    failed = [one for one in details.examples if one.is_error]
    for_failed = min(len(failed), max(left // 2, left - len(details.operations)))
    operations = list(_operations(details.operations, server, answer.map.window_s))
    return Group(
        Text("─" * width, style="dim"),
        *about,
        rows_table(
            operations, by=By.OPERATION, width=width, room=max(left - for_failed, 1)
        ),
        *([_failures(failed[:for_failed], width)] if for_failed else []),
    )


def _operations(
    found: Sequence[Operation], server: str, window_s: float
) -> Iterator[Row]:
    for one in found:
        yield Row(
            by=By.OPERATION,
            id=server,
            server=server,
            operation=plain(one.name),
            protocol=one.protocol,
            window_s=window_s,
            calls=one.calls,
        )


def _about_edge(
    edge: Edge, names: dict[str, str], window_s: float
) -> Iterator[RenderableType]:
    line = _line()
    line.append(
        f"{names.get(edge.client, edge.client)} → {names.get(edge.server, edge.server)}",
        style="bold",
    )
    line.append(f" · {', '.join(edge.transports)} · {ENDS[edge.ends]}")
    if edge.via:
        line.append(f" · via {', '.join(map(plain, edge.via))}")
    if edge.is_cross_zone:
        line.append(" · crosses zones", style="yellow")
    if edge.first_seen_unix_ns:
        line.append(f" · since {_clock(edge.first_seen_unix_ns)}")
    yield line
    yield _network(edge.network, window_s)


def _network(network: Network, window_s: float) -> Text:
    line = _line()
    line.append(f"{network.active:,} open · {network.connects:,} connects")
    if (taken := connect_s(network)) is not None:
        line.append(f" in {duration(taken)}")
    for errno, count in network.connect_failures.items():
        line.append(f" · {count:,} failed: {errno}", style="bold red")
    if (rtt := rtt_s(network)) is not None:
        line.append(f" · RTT {duration(rtt)}")
    line.append(f" · {network.retransmits:,} resent")
    if window_s > 0:
        line.append(
            f" · {megabytes(network.sent_bytes / window_s)}/s →"
            f" {megabytes(network.received_bytes / window_s)}/s ←"
        )
    return line


def _about_node(
    details: NodeDetails, names: dict[str, str]
) -> Iterator[RenderableType]:
    node = details.node
    line = _line()
    line.append(name_of(node), style="bold")
    line.append(f" · {node.kind}")
    if node.found_by:
        line.append(f" · named by {plain(node.found_by)}")
    for fact in (_instances(node), *map(plain, node.addresses[:3])):
        if fact:
            line.append(f" · {fact}")
    yield line
    line = _line()
    line.append(f"called by {_others(details.callers, names, 0)}")
    line.append(f" · calls {_others(details.callees, names, 1)}")
    yield line


def _instances(node: Node) -> str:
    if not node.instances:
        return ""
    first = node.instances[0]
    more = f" and {len(node.instances) - 1} more" if len(node.instances) > 1 else ""
    return f"pid {first.pid} on {plain(first.host)}{more}"


def _others(edge_ids: Sequence[str], names: dict[str, str], end: int) -> str:
    """Who is at the other end of these edges: 0 the client, 1 the server."""
    found = [one.split("→")[end] for one in edge_ids]
    return ", ".join(names.get(one, plain(one)) for one in found[:6]) or "nobody"


def _history(history: History) -> Text:
    line = _line()
    for title, values in (
        ("req/s", history.rate),
        ("errors", history.error_ratio),
        ("p99", history.p99_s),
    ):
        if any(values):
            line.append(f"{title} ", style="dim")
            line.append(f"{sparkline(values, width=SPARKLINE)}  ")
    if history.rate:
        span_s = min(len(history.rate), SPARKLINE) * history.step_s
        line.append(
            f"{whole_duration(span_s)}, up to {per_second(max(history.rate))}/s",
            style="dim",
        )
    return line


def _failures(failed: Sequence[Example], width: int) -> Table:
    table = Table(
        box=None, width=width, pad_edge=False, show_header=False, padding=(0, 1, 0, 0)
    )
    for ratio in (None, None, None, 1, None):
        table.add_column(no_wrap=True, ratio=ratio)
    for one in failed:
        table.add_row(
            _clock(one.time_unix_ns),
            Text(plain(one.result), style="bold red"),
            duration(one.duration_s),
            Text(plain(one.operation)),
            Text(plain(one.trace_url, limit=200) or plain(one.trace_id)),
        )
    return table


def _help() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for keys, what in HELP:
        table.add_row(Text(keys), what)
    return table


def _line() -> Text:
    return Text(no_wrap=True, overflow="ellipsis")


def _clock(unix_ns: int) -> str:
    return (
        datetime.fromtimestamp(unix_ns // 10**9, tz=UTC)
        .astimezone()
        .strftime("%H:%M:%S")
    )
