# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.recording.comments import from_text, to_text

_ANY = st.text(st.characters(codec=None), min_size=1)


def test_plain_words_are_bare_and_others_quoted() -> None:
    facts = {"exchange": "9f", "cause": "", "operation": 'GET /"a b"', "service": "ü"}

    assert to_text(facts) == 'exchange=9f operation="GET /\\"a b\\"" service="ü"'


@given(st.dictionaries(st.from_regex("[a-z_]+", fullmatch=True), _ANY))
def test_any_value_is_read_back(facts: dict[str, str]) -> None:
    assert from_text(to_text(facts)) == facts


@given(_ANY)
def test_another_comment_is_no_fact(text: str) -> None:
    for key, value in from_text(text).items():
        assert f"{key}=" in text
        assert isinstance(value, str)


def test_half_a_fact_spoils_the_comment() -> None:
    assert from_text("exchange=1 retransmitted here") == {}
    assert from_text('exchange="\\q"') == {}
