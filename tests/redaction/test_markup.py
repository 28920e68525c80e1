# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.redaction import markup
from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")


def redacted(text: str) -> str:
    return markup.redact(text, Censor(Policy.default(), TOKENS))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("<password>{}</password>", "a"),
        ("<password> {}", "a"),
        ("<secrets><a>{}</a></secrets>", "a"),
        ('<a name="password" value="{}">', "a>b"),
        ("<a value='{}' name=password />", "a"),
        ("<x><b><key>pin</key></b><key>pin</key><data>{}</data><b>y</b></x>", "a"),
        ("<X><Name>pin</Name><b/><Value>{}</Value></X><Value>y</Value>", "a"),
        ("<x><value><i>{}</i></value><name>pin</name></x>", "a"),
        ("<password>{}</x></password>", "a"),
        ("<dl><dt>API key:</dt> <dd>{}</dd><dd>x</dd></dl>", "a"),
        ("<tr><th>Password</th><td><b>{}</b></td><td>x</td></tr>", "a"),
        ("<password><![CDATA[{}", "a<b"),
    ],
)
def test_secrets(text: str, secret: str) -> None:
    expected = text.format(TOKENS.token(secret.encode()))
    assert redacted(text.format(secret)) == expected
    assert redacted(expected) == expected


def test_the_token_is_that_of_the_value_without_its_escapes() -> None:
    token = TOKENS.token(b"a&b")
    assert redacted("<pin>a&amp;b</pin>") == f"<pin>{token}</pin>"


@pytest.mark.parametrize(
    "text",
    [
        "curl -u <user>:<x> y",
        "<div id=password>Choose a password</div>",
        "a < b > c",
        "<x><name>pin</name></x><value>y</value>",
        "<x><name>pin</name><type>y</type></x>",
        "<pin/>a",
        "<tr><th>User</th><th>Password</th><th>City</th></tr>",
        "<tr><th>Password</th><th>x</th><td>y</td></tr>",
        "</pin>a",
        "<pin></pin>",
    ],
)
def test_what_stays(text: str) -> None:
    assert redacted(text) == text
