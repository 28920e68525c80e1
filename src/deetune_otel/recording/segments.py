# SPDX-License-Identifier: Apache-2.0
"""Exchanges as the packets of a TCP that never was: what Wireshark dissects.

Bare IPv4 or IPv6 with right checksums. A connection begins with a handshake, its sequence numbers
go on from exchange to exchange, and missing bytes take theirs: a dissector shows the gap. What
has no address (Unix sockets), or one that another open connection has (two network namespaces),
gets one of the documentation ranges, and its comment says the real one.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.model import Protocol, Transport
from deetune_otel.recording.codecs import CODECS, RAW
from deetune_otel.recording.facts import (
    Extent,
    Gap,
    connection_comment,
    exchange_comment,
    response_comment,
)
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpResponse,
    Message,
    Missing,
    RawMessage,
    RecordedExchange,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_GAP", "MAX_PAYLOAD_BYTES", "Segment", "Segments"]

# With both headers below 65,535, what the length of an IP packet holds.
MAX_PAYLOAD_BYTES: Final = 64_000
# Sequence numbers one gap takes at most: beyond 2^31 they would be taken for old ones.
MAX_GAP: Final = 1 << 30
# Each is some hundred bytes here, and a file's reader keeps as many.
MAX_OPEN: Final = 4096

_FIN: Final = 0x11  # and ACK, as in all but the first
_SYN: Final = 0x02
_SYN_ACK: Final = 0x12
_ACK: Final = 0x10
_PUSH: Final = 0x18
# A segment of any size, and a window that is never full: no dissector warns.
_SYN_OPTIONS: Final = struct.pack("!BBHBBBB", 2, 4, 0xFFFF, 3, 3, 14, 1)

_CLIENT_V4: Final = bytes((192, 0, 2, 1))
_SERVER_V4: Final = bytes((192, 0, 2, 2))
_V6_PREFIX: Final = bytes.fromhex("20010db8") + bytes(8)
_PORTS: Final = {Protocol.HTTP: 80, Protocol.REDIS: 6379}
_FIRST_PORT: Final = 49_152
_PORT_COUNT: Final = 65_536 - _FIRST_PORT


class Segment(NamedTuple):
    at_ns: int
    packet: bytes
    comment: str = ""


class _Place(NamedTuple):
    """Both ends of a connection, as its packets say them."""

    client: bytes
    client_port: int
    server: bytes
    server_port: int

    def ends(self) -> tuple[Endpoint, Endpoint]:
        return (
            Endpoint(str(ip_address(self.client)), self.client_port),
            Endpoint(str(ip_address(self.server)), self.server_port),
        )


class Segments:
    """The packets of one file. What is open when it ends is closed by `close`."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Wire] = OrderedDict()
        self._taken: set[_Place] = set()
        self._synthetic = 0

    def of(self, exchange: RecordedExchange) -> list[Segment]:
        """UnicodeEncodeError and TypeError for what cannot be a message of its protocol."""
        request = _parts(exchange.connection.protocol, exchange.request)
        response = (
            _parts(exchange.connection.protocol, exchange.response)
            if exchange.response is not None
            else None
        )
        found: list[Segment] = []
        wire = self._open.get(exchange.connection.id)
        if wire is not None and wire.connection != exchange.connection:
            found += self._closed(wire)  # the other end's process became known
            wire = None
        if wire is None:
            wire = self._opened(exchange.connection)
            found += wire.handshake(exchange.request_start_ns)
        else:
            self._open.move_to_end(exchange.connection.id)
        found += wire.exchange(exchange, request, response)
        last = exchange.response
        if isinstance(last, HttpResponse) and last.ends_with_connection:
            found += self._closed(wire)
        while len(self._open) > MAX_OPEN:
            found += self._closed(next(iter(self._open.values())))
        return found

    def close(self) -> list[Segment]:
        found: list[Segment] = []
        for wire in list(self._open.values()):
            found += self._closed(wire)
        return found

    def _opened(self, connection: Connection) -> _Wire:
        place = self._place(connection)
        self._taken.add(place)
        wire = self._open[connection.id] = _Wire(connection, place)
        return wire

    def _closed(self, wire: _Wire) -> list[Segment]:
        del self._open[wire.connection.id]
        self._taken.discard(wire.place)
        return wire.farewell()

    def _place(self, connection: Connection) -> _Place:
        client, server = connection.client, connection.server
        is_unix = connection.transport is Transport.UNIX
        ours = None if is_unix else _packed(client.address)
        theirs = None if is_unix else _packed(server.address)
        is_v6 = 16 in (len(ours or b""), len(theirs or b""))
        size = 16 if is_v6 else 4
        if theirs is None or len(theirs) != size:
            theirs = _V6_PREFIX + _SERVER_V4 if is_v6 else _SERVER_V4
        if ours is None or len(ours) != size:
            ours = _V6_PREFIX + _CLIENT_V4 if is_v6 else _CLIENT_V4
        server_port = server.port if 0 < server.port < 65_536 else 0
        server_port = server_port or _PORTS.get(connection.protocol, 9)
        if 0 < client.port < 65_536:
            place = _Place(ours, client.port, theirs, server_port)
            if place not in self._taken:
                return place
        while True:
            self._synthetic = (self._synthetic + 1) % _PORT_COUNT
            place = _Place(ours, _FIRST_PORT + self._synthetic, theirs, server_port)
            if place not in self._taken:  # there are more ports than MAX_OPEN
                return place


class _Wire:
    """One connection that is open in the file."""

    def __init__(self, connection: Connection, place: _Place) -> None:
        self.connection = connection
        self.place = place
        client, server = place.ends()
        self._comment = connection_comment(connection, client=client, server=server)
        self._client = _Half(
            place.client, place.client_port, place.server, place.server_port
        )
        self._server = _Half(
            place.server, place.server_port, place.client, place.client_port
        )
        self._at_ns = 0

    def handshake(self, at_ns: int) -> list[Segment]:
        client, server = self._client, self._server
        opened = [Segment(at_ns, client.packet(_SYN, 0, options=_SYN_OPTIONS))]
        client.next = 1
        opened.append(Segment(at_ns, server.packet(_SYN_ACK, 1, options=_SYN_OPTIONS)))
        server.next = 1
        opened.append(Segment(at_ns, client.packet(_ACK, 1)))
        return opened

    def exchange(
        self,
        exchange: RecordedExchange,
        request: list[bytes | Missing],
        response: list[bytes | Missing] | None,
    ) -> list[Segment]:
        comment = exchange_comment(
            exchange,
            _extent(request, exchange.request),
            None
            if response is None or exchange.response is None
            else _extent(response, exchange.response),
            connection=self._comment,
        )
        times = exchange.request_start_ns, exchange.request_end_ns
        found = list(_sent(self._client, self._server, request, times, comment))
        if response is not None:
            times = exchange.response_start_ns, exchange.response_end_ns
            comment = response_comment(exchange)
            found += _sent(self._server, self._client, response, times, comment)
        self._at_ns = max(self._at_ns, times[1])
        return found

    def farewell(self) -> list[Segment]:
        client, server, at_ns = self._client, self._server, self._at_ns
        ended = [Segment(at_ns, client.packet(_FIN, server.next))]
        client.next += 1
        ended.append(Segment(at_ns, server.packet(_FIN, client.next)))
        server.next += 1
        ended.append(Segment(at_ns, client.packet(_ACK, server.next)))
        return ended


class _Half:
    """One direction: its headers, and its next sequence number."""

    def __init__(
        self, source: bytes, port: int, target: bytes, target_port: int
    ) -> None:
        self.next = 0
        self._ports = port << 16 | target_port
        self._is_v6 = len(source) == 16
        self._ends = source + target
        # Of the pseudo header, but the length.
        self._sum = int.from_bytes(self._ends) % 0xFFFF + 6

    def packet(
        self,
        flags: int,
        acknowledged: int,
        payload: bytes = b"",
        *,
        options: bytes = b"",
    ) -> bytes:
        size = 20 + len(options) + len(payload)
        head = struct.pack(
            "!IIIBBHI",
            self._ports,
            self.next & 0xFFFF_FFFF,
            acknowledged & 0xFFFF_FFFF,
            (20 + len(options)) << 2,
            flags,
            0xFFFF,
            0,
        )
        total = int.from_bytes(head + options) + self._sum + size
        if payload:
            # 2^16 is 1 there, so a number's rest is the sum of its words.
            total += (int.from_bytes(payload) << (len(payload) % 2 * 8)) % 0xFFFF
        head = head[:16] + _complement(total) + b"\0\0"
        return b"".join((self._ip(size), head, options, payload))

    def _ip(self, size: int) -> bytes:
        if self._is_v6:
            return struct.pack("!IHBB", 6 << 28, size, 6, 64) + self._ends
        first = struct.pack("!HHIBB", 0x4500, 20 + size, 0x4000, 64, 6)
        total = int.from_bytes(first) + int.from_bytes(self._ends)
        # Eight bytes and the two of type and lifetime are ten: whole words.
        return first + _complement(total) + self._ends


def _complement(total: int) -> bytes:
    """The checksum of words whose sum is never 0."""
    return (0xFFFF - (total % 0xFFFF or 0xFFFF)).to_bytes(2)


def _sent(
    sender: _Half,
    receiver: _Half,
    parts: list[bytes | Missing],
    times: tuple[int, int],
    comment: str,
) -> Iterator[Segment]:
    at_ns, end_ns = times
    if not parts or isinstance(parts[0], Missing):
        yield Segment(at_ns, sender.packet(_ACK, receiver.next), comment)
        comment = ""
    for number, part in enumerate(parts, start=1):
        if isinstance(part, Missing):
            sender.next += min(part.bytes, MAX_GAP)
            at_ns = end_ns
            continue
        for at in range(0, len(part), MAX_PAYLOAD_BYTES):
            payload = part[at : at + MAX_PAYLOAD_BYTES]
            if at and number == len(parts) and at + len(payload) == len(part):
                at_ns = end_ns
            packet = sender.packet(_PUSH, receiver.next, payload)
            sender.next += len(payload)
            yield Segment(at_ns, packet, comment)
            comment = ""


def _parts(protocol: Protocol, message: Message) -> list[bytes | Missing]:
    """The message as sent; bytes that stand together are one part."""
    joined: list[bytes | Missing] = []
    together: list[bytes] = []
    for part in _encoded(protocol, message):
        if isinstance(part, Missing):
            if together:
                joined.append(b"".join(together))
                together = []
            joined.append(part)
        elif part:
            together.append(part)
    if together:
        joined.append(b"".join(together))
    return joined


def _encoded(protocol: Protocol, message: Message) -> list[bytes | Missing]:
    if isinstance(message, RawMessage):
        return RAW.encode(message)
    if protocol not in CODECS:
        raise TypeError(f"{protocol} has no codec: only raw bytes can be written")
    return CODECS[protocol].encode(message)


def _extent(parts: list[bytes | Missing], message: Message) -> Extent:
    gaps = []
    at = wire_bytes = 0
    for part in parts:
        if isinstance(part, Missing):
            gaps.append(Gap(at, part.bytes, part.because))
            at += min(part.bytes, MAX_GAP)
            wire_bytes += part.bytes
        else:
            at += len(part)
            wire_bytes += len(part)
    return Extent(
        at,
        tuple(gaps),
        None if message.wire_bytes == wire_bytes else message.wire_bytes,
    )


def _packed(address: str) -> bytes | None:
    try:
        return ip_address(address).packed
    except ValueError:
        return None
