# SPDX-License-Identifier: Apache-2.0
"""Pieces of both ends become exchanges once, and the counts add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from deetune_otel.kernel.recording import ConnectionCount, RecordedPiece
from deetune_otel.model import Pair, Protocol, Role, Transport
from deetune_otel.recorder.pieces import MAX_HELD_BYTES, Conversations, Tally
from deetune_otel.recording.codecs import CODECS, RAW
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Missing,
    MissingBecause,
    Piece,
    Process,
    RawMessage,
    RecordedExchange,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

PAIR: Final = Pair(1000, 2000)
ASKED: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWERED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLIENT, SERVER = 7, 8


class People:
    """Two processes."""

    def process(self, owner_id: int) -> Process | None:
        return Process({CLIENT: "asks", SERVER: "answers"}[owner_id], pid=owner_id)

    def operation_name(self, owner_id: int, protocol: Protocol, head: bytes) -> str:
        return f"{owner_id} {protocol} {head.split()[0].decode()}" if head else ""

    def server_path(self, edge_id: int) -> str:
        return f"/run/{edge_id}.sock"

    def service_at(self, pair: Pair, role: Role) -> str:
        return "asks" if (pair, role) == (PAIR, Role.CLIENT) else ""


def conversations(*, body_limit: int = 1000, with_raw: bool = False) -> Conversations:
    return Conversations(
        codecs=CODECS,
        raw=RAW if with_raw else None,
        people=People(),
        read_cause=lambda _: None,
        polls=lambda _: False,
        clock_offset_ns=1_000_000,
        body_limit=body_limit,
    )


def piece(
    role: Role,
    data: bytes = b"",
    offset: int = 0,
    *,
    from_client: bool = True,
    start: int | None = None,
    last: bool = False,
    protocol: Protocol = Protocol.HTTP,
    transport: Transport = Transport.TCP,
    pair: Pair = PAIR,
) -> RecordedPiece:
    ends = ("10.0.0.1", 5000), ("10.0.0.2", 80)
    if transport is Transport.UNIX:
        ends = ("", 0), ("", 0)
    local, peer = ends if role is Role.CLIENT else ends[::-1]
    return RecordedPiece(
        pair,
        CLIENT if role is Role.CLIENT else SERVER,
        3,
        role,
        protocol,
        transport,
        *local,
        *peer,
        last,
        Piece(
            from_client=from_client,
            offset=offset,
            at_ns=50,
            data=data,
            is_start=start is not None,
            other_offset=start or 0,
        ),
    )


def exchange_at(role: Role, number: int = 0) -> list[RecordedPiece]:
    asked, answered = number * len(ASKED), number * len(ANSWERED)
    return [
        piece(role, ASKED, asked, start=answered),
        piece(role, ANSWERED, answered, from_client=False),
    ]


def fed(ours: Conversations, pieces: Iterable[RecordedPiece]) -> list[RecordedExchange]:
    return [one for given in pieces for one in ours.feed(given)]


def counted(
    ours: Conversations, *, is_closed: bool = False, **exchanges: int
) -> list[RecordedExchange]:
    counts = {
        (PAIR, Role(role)): ConnectionCount(
            CLIENT if role == "client" else SERVER, count, is_closed
        )
        for role, count in exchanges.items()
    }
    return list(ours.count(counts, is_chosen=lambda _: True))


def test_both_ends_give_one_exchange() -> None:
    ours = conversations()
    both = zip(exchange_at(Role.CLIENT), exchange_at(Role.SERVER), strict=True)
    (one,) = fed(ours, [given for pair in both for given in pair])
    assert isinstance(one.request, HttpRequest)
    assert isinstance(one.response, HttpResponse)
    c = one.connection
    assert (c.client.port, c.server.port) == (5000, 80)
    assert (c.client_process, c.server_process) == (
        Process("asks", pid=7),
        Process("answers", pid=8),
    )
    assert one.operation == "8 http GET"
    assert one.request_start_ns == 1_000_050
    assert ours.tally() == Tally(1, 1, 0)


def test_ids_are_the_same_whichever_end_was_recorded_and_differ_between_ends() -> None:
    (server,) = fed(conversations(), exchange_at(Role.SERVER))
    (again,) = fed(conversations(), exchange_at(Role.SERVER))
    (client,) = fed(conversations(), exchange_at(Role.CLIENT))
    assert server.id == again.id == server.span_id
    assert client.id != server.id
    assert client.connection.id == server.connection.id
    assert client.trace_id == server.trace_id
    assert client.is_outgoing
    assert not server.is_outgoing


def test_a_trace_header_names_the_trace() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    asked = (
        b"GET / HTTP/1.1\r\nTraceparent: 00-%s-00f067aa0ba902b7-01\r\n\r\n"
        % trace.encode()
    )
    (one,) = fed(
        conversations(),
        [
            piece(Role.SERVER, asked, start=0),
            piece(Role.SERVER, ANSWERED, from_client=False),
        ],
    )
    assert one.trace_id == trace


def test_what_the_kernel_counted_and_nobody_brought_is_missing() -> None:
    ours = conversations()
    fed(ours, exchange_at(Role.SERVER))
    counted(ours, server=5, client=4)
    ours.end()
    assert ours.tally() == Tally(seen=5, given=1, unfinished=0)


def test_a_connection_of_which_only_the_count_came_is_seen() -> None:
    ours = conversations()
    counted(ours, server=2, is_closed=True)
    assert ours.tally() == Tally(2, 0, 0)
    counted(ours)
    assert ours.tally() == Tally(2, 0, 0)


def test_pieces_may_come_behind_their_count() -> None:
    ours = conversations()
    counted(ours, server=1)
    assert len(fed(ours, exchange_at(Role.SERVER))) == 1
    assert ours.tally() == Tally(1, 1, 0)


def test_others_processes_counts_are_not_ours() -> None:
    ours = conversations()
    counts = {(PAIR, Role.SERVER): ConnectionCount(SERVER, 3, is_closed=False)}
    list(ours.count(counts, is_chosen=lambda owner: owner != SERVER))
    assert ours.tally() == Tally(0, 0, 0)


def test_a_connection_ends_when_all_its_ends_have() -> None:
    ours = conversations()
    fed(ours, [piece(Role.CLIENT, ASKED, start=0), piece(Role.SERVER, ASKED, start=0)])
    assert fed(ours, [piece(Role.CLIENT, last=True)]) == []
    (one,) = fed(ours, [piece(Role.SERVER, last=True)])
    assert (one.response, one.incomplete) == (None, ("closed",))
    assert fed(ours, exchange_at(Role.SERVER)) == []
    counted(ours, server=0, client=0, is_closed=True)
    counted(ours)
    assert ours.tally() == Tally(1, 1, 0)


def test_a_connection_that_is_closed_is_forgotten_and_still_counted() -> None:
    ours = conversations()
    fed(ours, exchange_at(Role.SERVER))
    assert counted(ours, server=1, is_closed=True) == []
    counted(ours)
    assert ours.tally() == Tally(1, 1, 0)
    assert len(fed(ours, exchange_at(Role.SERVER))) == 1, "it was not forgotten"


def test_a_lost_last_piece_does_not_keep_the_last_exchange() -> None:
    ours = conversations()
    fed(ours, [piece(Role.SERVER, ASKED, start=0)])
    assert counted(ours, server=0, is_closed=True) == []
    (one,) = counted(ours)
    assert one.incomplete == (MissingBecause.LOST,)
    assert ours.tally() == Tally(1, 1, 0)


def test_a_response_that_was_lost_is_not_taken_for_none() -> None:
    ours = conversations()
    fed(ours, [piece(Role.SERVER, ASKED, start=0)])
    end = piece(Role.SERVER, offset=len(ASKED), last=True)
    end = end._replace(piece=end.piece._replace(other_offset=len(ANSWERED)))
    (one,) = fed(ours, [end])
    assert one.incomplete == (MissingBecause.LOST,)
    counted(ours, server=1, is_closed=True)
    counted(ours)
    assert ours.tally() == Tally(1, 1, 0)


def test_what_is_open_at_the_end_is_unfinished() -> None:
    ours = conversations()
    fed(ours, [*exchange_at(Role.SERVER), *exchange_at(Role.SERVER, 1)[:1]])
    ours.end()
    assert ours.tally() == Tally(2, 1, 1)


def test_a_lost_piece_makes_an_exchange_incomplete_and_the_next_ones_go_on() -> None:
    ours = conversations()
    asked, _ = exchange_at(Role.SERVER)
    found = fed(ours, [asked, *exchange_at(Role.SERVER, 1)])
    assert [one.incomplete for one in found] == [(MissingBecause.LOST,), ()]
    counted(ours, server=2)
    assert ours.tally() == Tally(2, 2, 0)


@pytest.mark.parametrize(
    ("size", "limit", "kept", "missing"),
    [
        (10, 10, 10, ()),
        (11, 10, 10, (Missing(10, 1, MissingBecause.LIMIT),)),
        (50, 0, 0, (Missing(0, 50, MissingBecause.LIMIT),)),
    ],
)
def test_bodies_are_cut_at_the_limit(
    size: int, limit: int, kept: int, missing: tuple[Missing, ...]
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size)
    (one,) = fed(
        conversations(body_limit=limit),
        [
            piece(Role.SERVER, ASKED, start=0),
            piece(Role.SERVER, answer, from_client=False),
        ],
    )
    assert isinstance(one.response, HttpResponse)
    assert len(one.response.body) == kept
    assert one.response.missing == missing
    assert one.incomplete == tuple(gap.because for gap in missing)


def test_what_the_kernel_did_not_copy_and_the_cut_are_one_gap() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 20
    hidden = piece(Role.SERVER, b"", len(head), from_client=False)
    hidden = hidden._replace(
        piece=hidden.piece._replace(missing=80, because=MissingBecause.LIMIT)
    )
    (one,) = fed(
        conversations(body_limit=10),
        [
            piece(Role.SERVER, ASKED, start=0),
            piece(Role.SERVER, head, from_client=False),
            hidden,
        ],
    )
    assert isinstance(one.response, HttpResponse)
    assert one.response.body == b"x" * 10
    assert one.response.missing == (Missing(10, 90, MissingBecause.LIMIT),)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
def test_a_unix_socket_has_its_path(role: Role) -> None:
    pieces = [
        piece(role, ASKED, start=0, transport=Transport.UNIX),
        piece(role, ANSWERED, from_client=False, transport=Transport.UNIX),
    ]
    (one,) = fed(conversations(), pieces)
    assert one.connection.server.address == "/run/3.sock"
    assert one.connection.transport is Transport.UNIX


def talk(
    protocols: Iterable[Protocol], said: Iterable[bytes], roles: Iterable[Role]
) -> list[RecordedPiece]:
    """Requests and responses in turn, as both ends bring them, and the end."""
    pieces, at = [], {True: 0, False: 0}
    for number, (protocol, data) in enumerate(zip(protocols, said, strict=True)):
        from_client = number % 2 == 0
        pieces += [
            piece(
                role,
                data,
                at[from_client],
                from_client=from_client,
                start=at[False] if from_client else None,
                protocol=protocol,
            )
            for role in roles
        ]
        at[from_client] += len(data)
    lasts = [piece(role, last=True, protocol=pieces[-1].protocol) for role in roles]
    return pieces + [
        one._replace(
            piece=one.piece._replace(offset=at[True], other_offset=at[False]),
        )
        for one in lasts
    ]


HTTP, REDIS, UNKNOWN = Protocol.HTTP, Protocol.REDIS, Protocol.UNKNOWN


@pytest.mark.parametrize("roles", [[Role.SERVER], [Role.CLIENT, Role.SERVER]])
@pytest.mark.parametrize("tentative", [1, 2, 3, 4])
def test_what_only_looked_like_http_is_recorded_raw_from_its_beginning(
    roles: list[Role], tentative: int
) -> None:
    said = (b"get k", b"END", b"get l", b"END")
    protocols = [HTTP] * tentative + [UNKNOWN] * (4 - tentative)
    pieces = talk(protocols, said, roles)
    if tentative == 4:  # its last pieces say it
        pieces = pieces[: 4 * len(roles)] + [
            one._replace(protocol=UNKNOWN) for one in pieces[4 * len(roles) :]
        ]
    ours = conversations(with_raw=True)
    first, second = fed(ours, pieces)
    assert (first.request, first.response) == (
        RawMessage(data=b"get k"),
        RawMessage(data=b"END"),
    )
    assert second.request == RawMessage(data=b"get l")
    assert first.connection.protocol is UNKNOWN
    assert ours.tally() == Tally(2, 2, 0)
    assert fed(conversations(), pieces) == []


def test_a_ping_shows_that_it_is_redis() -> None:
    said = (b"PING\r\n", b"+PONG\r\n", b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
    pieces = talk([HTTP, REDIS, REDIS, REDIS], said, [Role.SERVER])
    found = fed(conversations(), pieces)
    assert [one.connection.protocol for one in found] == [REDIS] * 2
    assert all(one.is_complete for one in found)


def test_what_follows_a_tunnel_is_not_read_as_its_request() -> None:
    asked, yes = b"CONNECT h:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
    pieces = talk(
        [HTTP, HTTP, UNKNOWN, UNKNOWN],
        (asked, yes, b"\x16", b"\x16"),
        [Role.SERVER],
    )
    (one,) = fed(conversations(with_raw=True), pieces)
    assert isinstance(one.request, HttpRequest)
    assert one.connection.protocol is HTTP


def test_what_is_long_before_it_is_known_is_not_kept() -> None:
    said = [b"x" * MAX_HELD_BYTES, b"y", b"z", b"z"]
    pieces = talk([HTTP, HTTP, UNKNOWN, UNKNOWN], said, [Role.SERVER])
    ours = conversations(with_raw=True)
    assert fed(ours, pieces) == []
    assert not ours._open[PAIR].held


def test_what_has_no_codec_is_recorded_raw_or_not_at_all() -> None:
    pieces = [
        piece(Role.SERVER, b"ask", start=0, protocol=Protocol.UNKNOWN),
        piece(Role.SERVER, b"answer", from_client=False, protocol=Protocol.UNKNOWN),
        piece(Role.SERVER, last=True, protocol=Protocol.UNKNOWN),
    ]
    assert fed(conversations(), pieces) == []
    (one,) = fed(conversations(with_raw=True), pieces)
    assert one.request == RawMessage(data=b"ask")
    assert one.response == RawMessage(data=b"answer")
