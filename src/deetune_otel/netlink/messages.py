# SPDX-License-Identifier: Apache-2.0
"""Messages to and from connection tracking (ctnetlink), as bytes. Pure.

A tuple is looked up in the table that holds both directions of each connection; the answer has
both. A dump gives all connections that fit a filter, several messages at a time. Bytes that make no sense raise MessageError and nothing else.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "TCP",
    "UDP",
    "Entry",
    "Flow",
    "MessageError",
    "RefusedError",
    "StaleError",
    "decode",
    "encode",
    "encode_dump",
    "split",
]

TCP: Final = 6
UDP: Final = 17

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_FAMILY: Final = struct.Struct("=BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_ERROR: Final = struct.Struct("=i")
_FLAGS: Final = struct.Struct("=I")
_PORT: Final = struct.Struct(">H")

_NLMSG_ERROR: Final = 2
_CT_NEW: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_CT_GET: Final = 1 << 8 | 1
_REQUEST: Final = 1
_DUMP: Final = 0x300
_NLMSG_DONE: Final = 3
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF

_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
_FILTER: Final = 25
_FILTER_ORIG_FLAGS: Final = 1
# Which parts of the tuple must be equal (enum ctattr_filter of the kernel's own source).
_BY_SOURCE, _BY_DESTINATION, _BY_PROTOCOL, _BY_DESTINATION_PORT = 1, 2, 8, 32
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _PROTO_SRC, _PROTO_DST = 1, 2, 3
_IP: Final = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}  # source, destination


class Flow(NamedTuple):
    """One direction of a connection, as a packet on its way has it."""

    protocol: int  # TCP, UDP
    source: str
    source_port: int
    destination: str
    destination_port: int

    @property
    def reverse(self) -> Flow:
        return Flow(
            self.protocol,
            self.destination,
            self.destination_port,
            self.source,
            self.source_port,
        )


class Entry(NamedTuple):
    """A tracked connection: what its client sent to, and what answers to where."""

    original: Flow
    reply: Flow


class MessageError(Exception):
    """What came is no message of connection tracking."""


class StaleError(MessageError):
    """It answers another question, one that was given up."""


class RefusedError(MessageError):
    """The kernel answered with an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


def encode(flow: Flow, sequence: int) -> bytes:
    """Ask for the connection that has a packet of this flow. ValueError: no such address."""
    return _question(flow, sequence, _REQUEST)


def encode_dump(flow: Flow, sequence: int) -> bytes:
    """Ask for all that clients sent to a destination from any port; source "": from anywhere.

    The answer may hold more: before Linux 5.8 all connections; and of IPv6 those to any address,
    because kernels up to 6.18 at least leave out what is equal (ctnetlink_filter_match_tuple).
    """
    parts = _BY_PROTOCOL | _BY_DESTINATION_PORT
    if ":" in flow.destination:
        flow = flow._replace(source=flow.source or "::")
    else:
        parts |= _BY_DESTINATION | (_BY_SOURCE if flow.source else 0)
        flow = flow._replace(source=flow.source or "0.0.0.0")  # noqa: S104
    filter_ = _attribute(
        _FILTER | _NESTED, _attribute(_FILTER_ORIG_FLAGS, _FLAGS.pack(parts))
    )
    return _question(flow, sequence, _REQUEST | _DUMP, filter_)


def _question(flow: Flow, sequence: int, flags: int, more: bytes = b"") -> bytes:
    family = socket.AF_INET6 if ":" in flow.source else socket.AF_INET
    try:
        addresses = [
            socket.inet_pton(family, one) for one in (flow.source, flow.destination)
        ]
    except OSError:
        raise ValueError(f"no addresses of one kind: {flow}") from None
    source, destination = _IP[family]
    ip = _attribute(source, addresses[0]) + _attribute(destination, addresses[1])
    protocol = (
        _attribute(_PROTO_NUM, bytes([flow.protocol]))
        + _attribute(_PROTO_SRC, _PORT.pack(flow.source_port))
        + _attribute(_PROTO_DST, _PORT.pack(flow.destination_port))
    )
    tuple_ = _attribute(_TUPLE_IP | _NESTED, ip) + _attribute(
        _TUPLE_PROTO | _NESTED, protocol
    )
    body = _FAMILY.pack(family, 0, 0) + _attribute(_TUPLE_ORIG | _NESTED, tuple_) + more
    return _HEADER.pack(_HEADER.size + len(body), _CT_GET, flags, sequence, 0) + body


def split(data: bytes) -> Iterator[bytes]:
    """The messages of one datagram."""
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise MessageError("shorter than its header")
        length = _HEADER.unpack_from(data, at)[0]
        if not _HEADER.size <= length <= len(data) - at:
            raise MessageError("its length is wrong")
        yield data[at : at + length]
        at += length + -length % 4


def decode(data: bytes, sequence: int) -> Entry | None:
    """The entry; None when there is no such connection, or at the end of a dump.

    Raises RefusedError when the kernel refused, MessageError when this is no answer.
    """
    if len(data) < _HEADER.size:
        raise MessageError("shorter than its header")
    length, type_, _, of, _ = _HEADER.unpack_from(data)
    if not _HEADER.size <= length <= len(data):
        raise MessageError("its length is wrong")
    if of != sequence:
        raise StaleError("it answers another question")
    body = data[_HEADER.size : length]
    if type_ == _NLMSG_DONE:
        return None
    if type_ == _NLMSG_ERROR:
        if len(body) < _ERROR.size:
            raise MessageError("an error without a number")
        code = -_ERROR.unpack_from(body)[0]
        if code == errno.ENOENT:
            return None
        raise RefusedError(code)
    if type_ != _CT_NEW or len(body) < _FAMILY.size:
        raise MessageError("it is of another kind")
    parts = dict(_attributes(body[_FAMILY.size :]))
    if _TUPLE_ORIG not in parts or _TUPLE_REPLY not in parts:
        raise MessageError("a connection without its two directions")
    return Entry(_flow(parts[_TUPLE_ORIG]), _flow(parts[_TUPLE_REPLY]))


def _attribute(type_: int, data: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(size, type_) + data + bytes(-size % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, type_ = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= size <= len(data) - at:
            raise MessageError("an attribute's length is wrong")
        yield type_ & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + size]
        at += size + -size % 4


def _flow(data: bytes) -> Flow:
    parts = dict(_attributes(data))
    ip = dict(_attributes(parts.get(_TUPLE_IP, b"")))
    protocol = dict(_attributes(parts.get(_TUPLE_PROTO, b"")))
    number = protocol.get(_PROTO_NUM, b"")
    if len(number) != 1:
        raise MessageError("a direction without a protocol")
    for family, (source, destination) in _IP.items():
        if source in ip and destination in ip:
            return Flow(
                number[0],
                _address(family, ip[source]),
                _port(protocol.get(_PROTO_SRC, b"")),
                _address(family, ip[destination]),
                _port(protocol.get(_PROTO_DST, b"")),
            )
    raise MessageError("a direction without addresses")


def _address(family: socket.AddressFamily, packed: bytes) -> str:
    try:
        return socket.inet_ntop(family, packed)
    except ValueError:
        raise MessageError("an address of a wrong size") from None


def _port(packed: bytes) -> int:
    if len(packed) != _PORT.size:
        raise MessageError("a port of a wrong size")
    return int(_PORT.unpack(packed)[0])
