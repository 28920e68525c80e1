# SPDX-License-Identifier: Apache-2.0
"""Recent exchanges worth looking at: of every edge the failed ones and the slowest.

The two do not push each other out: while everything fails, what is slow stays.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deetune_otel.topology.model import Example

__all__ = ["MAX_SHOWN", "Examples", "newest"]

MAX_FAILED: Final = 25  # of one edge: a screen
MAX_SLOW: Final = 25
MAX_SHOWN: Final = MAX_FAILED + MAX_SLOW
# The slowest of this time: what was slow yesterday is not asked for.
SLOW_FOR_NS: Final = 15 * 60 * 10**9


class Examples:
    """Of one edge: 50 of some 500 bytes. Not thread-safe."""

    __slots__ = ("_failed", "_slow")

    def __init__(self) -> None:
        self._failed: deque[Example] = deque(maxlen=MAX_FAILED)
        self._slow: list[Example] = []

    def add(self, example: Example) -> None:
        if example.is_error:
            self._failed.append(example)
            return
        slow = self._slow
        slow.append(example)
        if len(slow) > MAX_SLOW:
            oldest = min(slow, key=lambda one: one.time_unix_ns)
            is_past = example.time_unix_ns - oldest.time_unix_ns > SLOW_FOR_NS
            slow.remove(oldest if is_past else min(slow, key=_duration))

    def absorb(self, other: Examples) -> None:
        for example in sorted(other.all(), key=_time):
            self.add(example)

    def all(self) -> list[Example]:
        return [*self._failed, *self._slow]


def newest(many: Iterable[Examples]) -> tuple[Example, ...]:
    """Newest first, 50 at most."""
    found = chain.from_iterable(examples.all() for examples in many)
    return tuple(sorted(found, key=_time, reverse=True)[:MAX_SHOWN])


def _duration(example: Example) -> float:
    return example.duration_s


def _time(example: Example) -> int:
    return example.time_unix_ns
