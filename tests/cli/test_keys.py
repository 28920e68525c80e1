# SPDX-License-Identifier: Apache-2.0
"""Bytes of terminals become keys, in whatever pieces they come; a terminal is given back."""

from __future__ import annotations

import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.tty import Tty

from deetune_otel.cli.keys import SEQUENCES, Decoder, Key

CASES = [
    (b"abc", ["a", "b", "c"]),
    (b"\x1b[A\x1b[B\x1bOC\x1bOD", [Key.UP, Key.DOWN, Key.RIGHT, Key.LEFT]),
    (b"\x1b[5~\x1b[6~\x1b[1~\x1bOF", [Key.PAGE_UP, Key.PAGE_DOWN, Key.HOME, Key.END]),
    (
        b"\r\n\t\x7f\x08\x15",
        [Key.ENTER] * 2 + [Key.TAB] + [Key.BACKSPACE] * 2 + [Key.CLEAR_LINE],
    ),
    ("größe→".encode(), list("größe→")),
    (b"\x1b[1;5A\x1b[15~\x1b[<0;3;4M", []),  # Ctrl-Up, F5, a mouse: nothing of ours
    (b"\x1bq", [Key.ESCAPE, "q"]),
    (b"\x1b\x1b[A", [Key.ESCAPE, Key.UP]),
    (b"\x00\x01\xff", ["\N{REPLACEMENT CHARACTER}"]),
]


@pytest.mark.parametrize(("data", "keys"), CASES)
def test_keys(data: bytes, keys: list[str]) -> None:
    decoder = Decoder()
    assert [*decoder.feed(data), *decoder.flush()] == keys


@pytest.mark.parametrize(("data", "keys"), CASES)
def test_keys_byte_by_byte(data: bytes, keys: list[str]) -> None:
    decoder = Decoder()
    found = [key for byte in data for key in decoder.feed(bytes([byte]))]
    assert [*found, *decoder.flush()] == keys


def test_an_escape_waits_for_what_may_follow() -> None:
    decoder = Decoder()
    assert list(decoder.feed(b"\x1b")) == []
    assert decoder.is_waiting
    assert list(decoder.flush()) == [Key.ESCAPE]
    assert not decoder.is_waiting


@given(st.lists(st.binary(max_size=8), max_size=8))
def test_any_bytes_are_keys_or_nothing(pieces: list[bytes]) -> None:
    decoder = Decoder()
    keys = [key for piece in pieces for key in decoder.feed(piece)]
    for key in (*keys, *decoder.flush()):
        assert key in set(Key) or (len(key) == 1 and key.isprintable())


@given(st.lists(st.sampled_from(sorted(SEQUENCES)), max_size=5), st.integers(1, 4))
def test_sequences_are_whole_however_they_are_cut(names: list[str], size: int) -> None:
    data = "".join(f"\x1b{name}" for name in names).encode()
    decoder = Decoder()
    found = [
        key
        for at in range(0, len(data), size)
        for key in decoder.feed(data[at : at + size])
    ]
    assert found == [SEQUENCES[name] for name in names]


ECHO = """
from deetune_otel.cli.keys import Terminal
with Terminal() as terminal:
    seen = ["ready"]
    while "closed" not in seen:
        columns, lines = terminal.size()
        text = f"{columns}x{lines} {seen[-1]}".ljust(columns)
        terminal.draw([text] + [" " * columns] * (lines - 1))
        seen += terminal.wait(5)
    {end}
"""


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)"])
def test_a_terminal_gives_keys_sizes_and_signals(end: str) -> None:
    with Tty([sys.executable, "-c", ECHO.replace("{end}", end)], columns=40) as tty:
        tty.wait("40x30 ready")
        tty.type("x")
        tty.wait("40x30 x")
        tty.type("\x1b[A")
        tty.wait("40x30 up")
        tty.type("\x1b")
        tty.wait("40x30 escape")  # without a further key
        tty.resize(30, 10)
        tty.wait("30x10 resized")
        tty.type("\x13y")  # Ctrl-S stops nothing
        tty.wait("30x10 y")
        tty.signal(signal.SIGQUIT)
        assert tty.ended() == 0
        assert tty.mode == tty.mode_before
        assert tty.sent.endswith(b"\x1b[?1049l")


def test_the_end_of_input_ends_a_wait() -> None:
    with Tty([sys.executable, "-c", ECHO.replace("{end}", "pass")], columns=40) as tty:
        tty.wait("ready")
        tty.hang_up()
        assert tty.process.wait(20) in {0, 1}  # 1: nobody reads the last picture
