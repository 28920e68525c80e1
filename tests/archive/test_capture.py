# SPDX-License-Identifier: Apache-2.0
"""Segments in any order become the bytes of each direction in theirs."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.archive import capture
from deetune_otel.archive.capture import Arrival, Capture, Closed
from deetune_otel.archive.packets import ACK, FIN, RST, SYN
from deetune_otel.recording.pcapng import Packet

if TYPE_CHECKING:
    from collections.abc import Iterable

BASE: Final = 0xFFFF_FFF0  # sequence numbers wrap soon


def packet(
    data: bytes = b"",
    at: int = 0,
    *,
    flags: int = ACK,
    from_client: bool = True,
    acknowledged: int = 0,
    ports: tuple[int, int] = (50_000, 80),
) -> Packet:
    """`at`: the offset in its stream, of which the first byte is 1 after the SYN."""
    ends = [bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))]
    order = 1 if from_client else -1
    tcp = struct.pack(
        "!HHIIBBHHH",
        *ports[::order],
        (BASE + at) & 0xFFFF_FFFF,
        (BASE + acknowledged) & 0xFFFF_FFFF,
        5 << 4,
        flags,
        0,
        0,
        0,
    )
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0)
    return Packet(1, 101, head + b"".join(ends[::order]) + tcp + data, 40 + len(data))


OPEN: Final = (
    packet(flags=SYN),
    packet(flags=SYN | ACK, from_client=False, acknowledged=1),
)


def stream(packets: Iterable[Packet], *, from_client: bool = True) -> bytes:
    """What is missing is dots."""
    ours = Capture()
    events = [event for one in packets for event in ours.feed(one)]
    events += ours.end()
    found = b""
    for event in events:
        if isinstance(event, Arrival) and event.piece.from_client is from_client:
            assert event.piece.offset == len(found)
            found += event.piece.data or b"." * event.piece.missing
    return found


@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 9), min_size=1))
def test_any_order_overlap_and_repetition(
    chance: random.Random, sizes: list[int]
) -> None:
    text = bytes(i % 251 for i in range(sum(sizes)))
    pieces, at = [], 0
    for size in sizes:
        before, behind = chance.randint(0, 3), chance.randint(0, 3)
        start = max(0, at - before)
        pieces.append(packet(text[start : at + size + behind], 1 + start))
        at += size
    pieces += chance.choices(pieces, k=3)
    chance.shuffle(pieces)
    assert stream([*OPEN, *pieces]) == text


def test_a_hole_that_was_acknowledged_is_the_captures() -> None:
    packets = [
        *OPEN,
        packet(b"abc", 1),
        packet(b"ghi", 7),
        packet(b"x", 1, from_client=False, acknowledged=10),
    ]
    ours = Capture()
    events = [event for one in packets for event in ours.feed(one)]
    pieces = [one.piece for one in events if isinstance(one, Arrival)]
    assert [(one.data, one.missing) for one in pieces] == [
        (b"abc", 0),
        (b"", 3),
        (b"ghi", 0),
        (b"x", 0),
    ]


def test_a_hole_before_the_end_stays_one() -> None:
    assert stream([*OPEN, packet(b"ab", 1), packet(flags=FIN | ACK, at=5)]) == b"ab.."


def test_too_much_behind_a_hole_is_read_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capture, "MAX_HELD_SEGMENTS", 3)
    packets = [*OPEN, *(packet(b"ab", 5 + 2 * i) for i in range(4))]
    ours = Capture()
    events = [event for one in packets for event in ours.feed(one)]
    assert sum(isinstance(one, Arrival) for one in events) == 5


def test_who_began_is_the_client_and_else_the_higher_port() -> None:
    ours = Capture()
    list(ours.feed(packet(flags=SYN, ports=(80, 50_000))))
    (event,) = ours.end()
    assert (event.flow.client.port, event.flow.is_certain) == (80, True)
    ours = Capture()
    list(ours.feed(packet(b"x", 5, from_client=False)))
    *_, event = ours.end()
    assert (event.flow.client.port, event.flow.is_certain) == (50_000, False)


def test_a_connection_that_is_over_may_come_again() -> None:
    ours = Capture()
    for end in (RST, RST):
        list(ours.feed(OPEN[0]))
        list(ours.feed(packet(b"a", 1)))
        (event,) = ours.feed(packet(flags=end, at=2))
        assert isinstance(event, Closed)
    assert event.flow.number == 2


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "MAX_FLOWS", 5)
    ours = Capture()
    closed = [
        event
        for port in range(9)
        for event in ours.feed(packet(b"a", 1, ports=(50_000 + port, 80)))
        if isinstance(event, Closed)
    ]
    assert (len(closed), ours.forgotten) == (4, 4)
    assert sum(isinstance(one, Closed) for one in ours.end()) == 5
