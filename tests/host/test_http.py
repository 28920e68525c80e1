# SPDX-License-Identifier: Apache-2.0
"""bpf/l7/http.h on the host: every case fed in every way, then conversations nobody thought of."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.case import Case, Turn
from tests.cases.http import CASES, OK, chunked
from tests.host.engine import Call, Chunk, Host
from tests.host.feeding import BOTH, WAYS, feed_case, operations_agree, splits
from tests.strategies import fold, http_turns, schedules, targets

from deetune_otel.model import LedgerLine, Protocol, Role
from deetune_otel.protocols import http
from deetune_otel.protocols.routes import Routes

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_role = pytest.mark.parametrize("role", BOTH)
shrinks = pytest.mark.timeout(400)  # making a failure small may take five minutes


def request(target: str, head: bytes = b"") -> Chunk:
    data = f"GET {target} HTTP/1.1\r\n".encode() + head + b"\r\n"
    return Chunk(is_request=True, data=data)


ANSWER = Chunk(is_request=False, data=OK)


@by_role
@by_case
@pytest.mark.parametrize("way", WAYS)
def test_case(host: Host, case: Case, way: str, role: Role) -> None:
    feed_case(host, case, WAYS[way](case), role)


@by_case
def test_case_split_at_each_point(host: Host, case: Case) -> None:
    for chunks in splits(case):
        feed_case(host, case, chunks, Role.SERVER)


@shrinks
@given(data=st.data(), role=st.sampled_from(BOTH))
def test_conversation(host: Host, data: st.DataObject, role: Role) -> None:
    turns = data.draw(http_turns())
    case = Case(name="", turns=tuple(turns), protocol=Protocol.HTTP, closed=True)
    feed_case(host, case, data.draw(schedules(turns)), role)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"Content-Length: 3\r\n", b"abc"),
        (b"Transfer-Encoding: chunked\r\n", chunked(b"abc")),
        (b"Transfer-Encoding:gzip,chunked\r\n", chunked(b"abc")),
    ],
)
def test_header_cut_by_the_window_at_each_byte(
    host: Host, line: bytes, body: bytes
) -> None:
    """The kernel reads 512 bytes at a time; a header may lie across the edge."""
    first = b"POST /a HTTP/1.1\r\n"
    for begins_at in range(512 - len(line) - 30, 520):
        pad = begins_at - len(first) - len(b"X: \r\n")
        turn = Turn(
            request=first + b"X: " + b"p" * pad + b"\r\n" + line + b"\r\n" + body,
            response=OK,
            operation="POST /a",
            outcome=200,
            request_body=3,
            response_body=5,
        )
        case = Case(name="", turns=(turn, turn), protocol=Protocol.HTTP)
        feed_case(host, case, WAYS["pipelined"](case), Role.SERVER)


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        (b"Traceparent: 00-a-b-01\r\n", b"Traceparent: 00-a-b-01"),
        (b"X-B3-TraceId: 7\r\ntraceparent: 00-a-b-01\r\n", b"traceparent: 00-a-b-01"),
        (b"traceparent: 00-a-b-01\r\nb3: 7\r\n", b"traceparent: 00-a-b-01"),
        (b"b3: 7-8-1\r\n", b"b3: 7-8-1"),
        (b"sw8: 1-x\r\n", b"sw8: 1-x"),
        (b"tracestate: a=b\r\n", b""),
        (b"traceparent: " + b"0" * 200 + b"\r\n", (b"traceparent: " + b"0" * 200)[:72]),
    ],
)
def test_trace_header_is_kept(host: Host, headers: bytes, kept: bytes) -> None:
    turn = Turn(request=request("/", headers).data, response=OK, operation="GET /")
    case = Case(name="", turns=(turn,), protocol=Protocol.HTTP)
    for chunks in [way(case) for way in WAYS.values()] + list(map(iter, splits(case))):
        (exchange,) = host.feed(chunks).exchanges
        assert exchange.trace == kept


def test_trace_header_is_not_the_next_requests(host: Host) -> None:
    chunks = [request("/", b"traceparent: 00-a-b-01\r\n"), ANSWER, request("/"), ANSWER]
    assert [x.trace != b"" for x in host.feed(chunks).exchanges] == [True, False]


def test_head_is_kept_for_its_span(host: Host) -> None:
    long = request("/a", b"Cookie: " + b"c" * 900 + b"\r\n")
    for size in (1, 7, 255, 256, 257, len(long.data)):
        pieces = [
            long._replace(data=long.data[i : i + size])
            for i in range(0, len(long.data), size)
        ]
        (exchange,) = host.feed([*pieces, ANSWER]).exchanges
        assert exchange.head == long.data[:256]


def named(host: Host, paths: Sequence[str]) -> None:
    """Equal signatures for equal folds alone, and one name for one signature."""
    chunks = [chunk for path in paths for chunk in (request(path), ANSWER)]
    seen = host.feed(chunks)
    operations_agree(seen.exchanges, map(fold, paths))
    names = {
        (x.signature, http.operation(x.head, Routes()).name) for x in seen.exchanges
    }
    assert len(names) == len({signature for signature, _ in names})
    # What goes up to be named is one sample of each.
    sampled = [operation.signature for operation in seen.operations]
    assert sorted(sampled) == sorted({x.signature for x in seen.exchanges})


@shrinks
@given(
    paths=st.lists(targets().filter(lambda t: len(t) < 200), min_size=1, max_size=8),
    digits=st.text("0123456789", min_size=1, max_size=9),
)
def test_name_is_a_function_of_the_signature(
    host: Host, paths: list[str], digits: str
) -> None:
    twins = [fold(path).replace("{}", "x" + digits) for path in paths]
    named(host, [*paths, *twins])


def test_what_is_no_call_after_an_upgrade(host: Host) -> None:
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    seen = host.feed(
        [
            request("/chat", b"Upgrade: websocket\r\n"),
            Chunk(is_request=False, data=upgrade + b"\x81\x05hello"),
            Chunk(is_request=True, data=b"\x81\x85abcdhello"),
            Chunk(is_request=False, data=b"\x81\x05world"),
        ]
    )
    first, second = seen.exchanges
    assert (first.protocol, first.outcome) == (Protocol.HTTP, 101)
    assert first.response_bytes == len(upgrade)
    assert second.protocol is Protocol.UNKNOWN
    assert not seen.lost


def test_tunnel_is_counted_by_turns(host: Host) -> None:
    connect = b"CONNECT h:443 HTTP/1.1\r\n\r\n"
    seen = host.feed(
        [
            Chunk(is_request=True, data=connect),
            Chunk(is_request=False, data=b"HTTP/1.1 200 OK\r\n\r\n"),
            Chunk(is_request=True, data=b"\x16\x03\x01..."),
            Chunk(is_request=False, data=b"\x16\x03\x03..."),
        ]
    )
    assert [x.protocol for x in seen.exchanges] == [Protocol.HTTP, Protocol.UNKNOWN]
    assert not seen.lost


def test_body_is_passed_over_unread(host: Host) -> None:
    """Steps do not grow with a body."""
    body = b"G" * (1 << 20)
    head = b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    seen = host.feed([Chunk(is_request=True, data=head + body), ANSWER])
    assert seen.exchanges[0].request_body_bytes == len(body)
    assert seen.steps < 20


@pytest.mark.parametrize("call", [Call.OPAQUE, Call.UNMAPPED])
def test_hidden_body_is_counted(host: Host, call: Call) -> None:
    """sendfile: the head is written, the body never passes user memory."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    seen = host.feed(
        [
            request("/file"),
            Chunk(is_request=False, data=head),
            Chunk(is_request=False, data=b"f" * 5000, call=call),
            request("/"),
            ANSWER,
        ]
    )
    assert [x.response_body_bytes for x in seen.exchanges] == [5000, 5]
    assert not seen.lost
    assert seen.open == LedgerLine(0, 0)
