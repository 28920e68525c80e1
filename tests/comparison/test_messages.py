# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.messages import MAX_DEPTH, body_of, compare, plain
from deetune_otel.comparison.rules import JudgeRules
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import HttpRequest, RawMessage


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (b"a", "a"),
        ([b"a", (1, True)], ["a", [1, True]]),
        (b"\xff", "1 bytes, SHA-256 a8100ae6aa1940d0…"),
        (redis.Nil("array"), None),
        (redis.Simple("OK"), "OK"),
        (redis.Error("ERR no"), {"error": "ERR no"}),
        (redis.Double("1.50"), 1.5),
        (redis.Double("odd"), "odd"),
        (redis.BigNumber("12"), "12"),
        (redis.Verbatim("txt", b"a"), "a"),
        (redis.Aggregate("map", (b"a", 1, 2, b"b")), {"a": 1, "2": "b"}),
        (redis.Aggregate("set", (b"b", b"a")), ["a", "b"]),
        (redis.Aggregate("array", (b"b", b"a")), ["b", "a"]),
        (1j, "1j"),
    ],
)
def test_replies_as_json_has_them(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_depth_is_bounded() -> None:
    deep: Any = b""
    for _ in range(10_000):
        deep = [deep]
    assert "deeper" in str(plain(deep))
    assert str(plain(deep)).count("[") == MAX_DEPTH + 1


def test_raw_bytes_are_compared() -> None:
    found = compare(RawMessage(data=b"a"), RawMessage(data=b"b"), JudgeRules())
    assert [(one.place, one.kind) for one in found.findings] == [("body", "value")]


def test_types_differ() -> None:
    request = HttpRequest(method="GET", target="/")
    assert compare(request, RawMessage(data=b""), JudgeRules()).findings == [
        Finding("protocol", "type", "HttpRequest", "RawMessage")
    ]
    assert body_of(request) is None
