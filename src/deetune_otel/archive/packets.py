# SPDX-License-Identifier: Apache-2.0
"""Captured packets → TCP segments: link layers, VLANs, IPv4, IPv6 and their options.

Pure functions over bytes that anybody may have made: what is not read is named, never guessed.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = ["ACK", "FIN", "RST", "SYN", "TcpSegment", "tcp_segment"]

FIN: Final = 1
SYN: Final = 2
RST: Final = 4
ACK: Final = 16

# Link types (tcpdump.org/linktypes.html) with what stands before the packet.
_BARE: Final = {101: 0, 12: 0, 14: 0, 228: 0, 229: 0, 0: 4, 108: 4}  # NULL and LOOP: 4
_ETHERNET: Final = 1
_PPP: Final = frozenset((9, 50))  # with or without the framing of HDLC
_HDLC: Final = 104  # Cisco's
_SLL: Final = 113
_SLL2: Final = 276
_VLAN_TAGS: Final = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))
_MPLS: Final = frozenset((0x8847, 0x8848))
_PPPOE: Final = 0x8864
_PPP_IP: Final = frozenset((0x0021, 0x0057))
_IP_TYPES: Final = frozenset((0x0800, 0x86DD))

_TCP: Final = 6
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
# Hop by hop, routing, destination options: length in units of 8, less one.
_EXTENSIONS: Final = frozenset((0, 43, 60, 135, 139, 140, _AUTHENTICATION))


class TcpSegment(NamedTuple):
    source: bytes  # 4 or 16
    source_port: int
    target: bytes
    target_port: int
    sequence: int
    acknowledged: int
    flags: int
    payload: bytes  # as much as was captured
    size: int  # of the payload, as it was sent


def tcp_segment(link: int, data: bytes) -> TcpSegment | str:
    """Or what else it is, in words for a list of what was passed over."""
    try:
        at = _ip_at(link, data)
        if isinstance(at, str):
            return at
        version = data[at] >> 4
        if version == 4:
            return _v4(data, at)
        return _v6(data, at) if version == 6 else "neither IPv4 nor IPv6"
    except (struct.error, IndexError):
        return "cut within their headers"


def _ip_at(link: int, data: bytes) -> int | str:
    if link in _BARE:
        return _BARE[link]
    if link in _PPP:
        return _ppp(data, 2 if data[:2] == b"\xff\x03" else 0)
    if link == _ETHERNET:
        at = 12
    elif link == _SLL:
        at = 14
    elif link == _HDLC:
        at = 2
    elif link == _SLL2:  # its header goes on behind the type
        (kind,) = struct.unpack_from("!H", data)
        return _behind(data, kind, 20)
    else:
        return f"of link type {link}"
    (kind,) = struct.unpack_from("!H", data, at)
    return _behind(data, kind, at + 2)


def _behind(data: bytes, kind: int, at: int) -> int | str:
    """Where the packet begins, behind tags and labels."""
    while kind in _VLAN_TAGS:
        (kind,) = struct.unpack_from("!H", data, at + 2)
        at += 4
    if kind in _MPLS:
        while not data[at + 2] & 1:  # the last label says so
            at += 4
        return at + 4
    if kind == _PPPOE:
        return _ppp(data, at + 6)
    return at if kind in _IP_TYPES else "no IP"


def _ppp(data: bytes, at: int) -> int | str:
    """The protocol takes one byte where it was compressed."""
    if data[at] & 1:
        return at + 1 if data[at] in _PPP_IP else "no IP"
    (kind,) = struct.unpack_from("!H", data, at)
    return at + 2 if kind in _PPP_IP else "no IP"


def _v4(data: bytes, at: int) -> TcpSegment | str:
    first, _, total, _, fragment = struct.unpack_from("!BBHHH", data, at)
    head = (first & 15) * 4
    if head < 20:
        return "broken"
    if fragment & 0x3FFF:  # an offset, or more to come
        return "fragments"
    if data[at + 9] != _TCP:
        return "no TCP"
    # 0: the network card was to cut it (segmentation offload).
    end = at + total if total else len(data)
    return _tcp(data, at + head, end, data[at + 12 : at + 16], data[at + 16 : at + 20])


def _v6(data: bytes, at: int) -> TcpSegment | str:
    _, size, kind = struct.unpack_from("!IHB", data, at)
    source, target = data[at + 8 : at + 24], data[at + 24 : at + 40]
    end = at + 40 + size if size else len(data)
    at += 40
    while kind in _EXTENSIONS:
        unit = 4 if kind == _AUTHENTICATION else 8
        extra = 2 if kind == _AUTHENTICATION else 1
        kind, at = data[at], at + (data[at + 1] + extra) * unit
    if kind == _FRAGMENT:
        return "fragments"
    return _tcp(data, at, end, source, target) if kind == _TCP else "no TCP"


def _tcp(
    data: bytes, at: int, end: int, source: bytes, target: bytes
) -> TcpSegment | str:
    source_port, target_port, sequence, acknowledged, offset, flags = (
        struct.unpack_from("!HHIIBB", data, at)
    )
    head = (offset >> 4) * 4
    size = end - at - head
    if head < 20 or size < 0:
        return "broken"
    payload = data[at + head : end]
    return TcpSegment(
        source,
        source_port,
        target,
        target_port,
        sequence,
        acknowledged,
        flags,
        payload,
        size,
    )
