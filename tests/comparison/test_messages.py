# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.messages import MAX_DEPTH, body_of, compare, plain
from deetune_otel.comparison.rules import JudgeRules
from deetune_otel.recording.model import HttpRequest, RawMessage


class Named(NamedTuple):
    a: bytes


@dataclass
class Classed:
    a: bytes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (b"a", "a"),
        ([b"a", (1, True)], ["a", [1, True]]),
        ({b"a": b"b", 1: 2}, {"a": "b", "1": 2}),
        ({b"b", b"a"}, ["a", "b"]),
        (Named(b"x"), {"Named": {"a": "x"}}),
        (Classed(b"x"), {"Classed": {"a": "x"}}),
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
