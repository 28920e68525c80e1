# SPDX-License-Identifier: Apache-2.0
"""HTTP/1, cut anywhere, with gaps, and what is refused."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.http import METHODS

from deetune_otel.recording.codecs import http
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Message,
    Missing,
    MissingBecause,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deetune_otel.recording.codecs.contract import Decoded, Decoder

LIMIT = MissingBecause.LIMIT
GET = HttpRequest(method="GET", target="/")
HEAD = HttpRequest(method="HEAD", target="/")


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


def size_of(parts: Sequence[bytes | Missing]) -> int:
    return sum(one.bytes if isinstance(one, Missing) else len(one) for one in parts)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_pipelined_requests_cut_anywhere(size: int) -> None:
    wire = (
        b"\r\n\nPOST /a?b=c HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\nabc"
        b"PUT /b HTTP/1.1\nTransfer-Encoding: gzip, chunked\nX:  a \t\n\n"
        b"3;name=value\r\nabc\r\n0A\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n"
        b"GET / HTTP/1.0\r\n\r\n"
    )
    first, second, third = fed(http.requests(), wire, size)
    assert first.message == HttpRequest(
        method="POST",
        target="/a?b=c",
        headers=(("Host", "x"), ("content-length", "3")),
        body=b"abc",
        wire_bytes=first.end - first.begin,
    )
    assert wire[first.begin : first.end].startswith(b"POST")
    assert isinstance(second.message, HttpRequest)
    assert second.message.body == b"abc0123456789"
    assert second.message.is_chunked
    assert second.message.trailers == (("Sum", "1"),)
    assert second.message.headers[1] == ("X", "a")
    assert second.begin == first.end
    assert isinstance(third.message, HttpRequest)
    assert third.message.version == "1.0"
    assert (third.begin, third.end) == (second.end, len(wire))


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.9"])
@pytest.mark.parametrize("method", METHODS)
def test_any_method_of_any_minor_version(method: bytes, version: str) -> None:
    wire = method + b" /a HTTP/" + version.encode() + b"\r\n\r\n"
    for size in (1, 7, len(wire)):
        (one,) = fed(http.requests(), wire, size)
        assert one.message == HttpRequest(
            method=method.decode(), target="/a", version=version, wire_bytes=len(wire)
        )
        assert http.encode(one.message) == [wire]
    answer = f"HTTP/{version} 200 OK\r\nContent-Length: 2\r\n\r\nok".encode()
    (found,) = fed(http.responses(deque([one.message])), answer)
    assert isinstance(found.message, HttpResponse)
    assert (found.message.version, found.message.body) == (version, b"ok")


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_responses_by_what_was_asked(size: int) -> None:
    wire = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        b"HTTP/1.1 200\r\nContent-Length: 999\r\n\r\n"
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
        b"HTTP/1.1 404 Not Found\r\n\r\nuntil the end"
    )
    asked: deque[Message] = deque((GET, HEAD, GET, GET))
    decoder = http.responses(asked)
    found = fed(decoder, wire, size) + decoder.end()
    messages = [one.message for one in found]
    assert [m.status for m in messages if isinstance(m, HttpResponse)] == [
        *(200, 200, 304, 404)
    ]
    bodies = [m.body for m in messages if isinstance(m, HttpResponse)]
    assert bodies == [b"ok", b"", b"", b"until the end"]
    flags = [m.has_no_body for m in messages if isinstance(m, HttpResponse)]
    assert flags == [False, True, True, False]
    assert not asked
    assert found[-1].end == len(wire)


def test_a_tunnel_is_no_http() -> None:
    asked: deque[Message] = deque([HttpRequest(method="CONNECT", target="x:1")])
    decoder = http.responses(asked)
    (one,) = decoder.feed(b"HTTP/1.1 200 Connected\r\n\r\n")
    assert isinstance(one.message, HttpResponse)
    with pytest.raises(CodecError, match="no HTTP any more"):
        decoder.feed(b"HTTP/1.1 200 OK\r\n\r\n")


def test_what_is_missing_of_a_body_is_said() -> None:
    decoder = http.requests()
    assert not decoder.feed(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab")
    assert not decoder.skip(5, LIMIT)
    (one,) = decoder.feed(b"xyz")
    assert isinstance(one.message, HttpRequest)
    assert one.message.body == b"abxyz"
    assert one.message.missing == (Missing(2, 5, LIMIT),)


@pytest.mark.parametrize(
    ("before", "count"),
    [
        (b"", 1),
        (b"GET / HT", 3),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab", 9),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", 2),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 2),
    ],
)
def test_more_than_a_body_may_not_be_missing(before: bytes, count: int) -> None:
    decoder = http.requests()
    decoder.feed(before)
    with pytest.raises(CodecError, match="more is missing"):
        decoder.skip(count, LIMIT)


@pytest.mark.parametrize(
    "wire",
    [
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"GET /" + b"x" * http.MAX_HEAD_BYTES,
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1" + b";" * 5000,
    ],
)
def test_what_breaks_the_rules_is_refused(wire: bytes) -> None:
    with pytest.raises(CodecError):
        fed(http.requests(), wire)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length: +1\r\n\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_a_request_whose_end_nobody_can_tell_ends_with_its_head(head: bytes) -> None:
    decoder = http.requests()
    wire = b"POST / HTTP/1.1\r\n" + head
    found = decoder.feed(wire)
    assert [one.message.method for one in found] == ["POST"]  # type: ignore[union-attr]
    with pytest.raises(CodecError):
        decoder.feed(b"GET / HTTP/1.1\r\n\r\n")


NAMES = st.text("abcXYZ-09", min_size=1).filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding")
)
VALUES = st.text(
    st.characters(
        min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"
    )
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4).map(tuple)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, tuple[Missing, ...]]:
    """With up to two gaps."""
    parts = draw(st.lists(st.binary(max_size=9), min_size=1, max_size=3))
    missing, at = [], 0
    for part in parts[:-1]:
        at += len(part)
        count = draw(st.integers(1, 99))
        missing.append(Missing(at, count, LIMIT))
        at += count
    return b"".join(parts), tuple(missing)


@given(headers=HEADERS, body=bodies(), is_chunked=st.booleans(), trailers=HEADERS)
def test_what_is_written_is_read_back(
    headers: tuple[tuple[str, str], ...],
    body: tuple[bytes, tuple[Missing, ...]],
    is_chunked: bool,  # noqa: FBT001
    trailers: tuple[tuple[str, str], ...],
) -> None:
    length = len(body[0]) + sum(one.bytes for one in body[1])
    framing = (
        ("Transfer-Encoding", "chunked")
        if is_chunked
        else ("Content-Length", str(length))
    )
    common = {
        "headers": (*headers, framing),
        "body": body[0],
        "missing": body[1],
        "is_chunked": is_chunked,
        "trailers": trailers if is_chunked else (),
    }
    for message, decoder in (
        (HttpRequest(method="PUT", target="/x", **common), http.requests()),  # type: ignore[arg-type]
        (HttpResponse(status=200, reason="OK", **common), http.responses(deque([GET]))),  # type: ignore[arg-type]
    ):
        parts = http.encode(message)
        (one,) = played(decoder, parts)
        assert one.end == one.message.wire_bytes == size_of(parts)
        read_back = http.encode(one.message)
        assert read_back == parts
        assert one.message.body == body[0]  # type: ignore[union-attr]
        assert one.message.missing == body[1]
        assert one.message.headers == common["headers"]  # type: ignore[union-attr]
        assert one.message.trailers == common["trailers"]  # type: ignore[union-attr]


def test_lengths_are_those_of_the_message() -> None:
    response = HttpResponse(
        status=200, headers=(("content-length", "3"),), body=b"12345"
    )
    assert b"".join(map(bytes, http.encode(response))) == (  # type: ignore[arg-type]
        b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\n12345"
    )
    assert http.encode(GET) == [b"GET / HTTP/1.1\r\n\r\n"]
    assert http.encode(HttpResponse(status=200)) == [
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"
    ]


VALID = (
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
)


@given(
    st.binary(max_size=40),
    st.integers(0, len(VALID)),
    st.integers(0, 9),
    st.integers(1, 9),
    st.booleans(),
)
def test_any_bytes_give_messages_or_an_error(
    noise: bytes,
    at: int,
    cut: int,
    size: int,
    is_request: bool,  # noqa: FBT001
) -> None:
    wire = VALID[:at] + noise + VALID[at + cut :]
    decoder = http.requests() if is_request else http.responses(deque())
    try:
        for one in fed(decoder, wire, size) + decoder.end():
            assert 0 <= one.begin < one.end <= len(wire)
    except CodecError:
        pass
