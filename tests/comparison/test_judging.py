# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.comparison import judging
from deetune_otel.comparison.findings import Found
from deetune_otel.comparison.judging import (
    Answer,
    Finding,
    Ignored,
    JudgeRules,
    Learned,
    Outcome,
    Verdict,
    judge,
)
from deetune_otel.model import Protocol
from deetune_otel.recording.codecs.redis import Aggregate
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    Missing,
    MissingBecause,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)

JSON = (("Content-Type", "application/json"),)


def exchange(response: Any, **changes: Any) -> RecordedExchange:
    return replace(
        RecordedExchange(
            id="00000000000000bb",
            connection=Connection(
                id="00000000000000aa",
                protocol=Protocol.HTTP,
                client=Endpoint("10.0.0.1", 40000),
                server=Endpoint("10.0.0.2", 80),
            ),
            request=HttpRequest(method="GET", target="/orders/17"),
            response=response,
            request_start_ns=100,
            request_end_ns=110,
            operation="GET /orders/{id}",
        ),
        **changes,
    )


def judged(expected: Any, actual: Any) -> Verdict:
    return judge(exchange(expected), Answer(actual), JudgeRules(), Learned())


def body(value: object, **changes: Any) -> HttpResponse:
    response = HttpResponse(status=200, headers=JSON, body=json.dumps(value).encode())
    return replace(response, **changes)


def test_the_same_answer_is_the_same() -> None:
    verdict = judged(body({"a": 1}), body({"a": 1.0}))
    assert verdict.outcome is Outcome.SAME
    assert (verdict.findings, verdict.ignored) == ((), ())
    assert verdict.operation == "GET /orders/{id}"


def test_a_field_and_the_status_are_found() -> None:
    verdict = judged(body({"a": 1}), body({"a": 2}, status=201))
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.findings == (
        Finding("status", "value", 200, 201),
        Finding("$.a", "value", 1, 2),
    )


def test_the_page_of_an_error_is_one_finding() -> None:
    verdict = judged(body({"a": 1}), body({"error": "x"}, status=503))
    assert [one.place for one in verdict.findings] == ["status"]
    assert [one.reason for one in verdict.ignored] == ["the status differs"]


def test_a_compressed_body_is_read() -> None:
    coded = (*JSON, ("Content-Encoding", "gzip"))
    data = [gzip.compress(json.dumps({"a": n}).encode(), mtime=n) for n in (1, 2)]
    verdict = judged(*(HttpResponse(status=200, headers=coded, body=d) for d in data))
    assert verdict.findings == (Finding("$.a", "value", 1, 2),)


def test_what_was_redacted_is_listed_and_does_not_count() -> None:
    token = "redacted-" + "0" * 16
    verdict = judged(body({"a": token, "b": token}), body({"a": 5}))
    assert [one.place for one in verdict.findings] == ["$.b"]
    assert [(i.finding.place, i.reason) for i in verdict.ignored] == [
        ("$.a", "redacted")
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"incomplete": ("lost",)}, "recorded incompletely: lost"),
        ({"response": None}, "no response was recorded"),
    ],
)
def test_what_is_not_whole_is_not_judged(changes: dict[str, Any], why: str) -> None:
    one = replace(exchange(body(1)), **changes)
    verdict = judge(one, Answer(body(2)), JudgeRules(), Learned())
    assert (verdict.outcome, verdict.why_not_judged) == (Outcome.NOT_JUDGED, why)
    assert verdict.findings == ()


def test_an_answer_that_is_not_whole_is_not_judged() -> None:
    gap = (Missing(0, 5, MissingBecause.LIMIT),)
    verdict = judged(body(1), body(2, missing=gap))
    assert verdict.why_not_judged == "answer incomplete: limit"


def test_a_rule_may_skip_an_operation() -> None:
    rules = JudgeRules(operations=(("GET /orders/*", JudgeRules(is_skipped=True)),))
    verdict = judge(exchange(body(1)), Answer(body(2)), rules, Learned())
    assert verdict.outcome is Outcome.NOT_JUDGED


def test_a_failure_is_one() -> None:
    verdict = judge(exchange(body(1)), Answer(None, "timeout"), JudgeRules(), Learned())
    assert verdict.outcome is Outcome.FAILED
    assert verdict.findings == (Finding("failure", "failure", None, "timeout"),)


def test_redis_replies_are_values() -> None:
    request = RedisCommand(arguments=(b"HGETALL", b"k"))
    one = exchange(RedisReply(value=[b"a", b"1"]), request=request, operation="")
    verdict = judge(
        one, Answer(RedisReply(value=[b"a", b"2"])), JudgeRules(), Learned()
    )
    assert verdict.operation == "HGETALL"
    assert verdict.findings == (Finding("$[1]", "value", "1", "2"),)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [(b"smembers", Outcome.SAME), (b"LRANGE", Outcome.DIFFERENT)],
)
def test_redis_promises_no_order_of_members(name: bytes, outcome: Outcome) -> None:
    request = RedisCommand(arguments=(name, b"k"))
    replies = (
        RedisReply(value=Aggregate("array", i)) for i in ((b"a", b"b"), (b"b", b"a"))
    )
    one = exchange(next(replies), request=request, operation="")
    verdict = judge(one, Answer(next(replies)), JudgeRules(), Learned())
    assert verdict.outcome is outcome


def test_another_protocol_is_found() -> None:
    assert judged(body(1), RedisReply(value=1)).findings[0].place == "protocol"


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    many = judging.MAX_FINDINGS + 5
    verdict = judged(body([0] * many), body([1] * many))
    assert len(verdict.findings) == judging.MAX_FINDINGS + 1
    assert verdict.findings[-1] == Finding("…", "more", None, "5 more")


def test_the_instances_own_ids_do_not_count() -> None:
    first = HttpResponse(
        status=201,
        headers=(*JSON, ("Location", "/orders/17")),
        body=b'{"id": 17, "n": 1}',
    )
    second = HttpResponse(
        status=201,
        headers=(*JSON, ("Location", "/orders/98")),
        body=b'{"id": 98, "n": 1}',
    )
    verdict = judged(first, second)
    assert verdict.outcome is Outcome.DIFFERENT
    aliased = verdict.with_aliases({"17": "98"})
    assert aliased.outcome is Outcome.SAME
    assert {one.reason for one in aliased.ignored} >= {
        "carried over: the test instance's own"
    }
    assert verdict.with_aliases({"17": "99"}) is verdict
    other = replace(second, body=b'{"id": 98, "n": 2}')
    (left,) = judged(first, other).with_aliases({"17": "98"}).findings
    assert left.place == "$.n"


def test_calls_that_differ_make_it_different() -> None:
    more = [Finding("downstream GET /a", "added", None, "1 call")]
    usual = [Ignored(more[0], "learned")]
    verdict = judged(body(1), body(1))
    assert verdict.with_calls(Found([], [])) is verdict
    assert verdict.with_calls(Found(more, [])).outcome is Outcome.DIFFERENT
    assert verdict.with_calls(Found(more, [])).findings == tuple(more)
    ignoring = verdict.with_calls(Found([], usual))
    assert (ignoring.outcome, ignoring.ignored) == (Outcome.SAME, tuple(usual))
    failed = judge(exchange(body(1)), Answer(None), JudgeRules(), Learned())
    assert failed.with_calls(Found(more, [])).outcome is Outcome.FAILED


def test_names_and_values_of_a_hash_have_no_order() -> None:
    request = RedisCommand(arguments=(b"HGETALL", b"k"))
    replies = [
        RedisReply(value=Aggregate("array", items))
        for items in ((b"a", b"1", b"b", b"2"), (b"b", b"2", b"a", b"1"), (b"a", b"2"))
    ]
    one = exchange(replies[0], request=request, operation="HGETALL")
    same, other = (
        judge(one, Answer(reply), JudgeRules(), Learned()) for reply in replies[1:]
    )
    assert same.outcome is Outcome.SAME
    assert {found.place for found in other.findings} == {"$.a", "$.b"}


BODIES = st.binary() | st.text().map(str.encode) | st.just(b"[" * 100_000)
TYPES = st.sampled_from(
    [
        "",
        "application/json",
        "text/html; charset=x",
        "image/png",
        ";;=",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
    ]
)
CODINGS = st.sampled_from(["", "gzip", "deflate", "br", "zstd", "gzip, gzip, gzip"])
ANSWERS = st.builds(
    lambda status, kind, coding, data: HttpResponse(
        status=status,
        headers=(("Content-Type", kind), ("Content-Encoding", coding)),
        body=data,
    ),
    st.sampled_from([200, 201, 500]),
    TYPES,
    CODINGS,
    BODIES,
)


@given(ANSWERS, ANSWERS)
def test_judging_never_raises(expected: HttpResponse, actual: HttpResponse) -> None:
    assert judged(expected, actual).outcome in {Outcome.SAME, Outcome.DIFFERENT}
    assert judged(expected, expected).outcome is Outcome.SAME
