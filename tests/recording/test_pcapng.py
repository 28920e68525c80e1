# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.pcapng import (
    LINKTYPE_RAW,
    MAX_BLOCK_BYTES,
    MAX_INTERFACES,
    MAX_PACKET_BYTES,
    CutShort,
    Packet,
    Passed,
    Statistics,
    file_head,
    packet,
    read_pcap,
    read_pcapng,
    statistics,
)

HEAD = file_head(application="deetune test", description="what it is")


def _read(data: bytes) -> list[Packet | Statistics | Passed]:
    return list(read_pcapng(io.BytesIO(data).read))


def _block(order: str, kind: int, body: bytes) -> bytes:
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def _section(order: str) -> bytes:
    return _block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def _interface(order: str, link: int, options: bytes = b"") -> bytes:
    return _block(order, 1, struct.pack(f"{order}HHI", link, 0, 0) + options)


def _packet(order: str, ticks: int, data: bytes, number: int = 0) -> bytes:
    body = struct.pack(
        f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)
    )
    return _block(order, 6, body + data + bytes(-len(data) % 4))


@given(
    st.lists(
        st.tuples(st.integers(0, 2**63 - 1), st.binary(max_size=40), st.text()),
        max_size=5,
    )
)
def test_what_was_written_is_read(packets: list[tuple[int, bytes, str]]) -> None:
    written = HEAD + b"".join(packet(*one) for one in packets)

    assert _read(written) == [
        Packet(
            at, LINKTYPE_RAW, data, len(data), text.encode("utf-8", "replace").decode()
        )
        for at, data, text in packets
    ]


@pytest.mark.parametrize("text", ["", "a" * 65_535, "ü" * 100_000, "€" * 70_001])
def test_a_comment_may_be_of_any_length(text: str) -> None:
    assert _read(HEAD + statistics(1, text, received=2, dropped=3)) == [
        Statistics(text)
    ]
    (found,) = _read(HEAD + packet(1, b"abc", text))
    assert found == Packet(1, LINKTYPE_RAW, b"abc", 3, text)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("resolution", "ticks", "at_ns"),
    [
        (None, 1_000_001, 1_000_001_000),
        (6, 1_000_001, 1_000_001_000),
        (9, 1_000_001, 1_000_001),
        (3, 1_001, 1_001_000_000),
        (0x80 | 10, 1024 + 512, 1_500_000_000),
    ],
)
def test_orders_and_clocks(
    order: str, resolution: int | None, ticks: int, at_ns: int
) -> None:
    option = (
        b""
        if resolution is None
        else struct.pack(f"{order}HHB3x", 9, 1, resolution) + bytes(4)
    )
    data = (
        _section(order) + _interface(order, 1, option) + _packet(order, ticks, b"abcde")
    )

    assert _read(data) == [Packet(at_ns, 1, b"abcde", 5)]


def test_a_second_section_has_its_own_order_and_interfaces() -> None:
    first = _section("<") + _interface("<", 1) + _packet("<", 1, b"a")
    second = _section(">") + _interface(">", 113) + _packet(">", 2, b"b")

    found = [one for one in _read(first + second) if isinstance(one, Packet)]

    assert [(one.link, one.data) for one in found] == [(1, b"a"), (113, b"b")]


def test_a_clock_may_be_behind_another_zero() -> None:
    offset = struct.pack("<HHq", 14, 8, 100) + bytes(4)

    (found,) = _read(_section("<") + _interface("<", 1, offset) + _packet("<", 5, b""))

    assert isinstance(found, Packet)
    assert found.at_ns == 100_000_005_000


def test_unknown_blocks_are_passed_over_and_packets_without_time_are_said() -> None:
    data = _section("<") + _interface("<", 1)
    data += _block("<", 0x0BAD, b"abcd") + _block("<", 3, struct.pack("<I", 0))

    assert _read(data) == [Passed("packets without a time")]


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        (b"\x06\0\0\0" + HEAD, "does not begin with a section header"),
        (HEAD[:8] + b"abcd" + HEAD[12:], "no byte order"),
        (HEAD + struct.pack("<II", 6, 8), "impossible length"),
        (HEAD + struct.pack("<II", 6, 33), "impossible length"),
        (HEAD + struct.pack("<II", 6, MAX_BLOCK_BYTES + 4), "claims"),
        (HEAD + packet(1, b"ab")[:-4] + bytes(4), "two different lengths"),
        (HEAD + _packet("<", 1, b"ab", number=1), "an interface that is not there"),
        (
            HEAD + _block("<", 6, struct.pack("<IIIII", 0, 0, 0, 5, 5)),
            "longer than its block",
        ),
        (HEAD + _block("<", 6, b"abcd"), "too short for its type"),
        (
            _section("<") + _interface("<", 1, struct.pack("<HH", 9, 9)),
            "option of the block at byte 28 is too long",
        ),
        (
            _section("<") + _interface("<", 1, struct.pack("<HHB3x", 9, 1, 60)),
            "impossible clock",
        ),
        (_section("<") + _interface("<", 1) * (MAX_INTERFACES + 1), "interfaces"),
    ],
)
def test_damage_is_named_with_its_place(damaged: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        _read(damaged)


def test_cut_anywhere_it_gives_what_was_whole() -> None:
    whole = HEAD + packet(1, b"abc", "x=1") + packet(2, b"defg")
    ends = {len(HEAD), len(HEAD) + len(packet(1, b"abc", "x=1")), len(whole), 0}
    heads = {len(_section("<"))}

    for size in range(len(whole)):
        stream = read_pcapng(io.BytesIO(whole[:size]).read)
        found = []
        try:
            found += list(stream)
        except CutShort:
            assert size not in ends
        else:
            assert size in ends | heads or size < len(HEAD)
        assert all(one in _read(whole) for one in found)


def test_a_cut_block_comes_after_what_was_whole() -> None:
    stream = read_pcapng(io.BytesIO(HEAD + packet(1, b"abc") + b"\x06").read)

    assert next(stream) == Packet(1, LINKTYPE_RAW, b"abc", 3)
    with pytest.raises(CutShort, match="within the block at byte"):
        next(stream)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit_ns"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_classic_pcap(order: str, magic: int, unit_ns: int) -> None:
    data = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, 113)
    data += struct.pack(f"{order}IIII", 5, 7, 3, 9) + b"abc"

    assert list(read_pcap(io.BytesIO(data).read)) == [
        Packet(5_000_000_000 + 7 * unit_ns, 113, b"abc", 9)
    ]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (struct.pack("<IIII", 1, 1, MAX_PACKET_BYTES + 1, 1), "claims"),
        (struct.pack("<IIII", 1, 1_000_000, 0, 0), "impossible time"),
        (struct.pack("<IIII", 1, 1, 4, 4) + b"abc", "ends within the record"),
        (b"abc", "ends within the record"),
    ],
)
def test_damaged_pcap(record: bytes, says: str) -> None:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)

    with pytest.raises(BadInput, match=says):
        list(read_pcap(io.BytesIO(head + record).read))


def test_no_pcap_at_all() -> None:
    with pytest.raises(BadInput, match="magic"):
        list(read_pcap(io.BytesIO(b"abcd").read))
    with pytest.raises(CutShort):
        list(read_pcap(io.BytesIO(b"\xd4\xc3\xb2\xa1").read))


@given(st.binary(max_size=60), st.integers(0, 200), st.binary(max_size=4))
def test_mutations_raise_one_thing(tail: bytes, at: int, over: bytes) -> None:
    data = bytearray(HEAD + packet(1, b"abc", "x=1") + tail)
    data[at : at + len(over)] = over
    with contextlib.suppress(BadInput):
        _read(bytes(data))
