# SPDX-License-Identifier: Apache-2.0
"""Packets → the bytes of each connection in their order, whatever order they were captured in.

What comes twice is taken once; what comes early waits until the hole before it is filled. A hole
stays when the receiver acknowledged it (so the capture lost it), when too much waits behind it,
and at the end: then the next piece is further on. Memory is bounded: connections, and what waits.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.archive.packets import ACK, FIN, RST, SYN, TcpSegment, tcp_segment
from deetune_otel.recording.model import Endpoint, MissingBecause, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deetune_otel.recording.pcapng import Packet

__all__ = ["Arrival", "Capture", "Closed", "Flow"]

# A file of ours has 4,096 at most; a capture of a busy server more.
MAX_FLOWS: Final = 32_768
# Linux lets no more of a connection come out of order by default (tcp_rmem).
MAX_HELD_BYTES: Final = 6 * 1024 * 1024
MAX_HELD_SEGMENTS: Final = 1024
# Of all connections; what is beyond is read over the hole.
MAX_ALL_HELD_BYTES: Final = 64 * 1024 * 1024


class Flow(NamedTuple):
    """One connection of the capture."""

    number: int  # in the file; addresses and ports may come again
    client: Endpoint
    server: Endpoint
    is_certain: bool  # its beginning is there; else either end may be the client
    started_ns: int


class Arrival(NamedTuple):
    flow: Flow
    piece: Piece  # a comment may come without bytes
    comment: str = ""


class Closed(NamedTuple):
    flow: Flow


class _Held(NamedTuple):
    at_ns: int
    data: bytes
    comment: str
    cut: int = 0  # bytes behind the data that the capture did not keep


class _Direction:
    """Sequence numbers as offsets: the first byte is 0, and they do not wrap."""

    def __init__(self, flow: Flow, *, from_client: bool) -> None:
        self.flow = flow
        self.from_client = from_client
        self.base: int | None = None  # sequence number of offset 0
        self.next = 0
        self.end: int | None = None  # known from its FIN
        self.held: dict[int, _Held] = {}
        self.held_bytes = 0

    def begin(self, sequence: int) -> None:
        if self.base is None:
            self.base = sequence

    def offset(self, sequence: int) -> int:
        """Of the one that is nearest to what is expected."""
        ahead = (sequence - (self.base or 0) - self.next) & 0xFFFF_FFFF
        return self.next + (ahead - (1 << 32) if ahead >= 1 << 31 else ahead)

    @property
    def is_done(self) -> bool:
        return self.end is not None and self.next >= self.end


class _Connection:
    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.client = _Direction(flow, from_client=True)
        self.server = _Direction(flow, from_client=False)
        self.is_closed = False
        self.last_ns = flow.started_ns
        self.is_ours = False  # written in order: a hole is one


_Key = tuple[bytes, int, bytes, int]


class Capture:
    """Fed packets, gives back arrivals; `passed` counts what was not understood."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self.forgotten = 0  # connections that were closed here for want of room
        self._open: OrderedDict[_Key, _Connection] = OrderedDict()
        self._held_bytes = 0
        self._count = 0

    def feed(self, packet: Packet) -> Iterator[Arrival | Closed]:
        segment = tcp_segment(packet.link, packet.data)
        if isinstance(segment, str):
            self.passed[segment] += 1
            return
        key = segment[:4]
        is_first = segment.flags & (SYN | ACK) == SYN
        found = self._find(key)
        if found and is_first and _is_anew(*found, segment):
            yield from self._close(found[0])
            del self._open[self._key(found[0])]
            found = None
        if found is None:
            if not (is_first or segment.size or packet.comment):
                return  # of a connection without bytes, or one that is over
            self._begin(segment, packet.at_ns)
            while len(self._open) > MAX_FLOWS:
                _, oldest = self._open.popitem(last=False)
                self.forgotten += not oldest.is_closed
                yield from self._close(oldest)
            found = self._find(key)
        if found is None or found[0].is_closed:
            return
        connection, sender = found
        connection.last_ns = packet.at_ns
        if packet.comment.startswith("exchange="):
            connection.is_ours = True
        yield from self._take(connection, sender, segment, packet)

    def end(self) -> Iterator[Arrival | Closed]:
        """What waited for more, and every connection that is open."""
        while self._open:
            _, connection = self._open.popitem(last=False)
            yield from self._close(connection)

    def _key(self, connection: _Connection) -> _Key:
        flow = connection.flow
        return (
            ip_address(flow.client.address).packed,
            flow.client.port,
            ip_address(flow.server.address).packed,
            flow.server.port,
        )

    def _find(self, key: _Key) -> tuple[_Connection, _Direction] | None:
        for one in (key, (*key[2:], *key[:2])):
            connection = self._open.get(one)
            if connection is not None:
                self._open.move_to_end(one)
                is_client = one == key
                return (
                    connection,
                    connection.client if is_client else connection.server,
                )
        return None

    def _begin(self, segment: TcpSegment, at_ns: int) -> None:
        one = Endpoint(str(ip_address(segment.source)), segment.source_port)
        other = Endpoint(str(ip_address(segment.target)), segment.target_port)
        is_syn = bool(segment.flags & SYN)
        # Clients' ports are the high ones.
        is_from_server = bool(segment.flags & ACK) if is_syn else one.port < other.port
        if is_from_server:
            one, other = other, one
        self._count += 1
        connection = _Connection(Flow(self._count, one, other, is_syn, at_ns))
        self._open[self._key(connection)] = connection

    def _take(
        self,
        connection: _Connection,
        mine: _Direction,
        segment: TcpSegment,
        packet: Packet,
    ) -> Iterator[Arrival | Closed]:
        is_client = mine is connection.client
        other = connection.server if is_client else connection.client
        sequence = segment.sequence + bool(segment.flags & SYN)
        mine.begin(sequence)
        if segment.flags & ACK:
            other.begin(segment.acknowledged)
            reached = other.offset(segment.acknowledged)
            if other.held and reached > other.next:
                yield from self._drain(other, reached)
            # What was left out of a message is said before the next one begins.
            if connection.is_ours and reached > other.next:
                yield _hole(other, reached, packet.at_ns)
        at = mine.offset(sequence)
        if segment.flags & FIN:
            mine.end = at + segment.size
        if segment.payload or packet.comment:
            cut = segment.size - len(segment.payload)
            held = _Held(packet.at_ns, segment.payload, packet.comment, cut)
            if at <= mine.next or connection.is_ours:
                yield from _pass_on(mine, at, held)
                yield from self._drain(mine, mine.next)
            else:
                yield from self._hold(mine, at, held)
        if connection.is_ours and mine.end is not None:
            yield from _tail(mine, packet.at_ns)
        if segment.flags & RST or (mine.is_done and other.is_done):
            yield from self._close(connection)

    def _hold(self, mine: _Direction, at: int, held: _Held) -> Iterator[Arrival]:
        there = mine.held.get(at)
        if there is not None and len(there.data) >= len(held.data):
            return
        grown = len(held.data) - (len(there.data) if there else 0)
        mine.held[at] = held
        mine.held_bytes += grown
        self._held_bytes += grown
        if (
            mine.held_bytes > MAX_HELD_BYTES
            or len(mine.held) > MAX_HELD_SEGMENTS
            or self._held_bytes > MAX_ALL_HELD_BYTES
        ):
            yield from self._drain(mine, min(mine.held))

    def _drain(self, mine: _Direction, reached: int) -> Iterator[Arrival]:
        """Passes on what waits, up to the first hole that is beyond `reached`."""
        for at in sorted(mine.held):
            if at > max(mine.next, reached):
                break
            held = mine.held.pop(at)
            mine.held_bytes -= len(held.data)
            self._held_bytes -= len(held.data)
            yield from _pass_on(mine, at, held)

    def _close(self, connection: _Connection) -> Iterator[Arrival | Closed]:
        if connection.is_closed:
            return
        connection.is_closed = True
        for mine in (connection.client, connection.server):
            yield from self._drain(mine, max(mine.held, default=0))
            yield from _tail(mine, connection.last_ns)
        yield Closed(connection.flow)


def _is_anew(connection: _Connection, sender: _Direction, segment: TcpSegment) -> bool:
    """Not the same SYN once more."""
    if connection.is_closed or sender is not connection.client:
        return True
    base = connection.client.base
    return base is None or (segment.sequence + 1) & 0xFFFF_FFFF != base


def _pass_on(mine: _Direction, at: int, held: _Held) -> Iterator[Arrival]:
    """Without what came before; the hole before it is said, and what was cut off behind it."""
    data = held.data
    if at > mine.next:
        yield _hole(mine, at, held.at_ns)
    elif at < mine.next:
        data = data[mine.next - at :]
    if data or held.comment:
        piece = Piece(mine.from_client, mine.next, held.at_ns, data)
        mine.next += len(data)
        yield Arrival(mine.flow, piece, held.comment)
    until = at + len(held.data) + held.cut
    if held.cut > 0 and until > mine.next:
        yield _hole(mine, until, held.at_ns, MissingBecause.CUT)


def _tail(mine: _Direction, at_ns: int) -> Iterator[Arrival]:
    """What is missing before a FIN."""
    if mine.end is not None and mine.end > mine.next:
        yield _hole(mine, mine.end, at_ns)


def _hole(
    mine: _Direction,
    until: int,
    at_ns: int,
    because: MissingBecause = MissingBecause.LOST,
) -> Arrival:
    count = until - mine.next
    piece = Piece(mine.from_client, mine.next, at_ns, b"", count, because)
    mine.next = until
    return Arrival(mine.flow, piece)
