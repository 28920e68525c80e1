# SPDX-License-Identifier: Apache-2.0
"""Calls share the fate of what caused them, and an exchange knows how many it made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from tests.exchanges import EXCHANGE

from deetune_otel.recorder import families
from deetune_otel.recorder.families import (
    HOLD_NS,
    LONGEST_NS,
    REPLAY,
    SAMPLED,
    Families,
)
from deetune_otel.recording.model import Process, RecordedExchange

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOP: Final = Process("shop", pid=1)
LATER: Final = HOLD_NS + 1
Given = tuple[RecordedExchange, str | None]


def answered(
    id_: str, *, start: int = 0, end: int = 100, cause: str = ""
) -> RecordedExchange:
    return replace(
        EXCHANGE,
        id=id_,
        connection=replace(EXCHANGE.connection, server_process=SHOP),
        request_start_ns=start,
        response_end_ns=end,
        cause=cause,
    )


def call(id_: str, cause: str = "", at: int = 50) -> RecordedExchange:
    connection = replace(EXCHANGE.connection, server_process=None, client_process=SHOP)
    return replace(
        EXCHANGE, id=id_, connection=connection, cause=cause, request_start_ns=at
    )


def ours(*, fates: dict[str, str] | None = None, sees_calls: bool = True) -> Families:
    return Families(lambda one: (fates or {}).get(one.id), sees_calls=sees_calls)


def fed(family: Families, exchanges: Iterable[RecordedExchange]) -> list[Given]:
    return [given for one in exchanges for given in family.take(one, 0)]


def said(given: Iterable[Given]) -> dict[str, tuple[str | None, int | None]]:
    return {one.id: (fate, one.calls) for one, fate in given}


def test_who_makes_no_calls_waits_for_nothing() -> None:
    family = ours(fates={"b": "path"})
    given = fed(family, [answered("a"), answered("b")])
    assert said(given) == {"a": (None, 0), "b": ("path", 0)}


def test_calls_are_counted_and_follow_their_cause() -> None:
    family = ours(fates={"c1": "path", "c2": "path", "c3": "path", "b": "path"})
    given = fed(
        family,
        [
            call("c1", "a"),
            call("c2", "a"),
            answered("a"),
            call("c3", "b"),
            answered("b"),
        ],
    )
    assert given == []
    assert list(family.due(HOLD_NS - 1)) == []
    assert said(family.due(LATER)) == {
        "a": (None, 2),
        "c1": (None, None),
        "c2": (None, None),
        "b": ("path", 1),
        "c3": ("path", None),
    }


def test_a_call_that_is_chosen_stays_without_its_cause() -> None:
    family = ours(fates={"a": "path"})
    fed(family, [call("c", "a"), answered("a")])
    assert said(family.due(LATER)) == {"a": ("path", 1), "c": (None, None)}


@pytest.mark.parametrize("fate", [REPLAY, SAMPLED])
def test_what_is_left_out_as_a_whole_takes_its_calls_along(fate: str) -> None:
    family = ours(fates={"a": fate})
    fed(family, [call("c", "a"), answered("a")])
    assert said(family.due(LATER)) == {"a": (fate, 1), "c": (fate, None)}


def test_a_call_that_nobody_made_leaves_its_time_in_doubt() -> None:
    family = ours()
    given = fed(
        family, [call("c", at=150), answered("a"), answered("b", start=140, end=160)]
    )
    assert said(given) == {"c": (None, None)}
    assert said(family.due(LATER)) == {
        "a": (None, 0),
        "b": (None, None),
    }


def test_after_a_loss_nobody_knows_the_calls() -> None:
    family = ours()
    fed(family, [call("c", "a"), answered("a")])
    family.doubt(LATER)
    assert said(family.due(LATER))["a"] == (None, None)
    assert said(fed(ours(sees_calls=False), [answered("a")])) == {"a": (None, None)}


def test_a_call_waits_for_a_long_answer_and_not_for_ever() -> None:
    family = ours(fates={"c": "path"})
    fed(family, [call("c", "a")])
    assert list(family.due(LATER)) == []
    late = fed(family, [answered("a")])
    assert late == []
    assert said(family.due(2 * LATER)) == {"a": (None, 1), "c": (None, None)}

    fed(family, [call("c", "z")])
    list(family.due(2 * LATER))
    assert said(family.due(2 * LATER + LONGEST_NS)) == {"c": ("path", None)}


def test_a_chain_of_calls_has_the_fate_of_its_first() -> None:
    family = ours(fates={"b": "path", "c": "path"})
    middle = answered("b", cause="a")
    fed(family, [call("c", "b"), middle, call("d", "a"), answered("a")])
    fates = said(family.due(LATER))
    assert fates["b"] == (None, 1)
    assert fates["c"] == (None, None)


def test_at_the_end_nothing_waits() -> None:
    family = ours()
    fed(family, [call("c", "a"), call("d", "gone"), answered("a")])
    assert said(family.due(0, is_end=True)) == {
        "a": (None, 1),
        "c": (None, None),
        "d": (None, None),
    }
    assert list(family.due(LATER, is_end=True)) == []


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "MOST_BYTES", 20)
    family = ours()
    fed(family, [call(f"c{n}", f"a{n}") for n in range(10)])
    given = said(family.due(0))
    assert 0 < len(given) < 10
    assert len(given) + len(said(family.due(0, is_end=True))) == 10


def test_calls_without_a_cause_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "MOST_STRAYS", 4)
    family = ours()
    fed(family, [call(f"c{n}", at=1000 + n) for n in range(9)])
    fed(family, [answered("a"), answered("b", start=2000, end=2001)])
    fates = said(family.due(LATER))
    assert fates["a"] == (None, None)  # what was forgotten may have been then
    assert fates["b"] == (None, 0)
