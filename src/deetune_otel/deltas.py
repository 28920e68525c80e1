# SPDX-License-Identifier: Apache-2.0
"""What came since the last reading: the kernel's series only grow.

A series whose operation has no name yet is held back once: its sample is as a rule on its way.
Nothing is lost by that, its next difference holds both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deetune_otel.signals.values import ZERO, minus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from deetune_otel.model import SeriesKey, SeriesValue

__all__ = ["Deltas"]


class Deltas:
    """Remembers what was taken of every series. Not thread-safe."""

    def __init__(self) -> None:
        self._taken: dict[SeriesKey, SeriesValue] = {}
        self._held: set[SeriesKey] = set()

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def held(self) -> int:
        """Series that wait for the name of their operation."""
        return len(self._held)

    def take(
        self,
        reading: Mapping[SeriesKey, SeriesValue],
        *,
        is_named: Callable[[SeriesKey], bool],
    ) -> list[tuple[SeriesKey, SeriesValue]]:
        """What was added to each series; none where nothing was."""
        held, self._held = self._held, set()
        deltas = []
        for key, value in reading.items():
            taken = self._taken.get(key, ZERO)
            if value == taken:
                continue
            if key not in held and not is_named(key):
                self._held.add(key)
                continue
            deltas.append((key, minus(value, taken)))
            self._taken[key] = value
        return deltas

    def take_last(
        self, last: Mapping[SeriesKey, SeriesValue], edge_ids: Collection[int]
    ) -> list[tuple[SeriesKey, SeriesValue]]:
        """The same of series that are gone from the kernel, with all of these edges'."""
        deltas = [
            (key, minus(value, self._taken.get(key, ZERO)))
            for key, value in last.items()
            if value != self._taken.get(key, ZERO)
        ]
        for key in [key for key in self._taken if key.edge_id in edge_ids]:
            del self._taken[key]
        return deltas
