# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    Message,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.scan import Finding, scan
from deetune_otel.redaction.tokens import Tokens

JSON = (("Content-Type", "application/json"),)


def exchange(request: Message, response: Message | None = None) -> RecordedExchange:
    return RecordedExchange(
        id="00f067aa0ba902b7",
        connection=Connection(
            id="0123456789abcdef",
            protocol=Protocol.HTTP,
            client=Endpoint("10.0.0.1", 40000),
            server=Endpoint("10.0.0.2", 80),
        ),
        request=request,
        response=response,
        request_start_ns=1,
        request_end_ns=2,
    )


RAW = [
    (
        exchange(
            HttpRequest(method="GET", target="/?token=abc", headers=(("X-Key", "s3"),)),
            HttpResponse(status=200, headers=JSON, body=b'{"a":"jane@example.com"}'),
        ),
        [
            Finding("name", "request target: token", "…"),
            Finding("header", "request header X-Key", "…"),
            Finding("email", "response body: a", "ja…om"),
        ],
    ),
    (
        exchange(RedisCommand(arguments=(b"AUTH", b"p" * 12))),
        [Finding("redis_auth", "command argument 1", "pp…pp")],
    ),
    (
        exchange(RedisCommand(arguments=(b"GET", b"k")), RedisReply(value=b"abc")),
        [Finding("redis_value", "reply 0", "…")],
    ),
    (
        exchange(HttpRequest(method="PUT", target="/", body=b"\0")),
        [Finding("unreadable", "body", "…")],
    ),
]


@pytest.mark.parametrize(("raw", "findings"), RAW)
def test_secrets_are_found_and_masked(
    raw: RecordedExchange, findings: list[Finding]
) -> None:
    assert scan(raw) == findings


@pytest.mark.parametrize("raw", [one for one, _ in RAW])
def test_nothing_is_found_in_what_was_redacted(raw: RecordedExchange) -> None:
    assert scan(Redactor(Policy.default(), Tokens(b"k")).redact(raw)) == []


def test_a_policy_says_what_counts() -> None:
    policy = replace(Policy.default(), kept_headers=("x-key",))
    one = exchange(HttpRequest(method="GET", target="/", headers=(("X-Key", "s3"),)))
    assert scan(one, policy) == []
