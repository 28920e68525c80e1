# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction import named
from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")


def censor() -> Censor:
    return Censor(Policy.default(), TOKENS)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("pin={} x", "a"),
        ("pin = {}\nx = 1", "a b"),
        ("  export PIN = {}\n", "a b"),
        ("x: 1, pin = {} y", "a"),
        ("pin: {}\nx", "a b"),
        ("pin: |\n  {}\nx: y", "a\n  b"),
        ("a:\n  pin: >-\n    {}\n  x: y", "a"),
        ('{{\\"pin\\":\\"{}\\"}}', "a b"),
        ("&quot;pin&quot;:&quot;{}&quot;,", "a b"),
        ("- name: pin\n  x: y\n  value: {}\n- value: y\n", "a"),
        ("- value: {}\n  x: y\n  name: pin\n", "a"),
        ("name = pin\nvalue = {}\n", "a"),
    ],
)
def test_secrets(text: str, secret: str) -> None:
    expected = text.format(TOKENS.token(secret.encode()))
    assert named.redact(text.format(secret), censor()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "- name: pin\n- value: y\n",
        "- name: pin\n\n  value: y\n",
        "- name: pin\n  a:\n    value: y\n",
        "pin: |\nx: y",
        "pin:",
        "pin=",
        "12:30:17",
    ],
)
def test_what_stays(text: str) -> None:
    assert named.redact(text, censor()) == text


def test_in_code_only_literals_that_are_no_words_go() -> None:
    code = "{password:'hunter2x',pin:e.pin,token:'Token',secret:'Your secret 2'}"
    token = TOKENS.token(b"hunter2x")
    assert named.in_code(code, censor()) == code.replace("hunter2x", token)
