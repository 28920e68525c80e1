# SPDX-License-Identifier: Apache-2.0
"""RESP2 and RESP3, cut anywhere, with gaps, and what is refused."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.recording.codecs import redis
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.codecs.redis import (
    Aggregate,
    BigNumber,
    Double,
    Error,
    Nil,
    Simple,
    Verbatim,
)
from deetune_otel.recording.model import (
    Message,
    Missing,
    MissingBecause,
    RedisCommand,
    RedisReply,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deetune_otel.recording.codecs.contract import Decoded, Decoder

LOST: Final = MissingBecause.LOST


def fed(decoder: Decoder, data: bytes, size: int = 1 << 20) -> list[Decoded]:
    return [
        one
        for at in range(0, len(data), size)
        for one in decoder.feed(data[at : at + size])
    ]


def played(decoder: Decoder, parts: Sequence[bytes | Missing]) -> list[Decoded]:
    found: list[Decoded] = []
    for part in parts:
        if isinstance(part, Missing):
            found += decoder.skip(part.bytes, part.because)
        else:
            found += decoder.feed(part)
    return found + decoder.end()


def replies(wire: bytes, size: int = 1 << 20) -> list[object]:
    asked: deque[Message] = deque()
    return [
        one.message.value
        for one in fed(redis.responses(asked), wire, size)
        if isinstance(one.message, RedisReply)
    ]


def commands(wire: bytes, size: int = 1 << 20) -> list[tuple[bytes, ...]]:
    return [
        one.message.arguments
        for one in fed(redis.requests(), wire, size)
        if isinstance(one.message, RedisCommand)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_pipelined_commands_cut_anywhere(size: int) -> None:
    wire = (
        b"*2\r\n$3\r\nGET\r\n$5\r\na\r\nbc\r\n*0\r\n\r\nPING\r\n"
        b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$0\r\n\r\n*-1\r\nGET  key \r\n"
    )
    found = fed(redis.requests(), wire, size)
    assert [one.message.arguments for one in found] == [  # type: ignore[union-attr]
        (b"GET", b"a\r\nbc"),
        (b"PING",),
        (b"set", b"k", b""),
        (b"GET", b"key"),
    ]
    assert wire[found[0].begin : found[0].end].endswith(b"bc\r\n")
    assert wire[found[1].begin : found[1].end] == b"PING\r\n"
    assert found[2].message.wire_bytes == found[2].end - found[2].begin
    assert [getattr(one.message, "is_inline", None) for one in found] == [
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"$3\r\na\r\n\r\n", b"a\r\n"),
        (b"$-1\r\n", Nil("bulk")),
        (b"*-1\r\n", Nil("array")),
        (b"_\r\n", Nil("null")),
        (b"+OK\r\n", Simple("OK")),
        (b"-ERR no\r\n", Error("ERR no")),
        (b"!6\r\nERR no\r\n", Error("ERR no", is_bulk=True)),
        (b":-17\r\n", -17),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b",1.50\r\n", Double("1.50")),
        (
            b"(123456789012345678901234567890\r\n",
            BigNumber("123456789012345678901234567890"),
        ),
        (b"=7\r\ntxt:abc\r\n", Verbatim("txt", b"abc")),
        (b"*0\r\n", Aggregate("array")),
        (
            b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n",
            Aggregate("array", (1, Aggregate("array", (b"a",)))),
        ),
        (
            b"%1\r\n+k\r\n~1\r\n_\r\n",
            Aggregate("map", (Simple("k"), Aggregate("set", (Nil("null"),)))),
        ),
    ],
)
def test_each_type_there_and_back(wire: bytes, value: object, size: int) -> None:
    assert replies(wire * 2, size) == [value, value]
    assert redis.encode(RedisReply(value=value)) == [wire]


def test_a_push_belongs_to_no_request() -> None:
    asked: deque[Message] = deque([RedisCommand(arguments=(b"GET", b"k"))])
    decoder = redis.responses(asked)
    assert decoder.feed(b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n") == []
    assert len(asked) == 1
    (one,) = decoder.feed(b"+OK\r\n")
    assert (len(asked), one.message) == (
        0,
        RedisReply(value=Simple("OK"), wire_bytes=5),
    )


@pytest.mark.parametrize(
    "wire",
    [
        b"*1\r\n$9\r\nSUBSCRIBE\r\n",
        b"monitor\r\n",
        b"*3\r\n$6\r\nclient\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$999999999999\r\n",
        b"*9999999\r\n",
        b"*x\r\n",
        b"*1\r\n$1\r\nabc",
        b"\x16\x03\x01\r\n",
        b"a" * 70_000,
        b"*01\r\n",
    ],
)
def test_what_is_no_command_is_refused(wire: bytes) -> None:
    with pytest.raises(CodecError):
        fed(redis.requests(), wire)


@pytest.mark.parametrize(
    "wire",
    [
        b"|1\r\n+a\r\n+b\r\n+OK\r\n",
        b"$?\r\n",
        b"*1\r\n>1\r\n+a\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"#x\r\n",
        b"(1.5\r\n",
        b"=2\r\nab\r\n",
        b"*-2\r\n",
        b":" + b"9" * 30 + b"\r\n",
        b"*1\r\n" * 40,
        b"%9999999\r\n",
    ],
)
def test_what_is_no_reply_is_refused(wire: bytes) -> None:
    with pytest.raises(CodecError):
        replies(wire)


def test_bytes_missing_in_a_value_stay_a_gap() -> None:
    asked: deque[Message] = deque()
    parts: list[bytes | Missing] = [
        b"*2\r\n$10\r\nabc",
        Missing(0, 5, LOST),
        b"ij\r\n$1\r\nz\r\n",
    ]
    (one,) = played(redis.responses(asked), parts)
    assert one.message == RedisReply(
        value=Aggregate("array", (b"abcij", b"z")),
        missing=(Missing(12, 5, LOST),),
        wire_bytes=28,
    )
    assert redis.encode(one.message) == [
        b"*2\r\n$10\r\nabc",
        Missing(12, 5, LOST),
        b"ij\r\n$1\r\nz\r\n",
    ]


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_a_gap_may_cover_the_end_of_the_value(behind: int) -> None:
    (one,) = played(
        redis.requests(),
        [
            b"*2\r\n$3\r\nGET\r\n$4\r\nab",
            Missing(0, 2 + behind, LOST),
            b"\r\n"[behind:],
        ],
    )
    assert one.message == RedisCommand(
        arguments=(b"GET", b"ab"), missing=(Missing(19, 2, LOST),), wire_bytes=23
    )
    assert one.end == 23


@pytest.mark.parametrize(
    "before", [b"", b"*1\r", b"*1\r\n$4\r\nabcd\r", b"*1\r\n$4\r\nab"]
)
def test_more_than_a_value_must_not_be_missing(before: bytes) -> None:
    decoder = redis.requests()
    decoder.feed(before)
    with pytest.raises(CodecError):
        decoder.skip(5, LOST)


TEXT = st.text(alphabet=st.characters(codec="latin-1", exclude_characters="\r\n"))
SCALARS: st.SearchStrategy[Any] = (
    st.binary()
    | st.integers(-(2**62), 2**62)
    | st.booleans()
    | st.builds(Simple, TEXT)
    | st.builds(Error, TEXT, st.booleans())
    | st.builds(Nil, st.sampled_from(["bulk", "array", "null"]))
    | st.builds(Verbatim, st.just("txt"), st.binary())
    | st.builds(Double, st.sampled_from(["1", "inf", "-1.5e7"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(
            Aggregate, st.sampled_from(["array", "set"]), st.lists(inner).map(tuple)
        )
        | st.builds(
            Aggregate,
            st.just("map"),
            st.lists(st.tuples(inner, inner)).map(lambda pairs: sum(pairs, ())),
        )
    ),
    max_leaves=20,
)


@given(value=VALUES, size=st.integers(1, 50))
def test_any_reply_there_and_back_cut_anywhere(value: object, size: int) -> None:
    (wire,) = redis.encode(RedisReply(value=value))
    assert isinstance(wire, bytes)
    asked: deque[Message] = deque()
    (one,) = fed(redis.responses(asked), wire, size)
    assert one.message == RedisReply(value=value, wire_bytes=len(wire))


@given(st.lists(st.binary(), min_size=1).map(tuple), st.integers(1, 50))
def test_any_command_there_and_back_cut_anywhere(
    arguments: tuple[bytes, ...], size: int
) -> None:
    (wire,) = redis.encode(RedisCommand(arguments=arguments))
    assert isinstance(wire, bytes)
    with suppress(CodecError):  # some words have not one reply
        assert commands(wire, size) == [arguments]


@given(st.binary() | st.text("*$+-:_#,(!=~%>|0123456789\r\nax").map(str.encode))
def test_any_bytes_raise_nothing_else(wire: bytes) -> None:
    for decoder in (redis.requests(), redis.responses(deque())):
        with suppress(CodecError):
            fed(decoder, wire, 3)
            decoder.skip(1, LOST)


@pytest.mark.parametrize("small", [b":1\r\n", b"+\r\n", b"$0\r\n\r\n"])
def test_the_time_it_takes_is_linear(small: bytes) -> None:
    def best(count: int) -> float:
        wire = b"*%d\r\n" % count + small * count
        times = []
        for _ in range(3):
            began = time.perf_counter()
            assert len(replies(wire, 1000)) == 1
            times.append(time.perf_counter() - began)
        return min(times)

    # quadratic would be 64 times as long; linear is 8, and collecting garbage some more
    assert best(160_000) < 30 * best(20_000) + 0.01
