# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.comparison.downstream import MAX_MATCHED, compare_calls
from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.rules import from_text
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

CONNECTION = Connection(
    id="00000000000000aa",
    protocol=Protocol.HTTP,
    client=Endpoint("10.0.0.1", 40000),
    server=Endpoint("10.0.0.2", 80),
)


def exchange(request: Any, response: Any, **more: Any) -> RecordedExchange:
    return RecordedExchange(
        id="00000000000000bb",
        connection=CONNECTION,
        request=request,
        response=response,
        request_start_ns=0,
        request_end_ns=0,
        **more,
    )


def http(
    target: str, body: object = None, status: int = 200, **more: Any
) -> RecordedExchange:
    data = b"" if body is None else json.dumps(body).encode()
    request = HttpRequest(method="POST", target=target, body=data)
    return exchange(request, HttpResponse(status=status), **more)


def redis(*arguments: bytes) -> RecordedExchange:
    return exchange(RedisCommand(arguments=arguments), RedisReply(value=None))


CALLS = [http("/a"), http("/a?x=1", {"b": 1}), redis(b"GET", b"k"), redis(b"GET", b"l")]


@given(st.permutations(CALLS))
def test_their_order_does_not_count(now: list[RecordedExchange]) -> None:
    assert compare_calls(CALLS, now) == []


def test_added_missing_and_more() -> None:
    found = compare_calls(
        [http("/a"), http("/b")], [http("/b"), http("/b"), http("/c")]
    )
    assert found == [
        Finding("downstream POST /a", "missing", "1 call", None),
        Finding("downstream POST /b calls", "changed", 1, 2),
        Finding("downstream POST /c", "added", None, "1 call"),
    ]


def test_what_changed_in_a_call() -> None:
    found = compare_calls(
        [http("/a", {"n": 0}), http("/a?q=1", {"n": 1}), redis(b"SET", b"k", b"1")],
        [
            http("http://h:1/a?q=2", {"n": 2}, 503),
            http("/a", {"n": 0}),
            redis(b"SET", b"k", b"2"),
        ],
    )
    assert found == [
        Finding("downstream POST /a target.query.q[0]", "changed", "1", "2"),
        Finding("downstream POST /a request $.n", "changed", 1, 2),
        Finding("downstream POST /a status", "changed", 200, 503),
        Finding("downstream SET arguments[2]", "changed", "1", "2"),
    ]


def test_new_ids_are_noise() -> None:
    one, other = (http(f"/a/{UUID(int=n)}", {"id": str(UUID(int=n))}) for n in (1, 2))
    assert compare_calls([one], [other]) == []
    assert len(compare_calls([one], [other], from_text("bodies: {noise: false}"))) == 2


def test_rules_hold() -> None:
    calls = [http("/a", {"n": 1})], [http("/a", {"n": 2})]
    assert compare_calls(*calls, from_text("bodies: {ignore: [$.n]}")) == []
    skip = from_text("operations: {POST /a: {skip: true}}")
    assert compare_calls([http("/a")], [], skip) == []


def test_what_is_not_whole_is_only_counted() -> None:
    broken = http("/a", {"n": 2}, incomplete=("lost",))
    assert compare_calls([http("/a", {"n": 1})], [broken]) == []
    assert len(compare_calls([broken], [])) == 1


def test_many_are_paired_in_their_order() -> None:
    many = [http("/a", {"n": n}) for n in range(MAX_MATCHED + 1)]
    assert compare_calls(many, many) == []
    assert len(compare_calls(many, many[::-1])) == MAX_MATCHED
