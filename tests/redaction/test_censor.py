# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction.censor import Censor, as_bytes, as_text
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")


def censor() -> Censor:
    return Censor(Policy.default(), TOKENS)


def marked(text: str) -> str:
    """The text with what is between « and » replaced by its token."""
    head, *rest = text.split("«")
    for part in rest:
        secret, _, after = part.partition("»")
        head += TOKENS.token(secret.encode()) + after
    return head


@pytest.mark.parametrize(
    "text",
    [
        "password=«abc»&x=1",
        "password = «abc x»",
        "at 1: password = «abc» x",
        "password: «a, b; c»\nnext: 1",
        "user: bob, password: «hunter2»",
        'the "password": "«a \\" b»", "x": 1',
        "{'password': '«abc»'}",
        "api_key => '«abc»'",
        "PGPASSWORD=«abc» psql",
        'mutation { login(password: "«a b»", name: "c") }',
        "<password>«a b»</password><name>c</name>",
        '<wsse:Password Type="x">«abc»</wsse:Password>',
        "<password><![CDATA[«a<b»]]></password>",
        '<login password="«abc»" name="x">',
        '<input type="hidden" name="csrf_token" value="«abc»">',
        "<input value='«abc»' name='csrf_token'>",
        '<meta name="csrf-token" content="«abc»">',
        "see https://«jane:pw»@example.com/?token=«abc»&a=b#c",
        "Authorization: Bearer «abc»",
        '{"a": "b", "token": "«abc»"} and more',
    ],
)
def test_secrets_of_a_text(text: str) -> None:
    ours = censor()
    plain = text.replace("«", "").replace("»", "")
    assert ours.text(plain) == marked(text)
    assert sum(ours.counts.values()) == text.count("«")


@pytest.mark.parametrize(
    "text",
    [
        "token_type: Bearer",
        "at 12:30:00",
        "a: b",
        "<a href='/x?y=1'>z</a>",
        "http://a:80",
    ],
)
def test_a_harmless_text(text: str) -> None:
    assert censor().text(text) == text


def test_json_in_json_in_json_ends_somewhere() -> None:
    import json

    text = json.dumps({"password": "hunter2"})
    for _ in range(3):
        text = json.dumps({"inner": text})
    assert "hunter2" not in censor().text(text)


def test_the_scheme_of_a_credential_stays() -> None:
    assert censor().value("Bearer abc", "x") == marked("Bearer «abc»")
    assert censor().value("", "x") == ""


def test_tokens_are_left_alone_and_not_counted() -> None:
    ours = censor()
    token = TOKENS.token(b"x")
    assert ours.value(token, "x") == token
    assert ours.text(f"password={token} x") == f"password={token} x"
    assert ours.counts == {}


@pytest.mark.parametrize("data", [b"caf\xc3\xa9", b"\xff\xfe", b"", b"\xed\xa0\x80"])
def test_any_bytes_survive(data: bytes) -> None:
    assert as_bytes(as_text(data)) == data


@pytest.mark.parametrize(
    "hostile",
    ["<a ", "<password><![CDATA[", "a=", "password=", "a:", "a" * 70, '"', "[", "a["],
)
def test_a_long_text_ends(hostile: str) -> None:
    """A search that begins again at each place would run into the limit of time of a test."""
    censor().text((hostile * 400_000)[:400_000])
