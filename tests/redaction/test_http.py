# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deetune_otel.recording.model import HttpRequest, HttpResponse
from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.harmless import MAX_REMEMBERED
from deetune_otel.redaction.http import Heads
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")
X = TOKENS.token(b"x")


def heads(**changes: Any) -> Heads:
    return Heads(Censor(replace(Policy.default(), **changes), TOKENS))


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("Content-Type", "text/html; charset=x", None),
        ("ACCEPT-Language", "de", None),
        ("Accept-Token", "x", X),
        ("User-Agent", "x (a@example.com)", f"x ({TOKENS.token(b'a@example.com')})"),
        ("X-Api-Key", "x", X),
        ("X-Forwarded-For", "x", X),
        ("X-Empty", "", None),
        ("Baggage", "x", X),
        ("tracestate", "a@example.com", TOKENS.token(b"a@example.com")),
        ("tracestate", "congo=t61rcWkgMzE, rojo=00f067aa0ba902b7", None),
        ("tracestate", "a=b@example.com", f"a={TOKENS.token(b'b@example.com')}"),
        ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01", None),
        ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01-x", "*"),
        ("traceparent", "x", X),
        ("b3", "1", None),
        ("b3", f"{'ab' * 16}-{'cd' * 8}-1-{'ef' * 8}", None),
        ("b3", "hunter2", TOKENS.token(b"hunter2")),
        ("X-B3-TraceId", "ab" * 16, None),
        ("X-B3-TraceId", "x", X),
        ("X-B3-Sampled", "x", X),
        ("uber-trace-id", "abc:1:0:1", None),
        ("uber-trace-id", "x", X),
        ("sentry-trace", f"{'ab' * 16}-{'cd' * 8}-1", None),
        ("sentry-trace", "x", X),
        ("sw8", "1-YQ==-Yg==-3-Yw==-ZA==-ZQ==-Zg==", None),
        ("sw8", "x", X),
        ("X-Amzn-Trace-Id", "Root=1-67891233-abcdef012345678912345678;Sampled=1", None),
        ("X-Amzn-Trace-Id", "x", X),
        ("X-Cloud-Trace-Context", f"{'ab' * 16}/123;o=1", None),
        ("X-Cloud-Trace-Context", "x", X),
        ("X-Datadog-Trace-Id", "12345", None),
        ("X-Datadog-Trace-Id", "x", X),
        ("tracestate", "a=1,token=x", f"a=1,token={X}"),
        ("Host", "x@a:80", f"{X}@a:80"),
        ("Content-Disposition", "attachment; token=x", f"attachment; token={X}"),
        ("Content-Type", "text/plain; token=x", f"text/plain; token={X}"),
        ("Content-Disposition", 'form-data; name="token"', None),
        ("Referer", "https://a/b;token=x?c=d", f"https://a/b;token={X}?c=d"),
        ("Authorization", "Bearer x", f"Bearer {X}"),
        ("Authorization", "x", X),
        ("Proxy-Authorization", "basic x", f"basic {X}"),
        ("Authorization", "Unknown x", TOKENS.token(b"Unknown x")),
        ("Cookie", "a=x; b=x;c=; d", f"a={X}; b={X};c=; {TOKENS.token(b'd')}"),
        ("Cookie", 'a="x"', f"a={X}"),
        ("Cookie", "a=%78", f"a={X}"),
        ("Cookie", "a=x=", f"a={TOKENS.token(b'x=')}"),
        ("Set-Cookie", "a=x; Path=/; Secure", f"a={X}; Path=/; Secure"),
        ("Set-Cookie", "a=; Max-Age=0", None),
        ("Set-Cookie", "a=x; Other=x", f"a={X}; Other={X}"),
        ("Location", "/a?token=x&b=1", f"/a?token={X}&b=1"),
        ("X-\xe9", "\xe9", TOKENS.token(b"\xe9")),
    ],
)
def test_values(name: str, value: str, changed: str | None) -> None:
    expected = value if changed is None else changed
    if changed == "*":
        expected = TOKENS.token(value.encode())
    assert heads().headers(((name, value),), "request") == ((name, expected),)


def test_order_and_doubles_stay() -> None:
    given = (("A", "x"), ("Host", "h"), ("a", "x"))
    assert heads().headers(given, "request") == (("A", X), ("Host", "h"), ("a", X))


def test_a_name_that_is_listed_wins_over_how_it_sounds() -> None:
    ours = heads(kept_headers=("x-token", "y-*"))
    given = (("X-Token", "x"), ("Y-Token", "x"), ("Y-Other", "x"), ("Host", "x"))
    assert [value for _, value in ours.headers(given, "request")] == ["x", X, "x", X]


def test_the_other_parts_of_a_head() -> None:
    request = HttpRequest(
        method="pin=x", target="/?pin=x", headers=(), trailers=(("T", "x"),)
    )
    done = heads().request(request)
    assert (done.method, done.target) == (f"pin={X}", f"/?pin={X}")
    assert done.trailers == (("T", X),)
    response = heads().response(HttpResponse(status=500, reason="pin=x"))
    assert response.reason == f"pin={X}"


@pytest.mark.parametrize(
    ("reason", "is_kept"),
    [
        *[("OK", True), ("Not Found", True), ("I'm a teapot", True), ("", True)],
        *[("Invalid_Argument: 400", True), ("Non-Authoritative Information", True)],
        *[("Zq27xK9m", False), ("bad key hunter2", False), ("4711471147", False)],
    ],
)
def test_a_reason_is_words(reason: str, is_kept: bool) -> None:  # noqa: FBT001
    done = heads().response(HttpResponse(status=400, reason=reason)).reason
    assert done == (reason if is_kept else TOKENS.token(reason.encode()))


def test_what_is_remembered_is_bounded() -> None:
    ours = heads()
    for number in range(MAX_REMEMBERED + 2):
        ours.headers((("Host", f"h{number}"),), "request")
    assert len(ours._harmless) <= MAX_REMEMBERED
