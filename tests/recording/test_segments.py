# SPDX-License-Identifier: Apache-2.0
"""The packets of a TCP that never was hold to the rules of the one that is."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

import pytest
from tests.exchanges import EXCHANGE

from deetune_otel.model import Protocol, Transport
from deetune_otel.recording.model import (
    Endpoint,
    HttpResponse,
    Missing,
    MissingBecause,
    RawMessage,
    RecordedExchange,
)
from deetune_otel.recording.segments import (
    MAX_GAP,
    MAX_OPEN,
    MAX_PAYLOAD_BYTES,
    Segment,
    Segments,
)

FIN, SYN, ACK = 1, 2, 16


class Seen(NamedTuple):
    source: Endpoint
    target: Endpoint
    sequence: int
    acknowledged: int
    flags: int
    payload: bytes
    segment: Segment


def _sum(data: bytes) -> int:
    """Of 16-bit words in ones' complement, as RFC 1071 says it."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + bytes(len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _seen(segment: Segment) -> Seen:
    data = segment.packet
    if data[0] >> 4 == 4:
        assert struct.unpack_from("!H", data, 2) == (len(data),)
        assert _sum(data[:20]) == 0xFFFF
        ends, tcp = data[12:20], data[20:]
    else:
        assert struct.unpack_from("!H", data, 4) == (len(data) - 40,)
        ends, tcp = data[8:40], data[40:]
    assert _sum(ends + struct.pack("!HH", 6, len(tcp)) + tcp) == 0xFFFF
    source, target = ends[: len(ends) // 2], ends[len(ends) // 2 :]
    ports = struct.unpack_from("!HH", tcp)
    sequence, acknowledged, offset, flags = struct.unpack_from("!IIBB", tcp, 4)
    return Seen(
        Endpoint(str(ip_address(source)), ports[0]),
        Endpoint(str(ip_address(target)), ports[1]),
        sequence,
        acknowledged,
        flags,
        tcp[(offset >> 4) * 4 :],
        segment,
    )


def _between(
    client: Endpoint, server: Endpoint, name: str = "c" * 16
) -> RecordedExchange:
    connection = replace(
        EXCHANGE.connection,
        id=name,
        protocol=Protocol.UNKNOWN,
        transport=Transport.TCP,
        client=client,
        server=server,
    )
    return replace(
        EXCHANGE,
        connection=connection,
        request=RawMessage(data=b"ask"),
        response=RawMessage(data=b"answer"),
        request_start_ns=1000,
        request_end_ns=2000,
        response_start_ns=3000,
        response_end_ns=4000,
    )


CLIENT, SERVER = Endpoint("10.0.0.7", 51234), Endpoint("10.0.0.8", 8080)
PLAIN = _between(CLIENT, SERVER)


def _raw(data: bytes, *missing: Missing) -> RawMessage:
    return RawMessage(data=data, missing=missing)


def test_a_connection_from_its_handshake_to_its_end() -> None:
    segments = Segments()
    packets = [*segments.of(PLAIN), *segments.of(PLAIN), *segments.close()]
    seen = [_seen(one) for one in packets]

    handshake, ends = seen[:3], seen[-3:]
    data = [one for one in seen if one.payload]
    assert [one.flags for one in handshake] == [SYN, SYN | ACK, ACK]
    assert [one.flags & FIN for one in ends] == [FIN, FIN, 0]
    assert [one.payload for one in data] == [b"ask", b"answer"] * 2
    assert [one.source for one in data] == [CLIENT, SERVER] * 2
    assert [one.target for one in data] == [SERVER, CLIENT] * 2
    assert [one.sequence for one in data] == [1, 1, 4, 7]
    assert [one.acknowledged for one in data] == [1, 4, 7, 7]
    assert (ends[-1].sequence, ends[-1].acknowledged) == (8, 14)
    assert segments.close() == []


@pytest.mark.parametrize("size", [1, MAX_PAYLOAD_BYTES, 200_001])
@pytest.mark.parametrize("address", ["192.168.1.2", "2001:db8::9"])
def test_any_size_in_packets_that_ip_can_hold(size: int, address: str) -> None:
    body = bytes(index % 251 for index in range(size))
    one = replace(
        _between(Endpoint(address, 4000), Endpoint(address, 80)), response=_raw(body)
    )

    seen = [_seen(segment) for segment in Segments().of(one)]

    sent = [one for one in seen if one.source.port == 80 and one.payload]
    assert b"".join(one.payload for one in sent) == body
    assert max(len(one.payload) for one in sent) <= MAX_PAYLOAD_BYTES
    times = [one.segment.at_ns for one in sent]
    assert times == sorted(times)
    assert times[0] == 3000
    assert times[-1] == (4000 if len(sent) > 1 else 3000)


@pytest.mark.parametrize("count", [1, 70_000, MAX_GAP, 5_000_000_000])
def test_what_is_missing_takes_its_sequence_numbers(count: int) -> None:
    segments = Segments()
    gap = Missing(2, count, MissingBecause.OPAQUE)
    seen = [
        _seen(one) for one in segments.of(replace(PLAIN, response=_raw(b"abcd", gap)))
    ]
    after = [_seen(one) for one in segments.of(PLAIN) if _seen(one).payload]
    sent = [one for one in seen if one.source == SERVER and one.payload]
    shown = min(count, MAX_GAP)

    assert [(one.sequence, one.payload) for one in sent] == [
        (1, b"ab"),
        (3 + shown, b"cd"),
    ]
    assert after[0].acknowledged == 5 + shown
    assert f"2:{count}:opaque" in seen[3].segment.comment


def test_a_message_of_nothing_but_a_gap_still_has_its_comment() -> None:
    gone = Missing(0, 10, MissingBecause.LOST)
    seen = [
        _seen(one) for one in Segments().of(replace(PLAIN, request=_raw(b"", gone)))
    ]

    asked, answered = seen[3:]
    assert (asked.payload, asked.sequence) == (b"", 1)
    assert f"exchange={PLAIN.id}" in asked.segment.comment
    assert answered.acknowledged == 11


def test_both_ways_name_the_exchange() -> None:
    one = replace(PLAIN, trace_id="ab" * 16)
    comments = [segment.comment for segment in Segments().of(one)]

    assert comments[:3] == ["", "", ""]
    for comment in comments[3:]:
        assert f"exchange={one.id} trace_id={'ab' * 16}" in comment


def test_unix_sockets_get_documentation_addresses_and_say_their_path() -> None:
    path = Endpoint("/run/app.sock", 0)
    one = _between(path, path)
    one = replace(one, connection=replace(one.connection, transport=Transport.UNIX))
    segments = Segments()

    seen = [_seen(segment) for segment in segments.of(one)]

    assert seen[0].source.address == "192.0.2.1"
    assert seen[0].target.address == "192.0.2.2"
    assert "server_address=/run/app.sock" in seen[3].segment.comment


def test_two_connections_with_the_same_addresses_are_two() -> None:
    segments = Segments()
    first = _seen(segments.of(PLAIN)[0])
    second = segments.of(_between(CLIENT, SERVER, "d" * 16))

    assert _seen(second[0]).flags == SYN
    assert _seen(second[0]).source != first.source
    assert f"client_port={CLIENT.port}" in second[3].comment


def test_a_response_that_ends_its_connection_does() -> None:
    until_close = HttpResponse(status=200, body=b"abc", ends_with_connection=True)
    one = replace(
        EXCHANGE,
        connection=replace(EXCHANGE.connection, protocol=Protocol.HTTP),
        response=until_close,
    )
    segments = Segments()

    assert _seen(segments.of(one)[-2]).flags & FIN
    assert segments.close() == []
    assert _seen(segments.of(one)[0]).flags == SYN


def test_the_oldest_connection_is_closed_when_too_many_are_open() -> None:
    segments = Segments()
    flags = []
    for number in range(MAX_OPEN + 1):
        client = Endpoint("10.0.0.7", 2000 + number)
        packets = segments.of(_between(client, SERVER, f"{number:016x}"))
        flags.append(sum(_seen(one).flags & FIN for one in packets))

    assert flags == [0] * MAX_OPEN + [2]


def test_what_has_no_codec_can_only_be_written_raw() -> None:
    one = replace(
        EXCHANGE, connection=replace(EXCHANGE.connection, protocol=Protocol.DNS)
    )

    with pytest.raises(TypeError):
        Segments().of(one)
