# SPDX-License-Identifier: Apache-2.0
"""The live map for people: a picture of a topology snapshot, as tables or as plain lines.

Pure: a `View` in, text out. It has as many columns and rows as the terminal has room
for; what does not fit is said in a last row, never dropped in silence. Colours only
repeat what the text says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deetune_otel.model import DURATION_BOUNDS_S, Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from deetune_otel.model import Ledger
    from deetune_otel.topology.snapshot import (
        EdgeView,
        OperationView,
        ServiceView,
        Snapshot,
        Stats,
    )

__all__ = ["View", "plain_lines"]

WIDE: Final = 100  # columns of text; in a narrower terminal there are fewer numbers
MEDIUM: Final = 76
SMALL: Final = 56
CHROME_ROWS: Final = 12  # header, titles, rules and the lines about what did not fit
LEAST_ROWS: Final = 4
PLAIN_EDGES: Final = 20
SLOW_S: Final = 0.25  # coloured from here on
MANY_ERRORS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that the screen shows at one time."""

    snapshot: Snapshot
    ledger: Ledger
    host: str
    hooks: str  # "rung 1"
    agent_cpu: float  # share of one core
    agent_memory_bytes: int

    @property
    def uptime_s(self) -> float:
        return (self.snapshot.time_unix_ns - self.snapshot.start_unix_ns) / 1e9

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        rows = max(2 * LEAST_ROWS, console.height - CHROME_ROWS)
        edges = _busiest_edges(self.snapshot)
        for_edges = min(len(edges), max(LEAST_ROWS, rows * 3 // 5))
        columns = _columns(options.max_width)
        yield Group(
            _header(self),
            Text(),
            _edges_table(edges, for_edges, columns),
            Text(),
            _operations_table(_operations(self.snapshot), rows - for_edges, columns),
        )


def plain_lines(view: View) -> list[str]:
    """The same without a table: for logs and pipes."""
    edges = _busiest_edges(view.snapshot)
    lines = [_header(view).plain]
    lines += [
        f"  {edge.client} -> {edge.server} ({edge.protocol}): "
        f"{_rate(edge.now)}/s, {_errors(edge.total)} errors, "
        f"mean {_mean(edge.total)}, p99 {_quantile(edge.total.p99_s)}"
        for edge in edges[:PLAIN_EDGES]
    ]
    if len(edges) > PLAIN_EDGES:
        lines.append(f"  … {len(edges) - PLAIN_EDGES} more")
    return lines


class _Columns(NamedTuple):
    """What there is room for."""

    width: int
    has_protocol: bool
    numbers: tuple[str, ...]


def _columns(width: int) -> _Columns:
    numbers: tuple[str, ...]
    if width >= WIDE:
        numbers = ("req/s", "calls", "errors", "mean", "p50", "p90", "p99")
    elif width >= MEDIUM:
        numbers = ("req/s", "calls", "errors", "mean", "p99")
    elif width >= SMALL:
        numbers = ("req/s", "errors", "mean", "p99")
    else:
        numbers = ("req/s", "errors")
    return _Columns(width, width >= MEDIUM, numbers)


def _header(view: View) -> Text:
    text = Text(overflow="fold")
    text.append(view.host, style="bold")
    text.append(f" · {view.hooks} · {view.uptime_s:.0f} s · ")
    text.append(f"{view.ledger.counted.exchanges:,} exchanges counted · ")
    text.append_text(_balance(view))
    for cause, line in view.ledger.lost.items():
        if line.exchanges:
            text.append(f" · {line.exchanges:,} {cause}", style="yellow")
    megabytes = view.agent_memory_bytes / 1e6
    text.append(f" · agent {view.agent_cpu:.1%} of a core, {megabytes:.0f} MB")
    return text


def _balance(view: View) -> Text:
    missing = view.ledger.difference
    if not any(missing):
        return Text("ledger ✓", style="green")
    # Its lines are read one after the other while traffic goes on.
    text = f"ledger ≈ {missing.exchanges:+,} exchanges, {missing.bytes:+,} bytes"
    return Text(text, style="yellow")


def _edges_table(edges: Sequence[EdgeView], room: int, columns: _Columns) -> Table:
    table = _table(columns.width)
    table.add_column("client", no_wrap=True, ratio=3)
    table.add_column("→ server", no_wrap=True, ratio=3)
    if columns.has_protocol:
        table.add_column("protocol", no_wrap=True)
    _add_number_columns(table, columns)
    for edge in edges[:room]:
        protocol = [edge.protocol] if columns.has_protocol else []
        table.add_row(
            edge.client,
            f"→ {edge.server}",
            *protocol,
            *_numbers(edge.now, edge.total, columns),
        )
    _say_more(table, len(edges) - room)
    return table


def _operations_table(
    operations: Sequence[tuple[ServiceView, OperationView]],
    room: int,
    columns: _Columns,
) -> Table:
    table = _table(columns.width)
    table.add_column("service", no_wrap=True, ratio=2)
    table.add_column("operation", no_wrap=True, ratio=4)
    _add_number_columns(table, columns)
    for service, operation in operations[:room]:
        table.add_row(
            service.name,
            operation.name,
            *_numbers(operation.now, operation.total, columns),
        )
    _say_more(table, len(operations) - room)
    return table


def _table(width: int) -> Table:
    return Table(box=None, width=width, header_style="dim", pad_edge=False)


def _add_number_columns(table: Table, columns: _Columns) -> None:
    for name in columns.numbers:
        table.add_column(name, justify="right", no_wrap=True)


def _numbers(now: Stats, total: Stats, columns: _Columns) -> list[RenderableType]:
    """The rate is of the last interval; a second holds too few calls for the rest."""
    cells = {
        "req/s": Text(_rate(now)),
        "calls": Text(f"{total.count:,}"),
        "errors": Text(_errors(total), style=_error_style(total)),
        "mean": Text(_mean(total), style=_latency_style(total.mean_s)),
        "p50": Text(_quantile(total.p50_s), style=_latency_style(total.p50_s)),
        "p90": Text(_quantile(total.p90_s), style=_latency_style(total.p90_s)),
        "p99": Text(_quantile(total.p99_s), style=_latency_style(total.p99_s)),
    }
    return [cells[name] for name in columns.numbers]


def _say_more(table: Table, more: int) -> None:
    if more > 0:
        table.add_row(Text(f"… {more} more", style="dim"))


def _busiest_edges(snapshot: Snapshot) -> list[EdgeView]:
    return sorted(snapshot.edges, key=lambda edge: -edge.total.count)


def _operations(snapshot: Snapshot) -> list[tuple[ServiceView, OperationView]]:
    """What services serve, by the time that it took in all: the slow are not the last."""
    served = [
        (service, operation)
        for service in snapshot.services
        for operation in service.operations
        if operation.role is Role.SERVER and operation.name
    ]
    return sorted(served, key=lambda one: -_seconds_in_all(one[1].total))


def _seconds_in_all(stats: Stats) -> float:
    return stats.count * (stats.mean_s or 0.0)


def _rate(stats: Stats) -> str:
    return f"{stats.rate:.1f}" if stats.rate < 100 else f"{stats.rate:,.0f}"


def _errors(stats: Stats) -> str:
    if not stats.errors:
        return "0 %"
    percent = stats.error_ratio * 100
    return f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"


def _mean(stats: Stats) -> str:
    """Exact, so with its digits."""
    seconds = stats.mean_s
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.2f} ms"
    return _milliseconds(seconds)


def _quantile(seconds: float | None) -> str:
    """As precise as the histogram is: outside of its bounds it knows no more."""
    if seconds is None:
        return "-"
    if seconds <= DURATION_BOUNDS_S[0]:
        return f"< {DURATION_BOUNDS_S[0] * 1000:.0f} ms"
    if seconds >= DURATION_BOUNDS_S[-1]:
        return f"> {DURATION_BOUNDS_S[-1]:.0f} s"
    return _milliseconds(seconds)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _error_style(stats: Stats) -> str:
    if not stats.errors:
        return "dim"
    return "bold red" if stats.error_ratio >= MANY_ERRORS else "yellow"


def _latency_style(value: float | None) -> str:
    return "yellow" if value is not None and value >= SLOW_S else ""
