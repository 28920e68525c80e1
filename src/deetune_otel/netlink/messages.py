# SPDX-License-Identifier: Apache-2.0
"""Messages to and from connection tracking (ctnetlink), as bytes. Pure.

A tuple is looked up in the table that holds both directions of each connection; the answer has
both. Bytes that make no sense raise MessageError and nothing else.
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
]

TCP: Final = 6
UDP: Final = 17

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_FAMILY: Final = struct.Struct("=BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_ERROR: Final = struct.Struct("=i")
_PORT: Final = struct.Struct(">H")

_NLMSG_ERROR: Final = 2
_CT_NEW: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
_CT_GET: Final = 1 << 8 | 1
_REQUEST: Final = 1
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF

_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
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
    body = _FAMILY.pack(family, 0, 0) + _attribute(
        _TUPLE_ORIG | _NESTED,
        _attribute(_TUPLE_IP | _NESTED, ip)
        + _attribute(_TUPLE_PROTO | _NESTED, protocol),
    )
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, _CT_GET, _REQUEST, sequence, 0) + body


def decode(data: bytes, sequence: int) -> Entry | None:
    """The entry; None when there is no such connection.

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
