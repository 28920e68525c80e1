# SPDX-License-Identifier: Apache-2.0
"""What nobody understands: messages end where the other side speaks."""

from __future__ import annotations

from collections import deque

import pytest

from deetune_otel.recording.assembly import Assembler
from deetune_otel.recording.codecs import RAW, raw
from deetune_otel.recording.model import (
    HttpRequest,
    Missing,
    MissingBecause,
    Piece,
    RawMessage,
    Turn,
)

LOST = MissingBecause.LOST


def piece(
    data: bytes,
    offset: int,
    *,
    from_client: bool,
    start: int | None = None,
    at: int = 0,
) -> Piece:
    return Piece(
        from_client=from_client,
        offset=offset,
        at_ns=at,
        data=data,
        is_start=start is not None,
        other_offset=start or 0,
    )


def shown(turns: list[Turn]) -> list[tuple[object, object, tuple[str, ...]]]:
    return [
        (
            one.request.data if isinstance(one.request, RawMessage) else None,
            one.response.data if isinstance(one.response, RawMessage) else None,
            one.incomplete,
        )
        for one in turns
    ]


def test_who_speaks_ends_what_the_other_said() -> None:
    assembler = Assembler(RAW)
    turns = assembler.feed(piece(b"ab", 0, from_client=True, start=0, at=1))
    turns += assembler.feed(piece(b"c", 2, from_client=True, at=2))
    turns += assembler.feed(piece(b"XY", 0, from_client=False, at=3))
    turns += assembler.feed(piece(b"Z", 2, from_client=False, at=4))
    assert turns == []
    turns = assembler.feed(piece(b"d", 3, from_client=True, start=3, at=5))
    assert shown(turns) == [(b"abc", b"XYZ", ())]
    (one,) = turns
    assert (one.request_start_ns, one.request_end_ns) == (1, 2)
    assert (one.response_start_ns, one.response_end_ns) == (3, 4)
    assembler.feed(piece(b"W", 3, from_client=False))
    assert shown(assembler.end()) == [(b"d", b"W", ())]


def test_the_other_ends_copies_end_nothing() -> None:
    assembler = Assembler(RAW)
    assembler.feed(piece(b"ab", 0, from_client=True, start=0))
    assembler.feed(piece(b"ab", 0, from_client=True, start=0))
    assembler.feed(piece(b"X", 0, from_client=False))
    assert assembler.feed(piece(b"ab", 0, from_client=True, start=0)) == []
    assembler.feed(piece(b"X", 0, from_client=False))
    assembler.feed(piece(b"Y", 1, from_client=False))
    assert shown(assembler.end()) == [(b"ab", b"XY", ())]


def test_what_nobody_answered_ends_with_the_connection() -> None:
    assembler = Assembler(RAW)
    assembler.feed(piece(b"ab", 0, from_client=True, start=0))
    assert shown(assembler.end()) == [(b"ab", None, ("closed",))]


def test_gaps_stay_gaps_there_and_back() -> None:
    decoder = raw.responses(deque())
    decoder.feed(b"ab")
    decoder.skip(3, LOST)
    decoder.skip(1, LOST)
    decoder.feed(b"c")
    (one,) = decoder.end()
    assert one.message == RawMessage(data=b"abc", missing=(Missing(2, 4, LOST),))
    assert (one.begin, one.end, one.message.wire_bytes) == (0, 7, 7)
    assert raw.encode(one.message) == [b"ab", Missing(2, 4, LOST), b"c"]
    assert decoder.end() == []


def test_a_long_message_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MAX_KEPT", 4)
    decoder = raw.requests()
    decoder.feed(b"abc")
    decoder.feed(b"defg")
    decoder.feed(b"hi")
    (one,) = decoder.end()
    assert one.message == RawMessage(
        data=b"abcd", missing=(Missing(4, 5, MissingBecause.LIMIT),)
    )


def test_no_other_message_is_written() -> None:
    with pytest.raises(TypeError):
        raw.encode(HttpRequest(method="GET", target="/"))
