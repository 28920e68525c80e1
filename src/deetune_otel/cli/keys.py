# SPDX-License-Identifier: Apache-2.0
"""A terminal of our own for a while: keys one by one, a screen without flicker.

`Terminal` is a context manager, and however it is left (key, exception, SIGINT, SIGTERM, SIGHUP,
Ctrl-Z and back) the terminal is as it was. Signals do not interrupt anything: they are read from
a pipe where keys are waited for.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from typing import Final, Self

from deetune_otel.cli import output

__all__ = ["Decoder", "Key", "Terminal"]

# A sequence may come in pieces over a slow line; a person does not notice the wait.
ESCAPE_S: Final = 0.1
READ_BYTES: Final = 4096

# Alternate screen, no cursor, no wrapping of a line that a smaller window has no room for.
ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
LEAVE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
CLEAR: Final = "\x1b[0m\x1b[2J"

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
HANDLED: Final = (*ENDING, signal.SIGWINCH, signal.SIGTSTP)
WAKE: Final = b"\0"  # no signal has this number


class Key(StrEnum):
    """A key without a character of its own, or something that keys are waited for with."""

    UP = "up"
    DOWN = "down"
    LEFT = "left"
    RIGHT = "right"
    HOME = "home"
    END = "end"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    TAB = "tab"
    ENTER = "enter"
    ESCAPE = "escape"
    BACKSPACE = "backspace"
    CLEAR_LINE = "clear line"  # Ctrl-U
    CLOSED = "closed"  # the terminal went away, or a signal asks to end
    RESIZED = "resized"


# ECMA-48 and the VT220's: what xterm, screen, tmux, the Linux console and PuTTY send.
SEQUENCES: Final = {
    **dict.fromkeys(("[A", "OA"), Key.UP),
    **dict.fromkeys(("[B", "OB"), Key.DOWN),
    **dict.fromkeys(("[C", "OC"), Key.RIGHT),
    **dict.fromkeys(("[D", "OD"), Key.LEFT),
    **dict.fromkeys(("[H", "OH", "[1~", "[7~"), Key.HOME),
    **dict.fromkeys(("[F", "OF", "[4~", "[8~"), Key.END),
    "[5~": Key.PAGE_UP,
    "[6~": Key.PAGE_DOWN,
    "OM": Key.ENTER,
}
CONTROLS: Final = {
    "\t": Key.TAB,
    "\r": Key.ENTER,
    "\n": Key.ENTER,
    "\x7f": Key.BACKSPACE,
    "\x08": Key.BACKSPACE,
    "\x15": Key.CLEAR_LINE,
}
SEQUENCE: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O[@-~])")
BEGUN: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?\Z")


class Decoder:
    """Bytes from a terminal → keys: `Key`, or the character that was typed."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    @property
    def is_waiting(self) -> bool:
        """Whether an escape was read that may begin a sequence."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[str]:
        text = self._rest + self._decode(data)
        self._rest = ""
        while text:
            if found := SEQUENCE.match(text):
                text = text[found.end() :]
                if key := SEQUENCES.get(found[1]):
                    yield key
            elif BEGUN.match(text):
                self._rest, text = text, ""
            else:
                yield from _typed(text[0])
                text = text[1:]

    def flush(self) -> Iterator[str]:
        """Nothing came after the escape: it was the key itself."""
        rest, self._rest = self._rest, ""
        for character in rest:
            yield from _typed(character)


def _typed(character: str) -> Iterator[str]:
    if character == "\x1b":
        yield Key.ESCAPE
    elif character in CONTROLS:
        yield CONTROLS[character]
    elif character.isprintable():
        yield character


class Terminal:
    """Standard input and output, both a terminal; of the main thread, for it takes signals."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._keys = sys.stdin.fileno()
        self._shown: list[str] = []

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._keys)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(
            self._wake_write, warn_on_full_buffer=False
        )
        self._handlers_before = {
            number: signal.signal(number, lambda *_: None) for number in HANDLED
        }
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Who hung up has no terminal to give back.
        with suppress(OSError, termios.error):
            self._give_back()
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def wake(self) -> None:
        """Ends a wait; from any thread. A full pipe has woken already."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, WAKE)

    def wait(self, timeout_s: float) -> list[str]:
        """Keys until now; waits for the first, a wake or the time, whichever is first."""
        if self._decoder.is_waiting:
            timeout_s = min(timeout_s, ESCAPE_S)
        ready, _, _ = select.select([self._keys, self._wake_read], [], [], timeout_s)
        keys: list[str] = []
        if self._wake_read in ready:
            keys += self._signals(os.read(self._wake_read, READ_BYTES))
        if self._keys in ready:
            keys += self._typed()
        elif self._decoder.is_waiting:
            keys += self._decoder.flush()
        return keys

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        return columns or 80, lines or 24

    def draw(self, lines: list[str]) -> None:
        """Shows lines that are as wide as the screen; what did not change is not sent."""
        shown, self._shown = self._shown, lines
        if len(shown) != len(lines):
            shown = [""] * len(lines)
            self._write(CLEAR)
        changed = [
            f"\x1b[{number};1H{line}"
            for number, (line, before) in enumerate(zip(lines, shown, strict=True), 1)
            if line != before
        ]
        self._write("".join(changed))

    def _take(self) -> None:
        mode = termios.tcgetattr(self._keys)
        # Keys at once and not echoed; Ctrl-S does not stop the screen. Ctrl-C stays a signal.
        mode[0] &= ~termios.IXON
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._keys, termios.TCSADRAIN, mode)
        self._write(ENTER)
        self._shown = []

    def _give_back(self) -> None:
        termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
        self._write(LEAVE)

    def _typed(self) -> list[str]:
        try:
            data = os.read(self._keys, READ_BYTES)
        except OSError:
            data = b""
        return list(self._decoder.feed(data)) if data else [Key.CLOSED]

    def _signals(self, numbers: bytes) -> Iterator[str]:
        for number in numbers:
            if number in ENDING:
                yield Key.CLOSED
            elif number == signal.SIGWINCH:
                self._shown = []  # the terminal may have moved what it showed
                yield Key.RESIZED
            elif number == signal.SIGTSTP:
                self._give_back()
                os.kill(os.getpid(), signal.SIGSTOP)
                self._take()
                yield Key.RESIZED

    def _write(self, text: str) -> None:
        terminal = output.raw(sys.stdout)
        terminal.write(text)
        terminal.flush()
