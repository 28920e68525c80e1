# SPDX-License-Identifier: Apache-2.0
"""A program in a real terminal: a pseudo-terminal, with an emulator that knows its screen."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import pyte

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Tty"]

DEADLINE_S: Final = 20.0


class Tty:
    """Until it is left; `screen` is what a person would see now."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        columns: int = 100,
        lines: int = 30,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.sent = b""
        self._master, self._slave = os.openpty()
        self._set_size(columns, lines)
        self.mode_before: Any = termios.tcgetattr(self._slave)
        without = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}
        kept = {key: value for key, value in os.environ.items() if key not in without}
        self.process = subprocess.Popen(
            [
                "setsid",
                "--ctty",
                *argv,
            ],  # its controlling terminal: signals come from it
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**kept, "TERM": "xterm-256color", **(env or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def mode(self) -> Any:
        return termios.tcgetattr(self._slave)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def has_colours(self) -> bool:
        return any(
            cell.fg != "default" or cell.bg != "default"
            for line in self._screen.buffer.values()
            for cell in line.values()
        )

    def reversed_line(self) -> str:
        """The line of the selected row."""
        for number, line in self._screen.buffer.items():
            if line[0].reverse:
                return self.lines[number]
        return ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        self._screen.erase_in_display(2)  # what is seen from now on was sent since
        self._set_size(columns, lines)  # the kernel sends SIGWINCH

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def hang_up(self) -> None:
        """As when the line is cut: nobody is at the other end."""
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDWR)

    def wait(self, what: str | Callable[[], object]) -> None:
        """Until a text is on the screen, or a condition of it holds."""
        is_there = (lambda: what in self.text) if isinstance(what, str) else what
        deadline = time.monotonic() + DEADLINE_S
        while not is_there():
            assert time.monotonic() < deadline, f"never: {what!r}; screen:\n{self.text}"
            self._read(0.05)

    def ended(self) -> int:
        """Its exit code, once it has ended and all that it wrote was read."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still runs; screen:\n{self.text}"
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        if not ready:
            return False
        data = os.read(self._master, 65536)
        self.sent += data
        self._stream.feed(data)
        return True

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(
            self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0)
        )
