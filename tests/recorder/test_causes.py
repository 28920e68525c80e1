# SPDX-License-Identifier: Apache-2.0
"""A call's cause: the thread's word, a trace header, being alone; none rather than a wrong one."""

from __future__ import annotations

from typing import Final

import pytest

from deetune_otel.model import Cause, Role, Wire
from deetune_otel.recorder.causes import LATELY, MOST_IN_HAND, Causes, InHand
from deetune_otel.signals.traces import span_id

WIRE: Final = Wire(1, 2, 3)
SHOP: Final = 7


def found(
    causes: Causes, *in_hand: InHand, at_ns: int = 100, trace_id: int = 0
) -> tuple[str, str]:
    return causes.find(
        WIRE, SHOP, at_ns=at_ns, trace_id=trace_id, in_hand=lambda: in_hand
    )


def causes(*, sees_all: bool = True, polls: bool = False) -> Causes:
    return Causes(lambda _: None, polls=lambda _: polls, sees_all=sees_all)


def test_the_kernel_knows_the_thread() -> None:
    cause = Cause(Wire(4, 5, 6), b"")
    ours = Causes({WIRE: cause}.get, polls=lambda _: True, sees_all=False)
    expected = f"{span_id(cause.wire, Role.SERVER):016x}"
    assert found(ours, InHand("a", 1, 0)) == (expected, "thread")


@pytest.mark.parametrize(
    ("in_hand", "expected"),
    [
        ([], ("", "")),
        ([InHand("a", 1, 50)], ("a", "alone")),
        ([InHand("a", 1, 101)], ("", "")),  # it came after the call
        ([InHand("a", 1, 50), InHand("b", 2, 60)], ("", "")),
    ],
)
def test_who_is_alone_made_it(in_hand: list[InHand], expected: object) -> None:
    assert found(causes(), *in_hand) == expected


def test_who_was_answered_meanwhile_may_have_made_it() -> None:
    ours = causes()
    ours.answered(SHOP, InHand("a", 1, 50), at_ns=120)
    assert found(ours) == ("a", "alone")
    assert found(ours, InHand("b", 2, 60)) == ("", "")
    assert found(ours, at_ns=121) == ("", "")


def test_in_an_event_loop_who_is_alone_may_have_made_nothing() -> None:
    one = InHand("a", 1, 50)
    assert found(causes(polls=True), one) == ("", "")
    assert found(causes(polls=True), one, trace_id=1) == ("a", "trace")


def test_where_a_process_works_by_itself_nobody_made_it_for_sure() -> None:
    ours = causes()
    one = InHand("a", 1, 50)
    assert found(ours, one) == ("a", "alone")
    assert found(ours) == ("", "")  # nothing was in hand: a timer, another thread
    assert found(ours, one) == ("", "")
    assert found(ours, one, trace_id=1) == ("a", "trace")


def test_nobody_is_alone_where_not_all_is_seen() -> None:
    assert found(causes(sees_all=False), InHand("a", 1, 50)) == ("", "")


def test_a_trace_header_tells_among_several() -> None:
    several = InHand("a", 1, 50), InHand("b", 2, 60)
    assert found(causes(sees_all=False), *several, trace_id=2) == ("b", "trace")
    same = InHand("a", 2, 50), InHand("b", 2, 60)
    assert found(causes(), *same, trace_id=2) == ("", "")


def test_what_was_forgotten_may_have_made_it() -> None:
    ours = causes()
    for number in range(LATELY):
        ours.answered(SHOP, InHand(f"{number}", 1, 150), at_ns=200)
    assert found(ours, InHand("a", 1, 50)) == ("", "")
    assert found(ours, InHand("a", 1, 50), at_ns=201) == ("a", "alone")


def test_a_busy_process_is_not_searched() -> None:
    many = [InHand(f"{n}", 1, 50) for n in range(MOST_IN_HAND)]
    assert found(causes(), *many, InHand("x", 9, 50), trace_id=9) == ("", "")
    assert found(causes(), *many[1:], InHand("x", 9, 50), trace_id=9) == ("x", "trace")
