# SPDX-License-Identifier: Apache-2.0
"""The blocks of a pcapng file, and the records of the older pcap.

Written: one section, little endian, one interface of bare IP packets with nanoseconds, packets
with comments, and statistics that hold the manifest (draft-ietf-opsawg-pcapng). Read: both byte
orders, several sections and interfaces, any time resolution. A comment beyond an option's 65,535
bytes is several options in a row.

Reading is strict and bounded: what breaks the format raises BadInput with the offset, a file that
ends within a block raises CutShort, and no length that a file claims is believed beyond a bound.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from deetune_otel.recording.errors import BadInput

__all__ = [
    "LINKTYPE_RAW",
    "PCAPNG_MAGIC",
    "PCAP_MAGICS",
    "CutShort",
    "Packet",
    "Passed",
    "Statistics",
    "file_head",
    "packet",
    "read_pcap",
    "read_pcapng",
    "statistics",
]

Read = Callable[[int], bytes]  # up to so many bytes; fewer only at the end

LINKTYPE_RAW: Final = 101  # IPv4 or IPv6, by the version in the first byte

PCAPNG_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
# Byte order and the unit of the fraction of a second.
PCAP_MAGICS: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}

# A block that is no packet may be a manifest, names or keys: well below this.
MAX_BLOCK_BYTES: Final = 16 * 1024 * 1024
# tcpdump takes 262,144 of a packet at most.
MAX_PACKET_BYTES: Final = 1024 * 1024
# Every tool writes a handful.
MAX_INTERFACES: Final = 4096
# The year 2262: what 64 bits of nanoseconds hold elsewhere, with a sign.
MAX_TIME_NS: Final = (1 << 63) - 1

_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_OLD_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_STATISTICS: Final = 5
_PACKET: Final = 6
_BYTE_ORDER: Final = 0x1A2B3C4D

_END: Final = 0
_COMMENT: Final = 1
_APPLICATION: Final = 4
_NAME: Final = 2
_DESCRIPTION: Final = 3
_RESOLUTION: Final = 9
_OFFSET: Final = 14
_RECEIVED: Final = 4
_DROPPED: Final = 5

# Behind the type and length: how long the fixed part is.
_FIXED: Final = {_SECTION: 16, _INTERFACE: 8, _STATISTICS: 12, _PACKET: 20}

# One below the longest option, in whole words.
_MAX_OPTION: Final = 65_532


class CutShort(BadInput):
    """The file ends within a block: its writer was killed, or the copy was not finished."""


class Packet(NamedTuple):
    at_ns: int
    link: int
    data: bytes  # as much as was captured
    bytes: int  # on the wire
    comment: str = ""


class Statistics(NamedTuple):
    """What a capture says of itself at its end."""

    comment: str


class Passed(NamedTuple):
    """Packets in a form that is not read."""

    what: str


_PASSED: Final = {
    _OLD_PACKET: Passed("old packets"),
    _SIMPLE_PACKET: Passed("packets without a time"),
}


class _Interface(NamedTuple):
    link: int
    ticks_per_s: int
    offset_s: int


# Writing


def file_head(*, application: str, description: str = "") -> bytes:
    """What every file begins with: a section and its interface."""
    section = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + _options(
        [*_comment(description), (_APPLICATION, application.encode())]
    )
    interface = struct.pack("<HHI", LINKTYPE_RAW, 0, 0) + _options(
        [
            (_NAME, b"deetune"),
            (_DESCRIPTION, b"TCP synthesised from recorded exchanges"),
            (_RESOLUTION, b"\x09"),
        ]
    )
    return _block(_SECTION, section) + _block(_INTERFACE, interface)


def packet(at_ns: int, data: bytes, comment: str = "") -> bytes:
    at_ns = min(max(at_ns, 0), MAX_TIME_NS)
    size = len(data)
    body = struct.pack("<IIIII", 0, at_ns >> 32, at_ns & 0xFFFF_FFFF, size, size) + data
    if size % 4:
        body += bytes(-size % 4)
    return _block(_PACKET, body + _options(_comment(comment)) if comment else body)


def statistics(at_ns: int, comment: str, *, received: int, dropped: int) -> bytes:
    at_ns = min(max(at_ns, 0), MAX_TIME_NS)
    return _block(
        _STATISTICS,
        struct.pack("<III", 0, at_ns >> 32, at_ns & 0xFFFF_FFFF)
        + _options(
            [
                *_comment(comment),
                (_RECEIVED, struct.pack("<Q", received)),
                (_DROPPED, struct.pack("<Q", dropped)),
            ]
        ),
    )


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _options(options: list[tuple[int, bytes]]) -> bytes:
    written = b"".join(
        struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
        for code, value in options
    )
    return written + bytes(4) if written else b""


def _comment(text: str) -> list[tuple[int, bytes]]:
    rest = text.encode(errors="backslashreplace")
    found = []
    while rest:
        size = min(len(rest), _MAX_OPTION)
        while size < len(rest) and rest[size] & 0xC0 == 0x80:  # within a character
            size -= 1
        found.append((_COMMENT, rest[:size]))
        rest = rest[size:]
    return found


# Reading


def read_pcapng(read: Read) -> Iterator[Packet | Statistics | Passed]:
    """Raises BadInput, at the first block that breaks the format."""
    section = _Section("<")
    for kind, body, order, at in _blocks(read):
        if kind == _SECTION:
            section = _Section(order)
        elif found := section.take(kind, body, at=at):
            yield found


class _Section:
    """What the blocks up to the next section header mean."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._interfaces: list[_Interface] = []

    def take(
        self, kind: int, body: bytes, *, at: int
    ) -> Packet | Statistics | Passed | None:
        if kind == _PACKET:
            return _packet(body, self._order, self._interfaces, at=at)
        if kind == _STATISTICS:
            return Statistics(_comment_in(_options_in(body[12:], self._order, at=at)))
        if kind == _INTERFACE:
            if len(self._interfaces) == MAX_INTERFACES:
                raise BadInput(f"more than {MAX_INTERFACES} interfaces at byte {at}")
            self._interfaces.append(_interface(body, self._order, at=at))
        return _PASSED.get(kind)


def _blocks(read: Read) -> Iterator[tuple[int, bytes, str, int]]:
    """Type, body, byte order and offset of each block."""
    at = 0
    order = "<"
    while head := read(8):
        if len(head) < 8:
            raise CutShort(f"the file ends within the block at byte {at}")
        mark = b""
        if head[:4] == PCAPNG_MAGIC:  # the same in either order
            mark = read(4)
            order = _order(mark, at)
        elif at == 0:
            raise BadInput("it does not begin with a section header")
        kind, size = struct.unpack(f"{order}II", head)
        body = mark + _body(read, order, size, at=at, known=len(mark))
        if len(body) < _FIXED.get(kind, 0):
            raise BadInput(f"the block at byte {at} is too short for its type {kind}")
        yield kind, body, order, at
        at += size


def read_pcap(read: Read) -> Iterator[Packet]:
    """Raises BadInput, at the first record that breaks the format."""
    head = read(24)
    if head[:4] not in PCAP_MAGICS:
        raise BadInput("it does not begin with a magic number of pcap")
    if len(head) < 24:
        raise CutShort("the file ends within its header")
    order, unit_ns = PCAP_MAGICS[head[:4]]
    (link,) = struct.unpack_from(f"{order}I", head, 20)
    link &= 0x0FFF_FFFF  # above it: how long the frames' checksums are
    at = 24
    while record := read(16):
        if len(record) < 16:
            raise CutShort(f"the file ends within the record at byte {at}")
        seconds, fraction, size, original = struct.unpack(f"{order}IIII", record)
        if size > MAX_PACKET_BYTES:
            raise BadInput(f"the record at byte {at} claims {size} bytes")
        if fraction * unit_ns >= 1_000_000_000:
            raise BadInput(f"the record at byte {at} has an impossible time")
        data = read(size)
        if len(data) < size:
            raise CutShort(f"the file ends within the record at byte {at}")
        yield Packet(seconds * 1_000_000_000 + fraction * unit_ns, link, data, original)
        at += 16 + size


def _order(mark: bytes, at: int) -> str:
    if len(mark) < 4:
        raise CutShort(f"the file ends within the section header at byte {at}")
    for order in "<>":
        if struct.unpack(f"{order}I", mark)[0] == _BYTE_ORDER:
            return order
    raise BadInput(f"the section header at byte {at} has no byte order")


def _body(read: Read, order: str, size: int, *, at: int, known: int) -> bytes:
    if size < 12 + known or size % 4:
        raise BadInput(f"the block at byte {at} has an impossible length, {size}")
    if size > MAX_BLOCK_BYTES:
        raise BadInput(f"the block at byte {at} claims {size} bytes")
    rest = read(size - 8 - known)
    if len(rest) < size - 8 - known:
        raise CutShort(f"the file ends within the block at byte {at}")
    if struct.unpack_from(f"{order}I", rest, len(rest) - 4)[0] != size:
        raise BadInput(f"the block at byte {at} has two different lengths")
    return rest[:-4]


def _packet(
    body: bytes, order: str, interfaces: list[_Interface], *, at: int
) -> Packet:
    number, high, low, size, original = struct.unpack_from(f"{order}IIIII", body)
    if number >= len(interfaces):
        raise BadInput(f"the packet at byte {at} names an interface that is not there")
    end = 20 + size
    if size > MAX_PACKET_BYTES or end > len(body):
        raise BadInput(f"the packet at byte {at} is longer than its block")
    interface = interfaces[number]
    ticks = high << 32 | low
    at_ns = (
        ticks
        if interface.ticks_per_s == 1_000_000_000
        else ticks * 1_000_000_000 // interface.ticks_per_s
    )
    options = body[end + -size % 4 :]
    at_ns += interface.offset_s * 1_000_000_000
    return Packet(
        min(max(at_ns, 0), MAX_TIME_NS),
        interface.link,
        body[20:end],
        original,
        _comment_in(_options_in(options, order, at=at)) if options else "",
    )


def _interface(body: bytes, order: str, *, at: int) -> _Interface:
    (link,) = struct.unpack_from(f"{order}H", body)
    ticks, offset_s = 1_000_000, 0
    for code, value in _options_in(body[8:], order, at=at):
        if code == _RESOLUTION and len(value) == 1:
            exponent = value[0] & 0x7F
            # Finer than 2^-63 s or 10^-18 s there is nothing.
            if exponent > (63 if value[0] & 0x80 else 18):
                raise BadInput(f"the interface at byte {at} has an impossible clock")
            ticks = 2**exponent if value[0] & 0x80 else 10**exponent
        elif code == _OFFSET and len(value) == 8:
            (offset_s,) = struct.unpack(f"{order}q", value)
    return _Interface(link, ticks, offset_s)


def _options_in(data: bytes, order: str, *, at: int) -> list[tuple[int, bytes]]:
    found = []
    place = 0
    while place < len(data):
        if place + 4 > len(data):
            raise BadInput(f"the options of the block at byte {at} are cut")
        code, size = struct.unpack_from(f"{order}HH", data, place)
        if code == _END:
            break
        place += 4
        if place + size > len(data):
            raise BadInput(f"an option of the block at byte {at} is too long")
        found.append((code, data[place : place + size]))
        place += size + -size % 4
    return found


def _comment_in(options: list[tuple[int, bytes]]) -> str:
    return "".join(
        value.decode(errors="replace") for code, value in options if code == _COMMENT
    )
