# SPDX-License-Identifier: Apache-2.0
"""Bodies that are made to take long: what is counted is calls of functions, not time.

A regular expression that begins again at each place is no call; 64 kB of it would take minutes,
which the limit of time of each test ends.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from types import FrameType

import pytest

from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    RecordedExchange,
)
from deetune_otel.redaction import censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import Tokens

SIZE = 65_536  # the default limit of a body
KINDS = [
    *("application/json", "application/x-ndjson", "application/x-www-form-urlencoded"),
    *("text/plain", "text/csv", "application/xml", "text/html", "text/javascript"),
    *("text/event-stream", "multipart/form-data; boundary=b", "application/yaml", ""),
]
UNITS = [
    *"\\\"{}[]<>:;,&=%@+-_./|'\n\r\t #?!a1A\0",
    *(
        '\\"',
        "\r\n",
        "{[",
        '{"a":',
        '{"a":"',
        '"a",',
        '"name":"pin",',
        '[["pin",',
        "\\u",
    ),
    *(
        "<a ",
        "</a>",
        "<a '",
        '<a "',
        "<key>",
        "<password><name>",
        "<value>",
        "<![CDATA[",
    ),
    *("a=", "pin=", "pin: ", "pin: |\n", "- name: pin\n", "name: pin\nvalue: a\n"),
    *(
        "a,\n",
        '"",',
        '";"',
        "&quot;",
        "%3D",
        "%25",
        "://",
        "a@a.",
        "eyJ",
        "YTpi",
        "--b\r\n",
    ),
    *('; a="', ';a*0="', "hunter2x", "redacted-0123456789abcdef", "data:{}\n", "\x1e"),
]
BEGINNINGS = [
    ("application/json", '{"a":"'),
    ("text/csv", 'pin,a\n"'),
    ("text/plain", 'pin="'),
    ("text/xml", "<password>"),
    ("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data"),
    ("text/event-stream", "data: "),
]


def post(body: bytes, kind: str, encoding: str = "") -> RecordedExchange:
    headers = [("Content-Type", kind), ("X-Key", "hunter2xyz")]
    if encoding:
        headers.append(("Content-Encoding", encoding))
    return RecordedExchange(
        id="00f067aa0ba902b7",
        connection=Connection(
            id="0123456789abcdef",
            protocol=Protocol.HTTP,
            client=Endpoint("10.0.0.1", 40000),
            server=Endpoint("10.0.0.2", 80),
        ),
        request=HttpRequest(
            method="POST", target="/", headers=tuple(headers), body=body
        ),
        response=None,
        request_start_ns=1,
        request_end_ns=2,
    )


def filled(unit: str, size: int, begin: str = "") -> bytes:
    return (begin + unit * size)[:size].encode()


def redact(one: RecordedExchange) -> tuple[HttpRequest, Redactor]:
    ours = Redactor(Policy.default(), Tokens(b"key"))
    done = ours.redact(one).request
    assert isinstance(done, HttpRequest)
    return done, ours


def calls(one: RecordedExchange) -> int:
    """How many functions are called to redact it."""
    count = 0

    def counted(_frame: FrameType, event: str, _what: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        redact(one)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_calls_grow_as_the_body_does(kind: str) -> None:
    for unit in UNITS:
        small = calls(post(filled(unit, 1024), kind))
        large = calls(post(filled(unit, 4096), kind))
        assert large < 6 * small + 500, unit
        assert large < 200 * 4096, unit


@pytest.mark.parametrize(("kind", "begin"), BEGINNINGS)
def test_calls_grow_as_what_is_within_does(kind: str, begin: str) -> None:
    for unit in UNITS:
        small = calls(post(filled(unit, 1024, begin), kind))
        large = calls(post(filled(unit, 4096, begin), kind))
        assert large < 6 * small + 500, unit


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_body_ends(kind: str) -> None:
    for unit in UNITS:
        redact(post(filled(unit, SIZE), kind))
    for first in UNITS[::5]:  # pairs and triples
        for second in UNITS[1::7]:
            redact(post(filled(first + second, SIZE // 8), kind))
            redact(post(filled(first + second + first[:1], SIZE // 8), kind))


@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
def test_what_is_nested_ends(kind: str) -> None:
    text = json.dumps({"password": "hunter2x"})
    packed = text
    while len(packed) < SIZE:
        text, packed = packed, json.dumps({"a": packed})
    redact(post(text.encode(), kind))
    data = b"password=hunter2x"
    while len(data) < SIZE:
        data = base64.b64encode(data)
    redact(post(data[:SIZE], kind))
    for opening in ('{"a":', "[", "<a>", '{"password":', "<password>"):
        redact(post(opening.encode() * (SIZE // len(opening)), kind))


def test_a_small_body_that_becomes_a_large_one_is_not_looked_at_for_long() -> None:
    line = b'{"password": "hunter2x", "a": "b=c\\n"}\n'
    data = gzip.compress(line * 400_000)
    done, ours = redact(post(data, "application/x-ndjson", "gzip"))
    assert not done.body or b"hunter2x" not in gzip.decompress(done.body)
    assert ours.dropped_bodies or ours.counts["over_budget"] == 1


@pytest.mark.parametrize("size", [64, 65])
def test_members_of_gzip_are_bounded(size: int) -> None:
    data = gzip.compress(b"a") * size
    done, ours = redact(post(data, "text/plain", "gzip"))
    assert ours.dropped_bodies == (size > 64)
    assert bool(done.body) is (size <= 64)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("application/json", '"{}"'),
        ("application/xml", "<{}/>"),
        ("text/plain", "{}"),
        ("multipart/form-data; boundary=b", "--b\r\n\r\n{}\r\n--b--\r\n"),
    ],
)
def test_beyond_its_budget_a_body_becomes_one_token(
    kind: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(censor, "MAX_STEPS", 1000)
    monkeypatch.setattr(censor, "STEPS_PER_BYTE", 1)
    body = b'{"password":"hunter2x","a":"' + b"b" * 2000 + b'"}'
    if kind.startswith("multipart"):
        body = b"--b\r\n\r\n" + body + b"\r\n--b--\r\n"
    one = post(body, kind)
    ours = Redactor(Policy.default(), Tokens(b"key"))
    redacted = ours.redact(one)
    assert isinstance(redacted.request, HttpRequest)
    token = Tokens(b"key").token(body)
    assert redacted.request.body.decode() == form.format(token)
    assert ours.counts["over_budget"] == 1
    assert "over_budget" in redacted.redactions
    assert not ours.dropped_bodies
    again = ours.redact(redacted)
    assert again.request == redacted.request
