# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction import columns
from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")
A = TOKENS.token(b"a")


def redacted(text: str) -> str | None:
    return columns.redact(text, Censor(Policy.default(), TOKENS))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("pin,b\na,b\na,b", f"pin,b\n{A},b\n{A},b"),
        ("b,pin\r\nb,a\r\n\r\n,a\r\n", f"b,pin\r\nb,{A}\r\n\r\n,{A}\r\n"),
        ('"pin";b\n"a";"x\ny;z"\na;b\n', f'"pin";b\n"{A}";"x\ny;z"\n{A};b\n'),
        ("b\tpin\n\ta\nx\t\n", f"b\tpin\n\t{A}\nx\t\n"),
        ("pin\na\na", f"pin\n{A}\n{A}"),
        ('pin,b\n"a', f'pin,b\n"{A}'),
        ('pin|b\n"x""y"|b', f'pin|b\n"{TOKENS.token(b"x" + bytes([34]) + b"y")}"|b'),
    ],
)
def test_columns_of_secret_names(text: str, changed: str) -> None:
    assert redacted(text) == changed


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "pin", "", "\n", "x" * 5000 + "\npin\n"]
)
def test_what_has_no_such_column(text: str) -> None:
    assert redacted(text) is None
