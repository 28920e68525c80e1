# SPDX-License-Identifier: Apache-2.0
"""Questions, response codes, and what answers say of addresses."""

from __future__ import annotations

import ipaddress
import re
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deetune_otel.model import End, Protocol, Role, SeriesKey
from deetune_otel.protocols import dns
from deetune_otel.protocols.dns import Answer, Answers
from deetune_otel.protocols.routes import OVERFLOW, Routes

QUESTION_AT = b"\xc0\x0c"  # a pointer to the question's name


def wire_name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(name: bytes, type_: int = 1, *, flags: int = 0x0100) -> bytes:
    return (
        struct.pack(">HHHHHH", 7, flags, 1, 0, 0, 0)
        + name
        + struct.pack(">HH", type_, 1)
    )


def record(
    name: bytes, type_: int, data: bytes, *, ttl: int = 60, in_: int = 1
) -> bytes:
    return name + struct.pack(">HHIH", type_, in_, ttl, len(data)) + data


def address(name: bytes, text: str, *, ttl: int = 60) -> bytes:
    packed = ipaddress.ip_address(text).packed
    return record(name, 1 if len(packed) == 4 else 28, packed, ttl=ttl)


def response(
    name: str, *records: bytes, flags: int = 0x8180, count: int | None = None
) -> bytes:
    message = bytearray(query(wire_name(name), flags=flags))
    struct.pack_into(">H", message, 6, len(records) if count is None else count)
    return bytes(message) + b"".join(records)


QUERIES = [
    (query(wire_name("Example.ORG")), "A example.org", "example.org"),
    (query(wire_name("example.org"), 28), "AAAA example.org", "example.org"),
    (query(wire_name("_http._tcp.x"), 33), "SRV _http._tcp.x", "_http._tcp.x"),
    (query(wire_name("x"), 4711), "TYPE4711 x", "x"),
    (query(b"\0", 2), "NS .", "."),
    (query(b"\x04a.\x00\xff\x00"), "A a\\.\\000\\255", "a\\.\\000\\255"),
    (query(b'\x03a"\\\x00'), 'A a\\"\\\\', 'a\\"\\\\'),
    (query(wire_name("1.0.0.10.in-addr.arpa"), 12), "PTR *.in-addr.arpa", None),
    (query(wire_name("1.0.8.ip6.arpa"), 12), "PTR *.ip6.arpa", None),
]


@pytest.mark.parametrize(("head", "name", "question"), QUERIES)
def test_operation(head: bytes, name: str, question: str | None) -> None:
    operation = dns.operation(head, Routes())
    assert operation.name == name
    assert operation.attributes == {
        "dns.question.name": question or name.partition(" ")[2]
    }


@pytest.mark.parametrize(
    "head",
    [
        b"",
        query(wire_name("example.org"))[:-1],
        struct.pack(">HHHHHH", 7, 0, 2, 0, 0, 0) + wire_name("x") + b"\0\1\0\1",
        query(b"\x40" + b"x" * 64 + b"\0"),
        query(b"".join(b"\x3f" + b"x" * 63 for _ in range(4)) + b"\0"),
        query(QUESTION_AT),  # to itself
        query(b"\xc0"),
    ],
)
def test_what_has_no_question_is_named_coarsely(head: bytes) -> None:
    operation = dns.operation(head, Routes())
    assert (operation.name, operation.attributes) == ("DNS", {})


def test_names_are_capped() -> None:
    routes = Routes(max_routes=1)
    dns.operation(query(wire_name("a.example")), routes)
    assert dns.operation(query(wire_name("b.example")), routes) == OVERFLOW


def key(outcome: int, end: End = End.COMPLETE) -> SeriesKey:
    return SeriesKey(1, Protocol.DNS, 5, outcome, end)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
@pytest.mark.parametrize(
    ("code", "name", "error_type"),
    [
        (0, "NOERROR", None),
        (3, "NXDOMAIN", None),
        (2, "SERVFAIL", "SERVFAIL"),
        (5, "REFUSED", "REFUSED"),
        (15, "RCODE15", "RCODE15"),
    ],
)
def test_outcome(role: Role, code: int, name: str, error_type: str | None) -> None:
    outcome = dns.outcome(key(code), role)
    assert outcome.error_type == error_type
    assert outcome.attributes["deetune.dns.response.code"] == name
    assert outcome.attributes.get("error.type") == error_type


def test_no_answer_is_a_failure() -> None:
    outcome = dns.outcome(key(0, End.CLOSED), Role.CLIENT)
    assert outcome.attributes == {"error.type": "no_response"}


def test_answers() -> None:
    message = response(
        "Db.Example",
        record(QUESTION_AT, 5, wire_name("lb.example"), ttl=30),
        record(wire_name("lb.example"), 5, wire_name("host.example"), ttl=300),
        address(wire_name("host.example"), "10.0.0.7", ttl=60),
        address(wire_name("HOST.example"), "2001:db8::7", ttl=5),
    )
    assert dns.answers(message) == Answers(
        name="db.example",
        aliases=("lb.example", "host.example"),
        addresses=(Answer("10.0.0.7", 30), Answer("2001:db8::7", 5)),
    )


def test_records_that_nobody_asked_for_are_left_out() -> None:
    message = response(
        "a.example",
        address(QUESTION_AT, "10.0.0.1"),
        address(wire_name("bank.example"), "10.6.6.6"),
        record(QUESTION_AT, 1, b"\n\0\0\2", in_=3),
        record(QUESTION_AT, 1, b"\n\0\0"),
        record(QUESTION_AT, 16, b"\n\0\0\3"),
    )
    found = dns.answers(message)
    assert found is not None
    assert found.addresses == (Answer("10.0.0.1", 60),)


def test_a_ttl_with_its_highest_bit_set_is_none() -> None:
    found = dns.answers(response("a", address(QUESTION_AT, "10.0.0.1", ttl=2**31)))
    assert found is not None
    assert found.addresses == (Answer("10.0.0.1", 0),)


@pytest.mark.parametrize(
    "message",
    [
        query(wire_name("a")),
        response("a", address(QUESTION_AT, "10.0.0.1"), flags=0x8183),
        response("a", address(QUESTION_AT, "10.0.0.1"), flags=0xA180),  # an update's
        response("a"),
        response("a", record(QUESTION_AT, 5, wire_name("b"))),
        # aliases in a circle
        response(
            "a",
            record(QUESTION_AT, 5, wire_name("b")),
            record(wire_name("b"), 5, wire_name("a")),
            address(wire_name("c"), "10.0.0.1"),
        ),
        b"",
    ],
)
def test_what_gives_no_address(message: bytes) -> None:
    assert dns.answers(message) is None


def test_of_a_cut_message_the_whole_records_are_taken() -> None:
    addresses = [f"10.0.0.{i}" for i in range(40)]
    whole = response("a.example", *(address(QUESTION_AT, one) for one in addresses))
    begin = len(query(wire_name("a.example")))
    for length in range(len(whole) + 1):
        found = dns.answers(whole[:length])
        count = max(0, length - begin) // 16
        got = [] if found is None else [one.address for one in found.addresses]
        assert got == addresses[:count]


@given(message=st.binary(max_size=512))
@example(message=response("a", b"\xc0\x0c" * 200, count=65535))
def test_any_bytes_are_survived(message: bytes) -> None:
    assert re.fullmatch(r"DNS|[A-Z0-9]+ [!-~]+", dns.operation(message, Routes()).name)
    dns.answers(message)


@given(data=st.data())
def test_a_damaged_response_is_survived(data: st.DataObject) -> None:
    message = bytearray(
        response(
            "db.example",
            record(QUESTION_AT, 5, b"\x02lb\xc0\x0f"),
            address(b"\x02lb\xc0\x0f", "10.0.0.7"),
            address(b"\xc0\x28", "2001:db8::7"),
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(message) - 1))
        message[at] = data.draw(st.integers(0, 255))
    found = dns.answers(bytes(message))
    if found is not None:
        assert all(ipaddress.ip_address(one.address) for one in found.addresses)
        assert len(found.name) <= 4 * 255
