# SPDX-License-Identifier: Apache-2.0
"""Keys change what is shown: a state and a key, a new state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.topology.maps import tally

from deetune_otel.cli.browsing import HELP, Browsing, followed, pressed, scrolled
from deetune_otel.cli.keys import Key
from deetune_otel.cli.rows import SORTS, By, Row
from deetune_otel.cli.terminal import ORDER

START = Browsing(window_s=60, sort="errors")
ROWS = [
    Row(by=By.EDGE, id=f"edge {number}", window_s=60, calls=tally(1), protocol="http")
    for number in range(30)
]
PAGE = 10


def after(keys: Iterable[str], state: Browsing = START) -> Browsing:
    for key in keys:
        state = pressed(state, key, ROWS, page=PAGE)
    return state


def at(state: Browsing) -> int | None:
    return next((i for i, row in enumerate(ROWS) if row.key == state.selected), None)


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ([], None),
        ([Key.DOWN], 0),
        ([Key.UP], 0),
        (["j", "j", "j", "k"], 1),
        ([Key.END], 29),
        ([Key.END, Key.DOWN], 29),
        ([Key.END, Key.PAGE_UP], 19),
        ([Key.DOWN, Key.PAGE_DOWN], 10),
        ([Key.DOWN, Key.PAGE_DOWN, Key.HOME], 0),
        ([Key.DOWN, Key.ESCAPE], None),
    ],
)
def test_moves(keys: list[str], place: int | None) -> None:
    assert at(after(keys)) == place


def test_a_row_that_is_gone_is_selected_no_more() -> None:
    state = after([Key.END])
    assert pressed(state, Key.DOWN, ROWS[:5], page=PAGE).selected == ROWS[0].key
    assert pressed(state, Key.DOWN, [], page=PAGE) == state


def test_a_row_whose_protocol_became_known_stays_selected() -> None:
    state = after([Key.DOWN])
    now = [ROWS[1], replace(ROWS[0], protocol="redis")]
    assert followed(state, now).selected == now[1].key
    assert followed(state, ROWS) == state


def test_a_filter_is_typed_letter_by_letter() -> None:
    typing = after("/qjk e")
    assert (typing.filter, typing.is_typing, typing.is_over) == ("qjk e", True, False)
    assert after([Key.BACKSPACE], typing).filter == "qjk "
    assert after([Key.CLEAR_LINE], typing).filter == ""
    kept = after([Key.ENTER], typing)
    assert (kept.filter, kept.is_typing) == ("qjk e", False)
    assert after([Key.ESCAPE], typing).filter == ""
    assert after([Key.ESCAPE], kept).filter == ""
    assert at(after([Key.DOWN], typing)) == 0
    assert not after(["/", Key.BACKSPACE]).is_typing


def test_every_column_can_be_reached_and_every_sort_is_one() -> None:
    assert set(ORDER) <= set(SORTS)
    state, seen = START, set()
    for _ in ORDER:
        state = after([Key.RIGHT], state)
        seen.add(state.sort)
    assert seen == set(ORDER)
    assert state.sort == "errors"
    assert after([Key.LEFT, Key.RIGHT]) == START


@pytest.mark.parametrize(
    ("key", "sort"),
    [("e", "errors"), ("t", "rate"), ("m", "mean"), ("p", "p99"), ("c", "connects"), ("f", "failed")],
)  # fmt: skip
def test_letters_sort(key: str, sort: str) -> None:
    state = after(["r", key])
    assert (state.sort, state.is_reversed) == (sort, False)
    assert after([key, "r"]).is_reversed


def test_details_need_a_row() -> None:
    assert not after([Key.ENTER]).has_details
    opened = after([Key.DOWN, Key.ENTER])
    assert opened.has_details
    assert not after([Key.ENTER], opened).has_details
    closed = after([Key.ESCAPE], opened)
    assert (closed.has_details, at(closed)) == (False, 0)


def test_kinds_of_rows_go_round() -> None:
    assert [after("b" * n).by for n in range(4)] == [*By, By.EDGE]
    assert after([Key.DOWN, Key.ENTER, Key.TAB]) == after([Key.TAB])


def test_windows() -> None:
    assert after("+").window_s == 300
    assert after("+++++").window_s == 3600
    assert after("------").window_s == 10
    assert after("-", replace(START, window_s=45)).window_s == 30


def test_help_is_left_by_any_key_and_the_program_by_q() -> None:
    assert after("?").has_help
    assert after("?e") == START
    assert after("?q").is_over
    assert after("q").is_over
    assert after([Key.CLOSED]).is_over
    assert after(["/", Key.CLOSED]).is_over


def test_help_fits_a_small_terminal() -> None:
    assert max(len(keys) + len(what) for keys, what in HELP) < 79
    assert len(HELP) < 20


@given(
    keys=st.lists(st.sampled_from([*Key, *"/abcefhjkmpqrt+-<>? "])),
    room=st.integers(1, 40),
)
def test_the_selected_row_can_be_seen_whatever_was_pressed(
    keys: list[str], room: int
) -> None:
    state, first = START, 0
    for key in keys:
        state = pressed(state, key, ROWS, page=room)
        first = scrolled(ROWS, state, first=first, room=room)
        place = at(state)
        assert 0 <= first < len(ROWS)
        if place is not None and room > 1:
            assert first <= place < first + room
