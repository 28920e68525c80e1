# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and a terminal that hangs up, asked for where a command can end in order."""

from __future__ import annotations

import signal
import threading
from typing import Final, Self

__all__ = ["NUMBERS", "Interrupts"]

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Raised where they come, they could part what is being started from who ends it."""

    def __init__(self) -> None:
        self._came = threading.Event()

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, lambda *_: self._came.set())
            for number in NUMBERS
            # nohup ignores a hang-up, and means it; a shell's background ignores SIGINT, and who
            # sends one all the same means that.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, seconds: float) -> bool:
        """Whether one came, within the time at the latest."""
        return self._came.wait(seconds)

    def check(self) -> None:
        """Raises KeyboardInterrupt when one came."""
        if self._came.is_set():
            raise KeyboardInterrupt
