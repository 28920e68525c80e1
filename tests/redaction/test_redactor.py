# SPDX-License-Identifier: Apache-2.0
"""A secret goes in somewhere, and comes out nowhere; what is harmless is not touched."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    Message,
    Missing,
    MissingBecause,
    RawMessage,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.redaction import bodies, redis
from deetune_otel.redaction.detectors import looks_random
from deetune_otel.redaction.http import Heads
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import TOKEN, Tokens

TOKENS = Tokens(b"a key")
JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def exchange(
    request: Message | None = None, response: Message | None = None
) -> RecordedExchange:
    is_redis = isinstance(request, RedisCommand)
    return RecordedExchange(
        id="00f067aa0ba902b7",
        connection=Connection(
            id="0123456789abcdef",
            protocol=Protocol.REDIS if is_redis else Protocol.HTTP,
            client=Endpoint("10.0.0.1", 40000),
            server=Endpoint("10.0.0.2", 80),
        ),
        request=request or HttpRequest(method="GET", target="/"),
        response=response,
        request_start_ns=1,
        request_end_ns=2,
        operation="GET /",
    )


def redactor(**changes: Any) -> Redactor:
    return Redactor(replace(Policy.default(), **changes), TOKENS)


def post(body: bytes, *headers: tuple[str, str], target: str = "/") -> RecordedExchange:
    length = ("Content-Length", str(len(body)))
    return exchange(
        HttpRequest(method="POST", target=target, headers=(*headers, length), body=body)
    )


def get(target: str = "/", *headers: tuple[str, str]) -> RecordedExchange:
    return exchange(HttpRequest(method="GET", target=target, headers=headers))


def answer(*headers: tuple[str, str], body: bytes = b"") -> RecordedExchange:
    return exchange(response=HttpResponse(status=200, headers=headers, body=body))


def multipart(name: str, value: bytes, kind: str = "text/plain") -> RecordedExchange:
    body = (
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    ).encode()
    body += value + b"\r\n--b--\r\n"
    return post(body, ("Content-Type", "multipart/form-data; boundary=b"))


# Where a secret can stand that nothing but its place gives away.
PLACES: dict[str, Callable[[str], RecordedExchange]] = {
    "header": lambda s: get("/", ("X-Whatever", s)),
    "latin-1 header": lambda s: get("/", ("X-Whatever", f"é{s}")),
    "authorization": lambda s: get("/", ("Authorization", f"Bearer {s}")),
    "bare authorization": lambda s: get("/", ("Authorization", s)),
    "cookie": lambda s: get("/", ("Cookie", f"a=1; sid={s}; b=2")),
    "set-cookie": lambda s: answer(("Set-Cookie", f"sid={s}; Path=/; HttpOnly")),
    "nameless cookie": lambda s: get("/", ("Cookie", s)),
    "query": lambda s: get(f"/a?b=c&api_key={quote(s)}&d=e"),
    "fragment": lambda s: answer(("Location", f"/x#access_token={quote(s)}&a=b")),
    "userinfo": lambda s: get(f"http://jane:{quote(s, safe='')}@example.com/"),
    "json": lambda s: post(json.dumps({"a": [{"password": s}]}).encode(), JSON),
    "json within": lambda s: post(
        json.dumps({"credentials": {"a": [1, {"b": s}]}}).encode(), JSON
    ),
    "escaped json": lambda s: post(
        ('{"password":"' + "".join(f"\\u{ord(c):04x}" for c in s) + '"}').encode(), JSON
    ),
    "escaped name": lambda s: post(b'{"pass\\u0077ord":"' + s.encode() + b'"}', JSON),
    "json in json": lambda s: post(
        json.dumps({"m": json.dumps({"password": s})}).encode(), JSON
    ),
    "ndjson": lambda s: post(
        b'{"a":1}\n' + json.dumps({"token": s}).encode() + b"\n",
        ("Content-Type", "application/x-ndjson"),
    ),
    "json as text": lambda s: post(
        json.dumps({"x": {"token": s}}).encode(), ("Content-Type", "text/plain")
    ),
    "json without type": lambda s: post(json.dumps({"x": {"token": s}}).encode()),
    "utf-16": lambda s: post(
        json.dumps({"token": s}).encode("utf-16"), ("Content-Type", "text/plain")
    ),
    "form": lambda s: post(f"a=b&password={quote_plus(s)}&c=d".encode(), FORM),
    "multipart": lambda s: multipart("password", s.encode()),
    "multipart json": lambda s: multipart(
        "x", json.dumps({"token": s}).encode(), "application/json"
    ),
    "multipart binary": lambda s: multipart("x", b"\0" + s.encode(), "image/png"),
    "text": lambda s: post(
        f"user: x, password: {s}\n".encode(), ("Content-Type", "text/plain")
    ),
    "xml": lambda s: post(
        f'<a:Password t="x">{s}</a:Password>'.encode(), ("Content-Type", "text/xml")
    ),
    "html": lambda s: answer(
        ("Content-Type", "text/html"),
        body=f'<input type=hidden name="csrf_token" value="{s}">'.encode(),
    ),
    "events": lambda s: answer(
        ("Content-Type", "text/event-stream"),
        body=b"event: x\ndata: " + json.dumps({"a": {"token": s}}).encode() + b"\n\n",
    ),
    "gzip": lambda s: post(
        gzip.compress(json.dumps({"password": s}).encode()),
        JSON,
        ("Content-Encoding", "gzip"),
    ),
    "gzip name": lambda s: post(
        b"\x1f\x8b\x08\x08" + bytes(6) + s.encode() + b"\0" + gzip.compress(b"{}")[10:],
        JSON,
        ("Content-Encoding", "gzip"),
    ),
    "deflate": lambda s: post(
        zlib.compress(json.dumps({"password": s}).encode()),
        JSON,
        ("Content-Encoding", "deflate"),
    ),
    "zstd": lambda s: post(
        zstandard.compress(json.dumps({"password": s}).encode()),
        JSON,
        ("Content-Encoding", "zstd"),
    ),
    "unknown encoding": lambda s: post(s.encode(), JSON, ("Content-Encoding", "rot13")),
    "binary": lambda s: post(b"\0" + s.encode(), ("Content-Type", "image/png")),
    "broken json": lambda s: post(b'{"password": "' + s.encode(), JSON),
    "broken gzip": lambda s: post(s.encode(), JSON, ("Content-Encoding", "gzip")),
    "trailer": lambda s: exchange(
        HttpRequest(
            method="POST",
            target="/",
            is_chunked=True,
            body=json.dumps({"token": s}).encode(),
            headers=(JSON, ("Transfer-Encoding", "chunked")),
            trailers=(("X-Whatever", s),),
        )
    ),
    "redis value": lambda s: exchange(
        RedisCommand(arguments=(b"SET", b"k", s.encode(), b"EX", b"60")),
        RedisReply(value="OK"),
    ),
    "redis reply": lambda s: exchange(
        RedisCommand(arguments=(b"MGET", b"k")),
        RedisReply(value=[s.encode(), None, 1, {b"f": s.encode()}]),
    ),
    "redis auth": lambda s: exchange(RedisCommand(arguments=(b"AUTH", s.encode()))),
    "redis hello": lambda s: exchange(
        RedisCommand(arguments=(b"hello", b"3", b"AUTH", b"default", s.encode()))
    ),
    "redis config": lambda s: exchange(
        RedisCommand(arguments=(b"CONFIG", b"SET", b"requirepass", s.encode()))
    ),
    "redis acl": lambda s: exchange(
        RedisCommand(arguments=(b"ACL", b"SETUSER", b"x", b"on", b">" + s.encode()))
    ),
    "redis migrate": lambda s: exchange(
        RedisCommand(
            arguments=(b"MIGRATE", b"h", b"1", b"k", b"0", b"9", b"AUTH", s.encode())
        )
    ),
    "redis eval": lambda s: exchange(
        RedisCommand(arguments=(b"EVAL", b"return 1", b"1", b"k", s.encode()))
    ),
    "unknown command": lambda s: exchange(
        RedisCommand(arguments=(b"X.SET", b"k", s.encode()))
    ),
    "raw": lambda s: exchange(RawMessage(data=s.encode())),
}
# Where it must give itself away.
OPEN_PLACES: dict[str, Callable[[str], RecordedExchange]] = {
    "path": lambda s: get(f"/reset/{quote(s, safe='')}/x"),
    "any query": lambda s: get(f"/?q={quote_plus(s)}"),
    "referer": lambda s: get("/", ("Referer", f"https://x.io/?q={quote_plus(s)}")),
    "redis key": lambda s: exchange(
        RedisCommand(arguments=(b"GET", b"sess:" + s.encode()))
    ),
}
TEXT_PLACES: dict[str, Callable[[str], RecordedExchange]] = {
    **OPEN_PLACES,
    "user agent": lambda s: get("/", ("User-Agent", f"me ({s})")),
    "json value": lambda s: post(json.dumps({"a": ["x", f"is {s} ok"]}).encode(), JSON),
    "json name": lambda s: post(json.dumps({s: 1}).encode(), JSON),
    "form value": lambda s: post(f"a={quote_plus(s)}".encode(), FORM),
    "text": lambda s: post(f"it is {s}.".encode(), ("Content-Type", "text/plain")),
    "unknown text": lambda s: post(f"it is {s}.".encode(), ("Content-Type", "a/b")),
    "code": lambda s: answer(
        ("Content-Type", "text/javascript"), body=f'x="{s}"'.encode()
    ),
    "multipart text": lambda s: multipart("x", s.encode()),
    "redis error": lambda s: exchange(
        RedisCommand(arguments=(b"GET", b"k")), RedisReply(value=f"ERR {s}")
    ),
}


def luhn(digits: str) -> str:
    for last in "0123456789":
        total = sum(
            int(c) if i % 2 == 0 else sum(divmod(2 * int(c), 10))
            for i, c in enumerate(reversed(digits + last))
        )
        if total % 10 == 0:
            return digits + last
    raise AssertionError


def jwt(subject: str) -> str:
    parts = [json.dumps({"alg": "HS256"}), json.dumps({"sub": subject}), subject]
    return ".".join(
        base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts
    )


RANDOM = st.text(ALNUM, min_size=24, max_size=60).filter(looks_random)
DETECTABLE = st.one_of(
    st.text("abcxyz", min_size=4, max_size=12).map(lambda s: f"{s}@example.com"),
    st.text("0123456789", min_size=14, max_size=14).map(lambda s: luhn("4" + s)),
    st.text("abcxyz", min_size=6, max_size=12).map(jwt),
)


def forms(secret: str) -> list[bytes]:
    """What it might be hidden in; base64 without its ends, which depend on what is around."""
    data = secret.encode()
    shifted = [base64.b64encode(b"x" * n + data)[4:-4] for n in range(3)]
    escaped = "".join(f"\\u{ord(c):04x}" for c in secret).encode()
    return [data, quote(secret, safe="").encode(), escaped, *shifted]


def everything(one: RecordedExchange) -> bytes:
    """All bytes of it, bodies decoded too."""
    found = [repr(one).encode(), repr(one).encode("unicode_escape")]
    for message in (one.request, one.response):
        for name in ("body", "data"):
            body = getattr(message, name, b"")
            found.append(body)
            found.append(body.replace(b"\0", b""))
            for undo in (gzip.decompress, zlib.decompress, zstandard.decompress):
                try:
                    found.append(undo(body))
                except (OSError, EOFError, zlib.error, zstandard.ZstdError):
                    continue
    return b"\n".join(found)


def assert_gone(place: Callable[[str], RecordedExchange], secret: str) -> None:
    ours = redactor()
    before = place(secret)
    after = ours.redact(before)
    left = everything(after)
    assert not [form for form in forms(secret) if form in left]
    assert sum(ours.counts.values()) + ours.dropped_bodies >= 1 or before != after
    assert (after.redactions != ()) or before.request != after.request
    again = redactor()
    assert again.redact(after) == after
    assert again.counts == {}


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=15, deadline=None)
@given(secret=RANDOM | DETECTABLE)
def test_a_secret_in_a_secret_place_is_gone(place: str, secret: str) -> None:
    assert_gone(PLACES[place], secret)


@pytest.mark.parametrize("place", TEXT_PLACES)
@settings(max_examples=15, deadline=None)
@given(secret=DETECTABLE)
def test_what_gives_itself_away_is_gone_anywhere(place: str, secret: str) -> None:
    assert_gone(TEXT_PLACES[place], secret)


@pytest.mark.parametrize("place", OPEN_PLACES)
@settings(max_examples=15, deadline=None)
@given(secret=RANDOM)
def test_what_looks_random_is_gone_from_urls_and_keys(place: str, secret: str) -> None:
    assert_gone(OPEN_PLACES[place], secret)


@given(st.text("abcdefgh", min_size=8, max_size=12), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_any_kind_of_text_is_gone(text: str, number: int) -> None:
    for secret in (f'{text}"\\{text}é', f"{text} \U0001f600/{number}%41+"):
        one = post(json.dumps({"password": secret}).encode(), JSON)
        assert text.encode() not in everything(redactor().redact(one))
        one = post(f"password={quote_plus(secret)}".encode(), FORM)
        assert text.encode() not in everything(redactor().redact(one))


# ---- equality ------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=30))
@settings(deadline=None)
def test_equal_values_have_equal_tokens_wherever_they_stand(secret: str) -> None:
    data = secret.encode("utf-8", "surrogatepass")
    assume(b"\0" not in data and secret.strip() == secret and "," not in secret)
    assume(not {*secret} & set('\r\n;"%=') and not secret[0].isascii())
    token = TOKENS.token(data)
    header = data.decode("latin-1")
    if header.strip() != header:
        return
    ours = redactor()
    done = [
        ours.redact(one)
        for one in (
            get("/", ("X-Token", header)),
            get("/", ("Cookie", f"sid={header}")),
            answer(("Set-Cookie", f"sid={quote(data, safe='')}; Path=/")),
            get(f"/?token={quote(data, safe='')}"),
            post(json.dumps({"token": secret}).encode(), JSON),
            post(f"token={quote_plus(data)}".encode(), FORM),
            exchange(RedisCommand(arguments=(b"SET", b"k", data))),
            get("/", ("Authorization", f"Bearer {header}")),
        )
    ]
    assert [repr(one).count(token) for one in done] == [1] * len(done)


def test_what_is_kept_of_heads() -> None:
    done = redactor().redact(
        get(
            "/a/b?x=1&token=abc",
            ("Host", "shop"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("Authorization", "Basic abc"),
            ("Cookie", "a=b; c=d"),
            ("X-Other", "y"),
        )
    )
    token = {v: TOKENS.token(v.encode()) for v in ("abc", "b", "d", "y")}
    assert done.request == HttpRequest(
        method="GET",
        target=f"/a/b?x=1&token={token['abc']}",
        headers=(
            ("Host", "shop"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("Authorization", f"Basic {token['abc']}"),
            ("Cookie", f"a={token['b']}; c={token['d']}"),
            ("X-Other", token["y"]),
        ),
    )
    assert done.redactions == ("cookie", "header", "name")


def test_counts_are_values_by_rule() -> None:
    ours = redactor()
    ours.redact(post(b'{"password":"a","pin":1,"x":"a@example.com","y":2}', JSON))
    ours.redact(post(b"\0", ("Content-Type", "image/png")))
    assert ours.counts == {"name": 2, "email": 1}
    assert ours.dropped_bodies == 1


# ---- what is harmless ----------------------------------------------------------------------

HARMLESS = [
    get("/users/123?page=2&q=a%20b+c", ("Accept", "*/*"), ("Host", "a:80")),
    get("/orders/3f2504e0-4f89-41d3-9a0c-0305e82c3301/items#top"),
    post(b' {"a" : 1.50e+3, "a":[true,null,"\\u00e9\\/"], "b":{}}\n', JSON),
    post('{"ü": "x"}\r\n{"b": 12345678901234567890}'.encode(), JSON),
    post(b"a=b+c%20d&e&=f&", FORM),
    post(b"Error: at 12:30:00 in http://shop:80/x\n", ("Content-Type", "text/plain")),
    post(b"\xff\xfe\xfd caf\xe9", ("Content-Type", "text/plain; charset=latin1")),
    post(gzip.compress(b'{"a":1}', mtime=0), JSON, ("Content-Encoding", "gzip")),
    multipart("a", b"\r\nhello\r\n"),
    answer(JSON, ("ETag", '"abc"'), ("Content-Length", "7"), body=b'{"a":1}'),
    exchange(RedisCommand(arguments=(b"INCRBY", b"n:1", b"5")), RedisReply(value=5)),
    exchange(RedisCommand(arguments=(b"ZRANGE", b"z", b"0", b"-1", b"WITHSCORES"))),
    exchange(RedisCommand(arguments=(b"GET", b"k")), RedisReply(value=None)),
]


@pytest.mark.parametrize("one", HARMLESS)
def test_what_is_harmless_stays_as_it_is(one: RecordedExchange) -> None:
    ours = redactor()
    assert ours.redact(one) == one
    assert (ours.counts, ours.dropped_bodies) == ({}, 0)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(0, 999) | st.text('abc \u00e9\n"\\'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("xyz"), inner),
    max_leaves=20,
)


@given(JSON_VALUES, st.sampled_from([None, 0, 2]), st.booleans())
def test_harmless_json_stays_as_it_is(
    value: object,
    indent: int | None,
    is_ascii: bool,  # noqa: FBT001
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode()
    one = post(body, JSON)
    assert redactor().redact(one) == one


# ---- gaps, failures, lengths ---------------------------------------------------------------


def test_a_body_with_gaps_is_dropped() -> None:
    gap = Missing(3, 10, MissingBecause.LOST)
    one = post(b'{"password":"hunter2"}', JSON)
    assert isinstance(one.request, HttpRequest)
    done = redactor().redact(
        replace(one, request=replace(one.request, missing=(gap,)), incomplete=("lost",))
    )
    assert isinstance(done.request, HttpRequest)
    assert done.request.body == b""
    assert done.request.missing == (Missing(0, 32, MissingBecause.REDACTED),)
    assert done.incomplete == ("lost", "redacted")
    assert done.redactions == ("dropped_body",)


def test_an_empty_body_with_gaps_stays() -> None:
    gap = Missing(0, 10, MissingBecause.OPAQUE)
    one = exchange(HttpRequest(method="PUT", target="/", missing=(gap,)))
    assert redactor().redact(one) == one


def test_the_length_is_that_of_the_new_body() -> None:
    done = redactor().redact(post(b'{"password":"x"}', JSON))
    assert isinstance(done.request, HttpRequest)
    assert dict(done.request.headers)["Content-Length"] == str(len(done.request.body))
    head = exchange(
        response=HttpResponse(
            status=200, headers=(("Content-Length", "99"),), has_no_body=True
        )
    )
    assert redactor().redact(head) == head


@pytest.mark.parametrize(
    ("where", "what"),
    [(bodies, "body"), (Heads, "headers"), (redis, "arguments"), (redis, "reply")],
)
@pytest.mark.parametrize("place", PLACES)
def test_nothing_leaks_when_something_breaks(
    monkeypatch: pytest.MonkeyPatch, where: object, what: str, place: str
) -> None:
    def broken(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(where, what, broken)
    secret = "Zk3xQ9vB7mN2pL5tR8wY1cF4"
    left = everything(redactor().redact(PLACES[place](secret)))
    assert not [form for form in forms(secret) if form in left]


def test_nesting_is_bounded() -> None:
    ours = redactor()
    for body in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000):
        done = ours.redact(post(body, JSON))
        assert isinstance(done.request, HttpRequest)
        assert done.request.body == b""
    value: object = b"x"
    for _ in range(2000):
        value = [value]
    done = ours.redact(
        exchange(RedisCommand(arguments=(b"GET", b"k")), RedisReply(value=value))
    )
    assert isinstance(done.response, RedisReply)
    assert done.response.value is None
    assert ours.dropped_bodies == 3


def test_raw_bytes_pass_only_where_that_was_asked_for() -> None:
    one = exchange(RawMessage(data=b"hunter2"))
    kept = Redactor(Policy.default(), TOKENS, keeps_raw=True)
    assert kept.redact(one) == one
    assert b"hunter2" not in everything(redactor().redact(one))


def test_the_operation_is_looked_at_too() -> None:
    one = replace(get("/"), operation="GET /reset/aB3dE5gH7jK9mN1pQ3sT")
    assert TOKEN.search(redactor().redact(one).operation)


# ---- the policy ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "one"),
    [
        ({"kept_headers": ("x-mine",)}, get("/", ("X-Mine", "abc"))),
        ({"kept_cookies": ("lang",)}, get("/", ("Cookie", "lang=en"))),
        ({"secret_names": ()}, post(b'{"password":"x"}', JSON)),
        ({"kept_paths": ("$.a",)}, post(b'{"a":{"password":"x"}}', JSON)),
        ({"detectors": ()}, post(b'{"a":"a@example.com"}', JSON)),
        ({"kept_binary": ("image/*",)}, post(b"\0", ("Content-Type", "image/png"))),
        (
            {"redis_values": "scan"},
            exchange(RedisCommand(arguments=(b"SET", b"k", b"v"))),
        ),
    ],
)
def test_a_policy_can_keep(changes: dict[str, Any], one: RecordedExchange) -> None:
    assert redactor().redact(one) != one
    assert redactor(**changes).redact(one) == one


@pytest.mark.parametrize(
    ("changes", "one"),
    [
        ({"secret_paths": ("$.a[*].b",)}, post(b'{"a":[{"b":"hunter2"}]}', JSON)),
        ({"patterns": {"h": "hunter[0-9]"}}, post(b'{"a":"a hunter2"}', JSON)),
        (
            {"kept_binary": ("image/*",), "patterns": {"h": "hunter2"}},
            post(b"\0hunter2", ("Content-Type", "image/png")),
        ),
        (
            {"redis_values": "scan"},
            exchange(RedisCommand(arguments=(b"SET", b"k", b'{"pin":"hunter2"}'))),
        ),
    ],
)
def test_a_policy_can_redact(changes: dict[str, Any], one: RecordedExchange) -> None:
    assert b"hunter2" not in everything(redactor(**changes).redact(one))
