# SPDX-License-Identifier: Apache-2.0
"""Secrets of live answers are not in reports, and what is none stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exchanges import EXCHANGE

from deetune_otel.comparison.covering import Covering
from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.judging import Answer, Outcome, Verdict
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import TOKEN, Tokens

SECRET = "hunter2hunter2"


def covered(place: str, actual: Any, expected: Any = None) -> Finding:
    verdict = Verdict(
        exchange=EXCHANGE,
        answer=Answer(None),
        outcome=Outcome.DIFFERENT,
        findings=(Finding(place, "value", expected, actual),),
    )
    covering = Covering(Policy.default(), Tokens(b"k" * 32))
    (found,) = covering.verdict(verdict).findings
    return found


@pytest.mark.parametrize(
    ("place", "actual"),
    [
        ("$.password", SECRET),
        ("$.items[3].accessToken", SECRET),
        ("$.tokens.password[0]", SECRET),
        ("header set-cookie", f"session={SECRET}"),
        ("header x-anything", SECRET),
        ("$.user", {"name": "a", "password": SECRET}),
        ("$.users", [{"deep": [{"secret": SECRET}]}]),
        ("$.password", {"old": SECRET}),
        ("line 3", f"password={SECRET}"),
        ("downstream POST /login request $.password", SECRET),
        ("downstream GET /x target.query.token[0]", SECRET),
    ],
)
def test_a_secret_is_not_shown(place: str, actual: Any) -> None:
    found = covered(place, actual)
    assert SECRET not in json.dumps(found)
    assert TOKEN.search(json.dumps(found))


def test_what_gives_itself_away_is_not_shown() -> None:
    assert "@" not in covered("$.note", "write to jane.doe@example.com").actual
    assert TOKEN.fullmatch(covered("$.number", 4111111111111111).actual)


@pytest.mark.parametrize(
    ("place", "actual"),
    [
        ("$.price", 5),
        ("$.price", 5.25),
        ("$.name", "Product 5"),
        ("$.shipped", True),
        ("$.gone", None),
        ("status", 503),
        ("header content-type", "application/json"),
        ("$.items", [{"id": 1, "price": 2.5, "name": "ü"}]),
    ],
)
def test_all_else_stays(place: str, actual: Any) -> None:
    assert covered(place, actual, actual) == Finding(place, "value", actual, actual)


def test_equal_values_stay_equal() -> None:
    found = covered("$.password", SECRET, SECRET)
    assert found.expected == found.actual


@given(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_anything_is_covered_without_an_error(place: str, actual: Any) -> None:
    covered(place, actual)


@pytest.mark.parametrize(
    "place", ["a" * 60_000 + " b.", "[1]" * 20_000 + "x ", "a." * 30_000]
)
def test_a_long_place_is_read_once(place: str) -> None:
    """Quadratic, it would run into the limit of time of each test."""
    assert covered(place, "x").actual == "x"
