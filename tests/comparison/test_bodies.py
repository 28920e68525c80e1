# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import zlib

import pytest

from deetune_otel.comparison.bodies import Body, Form, compare, read, says
from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.values import Rules


@pytest.mark.parametrize(
    ("data", "kind", "coding", "form", "value"),
    [
        (b'{"a": 1}', "", "", Form.JSON, {"a": 1}),
        (b'"a"', "application/problem+json", "", Form.JSON, "a"),
        (b"[", "application/json", "", Form.TEXT, "["),
        (b"1\n2\n", "application/x-ndjson", "", Form.JSON, [1, 2]),
        (
            b"a=1&a=2&b=",
            "application/x-www-form-urlencoded; charset=utf-8",
            "",
            Form.FORM,
            {"a": ["1", "2"], "b": [""]},
        ),
        (b"a\0", "text/plain", "", Form.BINARY, b"a\0"),
        (b"\xff", "text/plain", "", Form.BINARY, b"\xff"),
        (zlib.compress(b"x"), "text/plain", "deflate", Form.TEXT, "x"),
        (b"x", "text/plain", "br", Form.BINARY, b"x"),
    ],
)
def test_forms(data: bytes, kind: str, coding: str, form: Form, value: object) -> None:
    assert read(data, kind, coding) == Body(form, value)


def test_texts_by_line() -> None:
    one, other = Body(Form.TEXT, "a\nb\nc\nd"), Body(Form.TEXT, "a\nc\nD\nE")
    assert compare(one, other, Rules()).findings == [
        Finding("line 2", "missing", "b", None),
        Finding("line 4", "value", "d", "D"),
        Finding("line 5", "extra", None, "E"),
    ]
    whole = compare(one, other, Rules(ignored=("$",)))
    assert not whole.findings
    assert len(whole.ignored) == 3


def test_ends_of_lines_are_a_difference() -> None:
    found = compare(Body(Form.TEXT, "a\nb"), Body(Form.TEXT, "a\r\nb"), Rules())
    assert [one.place for one in found.findings] == ["body"]


def test_noise_in_lines_does_not_count() -> None:
    one, other = (Body(Form.TEXT, f"a\n 2024-01-0{n}T03:04:05Z") for n in (1, 2))
    found = compare(one, other, Rules())
    assert [one.reason for one in found.ignored] == ["noise: RFC 3339 date"]
    assert compare(one, other, Rules(is_noise_ignored=False)).findings


def test_bytes_by_digest() -> None:
    found = compare(Body(Form.BINARY, b"\xff"), Body(Form.BINARY, b"\xfe\0"), Rules())
    assert found.findings == [Finding("body", "value", says(b"\xff"), says(b"\xfe\0"))]
    assert says(b"\xfe\0").startswith("2 bytes, SHA-256 ")


def test_another_form_is_found_but_nothing_is_nothing() -> None:
    found = compare(Body(Form.JSON, {}), Body(Form.TEXT, "x"), Rules())
    assert found.findings == [Finding("body", "type", "json", "text")]
    assert not compare(Body(Form.FORM, {}), Body(Form.TEXT, ""), Rules()).findings
