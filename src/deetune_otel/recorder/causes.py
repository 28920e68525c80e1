# SPDX-License-Identifier: Apache-2.0
"""Which request a process was answering when it made a call.

The first of these that knows: the kernel (the thread that made the call had one request in hand),
the call's own trace header (one request in hand is of this trace), and being alone (the process
had one request in hand). Where two could be it, none is: a wrong cause is worse than none.

Who is alone did not make what the process does by itself, on a timer or in a thread of its own. So
being alone says nothing in an event loop, whose next task may be any, and in a process that was
seen to make a call with nothing in hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from deetune_otel.model import Cause, Role, Wire
from deetune_otel.signals.traces import span_id

__all__ = ["Causes", "InHand"]

# Answered requests of a process that are remembered: a call is read in the milliseconds after
# it, longer where its connection's end is what ends the answer.
LATELY: Final = 64
# With more open connections to a process it is busy: looking at them all costs more than it gives.
MOST_IN_HAND: Final = 64


class InHand(NamedTuple):
    """A request that a process answers."""

    exchange_id: str
    trace_id: int
    start_ns: int


class _Answered(NamedTuple):
    request: InHand
    end_ns: int


class Causes:
    """Of one recording; times are one clock's."""

    def __init__(
        self,
        read_cause: Callable[[Wire], Cause | None],
        *,
        polls: Callable[[int], bool],
        sees_all: bool,
    ) -> None:
        """`polls`: whether an owner's threads wait for several things at once. `sees_all`: each
        request to a process that makes calls comes here, so that who is alone here is alone.
        """
        self._read_cause = read_cause
        self._polls = polls
        self._sees_all = sees_all
        self._works_by_itself: set[int] = set()
        self._lately: dict[int, deque[_Answered]] = {}

    def answered(self, owner_id: int, request: InHand, *, at_ns: int) -> None:
        some = self._lately.get(owner_id)
        if some is None:
            some = self._lately[owner_id] = deque(maxlen=LATELY)
        some.append(_Answered(request, at_ns))

    def find(
        self,
        wire: Wire,
        owner_id: int,
        *,
        at_ns: int,
        trace_id: int,
        in_hand: Callable[[], Iterable[InHand]],
    ) -> tuple[str, str]:
        """An exchange's id and how it was found; ("", "") when not known.

        `trace_id` is the header's, 0 without one; `in_hand` gives what is not answered yet.
        """
        cause = self._read_cause(wire)
        if cause is not None:
            return f"{span_id(cause.wire, Role.SERVER):016x}", "thread"
        lately = self._lately.get(owner_id) or deque[_Answered]()
        if len(lately) == LATELY and lately[0].end_ns > at_ns:
            return "", ""  # one that was forgotten may have made it
        possible = [
            one.request for one in lately if one.request.start_ns <= at_ns <= one.end_ns
        ]
        for one in in_hand():
            if one.start_ns <= at_ns:
                possible.append(one)
            if len(possible) > MOST_IN_HAND:
                return "", ""
        same = [one for one in possible if one.trace_id == trace_id]
        if len(same) == 1:
            return same[0].exchange_id, "trace"
        if not possible:
            self._works_by_itself.add(owner_id)
        if len(possible) == 1 and self._is_telling(owner_id):
            return possible[0].exchange_id, "alone"
        return "", ""

    def _is_telling(self, owner_id: int) -> bool:
        """Whether the one request that a process has in hand made its calls."""
        return (
            self._sees_all
            and owner_id not in self._works_by_itself
            and not self._polls(owner_id)
        )
