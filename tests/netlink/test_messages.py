# SPDX-License-Identifier: Apache-2.0
"""ctnetlink's messages: an answer that the kernel gave, and what damage does to it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.netlink.messages import (
    TCP,
    UDP,
    Entry,
    Flow,
    MessageError,
    RefusedError,
    StaleError,
    decode,
    encode,
    split,
)

FLOW = Flow(TCP, "10.77.1.2", 40_000, "10.96.0.1", 80)
REPLY = Flow(TCP, "10.77.2.2", 8080, "10.77.1.2", 40_000)
FLOW6 = Flow(UDP, "fd00:77:1::2", 40_000, "fd00:96::1", 53)
SEQUENCE = 7


def answer(original: Flow, reply: Flow, sequence: int = SEQUENCE) -> bytes:
    """As the kernel writes it: the tuples of two questions, and attributes that we do not read."""
    first, second = (encode(flow, sequence)[20:] for flow in (original, reply))
    second = second[:2] + struct.pack("=H", 2 | 0x8000) + second[4:]
    body = encode(original, sequence)[16:20] + first + second
    body += struct.pack("=HHI", 8, 3, 0x0E000000) + struct.pack("=HHB3x", 5, 25, 1)
    return struct.pack("=IHHII", 16 + len(body), 1 << 8, 0, sequence, 99) + body


def refusal(code: int) -> bytes:
    return struct.pack("=IHHIIi", 20, 2, 0, SEQUENCE, 99, -code)


def test_an_answer_has_both_directions() -> None:
    assert decode(answer(FLOW, REPLY), SEQUENCE) == Entry(FLOW, REPLY)
    assert decode(answer(FLOW6, FLOW6.reverse), SEQUENCE) == Entry(FLOW6, FLOW6.reverse)


def test_no_such_connection_is_an_answer() -> None:
    assert decode(refusal(2), SEQUENCE) is None


def test_the_kernel_may_refuse() -> None:
    with pytest.raises(RefusedError, match="not permitted") as refused:
        decode(refusal(1), SEQUENCE)
    assert refused.value.code == 1


def test_an_answer_to_another_question() -> None:
    with pytest.raises(StaleError):
        decode(answer(FLOW, REPLY, 6), SEQUENCE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        answer(FLOW, REPLY)[:-1],
        refusal(1)[:16].replace(b"\x14", b"\x10", 1),
        struct.pack("=IHHII", 20, 4, 0, SEQUENCE, 0) + bytes(4),
        struct.pack("=IHHII", 20, 1 << 8, 0, SEQUENCE, 0) + bytes(4),
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data, SEQUENCE)


@pytest.mark.parametrize(
    "flow",
    [
        FLOW._replace(source=""),
        FLOW._replace(destination="::1"),
        FLOW._replace(source="/run/socket"),
    ],
)
def test_what_is_no_flow_is_not_asked(flow: Flow) -> None:
    with pytest.raises(ValueError, match="no addresses"):
        encode(flow, 1)


def test_a_dump_is_several_messages() -> None:
    done = struct.pack("=IHHIIi", 20, 3, 2, SEQUENCE, 99, 0)
    parts = list(split(answer(FLOW, REPLY) + answer(FLOW6, FLOW6.reverse) + done))
    assert [decode(part, SEQUENCE) for part in parts] == [
        Entry(FLOW, REPLY),
        Entry(FLOW6, FLOW6.reverse),
        None,
    ]


@pytest.mark.parametrize("data", [b"\x14", b"\xff" * 20, bytes(20)])
def test_what_cannot_be_split(data: bytes) -> None:
    with pytest.raises(MessageError):
        list(split(data))


ADDRESSES = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
FLOWS = st.builds(
    Flow,
    st.integers(0, 255),
    ADDRESSES,
    st.integers(0, 65535),
    ADDRESSES,
    st.integers(0, 65535),
).filter(lambda flow: (":" in flow.source) == (":" in flow.destination))


@given(original=FLOWS, reply=FLOWS)
def test_there_and_back(original: Flow, reply: Flow) -> None:
    got = decode(answer(original, reply), SEQUENCE)
    assert got is not None
    assert encode(got.original, 1) == encode(original, 1)
    assert encode(got.reply, 1) == encode(reply, 1)


@given(data=st.binary(max_size=300), damage=st.data())
def test_damage_raises_nothing_else(data: bytes, damage: st.DataObject) -> None:
    message = bytearray(
        damage.draw(st.sampled_from([answer(FLOW, REPLY), refusal(1), data]))
    )
    for _ in range(damage.draw(st.integers(0, 5)) if message else 0):
        at = damage.draw(st.integers(0, len(message) - 1))
        message[at] = damage.draw(st.integers(0, 255))
    try:
        cut = bytes(message[: damage.draw(st.integers(0, 400))])
        got = [decode(part, SEQUENCE) for part in split(cut)]
    except MessageError:
        return
    assert all(one is None or isinstance(one, Entry) for one in got)
