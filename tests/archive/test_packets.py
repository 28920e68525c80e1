# SPDX-License-Identifier: Apache-2.0
"""Every way in which a TCP segment may lie in a captured frame."""

from __future__ import annotations

import struct
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.archive.packets import ACK, SYN, TcpSegment, tcp_segment

TCP: Final = (
    struct.pack("!HHIIBBHHH", 5000, 80, 7, 9, 5 << 4, ACK | SYN, 1, 2, 3) + b"hi"
)
V4: Final = (
    struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(TCP), 1, 0x4000, 64, 6, 0)
    + bytes((10, 0, 0, 1, 10, 0, 0, 2))
    + TCP
)
V6: Final = (
    struct.pack("!IHBB", 6 << 28, len(TCP), 6, 64)
    + bytes(15)
    + b"\1"
    + bytes(15)
    + b"\2"
    + TCP
)
MAC: Final = bytes(12)


def segment(found: TcpSegment | str) -> TcpSegment:
    assert isinstance(found, TcpSegment), found
    return found


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (101, V4),
        (12, V4),
        (228, V4),
        (0, b"\2\0\0\0" + V4),
        (108, b"\0\0\0\2" + V4),
        (1, MAC + b"\x08\x00" + V4),
        (1, MAC + b"\x81\x00\0\1\x08\x00" + V4),
        (1, MAC + b"\x88\xa8\0\1\x81\x00\0\2\x08\x00" + V4),
        (1, MAC + b"\x88\x47\0\0\0\xff\0\0\1\xff" + V4),
        (1, MAC + b"\x88\x64\x11\0\0\1\0\x50\0\x21" + V4),
        (276, b"\x81\x00" + bytes(18) + b"\0\1\x08\x00" + V4),
        (9, b"\0\x21" + V4),
        (9, b"\xff\x03\0\x21" + V4),
        (50, b"\xff\x03\x21" + V4),
        (104, b"\x0f\0\x08\x00" + V4),
        (113, bytes(14) + b"\x08\x00" + V4),
        (276, b"\x08\x00" + bytes(18) + V4),
        (1, MAC + b"\x08\x00" + V4 + b"padding of the link"),
    ],
)
def test_link_layers(link: int, frame: bytes) -> None:
    found = segment(tcp_segment(link, frame))
    assert found == TcpSegment(
        bytes((10, 0, 0, 1)), 5000, bytes((10, 0, 0, 2)), 80, 7, 9, ACK | SYN, b"hi", 2
    )


def test_ipv6_and_its_extensions() -> None:
    plain = segment(tcp_segment(101, V6))
    assert (plain.source[-1], plain.target[-1], plain.payload) == (1, 2, b"hi")
    options = bytes((6, 0)) + bytes(6)
    longer = bytearray(V6[:40] + options + TCP)
    longer[4:6] = struct.pack("!H", len(TCP) + 8)
    longer[6] = 0  # hop by hop
    assert segment(tcp_segment(101, bytes(longer))).payload == b"hi"


def test_options_of_ipv4_and_tcp_are_no_payload() -> None:
    tcp = bytearray(TCP[:20] + bytes(4) + b"hi")
    tcp[12] = 6 << 4
    ip = bytearray(V4[:20] + bytes(4) + tcp)
    ip[0] = 0x46
    ip[2:4] = struct.pack("!H", len(ip))
    assert segment(tcp_segment(101, bytes(ip))).payload == b"hi"


def test_a_payload_that_was_cut_says_how_long_it_was() -> None:
    found = segment(tcp_segment(101, V4[:-1]))
    assert (found.payload, found.size) == (b"h", 2)


def test_a_card_that_cuts_later_says_no_length() -> None:
    whole = V4[:2] + b"\0\0" + V4[4:]
    assert segment(tcp_segment(101, whole)).size == 2


@pytest.mark.parametrize(
    ("link", "frame", "what"),
    [
        (147, V4, "of link type 147"),
        (1, MAC + b"\x08\x06" + bytes(28), "no IP"),
        (101, b"\x55" + V4[1:], "neither IPv4 nor IPv6"),
        (101, V4[:9] + b"\x11" + V4[10:], "no TCP"),
        (101, V4[:6] + b"\x20\x00" + V4[8:], "fragments"),
        (101, V4[:6] + b"\x00\x07" + V4[8:], "fragments"),
        (101, V6[:6] + b"\x2c" + V6[7:], "fragments"),
        (101, V4[:30], "cut within their headers"),
        (101, b"", "cut within their headers"),
        (101, b"\x41" + V4[1:], "broken"),
        (101, V4[:32] + b"\x10" + V4[33:], "broken"),
    ],
)
def test_what_it_is_else(link: int, frame: bytes, what: str) -> None:
    assert tcp_segment(link, frame) == what


@given(st.sampled_from([0, 1, 9, 50, 101, 104, 113, 276, 3]), st.binary(max_size=90))
def test_any_bytes_are_named(link: int, frame: bytes) -> None:
    assert isinstance(tcp_segment(link, frame), str | TcpSegment)
