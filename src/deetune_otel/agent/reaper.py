# SPDX-License-Identifier: Apache-2.0
"""Which processes are gone for good, so that their numbers may go to others."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from deetune_otel.model import Owner

__all__ = ["Reaper"]

# The kernel ends a dead process's connections at once; one that lingers is closed within seconds.
QUIET_S: Final = 5.0
# Of one that was gone when it was first seen: its last connections have ended with it.
SHORT_QUIET_S: Final = 1.0
# Processes looked at in one reading, 30 µs each: as many as 200 that begin and end in a second.
MAX_LOOKS: Final = 2048


class Reaper:
    """Not thread-safe."""

    def __init__(self, is_alive: Callable[[Owner], bool]) -> None:
        self._is_alive = is_alive
        self._gone_since: dict[int, float] = {}  # monotonic, by owner id
        self._next = 0  # owner id from which on the next reading looks
        # By owner id, since when it is known that it had ended when it was first seen.
        self._short: dict[int, float] = {}  # then its monotonic time, else 0

    def was_short(self, owner: Owner) -> bool:
        """Whether it had ended before its first reading. Such a process has no series of its own:
        nobody has seen any, and a thousand runs of one command are one thing.
        """
        known = self._short.get(owner.id)
        if known is None:
            ended = not self._is_alive(owner)
            known = self._short[owner.id] = time.monotonic() if ended else 0.0
        return known > 0

    def due(
        self, owners: Iterable[Owner], *, busy: Collection[int], now_s: float
    ) -> set[int]:
        """The ids of those that ended and were quiet since; `busy` counted something now."""
        quiet = sorted(
            (owner for owner in owners if owner.id not in busy),
            key=lambda owner: (owner.id < self._next, owner.id),
        )
        looked_at = list(islice(quiet, MAX_LOOKS))
        if looked_at:
            self._next = looked_at[-1].id + 1
        for owner in looked_at:
            if self._is_alive(owner):
                self._gone_since.pop(owner.id, None)
            else:
                self._gone_since.setdefault(owner.id, now_s)
        for owner_id in busy:
            self._gone_since.pop(owner_id, None)
        gone = {
            owner_id
            for owner_id, since in self._gone_since.items()
            if now_s - since >= QUIET_S
        } | {
            owner.id
            for owner in quiet
            if (since := self._short.get(owner.id, 0.0))
            and now_s - since >= SHORT_QUIET_S
        }
        for owner_id in gone:
            self._gone_since.pop(owner_id, None)
        return gone

    def forget(self, owner_ids: Iterable[int]) -> None:
        """Their numbers go to others."""
        for owner_id in owner_ids:
            self._short.pop(owner_id, None)
