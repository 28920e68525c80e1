# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction import echoes
from deetune_otel.redaction.echoes import Echoes


def having(value: str, rule: str = "name") -> Echoes:
    ours = Echoes()
    ours.begin("a")
    ours.learn(value, rule)
    ours.expect_any()
    return ours


@pytest.mark.parametrize(
    "text",
    ['a b/c&d"e', "a%20b%2Fc%26d%22e", "a+b%2Fc%26d%22e", "a b/c&amp;d&quot;e",
     'a b/c&d\\"e', "YSBiL2MmZCJl"],
)  # fmt: skip
def test_a_value_is_found_in_each_form(text: str) -> None:
    ours = having('a b/c&d"e')
    ((hit, value),) = ours.find(f"x '{text}' y")
    assert (hit.start, hit.end) == (3, 3 + len(text))
    assert value == 'a b/c&d"e'


@pytest.mark.parametrize(
    ("value", "rule", "is_learned"),
    [
        ("abcdef", "name", True),
        ("abcde", "name", False),
        ("12345", "name", False),
        ("abc1", "name", True),
        ("ab1", "name", False),
        ("a" * (echoes.MAX_LENGTH + 1), "name", False),
        ("production", "header", False),
        ("Production1", "header", True),
        ("correcthorsebattery", "header", True),
        ("redacted-0123456789abcdef", "name", False),
        ("abcdef123", "over_budget", False),
    ],
)
def test_what_is_learned(value: str, rule: str, is_learned: bool) -> None:  # noqa: FBT001
    assert bool(having(value, rule).find(value)) is is_learned


def test_a_short_value_must_stand_alone() -> None:
    ours = having("abc123")
    assert len(ours.find("abc123, xabc123 abc1234 'abc123' %27abc123")) == 3


def test_only_what_is_expected_is_looked_for() -> None:
    ours = having("abcdef")
    assert not ours.expect("nothing")
    assert ours.find("abcdef") == []
    assert ours.expect("an abcdef")
    assert ours.expect("%61bcdef")  # it may be in another form


def test_what_is_remembered_is_bounded() -> None:
    ours = Echoes()
    for number in range(echoes.MAX_CONNECTIONS + 1):
        ours.begin(str(number))
        ours.learn("abcdef", "name")
    assert len(ours._connections) == echoes.MAX_CONNECTIONS
    for number in range(echoes.MAX_VALUES + 1):
        ours.learn(f"abcdef{number}", "name")
    assert len(ours._values) == echoes.MAX_VALUES
    ours.begin("0")
    ours.expect_any()
    assert ours.find("abcdef") == []
    ours.begin("2")
    ours.expect_any()
    assert ours.find("abcdef")
