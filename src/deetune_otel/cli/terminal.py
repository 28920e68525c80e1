# SPDX-License-Identifier: Apache-2.0
"""Rows of the map as a table for a terminal; the numbers in it, written for people.

Pure: values in, something for rich to draw out. There are as many columns and rows as the
terminal has room for; what does not fit is said in a last row, never dropped in silence. Colours
and bold type only repeat what the text says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from deetune_otel.cli.rows import By, Row, RowKey, rtt_s
from deetune_otel.topology import tally, writing

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

__all__ = [
    "ORDER",
    "Look",
    "cut",
    "duration",
    "failed_connects",
    "megabytes",
    "p99",
    "per_second",
    "plain_lines",
    "rows_table",
    "share",
    "sparkline",
    "whole_duration",
]

SLOW_S: Final = 0.25  # coloured from here on
PLAIN_ROWS: Final = 20
BARS: Final = "▁▂▃▄▅▆▇█"
NOTHING: Final = "-"


class _Number(NamedTuple):
    """A column of numbers; `sort` is what it is called in rows.SORTS."""

    title: str
    sort: str
    from_width: int  # of the terminal; in a narrower one it is left out
    text: Callable[[Row], str]
    style: Callable[[Row], str] = lambda _: ""
    of_operations: bool = True  # the network does not know operations


class Look(NamedTuple):
    """What a person did to a table."""

    sort: str = ""  # of rows.SORTS; marked in the header
    is_reversed: bool = False
    selected: RowKey | None = None  # the key of a row
    first: int = 0  # rows that are scrolled away


NO_LOOK: Final = Look()


def rows_table(
    found: Sequence[Row],
    *,
    by: By,
    width: int,
    room: int,
    look: Look = NO_LOOK,
) -> Table:
    """`room` lines at most, beside the header."""
    table = Table(box=None, width=width, header_style="dim", pad_edge=False)
    columns = list(_columns(by, width))
    for title, ratio in _NAMES[by]:
        table.add_column(title, no_wrap=True, ratio=ratio)
    has_protocol = width >= _PROTOCOL_FROM
    if has_protocol:
        table.add_column("protocol", no_wrap=True, max_width=12)
    for column in columns:
        mark = ("▲" if look.is_reversed else "▼") if column.sort == look.sort else ""
        table.add_column(f"{column.title}{mark}", justify="right", no_wrap=True)
    left = len(found) - look.first
    shown = found[look.first :][: room if left <= room else max(room - 1, 0)]
    for row in shown:
        table.add_row(
            *_names(row),
            *([Text(row.protocol)] if has_protocol else []),
            *(Text(one.text(row), style=one.style(row)) for one in columns),
            style="reverse" if row.key == look.selected else "",
        )
    if left > len(shown):
        table.add_row(Text(f"… {left - len(shown)} more", style="dim"))
    return table


def plain_lines(found: Sequence[Row]) -> Iterator[str]:
    """The same without a table: for logs."""
    for row in found[:PLAIN_ROWS]:
        line = (
            f"{row.client} -> {row.server} ({row.protocol}): "
            f"{per_second(row.per_second(row.calls.count))}/s, {share(row)} failed, "
            f"mean {duration(tally.mean_s(row.calls))}, p99 {p99(row)}"
        )
        yield line + (f", {failed_connects(row)}" if row.connect_failures else "")
    if len(found) > PLAIN_ROWS:
        yield f"… {len(found) - PLAIN_ROWS} more"


def per_second(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def share(row: Row) -> str:
    """Of calls and connects that failed."""
    failed = row.failed_share
    return NOTHING if failed is None else writing.percent(failed)


def client_errors(row: Row) -> str:
    """Of calls whose answer says that the caller was wrong."""
    found = row.client_error_share
    return NOTHING if found is None else writing.percent(found)


def duration(seconds: float | None) -> str:
    """Exact, so with its digits."""
    if seconds is None:
        return NOTHING
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.01:
        return f"{seconds * 1000:.2f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def p99(row: Row) -> str:
    return _quantile(row, 0.99)


def failed_connects(row: Row) -> str:
    """ "12 ECONNREFUSED, 3 ETIMEDOUT"."""
    failures = sorted(row.network.connect_failures.items(), key=lambda one: -one[1])
    return ", ".join(f"{count:,} {errno}" for errno, count in failures)


def megabytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def whole_duration(seconds: float) -> str:
    """ "90 s", "15 min", "7 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def sparkline(values: Sequence[float | None], *, width: int) -> str:
    """The last `width` values from 0 to the greatest; a blank where there is none."""
    shown = values[-width:] if width > 0 else ()
    most = max((one for one in shown if one is not None), default=0.0) or 1.0
    return "".join(
        " " if one is None else BARS[round(one / most * (len(BARS) - 1))]
        for one in shown
    )


def _quantile(row: Row, q: float) -> str:
    return writing.duration(tally.quantile(row.calls.duration_buckets, q))


class _Name:
    """Cut in the middle where there is no room: names of one system begin alike, and differ at their ends."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_measure__(
        self, console: Console, options: ConsoleOptions
    ) -> Measurement:
        return Measurement(1, cell_len(self._text))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[Text]:
        yield Text(cut(self._text, options.max_width), no_wrap=True, overflow="crop")


def cut(text: str, width: int) -> str:
    """In so many cells, without its middle."""
    if cell_len(text) <= width:
        return text
    left = len(text)
    while left:
        left -= 1
        shown = f"{text[: -(-left // 2)]}…{text[len(text) - left // 2 :]}"
        if cell_len(shown) <= width:
            return shown
    return ""


def _names(row: Row) -> list[_Name]:
    match row.by:
        case By.EDGE:
            return [_Name(row.client), _Name(f"→ {row.server}")]
        case By.SERVICE:
            return [_Name(row.server)]
        case By.OPERATION:
            return [_Name(row.server), _Name(row.operation)]


def _error_style(row: Row) -> str:
    if not row.failures:
        return "dim"
    return "bold red" if (row.failed_share or 0.0) >= writing.MANY_ERRORS else "yellow"


def _client_error_style(row: Row) -> str:
    return "" if row.calls.client_errors else "dim"


def _slow_style(of: Callable[[Row], float | None]) -> Callable[[Row], str]:
    return lambda row: "yellow" if (of(row) or 0.0) >= SLOW_S else ""


def _count(value: Callable[[Row], int]) -> Callable[[Row], str]:
    return lambda row: f"{value(row):,}"


def _columns(by: By, width: int) -> Iterator[_Number]:
    for column in _NUMBERS:
        if width >= column.from_width and (
            column.of_operations or by is not By.OPERATION
        ):
            yield column


_PROTOCOL_FROM: Final = 72
_NAMES: Final = {
    By.EDGE: (("client", 3), ("→ server", 3)),
    By.SERVICE: (("service", 1),),
    By.OPERATION: (("service", 2), ("operation", 4)),
}
_NUMBERS: Final = (
    _Number(
        "req/s", "rate", 0, lambda row: per_second(row.per_second(row.calls.count))
    ),
    _Number("errors", "errors", 0, share, _error_style),
    _Number(
        "mean",
        "mean",
        70,
        lambda row: duration(tally.mean_s(row.calls)),
        _slow_style(lambda row: tally.mean_s(row.calls)),
    ),
    _Number(
        "p50",
        "p50",
        110,
        lambda row: _quantile(row, 0.5),
        _slow_style(lambda row: tally.quantile(row.calls.duration_buckets, 0.5)),
    ),
    _Number(
        "p99",
        "p99",
        56,
        p99,
        _slow_style(lambda row: tally.quantile(row.calls.duration_buckets, 0.99)),
    ),
    _Number("4xx", "4xx", 110, client_errors, _client_error_style),
    _Number(
        "connects",
        "connects",
        100,
        _count(lambda row: row.network.connects),
        of_operations=False,
    ),
    _Number(
        "failed",
        "failed",
        90,
        _count(lambda row: row.connect_failures),
        lambda row: "bold red" if row.connect_failures else "dim",
        of_operations=False,
    ),
    _Number(
        "rtt",
        "rtt",
        120,
        lambda row: duration(rtt_s(row.network)),
        of_operations=False,
    ),
    _Number(
        "resent",
        "retransmits",
        130,
        _count(lambda row: row.network.retransmits),
        lambda row: "yellow" if row.network.retransmits else "dim",
        of_operations=False,
    ),
    _Number(
        "bytes/s",
        "bytes",
        140,
        lambda row: megabytes(
            row.per_second(row.network.sent_bytes + row.network.received_bytes)
        ),
        of_operations=False,
    ),
)
# By which keys change the order: from left to right, as the columns stand.
ORDER: Final = tuple(column.sort for column in _NUMBERS)
