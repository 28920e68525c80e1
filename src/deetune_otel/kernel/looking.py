# SPDX-License-Identifier: Apache-2.0
"""When the kernel side looks what threads wait for: while it matters, because it costs.

dt_task_switch runs whenever a task leaves a processor. It is attached when the agent starts, when
a program makes a call of which the cause would be known if the program were, and for a moment
every now and again, since programs change.
"""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from deetune_otel.kernel.libbpf import Link, Program

__all__ = ["Looking"]

_log = logging.getLogger(__name__)

# A program that makes calls at all answers a few requests meanwhile.
LOOK_S: Final = 10.0
GLANCE_EVERY_S: Final = 60.0
GLANCE_S: Final = 0.5


class Looking:
    """Thread-safe; times are the caller's clock. Without a program (None) it does nothing."""

    def __init__(self, program: Program | None) -> None:
        self._program = program
        self._lock = Lock()
        self._link: Link | None = None
        self._until_s = 0.0
        self._is_over = False

    def look(self, now_s: float, for_s: float = LOOK_S) -> None:
        """From now on for so long at least."""
        with self._lock:
            self._until_s = max(self._until_s, now_s + for_s)
            if self._program is None or self._link is not None or self._is_over:
                return
            try:
                self._link = self._program.attach()
            except OSError as error:
                self._is_over = True
                _log.warning("no call's cause is known by its thread: %s", error)

    def tick(self, now_s: float) -> None:
        """To be called every now and again: the end of a look, or time for a glance."""
        with self._lock:
            is_looking = self._link is not None
            if is_looking and now_s >= self._until_s:
                self._stop()
        if not is_looking and now_s >= self._until_s + GLANCE_EVERY_S:
            self.look(now_s, GLANCE_S)

    def close(self) -> None:
        """For good; again does nothing."""
        with self._lock:
            self._is_over = True
            self._stop()

    def _stop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
