# SPDX-License-Identifier: Apache-2.0
"""Redis commands and error codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.model import End, Protocol, Role, SeriesKey
from deetune_otel.protocols import redis
from deetune_otel.protocols.contract import CLOSED
from deetune_otel.protocols.routes import OVERFLOW, Routes

EVENTS_H = Path(__file__).parents[2] / "bpf" / "include" / "events.h"

COMMANDS = [
    (b"*3\r\n$3\r\nSET\r\n$6\r\nsecret\r\n$1\r\nv\r\n", "SET"),
    (b"*1\r\n$4\r\nping\r\n", "PING"),
    (b"*1\r\n$4\r\nPING", "PING"),
    (b"*2\r\n$8\r\njson.get\r\n$1\r\nk\r\n", "JSON.GET"),
    (b"PING\r\n", "PING"),
    (b"get secret\r\n", "GET"),
    (b"PING", "PING"),  # what the kernel samples
    (b"FT._ALIASADDIFNX", "FT._ALIASADDIFNX"),
    (b"PI\x00G", ""),
    (b"*1\r\n$9\r\nPING\r\n", ""),
    (b"*1\r\n$4\r\nP\x00NG\r\n", ""),
    (b"*1\r\n$40\r\n" + b"A" * 40 + b"\r\n", ""),
    (b"*0\r\n", ""),
    (b"", ""),
    (b"\xff\xfe secret", ""),
]


@pytest.mark.parametrize(("head", "command"), COMMANDS)
def test_operation(head: bytes, command: str) -> None:
    operation = redis.operation(head, Routes())
    assert operation.name == (command or "redis")
    assert operation.attributes.get("db.operation.name", "") == command
    assert operation.attributes["db.system.name"] == "redis"
    assert "secret" not in str(operation)


def test_commands_are_capped() -> None:
    routes = Routes(max_routes=1)
    redis.operation(b"GET k\r\n", routes)
    assert redis.operation(b"XYZZY k\r\n", routes) == OVERFLOW


def test_error_codes_are_those_of_the_kernel() -> None:
    enum = dict(
        re.findall(r"\bDT_REDIS_(\w+) = (\d+)", EVENTS_H.read_text(encoding="utf-8"))
    )
    names = sorted(enum, key=lambda name: int(enum[name]))
    assert names == ["OK", *redis.ERROR_CODES[1:]]


def key(outcome: int, end: End = End.COMPLETE) -> SeriesKey:
    return SeriesKey(1, Protocol.REDIS, 5, outcome, end)


@pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER])
def test_outcome(role: Role) -> None:
    assert redis.outcome(key(0), role).error_type is None
    wrong = redis.outcome(key(2), role)
    assert wrong.error_type == "WRONGTYPE"
    assert wrong.attributes == {
        "error.type": "WRONGTYPE",
        "db.response.status_code": "WRONGTYPE",
    }
    assert redis.outcome(key(999), role).error_type == "OTHER"
    assert redis.outcome(key(0, End.CLOSED), role) == CLOSED


@given(head=st.binary(max_size=256))
def test_any_bytes_give_a_plain_name(head: bytes) -> None:
    assert re.fullmatch(
        r"redis|[A-Z][A-Z0-9._-]{0,31}", redis.operation(head, Routes()).name
    )
