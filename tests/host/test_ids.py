# SPDX-License-Identifier: Apache-2.0
"""No wire is given twice, and both ends of a connection give a request the same one."""

from __future__ import annotations

import errno
from collections import defaultdict
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host.engine import (
    Chunk,
    Counted,
    Host,
    Limit,
    Seen,
    close,
    io,
    limit,
    opened,
    refused,
    unseen,
)
from tests.host.feeding import BOTH
from tests.strategies import garbage, http_turns, redis_turns, schedules

from deetune_otel.model import Protocol, Role, Transport, Wire

shrinks = pytest.mark.timeout(400)  # making a failure small may take five minutes
GET: Final = b"GET /a HTTP/1.1\r\n\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ENDS: Final = ((Role.CLIENT, 0), (Role.SERVER, 1))


def asked(data: bytes) -> Chunk:
    return Chunk(is_request=True, data=data)


def told(data: bytes) -> Chunk:
    return Chunk(is_request=False, data=data)


def turns(many: int) -> list[Chunk]:
    """Questions of one byte, two, three ...; the server has greeted before."""
    chunks = [told(b"\x00hello")]
    for size in range(1, many + 1):
        chunks += [asked(bytes(size)), told(b"\x01")]
    return chunks


def both_ends(
    host: Host,
    chunks: list[Chunk],
    *,
    transport: Transport = Transport.TCP,
    older: tuple[bool, bool] = (False, False),
) -> dict[Role, list[Counted]]:
    """What either end of one connection counts."""
    script = [
        opened(role, sock, transport=transport, midstream=is_older)
        for (role, sock), is_older in zip(ENDS, older, strict=True)
    ]
    script += [io(chunk, role, sock) for chunk in chunks for role, sock in ENDS]
    script += [close(sock) for _, sock in ENDS]
    return by_role(host.run(script).check())


def by_role(seen: Seen) -> dict[Role, list[Counted]]:
    found: dict[Role, list[Counted]] = {role: [] for role in BOTH}
    for one in seen.exchanges:
        found[one.role].append(one)
    return found


def offsets(exchanges: list[Counted]) -> list[int]:
    return [one.offset for one in exchanges]


def wires(exchanges: list[Counted]) -> list[Wire]:
    return [one.wire for one in exchanges]


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UNIX])
def test_every_turn_is_where_it_began(host: Host, transport: Transport) -> None:
    found = both_ends(host, turns(20), transport=transport)
    expected = [n * (n - 1) // 2 for n in range(1, 21)]
    assert offsets(found[Role.CLIENT]) == expected
    assert wires(found[Role.CLIENT]) == wires(found[Role.SERVER])
    assert not any(one.is_alone for ends in found.values() for one in ends)


def test_a_turn_that_came_in_pieces(host: Host) -> None:
    """The client writes it in pieces, the server reads it in others."""
    client = [asked(b"\x00" * 7), asked(b"\x00" * 3), told(b"\x01"), asked(b"\x00")]
    server = [asked(b"\x00")] * 10 + [told(b"\x01")] * 2 + [asked(b"\x00")]
    found = [
        wires(host.feed([*chunks, told(b"\x02")], role).exchanges)
        for chunks, role in ((client, Role.CLIENT), (server, Role.SERVER))
    ]
    assert found[0] == found[1]
    assert [wire.offset for wire in found[0]] == [0, 10]


@pytest.mark.parametrize(
    "chunks",
    [
        [asked(b"PING x\r\n"), told(b"220 no\r\n")],  # only seemed a protocol
        [asked(GET), asked(GET), told(b"220 no\r\n")],
        [asked(GET), told(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")],
        [
            asked(GET),
            told(OK),
            *[asked(b"\x00"), asked(GET), told(OK)] * 4,
            asked(b"\x00"),
        ],
        [told(b"HELLO\r\n"), asked(b"GET x\r\n"), told(b"+1\r\n")],
    ],
)
@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UNIX])
def test_what_turned_out_to_be_no_known_protocol(
    host: Host, chunks: list[Chunk], transport: Transport
) -> None:
    after = [asked(b"\x05"), told(b"\x06")] * 3
    found = both_ends(host, [*chunks, *after], transport=transport)
    assert wires(found[Role.CLIENT]) == wires(found[Role.SERVER])
    assert len(set(wires(found[Role.CLIENT]))) == len(found[Role.CLIENT]) >= 3
    assert found[Role.CLIENT][-1].protocol is Protocol.UNKNOWN
    sizes = [len(c.data) for c in (*chunks, *after) if c.is_request]
    last = offsets(found[Role.CLIENT])[-2:]  # the one before may have begun earlier
    assert last == [sum(sizes) - n for n in (2, 1)]


@pytest.mark.parametrize("role", BOTH)
def test_a_turn_that_is_found_out_in_the_middle_of_a_chunk(
    host: Host, role: Role
) -> None:
    """It began where the first of its bytes was taken for a method."""
    chunks = [asked(b"ABC"), asked(b"D\x00 and the rest")]
    seen = host.feed([*chunks, told(b"\x01"), asked(b"\x02"), told(b"\x03")], role)
    assert offsets(seen.exchanges) == [0, 18]


@pytest.mark.parametrize("empty", [b"\r\n", b"\n", b"\r\n\r\n"])
@pytest.mark.parametrize(
    ("request_", "answer"),
    [(GET, OK), (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"), (b"ECHO a\r\n", b"+a\r\n")],
)
def test_empty_lines_before_a_request_are_none_of_it(
    host: Host, empty: bytes, request_: bytes, answer: bytes
) -> None:
    """However they are cut: the two ends do not know how the other one read them."""
    first = [asked(request_), told(answer)]
    if request_.startswith(b"ECHO"):  # one that needs no proof
        first = [asked(b"*1\r\n$4\r\nPING\r\n"), told(b"+PONG\r\n")]
    size = len(first[0].data)
    for cut in (
        [asked(empty + request_)],
        [asked(empty), asked(request_)],
        [asked(bytes([one])) for one in empty + request_],
    ):
        for role in BOTH:
            seen = host.feed([*first, *cut, told(answer)], role)
            assert offsets(seen.exchanges) == [0, size + len(empty)]


# ---- connections that were there before ----------------------------------------------------


def test_older_connections_count_from_where_tcp_is(host: Host) -> None:
    """The client's door and the server's come at different moments, for the same bytes."""
    script = [opened(role, sock, midstream=True) for role, sock in ENDS]
    script += [unseen(1000, role, sock, is_request=True) for role, sock in ENDS]
    script += [unseen(70, role, sock, is_request=False) for role, sock in ENDS]
    script.append(unseen(30, Role.CLIENT, 0, is_request=True))  # still on its way
    script.append(io(asked(bytes(30)), Role.SERVER, 1))
    for chunk in (told(b"\x01"), *turns(3)[1:]):
        script += [io(chunk, role, sock) for role, sock in ENDS]
    found = by_role(host.run(script))
    assert offsets(found[Role.CLIENT]) == [1030, 1031, 1033]
    assert wires(found[Role.CLIENT]) == wires(found[Role.SERVER])


@pytest.mark.parametrize("visited", [Role.CLIENT, Role.SERVER])
@pytest.mark.parametrize("is_request", [False, True])
def test_a_visit_between_tcp_and_the_door_counts_nothing_twice(
    host: Host, visited: Role, *, is_request: bool
) -> None:
    """Else every later request of one size would be taken for the one before it."""
    script = [opened(role, sock, midstream=True) for role, sock in ENDS]
    script += [unseen(20, role, sock, is_request=True) for role, sock in ENDS]
    raced = asked(bytes(10)) if is_request else told(bytes(10))
    for role, sock in ENDS:
        script.append(io(raced, role, sock, visited=role is visited))
    for chunk in [told(b"\x01"), asked(bytes(10))] * 4 + [told(b"\x01")]:
        script += [io(chunk, role, sock) for role, sock in ENDS]
    found = by_role(host.run(script))
    first = 30 if is_request else 20
    assert offsets(found[Role.CLIENT])[-3:] == [first + n for n in (10, 20, 30)]
    assert wires(found[Role.CLIENT])[-3:] == wires(found[Role.SERVER])[-3:]


@pytest.mark.parametrize("older", [(True, True), (True, False), (False, True)])
def test_ends_of_an_older_unix_connection_are_apart(
    host: Host, older: tuple[bool, bool]
) -> None:
    """One of them may be met later: it was not accepted yet, nobody had it open."""
    answered = [told(b"\x01"), *turns(5)]
    found = both_ends(host, answered, transport=Transport.UNIX, older=older)
    exchanges = [one for ends in found.values() for one in ends]
    assert len(exchanges) == 10
    assert all(one.is_alone for one in exchanges)
    assert len(set(wires(exchanges))) == 10


def test_unix_connections_that_were_without_state_are_apart(host: Host) -> None:
    """There was no room for it when its first bytes passed."""
    script = [limit(Limit.HASHED, 1)]
    script += [opened(role, sock, transport=Transport.UNIX) for role, sock in ENDS]
    script += [io(asked(bytes(8)), role, sock) for role, sock in ENDS]
    script.append(limit(Limit.HASHED, 4))
    for chunk in [told(b"\x01"), *turns(3)[1:]]:
        script += [io(chunk, role, sock) for role, sock in ENDS]
    found = by_role(host.run(script))
    assert len(found[Role.SERVER]) == 3
    assert all(one.is_alone for one in found[Role.SERVER])
    assert all(one.is_alone for one in found[Role.CLIENT][1:])


# ---- one end alone -------------------------------------------------------------------------


def test_every_failed_connect_is_one_of_its_own(host: Host) -> None:
    """A socket that tries again, and others that try the same."""
    script = []
    for sock in range(4):
        script.append(refused(errno.ECONNREFUSED, sock))
        script += [refused(errno.ECONNREFUSED, sock, again=True)] * 5
    seen = host.run(script).check()
    assert len(seen.exchanges) == len(set(wires(seen.exchanges))) == 24
    assert all(one.is_alone for one in seen.exchanges)
    durations = {one.end_ns - one.start_ns for one in seen.exchanges}
    assert durations == {0}  # of each try, not since the first


# ---- which are kept ------------------------------------------------------------------------


@pytest.mark.parametrize("share", [20, 50])
def test_turns_are_chosen_one_by_one_and_alike_at_both_ends(
    host: Host, share: int
) -> None:
    """By the wire: a connection is neither kept whole nor dropped whole."""
    chunks = [asked(b"\x00"), told(b"\x01")] * 1000
    script = [opened(role, sock) for role, sock in ENDS]
    script.append(limit(Limit.KEPT, share))
    script += [io(chunk, role, sock) for chunk in chunks for role, sock in ENDS]
    found = by_role(host.run(script))
    assert wires(found[Role.CLIENT]) == wires(found[Role.SERVER])
    assert abs(len(found[Role.CLIENT]) - 10 * share) < 60


# ---- anything ------------------------------------------------------------------------------


@st.composite
def lives(draw: st.DrawFn) -> list[bytes]:
    """Two connections, both ends of each, whatever they say, and connects that fail."""
    script = []
    streams = []
    for first in (0, 2):
        transport = draw(st.sampled_from([Transport.TCP, Transport.UNIX]))
        for role, sock in ENDS:
            is_older = draw(st.booleans())
            script.append(
                opened(role, first + sock, transport=transport, midstream=is_older)
            )
        chunks = draw(garbage())
        streams.append(
            [
                io(chunk, role, first + sock)
                for chunk in chunks * draw(st.integers(1, 4))
                for role, sock in ENDS
            ]
        )
    for one, other in zip(*streams, strict=False):
        script += [one, other]
    for stream in streams:
        script += stream[min(map(len, streams)) :]
    script += [close(sock) for sock in range(4)]
    script += [refused(1, n % 4, again=draw(st.booleans()) and n > 3) for n in range(8)]
    return script


@shrinks
@given(script=lives())
def test_no_wire_twice(host: Host, script: list[bytes]) -> None:
    given_to: defaultdict[tuple[Role, Wire], int] = defaultdict(int)
    for one in host.run(script).check().exchanges:
        given_to[one.role, one.wire] += 1
    assert [pair for pair, times in given_to.items() if times > 1] == []


@shrinks
@given(data=st.data(), turns=http_turns() | redis_turns())
def test_both_ends_agree_however_the_bytes_come(
    host: Host, data: st.DataObject, turns: list[object]
) -> None:
    found = [
        wires(
            host.feed(data.draw(schedules(turns)), role).exchanges  # type: ignore[arg-type]  # of either protocol
        )
        for role in BOTH
    ]
    assert sorted(found[0]) == sorted(found[1])
    assert len(set(found[0])) == len(found[0])
