# SPDX-License-Identifier: Apache-2.0
"""What the kernel copies of a recorded connection, and what its counts say beside."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.messages import redis
from tests.process import wait_until

from deetune_otel.kernel.recording import (
    KernelRecording,
    RecordedPiece,
    RecordingRules,
)
from deetune_otel.model import Protocol, Role, Transport
from deetune_otel.recording.model import MissingBecause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kernel.actor import Ends
    from tests.kernel.observe import Watch

pytestmark = pytest.mark.kernel

REQUEST: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Recorded:
    """Pieces, gathered."""

    def __init__(self, recording: KernelRecording) -> None:
        self.recording: Final = recording
        self.pieces: list[RecordedPiece] = []

    def take(self) -> list[RecordedPiece]:
        """The new ones; what a call has sent is in the ring when it has returned."""
        new: list[RecordedPiece] = []
        while found := self.recording.poll():
            new += found
        self.pieces += new
        return new

    def streams(self, role: Role) -> tuple[bytes, bytes]:
        """Both directions' bytes, the client's first, as this end brought them."""
        self.take()
        streams = {True: bytearray(), False: bytearray()}
        for one in self.pieces:
            if one.role is role and not one.is_last:
                stream = streams[one.piece.from_client]
                assert one.piece.offset == len(stream)
                stream += one.piece.data or bytes(one.piece.missing)
        return bytes(streams[True]), bytes(streams[False])


@contextmanager
def recorded(watch: Watch, **rules: object) -> Iterator[Recorded]:
    recording = watch.kernel.record(RecordingRules(**rules))  # type: ignore[arg-type]
    try:
        yield Recorded(recording)
    finally:
        recording.close()


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("::1", 0), "unix"])
def test_both_ends_bring_all_bytes_under_one_pair(
    watch: Watch,
    connect: Callable[..., Ends],
    tmp_path: Path,
    address: tuple[str, int] | str,
) -> None:
    ends = connect(str(tmp_path / "socket") if address == "unix" else address)
    if address == "unix":
        ends.call(
            REQUEST, RESPONSE
        )  # a Unix client learns its pair when it is answered
    with recorded(watch) as seen:
        for _ in range(3):
            ends.call(REQUEST, RESPONSE)
        base = len(REQUEST), len(RESPONSE)
        seen.take()
        for role in (Role.CLIENT, Role.SERVER):
            pieces = [one for one in seen.pieces if one.role is role]
            if address != "unix":
                assert seen.streams(role) == (REQUEST * 3, RESPONSE * 3)
            asked = [one.piece for one in pieces if one.piece.from_client]
            assert b"".join(piece.data for piece in asked) == REQUEST * 3
            assert [piece.is_start for piece in asked] == [True] * 3
            first = asked[0]
            assert (first.offset, first.other_offset) == (
                base if address == "unix" else (0, 0)
            )
        assert len({one.pair for one in seen.pieces}) == 1
        assert {one.protocol for one in seen.pieces} == {Protocol.HTTP}
        wanted = Transport.UNIX if address == "unix" else Transport.TCP
        assert {one.transport for one in seen.pieces} == {wanted}
        counts = seen.recording.read_counts()
        assert [one.exchanges for one in counts.connections.values()] == [3, 3]
        assert {role for _, role in counts.connections} == {Role.CLIENT, Role.SERVER}


def test_an_end_is_said_once(watch: Watch, connect: Callable[..., Ends]) -> None:
    with recorded(watch) as seen:
        ends = connect()
        ends.call(REQUEST, RESPONSE)
        ends.client.close()
        ends.server.close()

        def all_ended() -> bool:
            seen.take()
            return sum(one.is_last for one in seen.pieces) == 2

        wait_until(all_ended, "both ends to be closed")
        last = next(one for one in seen.pieces if one.is_last).piece
        assert (last.offset, last.other_offset) == (len(REQUEST), len(RESPONSE))
        counts = seen.recording.read_counts().connections.values()
        assert [(one.exchanges, one.is_closed) for one in counts] == [(1, True)] * 2
        assert not seen.recording.read_counts().connections


def test_a_large_body_in_one_call_and_in_many(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    body = bytes(range(256)) * 8192  # 2 MB
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with recorded(watch, body_limit=16 << 20) as seen:
        ends = connect()
        for piece in (0, 10_000):
            done = ends.client.start("send", request, piece)
            ends.server.take(request)
            done()
            ends.respond(RESPONSE)
        assert seen.streams(Role.CLIENT) == (request * 2, RESPONSE * 2)
        assert seen.streams(Role.SERVER) == (request * 2, RESPONSE * 2)


def test_behind_the_body_limit_nothing_is_copied(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    body = b"x" * (1 << 20)
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with recorded(watch, body_limit=0) as seen:
        ends = connect()
        done = ends.client.start("send", request, 16384)
        ends.server.take(request, 16384)
        done()
        ends.respond(RESPONSE)
        ends.call(REQUEST, RESPONSE)
        streams = seen.streams(Role.SERVER)
        assert len(streams[0]) == len(request + REQUEST)
        assert streams[0].endswith(REQUEST)
        hidden = [one.piece for one in seen.pieces if one.piece.missing]
        assert {piece.because for piece in hidden} == {MissingBecause.LIMIT}
        assert sum(piece.missing for piece in hidden) > 1 << 20
        limited = seen.recording.read_counts().limited
        assert limited == (len(hidden), sum(piece.missing for piece in hidden))


def test_pieces_of_many_vectors_are_one(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    with recorded(watch) as seen:
        ends = connect()
        ends.client.call("writev", [REQUEST[:9], b"", REQUEST[9:]])
        ends.server.take(REQUEST)
        ends.respond(RESPONSE)
        assert seen.streams(Role.CLIENT) == (REQUEST, RESPONSE)
        assert [len(one.piece.data) for one in seen.pieces[:2]] == [len(REQUEST)] * 2


def test_what_passes_no_user_memory_is_said_to_be_missing(
    watch: Watch, connect: Callable[..., Ends], tmp_path: Path
) -> None:
    body = bytes(range(256)) * 80
    (tmp_path / "body").write_bytes(body)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with recorded(watch) as seen:
        ends = connect()
        ends.request(REQUEST)
        ends.server.send(head)
        ends.server.call("sendfile", str(tmp_path / "body"), len(body))
        ends.client.take(head + body)
        seen.take()
        sent = [
            one.piece
            for one in seen.pieces
            if one.role is Role.SERVER and not one.piece.from_client
        ]
        assert sent[0].data == head
        assert {piece.because for piece in sent[1:]} == {MissingBecause.OPAQUE}
        assert sum(piece.missing for piece in sent[1:]) == len(body)
        assert seen.streams(Role.CLIENT)[1] == head + body  # the other end has them
        assert seen.recording.read_counts().opaque.bytes == len(body)


def test_a_connection_is_recorded_from_where_nothing_is_open(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    ends.call(REQUEST, RESPONSE)
    ends.request(REQUEST)
    with recorded(watch) as seen:
        (owner,) = watch.owners([ends.server.actor.pid])
        seen.recording.choose(owner, is_chosen=True)
        ends.respond(RESPONSE)
        assert not seen.take()
        ends.call(REQUEST, RESPONSE)
        first = seen.take()[0].piece
        assert first.is_start
        assert (first.offset, first.other_offset) == (
            2 * len(REQUEST),
            2 * len(RESPONSE),
        )
        counts = seen.recording.read_counts()
        assert counts.open_before == 1  # at the end that was chosen
        assert [one.exchanges for one in counts.connections.values()] == [1, 1]


def test_owners_that_are_refused_or_chosen(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    ends.call(REQUEST, RESPONSE)
    with recorded(watch) as seen:
        (owner,) = watch.owners([ends.client.actor.pid])
        seen.recording.choose(owner, is_chosen=False)
        ends.call(REQUEST, RESPONSE)
        assert {one.role for one in seen.take()} == {Role.SERVER}
    with recorded(watch) as seen:  # the next recording knows nothing of it
        ends.call(REQUEST, RESPONSE)
        assert {one.role for one in seen.take()} == {Role.CLIENT, Role.SERVER}


@pytest.mark.parametrize(
    "rules",
    [
        {"ports": (1, 2)},
        {"peers": (ipaddress.ip_network("10.0.0.0/8"),)},
        {"protocols": frozenset({Protocol.REDIS})},
        {"keep_fraction": 0.0},
        {"roles": frozenset[Role]()},
    ],
    ids=lambda rules: next(iter(rules)),
)
def test_what_the_rules_leave_out_is_neither_copied_nor_counted(
    watch: Watch, connect: Callable[..., Ends], rules: dict[str, object]
) -> None:
    with recorded(watch, **rules) as seen:
        ends = connect()
        ends.call(REQUEST, RESPONSE)
        assert not seen.take()
        assert not seen.recording.read_counts().connections


def test_what_the_rules_choose(watch: Watch, connect: Callable[..., Ends]) -> None:
    _, bound = connect().server.actor.listen()
    assert not isinstance(bound, str)
    port = bound[1]
    networks = tuple(
        map(ipaddress.ip_network, ("10.0.0.0/8", "127.0.0.0/9", "::1/128"))
    )
    with recorded(watch, ports=(1, port), peers=networks) as seen:
        ends = connect()  # to another port
        ends.call(REQUEST, RESPONSE)
        assert not seen.take()
    with recorded(watch, peers=networks, roles=frozenset({Role.SERVER})) as seen:
        for address in (("127.0.0.1", 0), ("::1", 0)):
            ends = connect(address)
            ends.call(REQUEST, RESPONSE)
            assert {one.role for one in seen.take()} == {Role.SERVER}


def test_a_sample_of_connections_is_the_same_at_both_ends(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    with recorded(watch, keep_fraction=0.5) as seen:
        for _ in range(64):
            ends = connect()
            ends.call(REQUEST, RESPONSE)
        roles = defaultdict(set)
        for one in seen.take():
            roles[one.pair].add(one.role)
        assert set(map(frozenset, roles.values())) == {
            frozenset({Role.CLIENT, Role.SERVER})
        }
        assert 8 < len(roles) < 56  # fails once in 10^9


def test_a_full_ring_is_a_jump_that_is_counted(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    body = b"x" * 30_000
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + body
    with recorded(watch, ring_bytes=1 << 16) as seen:
        ends = connect()
        for _ in range(5):
            ends.call(REQUEST, response)
        taken = sum(len(one.piece.data) for one in seen.take())
        counts = seen.recording.read_counts()
        assert counts.ring_full.exchanges
        assert counts.copied.bytes == taken
        assert taken + counts.ring_full.bytes == 2 * 5 * len(REQUEST + response)
        assert [one.exchanges for one in counts.connections.values()] == [5, 5]
        ends.call(REQUEST, RESPONSE)  # and it goes on
        starts = [one.piece for one in seen.take() if one.piece.is_start]
        assert {piece.offset for piece in starts} == {5 * len(REQUEST)}


def test_what_has_no_known_protocol_is_copied_on_demand(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    asked, answered = b"\x01\x02hello", b"\x03\x04there"
    with recorded(watch) as seen:
        connect().call(asked, answered)
        assert not seen.take()
    with recorded(watch, with_raw=True) as seen:
        ends = connect()
        for _ in range(2):
            ends.call(asked, answered)
        assert seen.streams(Role.SERVER) == (asked * 2, answered * 2)
        counts = seen.recording.read_counts()
        assert [one.exchanges for one in counts.connections.values()] == [2, 2]


def test_what_only_looked_like_http_is_copied_from_its_beginning(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    """Its first pieces say HTTP, the answer Redis, whose inline command the line could be; the later ones
    what it is, where that is wanted.
    """
    asked, answered = b"get key\r\n", b"END\r\n"
    for with_raw in (False, True):
        with recorded(watch, with_raw=with_raw) as seen:
            ends = connect()
            ends.request(asked[:4])
            ends.call(asked[4:], answered)
            ends.call(asked, answered)
            streams = (asked * 2, answered * 2) if with_raw else (asked, answered)
            assert seen.streams(Role.SERVER) == streams
            for role in (Role.CLIENT, Role.SERVER):
                protocols = [one.protocol for one in seen.pieces if one.role is role]
                assert protocols[:3] == [Protocol.HTTP, Protocol.HTTP, Protocol.REDIS]
                assert protocols[3:] == [Protocol.UNKNOWN] * 2 * with_raw
            counts = seen.recording.read_counts().connections.values()
            assert [one.exchanges for one in counts] == [2, 2] * with_raw


def test_an_unknown_method_is_copied(
    watch: Watch, connect: Callable[..., Ends]
) -> None:
    asked = b"notify /a HTTP/1.1\r\n\r\n"
    with recorded(watch) as seen:
        ends = connect()
        for _ in range(2):
            ends.call(asked, RESPONSE)
        assert seen.streams(Role.SERVER) == (asked * 2, RESPONSE * 2)
        assert {one.protocol for one in seen.pieces} == {Protocol.HTTP}
        counts = seen.recording.read_counts().connections.values()
        assert [one.exchanges for one in counts] == [2, 2]


def test_redis_is_copied_too(watch: Watch, connect: Callable[..., Ends]) -> None:
    with recorded(watch) as seen:
        ends = connect()
        ends.call(redis("SET", "key", "value") * 40, b"+OK\r\n" * 40)
        assert seen.streams(Role.CLIENT) == (
            redis("SET", "key", "value") * 40,
            b"+OK\r\n" * 40,
        )
        assert {one.protocol for one in seen.pieces} == {Protocol.REDIS}
        counts = seen.recording.read_counts()
        assert [one.exchanges for one in counts.connections.values()] == [40, 40]


def test_one_recording_at_a_time(watch: Watch, connect: Callable[..., Ends]) -> None:
    with recorded(watch) as seen:
        with pytest.raises(RuntimeError, match="under way"):
            watch.kernel.record(RecordingRules())
        seen.recording.stop()
        connect().call(REQUEST, RESPONSE)
        assert not seen.take()
    assert seen.recording.poll() == []
    seen.recording.close()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"ports": tuple(range(9))}, "at most 8"),
        ({"keep_fraction": 1.5}, "no fraction"),
        ({"ring_bytes": 100_000}, "power of two"),
    ],
)
def test_rules_that_the_kernel_cannot_be_told(
    rules: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        RecordingRules(**rules)  # type: ignore[arg-type]
