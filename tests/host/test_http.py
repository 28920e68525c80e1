# SPDX-License-Identifier: Apache-2.0
"""bpf/l7/http.h and http_line.h on the host: every case fed in every way, then anything at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.case import Case, Turn
from tests.cases.http import CASES, METHODS, NOT_HTTP, OK, chunked
from tests.host.engine import (
    Call,
    Chunk,
    Host,
    Limit,
    Seen,
    events_enum,
    io,
    limit,
    opened,
)
from tests.host.feeding import BOTH, WAYS, feed_case, splits
from tests.strategies import http_turns, schedules

from deetune_otel.model import End, LedgerLine, Protocol, Role
from deetune_otel.protocols import http

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


def ways_of(data: bytes) -> list[list[Chunk]]:
    """These bytes of a client in every way, and cut in two at each point."""
    turn = Turn(request=data, operation="?")
    case = Case(name="", turns=(turn,), protocol=Protocol.HTTP)
    return [list(way(case)) for way in WAYS.values()] + list(splits(case))


@by_role
@pytest.mark.parametrize("data", NOT_HTTP)
def test_what_is_not_http_is_counted_by_turns(
    host: Host, data: bytes, role: Role
) -> None:
    answer = Chunk(is_request=False, data=b"\x00what?")
    for chunks in ways_of(data):
        seen = host.feed([*chunks, answer, *chunks], role, closed=True)
        assert [(x.protocol, x.end) for x in seen.exchanges] == [
            (Protocol.UNKNOWN, End.COMPLETE),
            (Protocol.UNKNOWN, End.CLOSED),
        ]
        assert [x.request_bytes for x in seen.exchanges] == [len(data)] * 2
        assert not seen.lost


@by_role
@pytest.mark.parametrize("data", NOT_HTTP)
def test_what_is_not_http_and_is_never_answered(
    host: Host, data: bytes, role: Role
) -> None:
    for chunks in ways_of(data):
        seen = host.feed(chunks, role, closed=True)
        (exchange,) = seen.exchanges
        assert (exchange.protocol, exchange.end) == (Protocol.UNKNOWN, End.CLOSED)
        assert exchange.request_bytes == len(data)
        assert not seen.lost


def broken(seen: Seen) -> LedgerLine:
    assert [(x.protocol, x.outcome) for x in seen.exchanges] == [
        (Protocol.HTTP, 200)
    ] * 2
    assert seen.open == LedgerLine(0, 0)
    assert set(seen.lost) == {"lost_unparsed"}
    return seen.lost["lost_unparsed"]


@by_role
@pytest.mark.parametrize(
    "data",
    [
        *(line for line in NOT_HTTP if line.endswith(b"\n")),  # else it goes on
    ],
)
def test_a_request_that_is_none_is_a_lost_exchange(
    host: Host, data: bytes, role: Role
) -> None:
    """On a connection that speaks HTTP, once, however it comes; the next request is found."""
    for chunks in ways_of(data):
        around = [request("/"), ANSWER]
        no = Chunk(is_request=False, data=b"HTTP/1.1 400 No\r\n\r\n")
        seen = host.feed([*around, *chunks, no, *around], role)
        assert broken(seen) == LedgerLine(1, len(data) + len(no.data))


@by_role
@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b""),
        (b"FOO / HTTP/1.1\r\nContent-Length: 3;\r\n\r\n", b"abc"),
        (b"POST / HTTP/1.1\r\n\r\n", b'{"a": 1}'),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"x\r\n"),
    ],
)
def test_a_request_whose_end_nobody_can_tell_is_answered(
    host: Host, head: bytes, body: bytes, role: Role
) -> None:
    """It ends with its head; what follows is no request, and the next one is found."""
    no = Chunk(is_request=False, data=b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
    for chunks in ways_of(head + body):
        around = [request("/"), ANSWER]
        seen = host.feed([*around, *chunks, no, *around], role)
        assert [x.outcome for x in seen.exchanges] == [200, 400, 200]
        assert seen.exchanges[1].request_bytes == len(head)
        assert seen.lost.get("lost_unparsed", LedgerLine(0, 0)) == LedgerLine(
            0, len(body)
        )


@by_role
def test_requests_that_wait_are_lost_with_the_one_that_is_none(
    host: Host, role: Role
) -> None:
    for chunks in ways_of(request("/b").data + b"FOO bar baz\r\n"):
        around = [request("/"), ANSWER]
        seen = host.feed([*around, *chunks, *around], role)
        assert broken(seen) == LedgerLine(2, sum(len(c.data) for c in chunks))


@by_role
@pytest.mark.parametrize("method", METHODS)
def test_found_again_whatever_the_method(host: Host, method: bytes, role: Role) -> None:
    """Out of step: a request is found by its line, in whatever pieces it comes."""
    found = method + b" /found HTTP/1.1\r\n\r\n"
    for chunks in ways_of(found):
        seen = host.feed(
            [
                request("/"),
                ANSWER,
                request("\x01")._replace(data=b"\x01"),
                *chunks,
                ANSWER,
            ],
            role,
        )
        assert broken(seen) == LedgerLine(1, 1)


@by_role
@pytest.mark.parametrize("midstream", [False, True])
def test_a_text_is_not_a_broken_rule(
    host: Host, role: Role, *, midstream: bool
) -> None:
    """The rest of a body whose beginning nobody saw: no line of it is a request, and the next
    request is found, how many pieces ever come before it."""
    text = b"words without an end of line " * 30
    rest = [Chunk(is_request=True, data=text) for _ in range(20)]
    rest.append(Chunk(is_request=True, data=b"\x00\n"))
    around = [request("/"), ANSWER]
    if midstream:
        seen = host.feed([*rest, *around, *around], role, midstream=True)
        assert set(seen.lost) == {"lost_midstream"}
    else:
        lost = Chunk(is_request=True, data=b"\x00")
        seen = host.feed([*around, lost, *rest, *around], role)
        assert broken(seen).exchanges == 1
    assert [x.protocol for x in seen.exchanges] == [Protocol.HTTP] * 2
    assert "demoted" not in seen.ledger


@by_role
@pytest.mark.parametrize("data", [b"get k\r\n", b"FOO ", b"stats"])
def test_an_older_connection_that_is_no_http(
    host: Host, data: bytes, role: Role
) -> None:
    """From the first answer on it is counted by turns."""
    no = Chunk(is_request=False, data=b"END\r\n")
    chunks = [
        Chunk(is_request=True, data=data),
        Chunk(is_request=True, data=b"\x00"),
        no,
    ]
    seen = host.feed(chunks * 4, role, midstream=True)
    assert {x.protocol for x in seen.exchanges} == {Protocol.UNKNOWN}
    assert len(seen.exchanges) == 3
    assert set(seen.lost) == {"lost_midstream"}


def test_a_line_without_an_end_is_not_looked_at_for_ever(host: Host) -> None:
    for piece in (b"a" * 600, b"a b " * 150, b"a?b=c" * 120):
        chunks = [
            Chunk(is_request=True, data=b"FOO /"),
            *[Chunk(is_request=True, data=piece)] * 300,
        ]
        seen = host.feed(chunks)
        assert seen.ledger["demoted"].exchanges == 1
        assert seen.open.exchanges == 1


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


def test_beyond_the_cap_of_operations_methods_are_told(host: Host) -> None:
    """One signature a method that the conventions know, and one for all others."""
    methods = ("A", *http.OVERFLOWS, "FOO", "GETS", "get", "P", "HEADER", "GET")
    script = [opened(Role.SERVER), limit(Limit.OPERATIONS, 1)]
    for method in methods:
        data = f"{method} /a HTTP/1.1\r\n\r\n".encode()
        # no body, as to HEAD
        answer = Chunk(is_request=False, data=b"HTTP/1.1 204 OK\r\n\r\n")
        script += [io(Chunk(is_request=True, data=data), Role.SERVER)]
        script += [io(answer, Role.SERVER)]
    names = events_enum("dt_signature")
    _, *beyond = host.run(script).check().exchanges
    told = [names[exchange.signature] for exchange in beyond]
    known = [f"signature_overflow_{method.lower()}" for method in http.OVERFLOWS]
    overflow = "signature_overflow"
    assert told == [*known, *[overflow] * 5, "signature_overflow_get"]
    assert list(names.values())[2 : 2 + len(known)] == known


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
