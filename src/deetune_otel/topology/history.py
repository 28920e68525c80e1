# SPDX-License-Identifier: Apache-2.0
"""What was counted until when: the past of every edge, small enough to keep.

One `Timeline` for all: steps of 10 s for 15 minutes, of 60 s for 24 hours. A step ends with the
first reading after its time, so that no reading is ever divided between two. A `Past` keeps one
thing's sums (a list of integers that only grow) as they were at the end of steps: what was
counted in any window is one subtraction, however long the window. Only steps in which something
changed take room. Rows are differences as variable-length integers, nine after each whole one.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from operator import eq, sub
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["COARSE_STEP_NS", "FINE_STEP_NS", "Boundary", "Past", "Timeline"]

FINE_STEP_NS: Final = 10 * 10**9  # the default interval of readings
COARSE_STEP_NS: Final = 60 * 10**9
FINE_STEPS: Final = 90  # 15 minutes: what is looked at while something goes wrong
COARSE_STEPS: Final = 1440  # 24 hours: the same time yesterday
# Rows in a block, the first of them whole: as many are read for one look into the past.
BLOCK_ROWS: Final = 10
# Readings are a little early or late; without this a step would take two of them.
_TOLERANCE: Final = 0.95


class Boundary(NamedTuple):
    """The end of a step. `number` 0 of either kind is the start."""

    is_fine: bool
    number: int
    end_ns: int


class _Steps:
    """The ends of one kind of steps, as many as are kept."""

    def __init__(self, start_ns: int, *, is_fine: bool) -> None:
        self.is_fine = is_fine
        self.length_ns = FINE_STEP_NS if is_fine else COARSE_STEP_NS
        self.ends: deque[Boundary] = deque(
            [Boundary(is_fine, 0, start_ns)],
            maxlen=(FINE_STEPS if is_fine else COARSE_STEPS) + 1,
        )

    def is_due(self, now_ns: int) -> bool:
        return now_ns - self.ends[-1].end_ns >= self.length_ns * _TOLERANCE

    def move_back(self, by_ns: int) -> None:
        moved = [one._replace(end_ns=one.end_ns - by_ns) for one in self.ends]
        self.ends.clear()
        self.ends.extend(moved)

    def end(self, now_ns: int) -> Boundary:
        self.ends.append(Boundary(self.is_fine, self.ends[-1].number + 1, now_ns))
        return self.ends[-1]


class Timeline:
    """When steps ended. Where the wall clock was set back, the past moves with it: windows keep their
    lengths, and nothing waits until the clock is where it was.
    """

    def __init__(self, start_ns: int) -> None:
        self._fine = _Steps(start_ns, is_fine=True)
        self._coarse = _Steps(start_ns, is_fine=False)
        self.now_ns = start_ns  # of the last reading

    def end_reading(self, now_ns: int) -> list[Boundary]:
        """The steps that end with this reading: none, a fine one, or both kinds."""
        if now_ns < self.now_ns:
            for steps in (self._fine, self._coarse):
                steps.move_back(self.now_ns - now_ns)
        if now_ns <= self.now_ns:
            self.now_ns = now_ns
            return []
        self.now_ns = now_ns
        return [
            steps.end(now_ns)
            for steps in (self._fine, self._coarse)
            if steps.is_due(now_ns)
        ]

    def since(self, window_ns: int) -> Boundary:
        """Where a window that ends now begins: the nearest end of a step that is kept."""
        wanted = self.now_ns - window_ns
        fine, coarse = self._fine.ends, self._coarse.ends
        # the first fine step is number 0 while they reach back to the start
        is_fine = wanted >= fine[0].end_ns or not fine[0].number
        ends = fine if is_fine else coarse
        before = [end for end in ends if end.end_ns < self.now_ns] or [ends[0]]
        return min(before, key=lambda end: abs(end.end_ns - wanted))

    def steps_since(self, begin: Boundary) -> list[Boundary]:
        """Ends of the steps after `begin`, of its kind; the last one may still be open."""
        ends = self._fine.ends if begin.is_fine else self._coarse.ends
        after = [end for end in ends if end.number > begin.number]
        if (after or [begin])[-1].end_ns < self.now_ns:
            after.append(Boundary(begin.is_fine, ends[-1].number + 1, self.now_ns))
        return after

    def oldest(self, *, is_fine: bool) -> int:
        """The number of the oldest step end that is kept."""
        return (self._fine if is_fine else self._coarse).ends[0].number

    def drop_oldest_coarse(self) -> bool:
        """Remember less; False when nothing is left to drop."""
        if len(self._coarse.ends) <= FINE_STEPS * FINE_STEP_NS // COARSE_STEP_NS + 1:
            return False
        self._coarse.ends.popleft()
        return True


class Past:
    """How one thing's sums were at the end of steps.

    The sums' length may grow; they were zero before.
    """

    __slots__ = ("_coarse", "_fine")

    def __init__(self) -> None:
        self._fine = _Rows()
        self._coarse = _Rows()

    @property
    def fine_bytes(self) -> int:
        return self._fine.size_bytes

    @property
    def coarse_bytes(self) -> int:
        return self._coarse.size_bytes

    def keep(self, end: Boundary, sums: Sequence[int]) -> None:
        """The sums at the end of a step; nothing is written when they did not change."""
        self._rows(end).append(end.number, sums)

    def at(self, end: Boundary) -> Sequence[int]:
        """The sums at that step's end, which must be closed; missing columns are zero."""
        return self._rows(end).at(end.number)

    def drop(self, timeline: Timeline) -> None:
        """Let go of what is older than the timeline."""
        self._fine.drop(timeline.oldest(is_fine=True))
        self._coarse.drop(timeline.oldest(is_fine=False))

    def absorb(self, other: Past, columns: Sequence[int]) -> None:
        """Become the past of both together; the other's column i is `columns[i]` here."""
        self._fine = self._fine.joined(other._fine, columns)
        self._coarse = self._coarse.joined(other._coarse, columns)

    def _rows(self, end: Boundary) -> _Rows:
        return self._fine if end.is_fine else self._coarse


class _Block:
    """Up to BLOCK_ROWS rows, the first of them whole."""

    __slots__ = ("data", "first", "rows")

    OVERHEAD_BYTES: Final = 150  # measured: the objects around the bytes

    def __init__(self, first: int, sums: Sequence[int]) -> None:
        self.first = first  # number of its first row's step
        self.rows = 1
        self.data = bytearray()
        _write(self.data, sums)

    @property
    def size_bytes(self) -> int:
        return len(self.data) + self.OVERHEAD_BYTES

    def append(self, step: int, difference: Iterable[int]) -> None:
        _write_one(self.data, step)
        _write(self.data, difference)
        self.rows += 1

    def at(self, number: int) -> list[int]:
        """The sums of the last row up to that step, which is not before the first one's."""
        sums: list[int] = []
        at, there = _add(self.data, 0, sums), self.first
        while at < len(self.data):
            step, at = _read_one(self.data, at)
            there += step
            if there > number:
                break
            at = _add(self.data, at, sums)
        return sums

    def all(self) -> Iterator[tuple[int, list[int]]]:
        """Step numbers and sums."""
        sums: list[int] = []
        at, number = _add(self.data, 0, sums), self.first
        yield number, sums.copy()
        while at < len(self.data):
            step, at = _read_one(self.data, at)
            at, number = _add(self.data, at, sums), number + step
            yield number, sums.copy()


class _Rows:
    """Sums by step number, ascending."""

    __slots__ = ("_blocks", "_last", "_last_sums", "size_bytes")

    def __init__(self) -> None:
        self._blocks: deque[_Block] = deque()
        self._last = 0
        self._last_sums: Sequence[int] = ()
        self.size_bytes = 0

    def append(self, number: int, sums: Sequence[int]) -> None:
        gone = self._last_sums
        if len(sums) == len(gone) and all(map(eq, sums, gone)):
            return
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.rows >= BLOCK_ROWS:
            self._blocks.append(_Block(number, sums))
            self.size_bytes += self._blocks[-1].size_bytes
        else:
            before = block.size_bytes
            zeros = (0,) * (len(sums) - len(gone))
            block.append(number - self._last, map(sub, sums, (*gone, *zeros)))
            self.size_bytes += block.size_bytes - before
        self._last, self._last_sums = number, tuple(sums)

    def at(self, number: int) -> Sequence[int]:
        if number >= self._last:
            return self._last_sums
        for block in reversed(self._blocks):
            if block.first <= number:
                return block.at(number)
        return ()

    def drop(self, oldest: int) -> None:
        """What `at(oldest)` and later answer stays the same."""
        while len(self._blocks) > 1 and self._blocks[1].first <= oldest:
            self.size_bytes -= self._blocks.popleft().size_bytes

    def joined(self, other: _Rows, columns: Sequence[int]) -> _Rows:
        """Both together, column by column."""
        if not other._blocks:
            return self
        own = dict(self._all())
        others = dict(other._all())
        joined = _Rows()
        here: list[int] = []
        there: list[int] = []
        for number in sorted({*own, *others}):
            here = own.get(number, here)
            there = others.get(number, there)
            width = max(len(here), *(columns[i] + 1 for i in range(len(there))), 0)
            sums = [*here, *([0] * (width - len(here)))]
            for column, value in zip(columns, there, strict=False):
                sums[column] += value
            joined.append(number, sums)
        return joined

    def _all(self) -> Iterator[tuple[int, list[int]]]:
        return chain.from_iterable(block.all() for block in self._blocks)


def _write(data: bytearray, numbers: Iterable[int]) -> None:
    """Runs of zeros as 0 and their length, others in zigzag; 0 and 0 end the row."""
    zeros = 0
    for number in numbers:
        if not number:
            zeros += 1
            continue
        if zeros:
            data.append(0)
            _write_one(data, zeros)
            zeros = 0
        # connections that go over to another process are taken from this one's
        _write_one(data, number * 2 if number > 0 else -number * 2 - 1)
    if zeros:
        data.append(0)
        _write_one(data, zeros)
    data += b"\0\0"


def _write_one(data: bytearray, number: int) -> None:
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)


def _read_one(data: bytearray, at: int) -> tuple[int, int]:
    """A number, and where the next one begins."""
    number = shift = 0
    while data[at] > 127:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
    return number | data[at] << shift, at + 1


def _add(data: bytearray, at: int, sums: list[int]) -> int:
    """Add a row to the sums, in place; the answer is where the next one begins.

    One loop for all, because a map of 2,000 edges reads 10,000 rows.
    """
    column = number = shift = 0
    is_run = False
    while True:
        byte = data[at]
        at += 1
        if byte > 127:
            number |= (byte & 127) << shift
            shift += 7
            continue
        number |= byte << shift
        if is_run:
            if not number:
                sums += [0] * (column - len(sums))
                return at
            column += number
            is_run = False
        elif not number:
            is_run = True
        else:
            if column >= len(sums):
                sums += [0] * (column + 1 - len(sums))
            sums[column] += -(number >> 1) - 1 if number & 1 else number >> 1
            column += 1
        number = shift = 0
