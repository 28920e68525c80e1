# SPDX-License-Identifier: Apache-2.0
"""What is sent is one request, the one that was meant, whatever a file says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    HttpRequest,
    Message,
    Missing,
    MissingBecause,
    RedisCommand,
)
from deetune_otel.replay.wire import Unsendable, written

GET = HttpRequest(method="GET", target="/a?b=c", headers=(("Host", "h"),))
SMUGGLED = "1\r\n\r\nDELETE /all HTTP/1.1\r\nHost: h"


def with_header(name: str, value: str) -> HttpRequest:
    return replace(GET, headers=(*GET.headers, (name, value)))


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        replace(GET, body=b"{}"),
        replace(GET, method="POST", body=b"x" * 100_000),
        replace(
            with_header("Transfer-Encoding", "chunked"),
            is_chunked=True,
            body=b"DELETE /all HTTP/1.1\r\n\r\n",
            trailers=(("X", "y"),),
        ),
        replace(with_header("Content-Length", "0"), body=b"GET / HTTP/1.1\r\n\r\n"),
        with_header("X", ""),
        with_header("X", "\xe4\ttab"),
        replace(GET, version="1.0"),
    ],
)
def test_whole_requests_are_written(request_: HttpRequest) -> None:
    data = written(Protocol.HTTP, request_)
    assert data.startswith(f"{request_.method} {request_.target} HTTP/".encode())
    assert request_.body in data


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (with_header("X", SMUGGLED), "a broken header"),
        (with_header("X: 1\r\n\r\nDELETE / HTTP/1.1\r\nY", "1"), "a broken header"),
        (with_header("X", "a\nb"), "a broken header"),
        (with_header("X", "a\rb"), "a broken header"),
        (with_header("X", "a\0b"), "a broken header"),
        (with_header("X", "a\x85b\u2028"), "a broken header"),
        (with_header("X ", "a"), "a broken header"),
        (with_header("", "a"), "a broken header"),
        (with_header("X", "ж"), "a broken header"),
        (replace(GET, trailers=(("X", SMUGGLED),)), "a broken header"),
        (replace(GET, method="GET / HTTP/1.1\r\n\r\nDELETE"), "a broken request line"),
        (replace(GET, method="GET "), "a broken request line"),
        (replace(GET, target="/ HTTP/1.1\r\n\r\nDELETE /"), "a broken request line"),
        (replace(GET, target="/a b"), "a broken request line"),
        (replace(GET, target=""), "a broken request line"),
        (replace(GET, version="1.1\r\nX: y"), "a broken request line"),
        (
            replace(
                with_header("Content-Length", "5"),
                headers=(("Content-Length", "5"), ("Transfer-Encoding", "chunked")),
                is_chunked=True,
                body=b"hello",
            ),
            "a request whose length is in doubt",
        ),
        (
            replace(
                GET,
                headers=(("Content-Length", "5"), ("content-length", "0")),
                body=b"hello",
            ),
            "a request whose length is in doubt",
        ),
        (
            replace(
                with_header("Transfer-Encoding", "chunked"),
                version="1.0",
                is_chunked=True,
            ),
            "a request whose length is in doubt",
        ),
        (
            replace(
                with_header("Transfer-Encoding", "chunked"), body=b"0\r\n\r\nDELETE"
            ),
            "a request whose length is in doubt",
        ),
        (
            replace(
                with_header("Transfer-Encoding", "xchunked"), is_chunked=True, body=b"a"
            ),
            "a request that could be read as another one",
        ),
        (
            replace(GET, body=b"a", missing=(Missing(1, 5, MissingBecause.LOST),)),
            "a request with missing bytes",
        ),
    ],
)
def test_what_could_be_another_request_is_not(request_: HttpRequest, why: str) -> None:
    with pytest.raises(Unsendable, match=why):
        written(Protocol.HTTP, request_)


@pytest.mark.parametrize(
    ("request_", "is_sent"),
    [
        (RedisCommand(arguments=(b"GET", b"a\r\nFLUSHALL\r\n")), True),
        (RedisCommand(arguments=(b"GET", b"a"), is_inline=True), True),
        (RedisCommand(arguments=(b"GET", b"a\r\nFLUSHALL"), is_inline=True), False),
        (RedisCommand(arguments=(b"GET", b"a b"), is_inline=True), False),
        (RedisCommand(arguments=(b"*1\r\n$8\r\nFLUSHALL",), is_inline=True), False),
        (RedisCommand(arguments=()), False),
    ],
)
def test_commands_of_redis(request_: RedisCommand, is_sent: bool) -> None:  # noqa: FBT001
    if is_sent:
        assert written(Protocol.REDIS, request_)
    else:
        with pytest.raises(Unsendable):
            written(Protocol.REDIS, request_)


def test_what_is_no_message_of_the_protocol_is_not() -> None:
    for protocol, message in (
        (Protocol.HTTP, RedisCommand(arguments=(b"GET",))),
        (Protocol.REDIS, GET),
    ):
        with pytest.raises(Unsendable):
            written(protocol, message)


TEXT = st.text(alphabet=st.sampled_from("aX: \r\n\t\0\x85%/?GETDL1HP.ж"), max_size=30)


@given(
    st.builds(
        HttpRequest,
        method=st.just("GET") | TEXT,
        target=st.just("/") | TEXT,
        headers=st.lists(
            st.tuples(
                st.sampled_from(["X", "Content-Length", "Transfer-Encoding"]) | TEXT,
                TEXT,
            ),
            max_size=3,
        ).map(tuple),
        body=st.binary(max_size=20),
        is_chunked=st.booleans(),
        trailers=st.lists(st.tuples(TEXT, TEXT), max_size=1).map(tuple),
    )
)
def test_line_ends_stand_where_we_put_them(request_: Message) -> None:
    assert isinstance(request_, HttpRequest)
    try:
        data = written(Protocol.HTTP, request_)
    except Unsendable:
        return
    head = data[: data.index(b"\r\n\r\n")]
    added = "content-length" not in {name.lower() for name, _ in request_.headers}
    lines = (
        1
        + len(request_.headers)
        + (added and bool(request_.body) and not request_.is_chunked)
    )
    assert len(head.split(b"\n")) == len(head.split(b"\r")) == lines
    assert b"\0" not in head
