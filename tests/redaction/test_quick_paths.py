# SPDX-License-Identifier: Apache-2.0
"""What is known quickly to be harmless is what the whole work would leave as it is, too."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.detectors import Detectors
from deetune_otel.redaction.harmless import MAX_LENGTH, MAX_REMEMBERED, Harmless
from deetune_otel.redaction.jsontext import _Reader
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")
BEARER = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
# Of each rule one, or nearly, and what else the quick paths look for.
PIECES = [
    *("a@example.com", "a%40example.com", "x@2x.png", "@", "http://u:p@h/", "a@b@c.de"),
    *(BEARER, BEARER[:14], "eyJabcde.", "eyAabcde.abcd.", "eyJhbGciOi-.aaaa."),
    *("-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----"),
    *("Bearer abcdefghijk1", "BEARER abcdefghijkl", "Basic YTpi", "Basic abcdef"),
    *("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPL", "8Q~" + "a" * 31),
    *("AIza" + "a" * 35, "AIza" + "é" * 35, "ya29." + "b" * 20, "GOCSPX-" + "c" * 20),
    *("AccountKey=" + "A" * 40, "ghp_" + "a" * 30, "github_pat_" + "b" * 22),
    *("glpat-" + "a" * 20, "glagent-" + "b" * 20, "xoxb-1234567890", "xapp-123456789"),
    *("hooks.slack.com/services/" + "T" * 20, "sk_live_" + "a" * 10, "rk_test_0123"),
    *("whsec_" + "/" * 16, "sk-" + "a" * 20, "task-" + "b" * 20, "npm_" + "c" * 36),
    *("pypi-" + "a" * 50, "hvs." + "a" * 20, "dop_v1_" + "a" * 64),
    "SG." + "a" * 16 + "." + "b" * 16,
    *("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "41111"),
    *("4111111111111112", "6.4111111111111111", "378282246310005", "4222222222222"),
    *("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "NO9386011117947"),
    *("+49 30 1234567", "+1-555-0100", "+4930123456", "T12:00:00+00:00"),
    *("2026-11-24T12:30:17.123Z", "2026-11-24 12:30:17", "2026-11-24T12:pin=x"),
    *("redacted-0123456789abcdef", "redacted-4111111111111111", "0123456789abcdef"),
    *("pin: 1234", "PIN=x", "my Password : 'x y'", "<pin>x</pin>", ":", "::", "=", "<"),
    *("aB3dE5gH7jK9mN1pQ3sT", "session", "reset", "/", "?", "&", ";", ",", "#", "%2F"),
    *(" ", "-", ".", "_", '"', "\\", "\n", "é", "\u212a", "\U0001f600", "1", "42", "Z"),
    *("é" * 9, "\udc80", "a", "x", "word", "+", "%", "J", "A", "~"),
    base64.b64encode(b'{"password":"hunter2"}').decode(),
    base64.b64encode(b"a@example.com").decode(),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=7).map("".join)
NAMES = st.sampled_from(
    [
        *("a", "id", "pin", "PIN", "Card-Pin", "accessToken", "ACCESS_TOKEN", "pin2"),
        *(
            "pinned",
            "p:n",
            "a=b",
            "Old Password",
            "user[ssn]",
            "\u212aey",
            "apiKey",
            "",
        ),
        *("mobile:", ":pin", "a@example.com", "é", "p\u0131n", "no\npin"),
    ]
)


class Members(list[tuple[str, Any]]):
    """Of an object; unlike a dict's, names may come twice."""


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([4111111111111111, 4111111111111112, 1.5e300, -1])
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(st.tuples(NAMES | TEXTS, inner), max_size=4).map(Members)
        | inner.map(lambda value: written(value, json.dumps, ","))
    ),
    max_leaves=12,
)


def written(value: Any, string: Any, comma: str) -> str:
    """As JSON: `string` writes strings."""
    if isinstance(value, Members):
        members = (
            f"{string(name)}{comma.replace(',', ':')}{written(one, string, comma)}"
            for name, one in value
        )
        return "{" + comma.join(members) + "}"
    if isinstance(value, list):
        return "[" + comma.join(written(one, string, comma) for one in value) + "]"
    return str(string(value)) if isinstance(value, str) else json.dumps(value)


def escaped(text: str) -> str:
    r"""All of it: "\u0070\u0069\u006e"."""
    units = text.encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return '"' + "".join(f"\\u{high:02x}{low:02X}" for high, low in pairs) + '"'


STRINGS = [
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: json.dumps(text).replace("/", "\\/"),
    lambda text: f'"{text}"',  # nothing escaped: may be broken JSON, too
    escaped,
]
JSON_TEXTS = st.builds(
    written, VALUES, st.sampled_from(STRINGS), st.sampled_from([",", " , ", "\r\n,\t"])
)


def exchange(request: Any, response: Any, operation: str = "") -> RecordedExchange:
    is_redis = isinstance(request, RedisCommand)
    return RecordedExchange(
        id="00f067aa0ba902b7",
        connection=Connection(
            id="0123456789abcdef",
            protocol=Protocol.REDIS if is_redis else Protocol.HTTP,
            client=Endpoint("10.0.0.1", 40000),
            server=Endpoint("10.0.0.2", 80),
        ),
        request=request,
        response=response,
        request_start_ns=1,
        request_end_ns=2,
        operation=operation,
    )


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def header(text: str) -> str:
    return as_bytes(text).decode("latin-1")


def redacted(one: RecordedExchange, *, times: int = 1) -> object:
    """The same one again and again, and what was counted."""
    ours = Redactor(Policy.default(), TOKENS)
    done = set()
    for number in range(times):  # each on a connection of its own: nothing is known yet
        connection = replace(one.connection, id=f"{number:016x}")
        changed = ours.redact(replace(one, connection=connection))
        done.add(repr(replace(changed, connection=one.connection)))
    counts = {rule: count / times for rule, count in ours.counts.items()}
    return done, counts, ours.dropped_bodies / times


def assert_same(one: RecordedExchange) -> None:
    """Quickly, with all that is remembered of the first time, and with nothing of this."""
    quick = redacted(one, times=2)
    with (
        patch.object(Detectors, "_has_any", lambda *_: True),
        patch.object(_Reader, "is_harmless", lambda _: False),
        patch.object(Harmless, "has", lambda *_: False),
    ):
        assert redacted(one) == quick


@given(TEXTS)
@settings(max_examples=500, deadline=None)
def test_a_text_is_searched_where_something_is_in_it(text: str) -> None:
    detectors = Detectors()
    assert detectors.find(text) == detectors._found(text)


@pytest.mark.parametrize("piece", PIECES)
def test_every_piece_is_searched_where_something_is_in_it(piece: str) -> None:
    detectors = Detectors()
    for text in (piece, f"x {piece}", f'{{"a":"{piece}"}}', f"{piece}{piece}"):
        assert detectors.find(text) == detectors._found(text)


@given(JSON_TEXTS, st.sampled_from(["application/json", "text/plain", ""]))
@settings(max_examples=300, deadline=None)
def test_a_json_body_is_redacted_alike(text: str, kind: str) -> None:
    headers = (("Content-Type", kind),) if kind else ()
    request = HttpRequest(
        method="POST", target="/", headers=headers, body=as_bytes(text)
    )
    assert_same(exchange(request, None))


@given(st.lists(JSON_TEXTS, max_size=3).map("\n".join))
@settings(max_examples=100, deadline=None)
def test_lines_of_json_are_redacted_alike(text: str) -> None:
    headers = (("Content-Type", "application/x-ndjson"),)
    response = HttpResponse(status=200, headers=headers, body=as_bytes(text))
    assert_same(exchange(HttpRequest(method="GET", target="/"), response))


@given(TEXTS, TEXTS, TEXTS, TEXTS)
@settings(max_examples=200, deadline=None)
def test_heads_and_texts_are_redacted_alike(
    target: str, value: str, body: str, operation: str
) -> None:
    headers = (
        *(("Host", header(value)), ("User-Agent", header(value + target))),
        *(("Accept-Pin", header(value)), ("Cookie", header(f"a={value}"))),
        *(("Set-Cookie", header(f"b=c; {value}")), ("Referer", header(target))),
    )
    request = HttpRequest(method="GET", target=header("/" + target), headers=headers)
    response = HttpResponse(status=200, headers=headers, body=as_bytes(body))
    assert_same(exchange(request, response, f"GET /{operation}"))


@given(st.sampled_from([b"GET", b"KEYS", b"SET", b"X"]), TEXTS, TEXTS)
@settings(max_examples=100, deadline=None)
def test_redis_is_redacted_alike(command: bytes, key: str, value: str) -> None:
    data = as_bytes(value)
    request = RedisCommand(arguments=(command, as_bytes(key), data))
    assert_same(exchange(request, RedisReply(value=[data, value, None]), "GET"))


@pytest.mark.parametrize("piece", PIECES)
def test_every_piece_is_redacted_alike_in_json(piece: str) -> None:
    for string in STRINGS:
        for value in (piece, [piece, 1], Members([(piece, piece), ("a", piece)])):
            body = as_bytes(written(value, string, ","))
            request = HttpRequest(method="POST", target="/", body=body)
            assert_same(exchange(request, None))


def test_names_within_strings_are_seen() -> None:
    censor = Censor(Policy.default(), TOKENS)
    text = '{"a": ["x", 1], "at": "2026-11-24T12:30:17Z", "a": "b: c"}'
    assert _Reader(text, censor, 0).is_harmless()
    assert not _Reader(text.replace("b:", "pin:"), censor, 0).is_harmless()


def test_only_digests_are_remembered_of_long_texts() -> None:
    harmless = Harmless()
    long = "x" * (MAX_LENGTH + 1)
    harmless.add("Host", long)
    harmless.add(long, "x")
    assert harmless.has("Host", long)
    assert not harmless.has("Via", long)
    assert not harmless.has(long, "x")
    assert long not in repr(harmless._known)
    for number in range(MAX_REMEMBERED):
        harmless.add("Host", f"h{number}")
    assert len(harmless) <= MAX_REMEMBERED
