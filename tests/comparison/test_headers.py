# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.headers import compare, value_of
from deetune_otel.comparison.rules import JudgeRules


def test_order_and_case_of_names_do_not_count() -> None:
    one = (("A", "1"), ("B", "2"), ("a", "3"))
    assert compare(one, (("b", "2"), ("a", "1"), ("A", "3")), JudgeRules()) == ([], [])
    assert value_of(one, "a") == "1, 3"


def test_charsets_have_no_case() -> None:
    one = (("Content-Type", "text/html; charset=utf-8"),)
    assert compare(
        one, (("content-type", "Text/HTML;charset=UTF-8"),), JudgeRules()
    ) == (
        [],
        [],
    )


@pytest.mark.parametrize(
    ("name", "expected", "actual", "reason"),
    [
        ("date", "a", "b", "differs by nature"),
        ("location", "http://a/x", "http://127.0.0.1:1/x", "the host of the target"),
        ("location", "http://a/x", "http://a/y", None),
        ("location", "http://[/x", "http://a/y", None),
        ("x-api-key", "redacted-" + "0" * 16, "b", "redacted"),
        ("x-a", "a", "b", None),
        ("x-a", "1700000000", "1700000001", "noise: epoch seconds"),
    ],
)
def test_values(name: str, expected: str, actual: str, reason: str | None) -> None:
    found = compare(((name, expected),), ((name, actual),), JudgeRules())
    finding = Finding(f"header {name}", "value", expected, actual)
    assert (found.findings == [finding]) is (reason is None)
    assert [one.reason for one in found.ignored] == ([reason] if reason else [])


def test_what_is_gone_and_what_is_new() -> None:
    found = compare((("a", "1"),), (("b", "2"),), JudgeRules())
    assert found.findings == [
        Finding("header a", "missing", "1", None),
        Finding("header b", "extra", None, "2"),
    ]


def test_a_cookies_attribute_counts_though_its_value_is_noise() -> None:
    token = "redacted-" + "0" * 16
    found = compare(
        (("Set-Cookie", f"sid={token}; Path=/; HttpOnly"),),
        (("Set-Cookie", "sid=new; Path=/"),),
        JudgeRules(),
    )
    assert found.findings == [
        Finding("header set-cookie sid httponly", "missing", "", None)
    ]
    assert [one.reason for one in found.ignored] == ["redacted"]
