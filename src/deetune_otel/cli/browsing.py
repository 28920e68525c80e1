# SPDX-License-Identifier: Apache-2.0
"""What `deetune top` shows, and what each key makes of it. Pure: a state and a key, a new state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deetune_otel.cli.keys import Key
from deetune_otel.cli.rows import By, Row, RowKey
from deetune_otel.cli.terminal import ORDER

__all__ = ["HELP", "WINDOWS_S", "Browsing", "followed", "pressed", "scrolled"]

WINDOWS_S: Final = (10, 30, 60, 300, 900, 3600)

HELP: Final = (
    ("↑ ↓ PgUp PgDn Home End, k j", "select a row"),
    ("Enter", "its operations, network and recent failures; again or Esc: back"),
    ("/ TEXT", "filter as you type; Enter keeps it, Esc removes it"),
    ("← →, < >", "sort by the column to the left or right"),
    ("e t m p c f", "by errors, rate, mean, p99, connects, failed connects"),
    ("r", "reverse the order"),
    ("b, Tab", "by edge, service, operation"),
    ("+ -", "longer or shorter window"),
    ("Space", "hold the picture; again: go on"),
    ("? h", "this help"),
    ("q, Ctrl-C", "end"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Browsing:
    window_s: float
    sort: str
    by: By = By.EDGE
    is_reversed: bool = False
    filter: str = ""
    is_typing: bool = False  # the filter
    selected: RowKey | None = None  # a row's key
    has_details: bool = False
    has_help: bool = False
    is_held: bool = False
    is_over: bool = False


def pressed(state: Browsing, key: str, shown: Sequence[Row], *, page: int) -> Browsing:
    """`shown` are the rows in their order, `page` is how many of them are on the screen."""
    if key == Key.CLOSED:
        return replace(state, is_over=True)
    if state.is_typing and (len(key) == 1 or key not in _MOVES):
        return _typed(state, key)
    if state.has_help:
        return replace(state, has_help=False, is_over=key == "q")
    if move := _MOVES.get(key):
        return _moved(state, move(page), shown)
    act = _ACTS.get(key)
    return act(state) if act else state


def followed(state: Browsing, shown: Sequence[Row]) -> Browsing:
    """The selection stays with an edge of which another protocol is known by now."""
    if state.selected is None or _place(state, shown) is not None:
        return state
    before = state.selected
    for row in shown:
        if (row.id, row.operation) == (before.id, before.operation):
            return replace(state, selected=row.key)
    return state


def scrolled(shown: Sequence[Row], state: Browsing, *, first: int, room: int) -> int:
    """The first row on the screen, so that the selected one can be seen."""
    at = _place(state, shown)
    room = max(room - 1, 1)  # a line may be needed for what is below
    if at is not None:
        first = min(max(first, at - room + 1), at)
    return max(0, min(first, len(shown) - room))


def _place(state: Browsing, shown: Sequence[Row]) -> int | None:
    for number, row in enumerate(shown):
        if row.key == state.selected:
            return number
    return None


def _moved(state: Browsing, by: int, shown: Sequence[Row]) -> Browsing:
    if not shown:
        return state
    at = _place(state, shown)
    if at is None:
        at = 0 if by < len(shown) else len(shown) - 1
    else:
        at = min(max(at + by, 0), len(shown) - 1)
    return replace(state, selected=shown[at].key)


def _typed(state: Browsing, key: str) -> Browsing:
    match key:
        case Key.ENTER:
            return replace(state, is_typing=False)
        case Key.ESCAPE:
            return replace(state, is_typing=False, filter="")
        case Key.BACKSPACE:
            return replace(
                state, filter=state.filter[:-1], is_typing=bool(state.filter)
            )
        case Key.CLEAR_LINE:
            return replace(state, filter="")
    return replace(state, filter=state.filter + key) if len(key) == 1 else state


def _back(state: Browsing) -> Browsing:
    """Out of what was opened last."""
    if state.has_details:
        return replace(state, has_details=False)
    if state.filter:
        return replace(state, filter="")
    return replace(state, selected=None)


def _by(sort: str) -> Callable[[Browsing], Browsing]:
    return lambda state: replace(state, sort=sort, is_reversed=False)


def _sorted_beside(state: Browsing, step: int) -> Browsing:
    at = ORDER.index(state.sort) + step if state.sort in ORDER else 0
    return replace(state, sort=ORDER[at % len(ORDER)], is_reversed=False)


def _next_by(state: Browsing) -> Browsing:
    kinds = list(By)
    by = kinds[(kinds.index(state.by) + 1) % len(kinds)]
    return replace(state, by=by, selected=None, has_details=False)


def _longer(state: Browsing) -> Browsing:
    longer = [one for one in WINDOWS_S if one > state.window_s]
    return replace(state, window_s=longer[0]) if longer else state


def _shorter(state: Browsing) -> Browsing:
    shorter = [one for one in WINDOWS_S if one < state.window_s]
    return replace(state, window_s=shorter[-1]) if shorter else state


_ALL: Final = 1 << 30
_MOVES: Final[Mapping[str, Callable[[int], int]]] = {
    **dict.fromkeys((Key.UP, "k"), lambda _: -1),
    **dict.fromkeys((Key.DOWN, "j"), lambda _: 1),
    Key.PAGE_UP: lambda page: -max(page, 1),
    Key.PAGE_DOWN: lambda page: max(page, 1),
    Key.HOME: lambda _: -_ALL,
    Key.END: lambda _: _ALL,
}
_ACTS: Final[Mapping[str, Callable[[Browsing], Browsing]]] = {
    "/": lambda state: replace(state, is_typing=True),
    "q": lambda state: replace(state, is_over=True),
    "r": lambda state: replace(state, is_reversed=not state.is_reversed),
    "b": _next_by,
    Key.TAB: _next_by,
    "+": _longer,
    "-": _shorter,
    " ": lambda state: replace(state, is_held=not state.is_held),
    "?": lambda state: replace(state, has_help=True),
    "h": lambda state: replace(state, has_help=True),
    Key.LEFT: lambda state: _sorted_beside(state, -1),
    "<": lambda state: _sorted_beside(state, -1),
    Key.RIGHT: lambda state: _sorted_beside(state, 1),
    ">": lambda state: _sorted_beside(state, 1),
    "e": _by("errors"),
    "t": _by("rate"),
    "m": _by("mean"),
    "p": _by("p99"),
    "c": _by("connects"),
    "f": _by("failed"),
    Key.ESCAPE: _back,
    Key.ENTER: lambda state: replace(
        state, has_details=state.selected is not None and not state.has_details
    ),
}
