# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.redaction.tokens import TOKEN, Tokens


@given(st.binary(), st.binary())
def test_tokens_are_equal_where_values_are(one: bytes, other: bytes) -> None:
    tokens = Tokens(b"key")
    assert (tokens.token(one) == tokens.token(other)) == (one == other)
    assert TOKEN.fullmatch(tokens.token(one))


def test_another_recording_has_other_tokens() -> None:
    assert Tokens(b"one").token(b"value") != Tokens(b"other").token(b"value")


def test_the_token_is_the_hmac_that_is_documented() -> None:
    # RFC 4231, test case 2
    token = Tokens(b"Jefe").token(b"what do ya want for nothing?")
    assert token == "redacted-5bdcc146bf60754e"


def test_without_a_key_there_are_no_tokens() -> None:
    with pytest.raises(ValueError, match="key"):
        Tokens(b"")
