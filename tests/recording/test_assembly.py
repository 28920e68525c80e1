# SPDX-License-Identifier: Apache-2.0
"""Held against a codec of lines: `?text\\n` is answered by `!text\\n`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.recording.assembly import Assembler
from deetune_otel.recording.codecs.contract import CodecError, Decoded
from deetune_otel.recording.model import (
    Message,
    Missing,
    MissingBecause,
    Piece,
    RawMessage,
    Turn,
)

if TYPE_CHECKING:
    from collections import deque


class _Lines:
    """Reads over what is missing behind a line's first byte."""

    def __init__(self, asked: deque[Message] | None = None) -> None:
        self._asked = asked
        self._rest = b""
        self._missing: list[Missing] = []
        self._at = 0

    def feed(self, data: bytes) -> list[Decoded]:
        found: list[Decoded] = []
        for i in range(len(data)):
            if not self._rest and self._asked:
                self._asked.popleft()
            self._rest += data[i : i + 1]
            if self._rest.endswith(b"\n"):
                message = RawMessage(data=self._rest, missing=tuple(self._missing))
                end = self._at + message.wire_bytes
                found.append(Decoded(message, self._at, end))
                self._rest, self._missing, self._at = b"", [], end
        return found

    def skip(self, count: int, because: MissingBecause) -> list[Decoded]:
        if not self._rest:
            raise CodecError("a line's first byte is missing")
        self._missing.append(Missing(len(self._rest), count, because))
        return []

    def end(self) -> list[Decoded]:
        return []


class _Codec:
    def requests(self) -> _Lines:
        return _Lines()

    def responses(self, asked: deque[Message]) -> _Lines:
        return _Lines(asked)

    def encode(self, message: Message) -> list[bytes | Missing]:
        raise NotImplementedError


def _ask(offset: int, data: bytes, *, at: int = 0, start: int | None = None) -> Piece:
    return Piece(
        from_client=True,
        offset=offset,
        at_ns=at,
        data=data,
        is_start=start is not None,
        other_offset=start or 0,
    )


def _answer(offset: int, data: bytes, *, at: int = 0) -> Piece:
    return Piece(from_client=False, offset=offset, at_ns=at, data=data)


def _texts(turns: list[Turn]) -> list[tuple[bytes, bytes | None]]:
    return [
        (_data(turn.request) or b"", _data(turn.response) if turn.response else None)
        for turn in turns
    ]


def _data(message: Message | None) -> bytes:
    assert isinstance(message, RawMessage)
    return message.data


def _fed(assembler: Assembler, *pieces: Piece) -> list[Turn]:
    return [turn for piece in pieces for turn in assembler.feed(piece)]


def test_a_turn_has_the_times_and_offsets_of_its_bytes() -> None:
    (turn,) = _fed(
        Assembler(_Codec()),
        _ask(1000, b"?a", at=10, start=500),
        _ask(1002, b"\n", at=20),
        _answer(500, b"!", at=30),
        _answer(501, b"a\n", at=40),
    )

    assert (turn.request_offset, turn.response_offset) == (1000, 500)
    assert (turn.request_start_ns, turn.request_end_ns) == (10, 20)
    assert (turn.response_start_ns, turn.response_end_ns) == (30, 40)
    assert turn.incomplete == ()


@given(st.lists(st.integers(1, 9), max_size=20), st.lists(st.integers(1, 9)))
def test_however_it_is_cut_the_turns_are_the_same(
    asked: list[int], answered: list[int]
) -> None:
    requests, responses = b"?a\n?bb\n?ccc\n", b"!a\n!bb\n!ccc\n"
    pieces = [
        *[
            _ask(at, data, start=0 if at == 0 else None)
            for at, data in _cut(requests, asked)
        ],
        *[_answer(at, data) for at, data in _cut(responses, answered)],
    ]

    assert _texts(_fed(Assembler(_Codec()), *pieces)) == [
        (b"?a\n", b"!a\n"),
        (b"?bb\n", b"!bb\n"),
        (b"?ccc\n", b"!ccc\n"),
    ]


def _cut(data: bytes, sizes: list[int]) -> list[tuple[int, bytes]]:
    found, at = [], 0
    for size in sizes:
        if at < len(data):
            found.append((at, data[at : at + size]))
            at += size
    return [*found, (at, data[at:])] if at < len(data) else found


def test_what_both_ends_brought_is_taken_once() -> None:
    request, response = _ask(0, b"?a\n", start=0), _answer(0, b"!a\n")

    turns = _fed(Assembler(_Codec()), request, request, response, response)

    assert _texts(turns) == [(b"?a\n", b"!a\n")]


def test_a_response_may_be_read_before_its_request_has_returned() -> None:
    turns = _fed(
        Assembler(_Codec()),
        _ask(0, b"?a\n", start=0),
        _answer(0, b"!a\n"),
        _answer(3, b"!b\n"),
        _ask(3, b"?b\n"),
    )

    assert _texts(turns) == [(b"?a\n", b"!a\n"), (b"?b\n", b"!b\n")]


def test_nothing_is_read_before_a_start() -> None:
    turns = _fed(
        Assembler(_Codec()),
        _ask(7, b"middle\n"),
        _answer(3, b"!middle\n"),
        _ask(14, b"?a\n", start=11),
        _answer(11, b"!a\n"),
    )

    assert _texts(turns) == [(b"?a\n", b"!a\n")]


def test_a_gap_that_the_codec_reads_over_marks_the_turn() -> None:
    (turn,) = _fed(
        Assembler(_Codec()),
        _ask(0, b"?a\n", start=0),
        _answer(0, b"!a"),
        _answer(2, b"")._replace(missing=5, because=MissingBecause.OPAQUE),
        _answer(7, b"z\n"),
    )

    assert turn.incomplete == (MissingBecause.OPAQUE,)
    assert isinstance(turn.response, RawMessage)
    assert turn.response.missing == (Missing(2, 5, MissingBecause.OPAQUE),)


def test_a_jump_in_the_offsets_is_a_loss() -> None:
    (turn,) = _fed(
        Assembler(_Codec()),
        _ask(0, b"?a\n", start=0),
        _answer(0, b"!a"),
        _answer(4, b"z\n"),
    )

    assert turn.incomplete == (MissingBecause.LOST,)


def test_out_of_step_it_gives_up_what_is_open_and_begins_again_at_a_start() -> None:
    turns = _fed(
        Assembler(_Codec()),
        _ask(0, b"?a\n", start=0),
        _answer(9, b"lost\n"),  # its first byte is missing
        _answer(14, b"!more\n"),
        _ask(3, b"?b\n", start=20),
        _answer(20, b"!b\n"),
    )

    assert _texts(turns) == [(b"?a\n", None), (b"?b\n", b"!b\n")]
    assert turns[0].incomplete == (MissingBecause.LOST,)
    assert turns[1].incomplete == ()


def test_a_start_with_a_request_open_says_that_its_response_is_lost() -> None:
    turns = _fed(
        Assembler(_Codec()),
        _ask(0, b"?a\n", start=0),
        _ask(3, b"?b\n", start=3),
        _answer(3, b"!b\n"),
    )

    assert [(turn.incomplete, turn.response is None) for turn in turns] == [
        ((MissingBecause.LOST,), True),
        ((), False),
    ]


def test_what_is_open_at_the_end_has_no_response() -> None:
    assembler = Assembler(_Codec())
    assembler.feed(_ask(0, b"?a\n?b\n", start=0))
    assembler.feed(_answer(0, b"!a\n"))

    (turn,) = assembler.end()

    assert _texts([turn]) == [(b"?b\n", None)]
    assert turn.incomplete == ("closed",)


def test_answers_to_nothing_are_not_held_for_ever() -> None:
    assembler = Assembler(_Codec())
    assembler.feed(_ask(0, b"?a\n", start=0))

    turns = _fed(assembler, *(_answer(3 * i, b"!a\n") for i in range(200)))

    assert _texts(turns) == [(b"?a\n", b"!a\n")]
    # out of step: only a start is read again
    assert assembler.feed(_ask(3, b"?b\n")) == []
    assert assembler.end() == []
