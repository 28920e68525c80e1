# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens
from deetune_otel.redaction.urls import form, segments, url

TOKENS = Tokens(b"key")
RANDOM = "aB3dE5gH7jK9mN1pQ3sT"
HEX = "d41d8cd98f00b204e9800998ecf8427e"
UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def censor() -> Censor:
    return Censor(Policy.default(), TOKENS)


def token(text: str) -> str:
    return TOKENS.token(text.encode())


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (f"/a/{RANDOM}/b", f"/a/{token(RANDOM)}/b"),
        (f"/a/{HEX}", None),
        (f"/token/{HEX}", f"/token/{token(HEX)}"),
        (f"/reset/x/{HEX}", f"/reset/x/{token(HEX)}"),
        (f"/session/{UUID}", None),
        ("/u/a%40example.com/x", f"/u/{token('a@example.com')}/x"),
        ("/?a=1&pass%77ord=x%20y&b", f"/?a=1&pass%77ord={token('x y')}&b"),
        (f"/?q={RANDOM}&q=%7e+", f"/?q={token(RANDOM)}&q=%7e+"),
        (f"/?{RANDOM}", f"/?{token(RANDOM)}"),
        ("/?q=a+b%40example.com", f"/?q=a+{token('b@example.com')}"),
        ("/x#access_token=abc&state=1", f"/x#access_token={token('abc')}&state=1"),
        ("http://u:p%40w@h:1/x", f"http://{token('u:p@w')}@h:1/x"),
        ("//u@h/x", f"//{token('u')}@h/x"),
        ("example.com:443", None),
        ("*", None),
        ("", None),
        ("https://h/%zz?%=%&&=;#", None),
    ],
)
def test_urls(text: str, changed: str | None) -> None:
    assert url(text, censor()) == (text if changed is None else changed)


@given(st.text("/?#&=;:@%+ab12 ", max_size=40))
def test_whatever_comes_is_redacted_once(text: str) -> None:
    once = url(text, censor())
    ours = censor()
    assert url(once, ours) == once
    assert ours.counts == {}


def test_a_key_of_redis_is_like_a_path() -> None:
    assert segments("user:123:name", censor()) == "user:123:name"
    assert segments(f"sess:{HEX}", censor()) == f"sess:{token(HEX)}"
    assert segments("mail:a@example.com", censor()) == f"mail:{token('a@example.com')}"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("a=b&password=%26", f"a=b&password={token('&')}"),
        ("a=b;password=x", "a=b;password=" + token("x")),
        (f"a={RANDOM}", None),
        ("user[password]=x", f"user[password]={token('x')}"),
        ("a@example.com=1", f"{token('a@example.com')}=1"),
        ("password=%ff", f"password={TOKENS.token(bytes([255]))}"),
    ],
)
def test_forms(text: str, changed: str | None) -> None:
    done = form(text, censor())
    assert done.replace("%3B", ";").replace("%3D", "=") == (changed or text)


def test_json_in_a_field_is_json() -> None:
    done = form("a=%7B%22pin%22%3A%22%5Cud800%22%7D", censor())
    assert "d800" not in done
    assert "redacted-" in done
