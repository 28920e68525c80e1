# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction.names import MAX_REMEMBERED, Names

NAMES = Names(["pin", "api_key", "*password*", "*token", "ssn"])


@pytest.mark.parametrize(
    "name",
    [
        *["pin", "PIN", "card_pin", "cardPin", "card.pin", "pin2", "user[pin]"],
        *["apiKey", "x-api-key", "X_API_KEY", "apikey", "google.apiKey"],
        *["password", "Old-Password-2", "passwordHash", "PASSWORD", "p_a_s_s_word"],
        *["token", "accessToken", "access_token", "XSRF-TOKEN", "csrftoken"],
        *["user[ssn]", "customerSSN"],
    ],
)
def test_a_secret_name(name: str) -> None:
    assert name in NAMES


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pinned",
        "pin_length",
        "shipping",
        "spin",
        "key",
        "token_type",
        "tokens",
        "é",
    ],
)
def test_a_harmless_name(name: str) -> None:
    assert name not in NAMES


def test_no_rules_name_nothing() -> None:
    assert "password" not in Names([])


def test_what_is_remembered_is_bounded() -> None:
    names = Names(["pin"])
    for number in range(MAX_REMEMBERED + 2):
        assert f"pin{number}x" not in names
    assert len(names._known) <= MAX_REMEMBERED
    assert "pin" in names
