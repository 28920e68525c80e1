# SPDX-License-Identifier: Apache-2.0
"""Exchanges as recordings hold them: one plain one, and any that hypothesis can think of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from hypothesis import strategies as st

from deetune_otel.model import Protocol, Transport
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    Missing,
    MissingBecause,
    Process,
    RawMessage,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)

__all__ = ["EXCHANGE", "any_exchange", "numbered"]

EXCHANGE: Final = RecordedExchange(
    id="00f067aa0ba902b7",
    connection=Connection(
        id="00000000000000aa",
        protocol=Protocol.HTTP,
        client=Endpoint("10.0.0.1", 40_000),
        server=Endpoint("10.0.0.2", 8080),
        server_process=Process("shop", "prod", 17, "python3", "c0ffee"),
        peer_service="front door",
    ),
    request=HttpRequest(
        method="POST",
        target="/orders?a=b",
        headers=(("Host", "shop"), ("Content-Length", "7")),
        body=b'{"a":1}',
        wire_bytes=70,
    ),
    response=HttpResponse(
        status=201,
        reason="Created",
        headers=(("Content-Length", "2"),),
        body=b"ok",
        wire_bytes=45,
    ),
    request_start_ns=1_700_000_000_000_000_001,
    request_end_ns=1_700_000_000_000_000_002,
    response_start_ns=1_700_000_000_000_000_003,
    response_end_ns=1_700_000_000_000_000_004,
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    span_id="00f067aa0ba902b7",
    operation="POST /orders",
    redactions=("name",),
)


def numbered(number: int, *, connections: int = 1) -> RecordedExchange:
    """One of many, each later than the one before."""
    shift = number * 1_000_000
    return replace(
        EXCHANGE,
        id=f"{number:016x}",
        connection=replace(
            EXCHANGE.connection,
            id=f"{number % connections:016x}",
            client=Endpoint("10.0.0.1", 40_000 + number % connections),
        ),
        request_start_ns=EXCHANGE.request_start_ns + shift,
        request_end_ns=EXCHANGE.request_end_ns + shift,
        response_start_ns=EXCHANGE.response_start_ns + shift,
        response_end_ns=EXCHANGE.response_end_ns + shift,
    )


_HEX: Final = "0123456789abcdef"
_TOKEN: Final = st.text("abcXYZ-123", min_size=1, max_size=8)
_VALUE: Final = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"),
    max_size=12,
).map(lambda text: "".join(c for c in text if not 0x7F <= ord(c) <= 0xA0))
_HEADERS: Final = st.lists(st.tuples(_TOKEN.map("X-{}".format), _VALUE), max_size=3)
_WORDS: Final = st.text(st.characters(codec="utf-8"), max_size=12)
_TIMES: Final = st.lists(st.integers(1, 2**62), min_size=4, max_size=4).map(sorted)
_IDS: Final = st.text(_HEX, min_size=16, max_size=16)
_PROCESS: Final = st.none() | st.builds(
    Process, _WORDS, _WORDS, st.integers(0, 2**22), _WORDS, st.text(_HEX, max_size=64)
)
_CLIENT: Final = st.builds(
    Endpoint, st.ip_addresses().map(str), st.integers(32_768, 65_535)
)
# Never its client: nothing in a packet would tell the directions apart.
_SERVER: Final = st.builds(Endpoint, st.ip_addresses().map(str), st.integers(1, 32_767))


@st.composite
def _body(draw: st.DrawFn, wire: int = 0) -> tuple[bytes, tuple[Missing, ...]]:  # noqa: ARG001
    parts = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3))
    reasons = list(MissingBecause)
    data, gaps, at = b"", [], 0
    for part in parts:
        if draw(st.booleans()):
            count = draw(st.integers(1, 100_000))
            gaps.append(Missing(at, count, draw(st.sampled_from(reasons))))
            at += count
        data += part
        at += len(part)
    return data, tuple(gaps)


@st.composite
def _http(draw: st.DrawFn) -> tuple[HttpRequest, HttpResponse]:
    data, gaps = draw(_body())
    size = len(data) + sum(gap.bytes for gap in gaps)
    length = (("Content-Length", str(size)),)
    request = HttpRequest(
        method=draw(st.sampled_from(["GET", "POST", "PUT"])),
        target="/" + draw(st.text("abc/?=&%20", max_size=10)).replace(" ", ""),
        headers=(*draw(_HEADERS), *length),
        body=data,
        missing=gaps,
        wire_bytes=draw(st.integers(1, 2**40)),
    )
    data, gaps = draw(_body())
    size = len(data) + sum(gap.bytes for gap in gaps)
    response = HttpResponse(
        status=draw(st.sampled_from([200, 404, 503])),
        reason=draw(st.sampled_from(["", "OK", "Not Found"])),
        headers=(*draw(_HEADERS), ("Content-Length", str(size))),
        body=data,
        missing=gaps,
        wire_bytes=draw(st.integers(1, 2**40)),
    )
    return request, response


@st.composite
def _redis(draw: st.DrawFn) -> tuple[RedisCommand, RedisReply]:
    values: st.SearchStrategy[Any] = (
        st.binary(max_size=10)
        | st.integers(-(2**62), 2**62)
        | st.just(redis.Nil())
        | st.just(redis.Simple("OK"))
        | st.just(redis.Error("ERR no"))
    )
    lists = st.lists(values, max_size=4).map(
        lambda items: redis.Aggregate("array", tuple(items))
    )
    rest = draw(st.lists(st.binary(max_size=10), max_size=3))
    return (
        RedisCommand(arguments=(b"GET", *rest), wire_bytes=draw(st.integers(1, 2**40))),
        RedisReply(value=draw(values | lists), wire_bytes=draw(st.integers(1, 2**40))),
    )


@st.composite
def any_exchange(draw: st.DrawFn) -> RecordedExchange:
    """Of HTTP, Redis or nobody's protocol; over IPv4, IPv6 or a Unix socket."""
    protocol = draw(st.sampled_from([Protocol.HTTP, Protocol.REDIS, Protocol.UNKNOWN]))
    request: Any
    response: Any
    if protocol is Protocol.HTTP:
        request, response = draw(_http())
    elif protocol is Protocol.REDIS:
        request, response = draw(_redis())
    else:
        (data, gaps), (more, others) = draw(_body()), draw(_body())
        request = RawMessage(data=data, missing=gaps)
        response = RawMessage(data=more, missing=others)
    is_unix = draw(st.booleans())
    times = draw(_TIMES)
    has_response = draw(st.booleans())
    unix = Endpoint("/run/" + draw(_TOKEN), 0)
    return RecordedExchange(
        id=draw(_IDS),
        connection=Connection(
            id=draw(_IDS),
            protocol=protocol,
            transport=Transport.UNIX if is_unix else Transport.TCP,
            client=Endpoint("", 0) if is_unix else draw(_CLIENT),
            server=unix if is_unix else draw(_SERVER),
            client_process=draw(_PROCESS),
            server_process=draw(_PROCESS),
        ),
        request=request,
        response=response if has_response else None,
        request_start_ns=times[0],
        request_end_ns=times[1],
        response_start_ns=times[2] if has_response else 0,
        response_end_ns=times[3] if has_response else 0,
        trace_id=draw(st.just("") | st.text(_HEX, min_size=32, max_size=32)),
        span_id=draw(st.just("") | _IDS),
        operation=draw(_WORDS),
        cause=draw(st.just("") | _IDS),
        cause_method=draw(st.sampled_from(["", "thread"])),
        calls=draw(st.none() | st.integers(0, 1000)),
        incomplete=tuple(draw(st.lists(st.sampled_from(["lost", "closed", "limit"])))),
        redactions=tuple(draw(st.lists(_TOKEN, max_size=2))),
    )
