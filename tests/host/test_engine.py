# SPDX-License-Identifier: Apache-2.0
"""bpf/include/engine.h and door.h on the host: what comes of a chunk, whatever its protocol.

That the ledger balances after each operation is asserted by Host.feed and Seen.check.
"""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.case import Case
from tests.cases.http import CASES as HTTP
from tests.cases.http import OK
from tests.cases.redis import CASES as REDIS
from tests.cases.redis import command
from tests.host.engine import (
    Call,
    Chunk,
    Host,
    Limit,
    Seen,
    close,
    end_of_stream,
    io,
    limit,
    opened,
    refused,
    unseen,
)
from tests.host.feeding import BOTH, WAYS, plain
from tests.strategies import garbage, http_turns, redis_turns, schedules

from deetune_otel.model import End, LedgerLine, Protocol, Role, Transport

by_role = pytest.mark.parametrize("role", BOTH)
shrinks = pytest.mark.timeout(400)  # making a failure small may take five minutes
NOTHING = LedgerLine(0, 0)


def sent(data: bytes, call: Call = Call.PLAIN) -> Chunk:
    return Chunk(is_request=True, data=data, call=call)


def answered(data: bytes, call: Call = Call.PLAIN) -> Chunk:
    return Chunk(is_request=False, data=data, call=call)


GET = sent(b"GET /a HTTP/1.1\r\n\r\n")
ANSWER = answered(OK)
REDIS_GET = sent(command(b"GET", b"k"))
NIL = answered(b"$-1\r\n")


def outcomes(seen: Seen) -> list[tuple[Protocol, int]]:
    return [(x.protocol, x.outcome) for x in seen.exchanges]


# ---- turns ---------------------------------------------------------------------------------


@by_role
def test_unknown_protocol_is_counted_by_turns(host: Host, role: Role) -> None:
    startup = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
    seen = host.feed(
        [
            sent(startup),
            answered(b"N"),
            sent(b"Q\x00\x00"),
            sent(b"\x00\x0dSELECT"),
            answered(b"T\x00"),
            answered(b"D\x00\x00"),
        ],
        role,
    )
    assert outcomes(seen) == [(Protocol.UNKNOWN, 0)] * 2
    assert [x.request_bytes for x in seen.exchanges] == [8, 11]
    assert sum(s.response_bytes for s in seen.series) == 6
    assert not seen.lost


def test_turn_without_an_answer_ends_with_its_connection(host: Host) -> None:
    seen = host.feed([sent(b"\x01")], closed=True)
    assert [(x.end, x.request_bytes) for x in seen.exchanges] == [(End.CLOSED, 1)]


@pytest.mark.parametrize("first", [b"\x16\x03\x01", b"ssh-", b"PRI * HTTP/2.0\r\n\r\n"])
def test_what_only_seemed_a_protocol_is_counted_by_turns(
    host: Host, first: bytes
) -> None:
    seen = host.feed([sent(first), answered(b"\x00\x01")])
    assert outcomes(seen) == [(Protocol.UNKNOWN, 0)]
    assert seen.exchanges[0].request_bytes == len(first)


def test_answer_of_another_protocol_takes_the_guess_back(host: Host) -> None:
    seen = host.feed([GET, answered(b"220 smtp ready\r\n")])
    assert outcomes(seen) == [(Protocol.UNKNOWN, 0)]
    assert seen.ledger["demoted"].exchanges == 1


# ---- times and names -----------------------------------------------------------------------


def test_times(host: Host) -> None:
    """A microsecond passes before each operation."""
    chunks = [
        sent(GET.data[:5]),
        sent(GET.data[5:]),
        answered(OK[:20]),
        answered(OK[20:]),
    ]
    (exchange,) = host.feed(chunks).exchanges
    assert exchange.first_byte_ns - exchange.start_ns == 2000
    assert exchange.end_ns - exchange.start_ns == 3000


def test_interim_response_is_not_the_first_byte(host: Host) -> None:
    interim = answered(b"HTTP/1.1 100 Continue\r\n\r\n")
    (exchange,) = host.feed([GET, interim, interim, ANSWER]).exchanges
    assert exchange.first_byte_ns - exchange.start_ns == 3000


def test_wire_identity_is_the_same_at_both_ends(host: Host) -> None:
    wires = [
        [(x.client_seq, x.server_seq, x.offset) for x in seen.exchanges]
        for role in BOTH
        for seen in [host.feed([GET, ANSWER, GET, ANSWER], role)]
    ]
    assert wires[0] == wires[1]
    assert [offset for _, _, offset in wires[0]] == [0, len(GET.data)]


# ---- out of step ---------------------------------------------------------------------------


@by_role
@pytest.mark.parametrize(
    "case",
    [case for case in [*HTTP, *REDIS] if not case.at_the_beginning],
    ids=lambda case: case.name,
)
def test_case_after_what_was_there_before_the_agent(
    host: Host, case: Case, role: Role
) -> None:
    """The rest of a response and of a request belong to an exchange that nobody saw begin."""
    before = [sent(b"...rest of a body"), answered(b"...and of its answer")]
    seen = host.feed(
        [*before, *WAYS["whole"](case)], role, closed=case.closed, midstream=True
    )
    expected = case.expected
    got = [
        plain(x, e.operation)
        for x, e in zip(seen.exchanges[-len(expected) :], expected, strict=True)
    ]
    assert got == expected
    assert seen.lost.keys() - set(case.lost) <= {"lost_midstream"}


@by_role
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "case",
    [
        case
        for case in (*HTTP, *REDIS)
        if not case.closed and "monitor" not in case.name
    ],
    ids=lambda case: case.name,
)
def test_case_before_garbage(host: Host, case: Case, way: str, role: Role) -> None:
    """What was counted stays, what is broken has its line, and the next request is found."""
    after = [GET, ANSWER] if case.protocol is Protocol.HTTP else [REDIS_GET, NIL]
    seen = host.feed(
        [*WAYS[way](case), sent(b"\x00\x01\x02garbage"), answered(b"\x00"), *after],
        role,
    )
    expected = case.expected
    assert len(seen.exchanges) == len(expected) + 1
    got = [
        plain(x, e.operation) for x, e in zip(seen.exchanges, expected, strict=False)
    ]
    assert got == expected
    assert seen.exchanges[-1].protocol is case.protocol
    assert seen.lost["lost_unparsed"].bytes == 11


def test_who_breaks_the_rules_again_and_again_is_counted_by_turns(host: Host) -> None:
    broken = [GET, ANSWER, sent(b"\x00")]
    seen = host.feed([*broken * 5, sent(b"\x00"), answered(b"\x00")])
    assert seen.ledger["demoted"].exchanges == 1
    assert seen.exchanges[-1].protocol is Protocol.UNKNOWN


@by_role
def test_replies_that_nobody_asked_for(host: Host, role: Role) -> None:
    """They wait for a request, and end with the connection: nothing of them stays in a map."""
    chunks = [REDIS_GET, NIL, *[NIL] * 30]
    assert host.feed(chunks, role).spilled > 0
    seen = host.feed(chunks, role, closed=True)
    assert seen.spilled == 0
    assert seen.lost == {"lost_unparsed": LedgerLine(0, 30 * len(NIL.data))}
    broken = host.feed([*chunks, sent(b"\x00")], role)
    assert broken.spilled == 0


def test_open_requests_are_lost_when_the_rules_are_broken(host: Host) -> None:
    seen = host.feed([GET, ANSWER, GET, GET, answered(b"\x00")])
    assert seen.lost == {"lost_unparsed": LedgerLine(2, 2 * len(GET.data) + 1)}
    assert seen.open == NOTHING


# ---- bytes that are hidden -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "line"), [(Call.OPAQUE, "opaque"), (Call.UNMAPPED, "fault")]
)
def test_hidden_head_is_lost_and_the_next_request_found(
    host: Host, call: Call, line: str
) -> None:
    hidden = GET._replace(call=call)
    seen = host.feed([GET, ANSWER, hidden, ANSWER, GET, ANSWER])
    assert outcomes(seen) == [(Protocol.HTTP, 200)] * 2
    assert seen.ledger[line].bytes == len(GET.data)
    assert seen.lost == {"lost_unparsed": LedgerLine(0, len(GET.data) + len(OK))}


def test_hidden_from_the_start_is_counted_by_turns(host: Host) -> None:
    seen = host.feed(
        [GET._replace(call=Call.OPAQUE), ANSWER._replace(call=Call.OPAQUE)]
    )
    assert outcomes(seen) == [(Protocol.UNKNOWN, 0)]


@by_role
def test_unseen_bytes_of_a_body_do_no_harm(host: Host, role: Role) -> None:
    head = b"POST /a HTTP/1.1\r\nContent-Length: 100\r\n\r\n"
    script = [
        opened(role),
        io(sent(head + b"." * 10), role),
        unseen(50, role, is_request=True),
        io(sent(b"." * 40), role),
        io(ANSWER, role),
        io(GET, role),
        io(ANSWER, role),
        close(),
    ]
    seen = host.run(script).check()
    assert outcomes(seen) == [(Protocol.HTTP, 200)] * 2
    assert seen.ledger["blind"].bytes == 50
    assert sum(map(sum, seen.blind)) == 50
    assert not seen.lost


@by_role
def test_unseen_request_is_found_out_by_tcps_own_counts(host: Host, role: Role) -> None:
    script = [
        opened(role),
        io(GET, role),
        io(ANSWER, role),
        unseen(len(GET.data), role, is_request=True),
        io(ANSWER, role),
        io(GET, role),
        io(ANSWER, role),
        close(),
    ]
    seen = host.run(script).check()
    assert seen.ledger["blind"].bytes == len(GET.data)
    assert outcomes(seen)[0] == (Protocol.HTTP, 200)
    assert seen.open == NOTHING


def test_unseen_bytes_show_at_the_close(host: Host) -> None:
    script = [opened(Role.CLIENT), io(GET, Role.CLIENT), io(ANSWER, Role.CLIENT)]
    script += [unseen(7, Role.CLIENT, is_request=False), close()]
    ((told, received),) = host.run(script).check().blind
    assert told == 0
    assert received in (7, 8)  # the FIN can not be told from a byte


def test_fin_is_no_unseen_byte(host: Host) -> None:
    for role in BOTH:
        seen = host.feed([GET, ANSWER], role, closed=True)
        assert "blind" not in seen.ledger


# ---- the end -------------------------------------------------------------------------------


def test_client_reads_to_the_end_of_the_stream(host: Host) -> None:
    """The response is counted when the read returns nothing, not when the socket is freed."""
    script = [
        opened(Role.CLIENT),
        io(GET, Role.CLIENT),
        io(answered(b"HTTP/1.0 200 OK\r\n\r\nbody"), Role.CLIENT),
        end_of_stream(),
    ]
    seen = host.run(script).check()
    assert [(x.end, x.response_body_bytes) for x in seen.exchanges] == [
        (End.COMPLETE, 4)
    ]
    assert seen.open == NOTHING
    again = host.run([*script, close()]).check()
    assert len(again.exchanges) == 1


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ETIMEDOUT])
def test_refused_connect_is_an_exchange(host: Host, number: int) -> None:
    seen = host.run([refused(number)]).check()
    assert outcomes(seen) == [(Protocol.CONNECT, number)]


@shrinks
@given(
    data=st.data(),
    role=st.sampled_from(BOTH),
    transport=st.sampled_from(Transport),
    turns=http_turns() | redis_turns(),
)
def test_hang_up_at_any_point(
    host: Host,
    data: st.DataObject,
    role: Role,
    transport: Transport,
    turns: list[object],
) -> None:
    """Nothing is open behind the end; what was whole was counted as it was."""
    chunks = data.draw(schedules(turns))  # type: ignore[arg-type]  # of either protocol
    upto = data.draw(st.integers(1, len(chunks)))
    chunks = chunks[:upto]
    chunks[-1] = chunks[-1]._replace(points=0)
    seen = host.feed(chunks, role, closed=True, transport=transport)
    assert seen.open == NOTHING
    assert seen.spilled == 0
    for x in seen.exchanges:
        assert x.request_body_bytes <= x.request_bytes
        assert x.response_body_bytes <= x.response_bytes


# ---- what is full --------------------------------------------------------------------------


def run_full(host: Host, what: Limit, size: int, chunks: list[Chunk]) -> Seen:
    script = [opened(Role.SERVER)]
    if what is Limit.CONNS:
        script.insert(0, limit(what, size))
        script.append(opened(Role.SERVER, 1))
    else:
        script.insert(0, limit(what, size))
    sock = 1 if what is Limit.CONNS else 0
    script += [io(chunk, Role.SERVER, sock) for chunk in chunks]
    return host.run(script)


def paths(many: int) -> list[Chunk]:
    letters = [f"/{chr(97 + i)}" for i in range(many)]
    requests = [sent(f"GET {path} HTTP/1.1\r\n\r\n".encode()) for path in letters]
    return [chunk for request in requests for chunk in (request, ANSWER)]


def test_full_series(host: Host) -> None:
    seen = run_full(host, Limit.SERIES, 2, paths(5)).check()
    assert seen.ledger["counted"].exchanges == 5
    assert seen.ledger["overflow_series"].exchanges == 3
    assert [s.count for s in seen.overflow] == [3]


def test_full_operations(host: Host) -> None:
    seen = run_full(host, Limit.OPERATIONS, 2, paths(5)).check()
    assert seen.ledger["overflow_operations"].exchanges == 3
    assert [x.signature for x in seen.exchanges[2:]] == [
        2
    ] * 3  # DT_SIGNATURE_OVERFLOW_GET


def test_full_ring(host: Host) -> None:
    """No span, no sample; the counts are exact all the same."""
    seen = run_full(host, Limit.RING, 0, paths(5)).check()
    assert seen.exchanges == []
    assert seen.ledger["spans_ring_full"].exchanges == 5
    assert seen.ledger["samples_ring_full"].exchanges >= 5
    assert sum(s.count for s in seen.series) == 5


def test_full_spill(host: Host) -> None:
    """Of 30 pipelined requests 16 have slots, 4 are spilled, 10 are lost by name."""
    chunks = [REDIS_GET, NIL, *[REDIS_GET] * 30]
    seen = run_full(host, Limit.SPILL, 4, chunks).check()
    assert seen.lost == {"lost_pipeline": LedgerLine(10, 10 * len(REDIS_GET.data))}
    assert seen.open == LedgerLine(20, 20 * len(REDIS_GET.data))


def test_full_spill_then_answers(host: Host) -> None:
    chunks = [REDIS_GET, NIL, *[REDIS_GET] * 30, *[NIL] * 30]
    seen = run_full(host, Limit.SPILL, 4, chunks).check()
    assert seen.ledger["counted"].exchanges == 21
    assert seen.open.exchanges == 0


def test_no_room_for_the_flight(host: Host) -> None:
    chunks = [GET, ANSWER]
    script = [limit(Limit.FLIGHTS, 1)]
    script += [opened(Role.SERVER), *(io(c, Role.SERVER) for c in chunks)]
    script += [opened(Role.SERVER, 1), *(io(c, Role.SERVER, 1) for c in chunks)]
    seen = host.run(script).check()
    assert outcomes(seen) == [(Protocol.HTTP, 200), (Protocol.UNKNOWN, 0)]


def test_no_room_for_the_connection(host: Host) -> None:
    seen = run_full(host, Limit.CONNS, 1, [GET, ANSWER]).check()
    assert seen.exchanges == []
    assert seen.lost == {"lost_state": LedgerLine(0, len(GET.data) + len(OK))}


# ---- many, and anything --------------------------------------------------------------------


def test_connections_do_not_mix(host: Host) -> None:
    """Both ends of two connections, all at once, each deeper than its slots."""
    ends = [(0, Role.CLIENT), (1, Role.SERVER), (2, Role.CLIENT), (3, Role.SERVER)]
    script = [opened(role, sock) for sock, role in ends]
    for chunk in [GET] * 40 + [ANSWER] * 40:
        script += [io(chunk, role, sock) for sock, role in ends[:2]]
        redis = REDIS_GET if chunk.is_request else NIL
        script += [io(redis, role, sock) for sock, role in ends[2:]]
    script += [close(sock) for sock, _ in ends]
    seen = host.run(script).check()
    counts = {p: sum(x.protocol is p for x in seen.exchanges) for p in Protocol}
    assert counts[Protocol.HTTP] == counts[Protocol.REDIS] == 80
    assert not seen.lost
    assert seen.spilled == 0


@by_role
@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("midstream", [False, True])
def test_first_chunks_of_both_directions_at_once(
    host: Host, role: Role, transport: Transport, *, midstream: bool
) -> None:
    """The second processor comes at each point of the first one's way."""
    for first, second in ((GET, ANSWER), (ANSWER, GET), (REDIS_GET, NIL)):
        for points in range(1, 40):
            chunks = [first._replace(points=points), second, GET, ANSWER]
            host.feed(
                chunks, role, transport=transport, midstream=midstream, closed=True
            )


@by_role
@pytest.mark.parametrize("many", [2, 6, 30])
@pytest.mark.parametrize("requests_first", [False, True])
def test_overtaking_at_each_point(
    host: Host, role: Role, many: int, *, requests_first: bool
) -> None:
    """A pipeline and its answers on two processors, one whole inside the other at any point."""
    pipeline, answers = sent(REDIS_GET.data * many), answered(NIL.data * many)
    first, second = (pipeline, answers) if requests_first else (answers, pipeline)
    for points in range(1, 25 * many, 1 + many // 10):
        seen = host.feed([first._replace(points=points), second], role)
        sizes = {(x.request_bytes, x.response_bytes) for x in seen.exchanges}
        assert sizes == {(len(REDIS_GET.data), len(NIL.data))}
        assert len(seen.exchanges) == many
        assert seen.open == NOTHING
        assert seen.spilled == 0


@shrinks
@given(
    chunks=garbage(),
    role=st.sampled_from(BOTH),
    transport=st.sampled_from(Transport),
    midstream=st.booleans(),
)
def test_hostile_bytes(
    host: Host,
    chunks: list[Chunk],
    role: Role,
    transport: Transport,
    *,
    midstream: bool,
) -> None:
    """No sanitizer finding, every byte accounted for, and a bounded number of steps."""
    seen = host.feed(
        chunks, role, closed=True, midstream=midstream, transport=transport
    )
    assert seen.open == NOTHING
    assert seen.spilled == 0
    size = sum(len(c.data) + len(c.iovecs) + 4 for c in chunks)
    assert seen.steps <= 2 * size
    for x in seen.exchanges:
        assert x.request_body_bytes <= x.request_bytes
        assert x.response_body_bytes <= x.response_bytes
