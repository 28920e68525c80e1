# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.comparison.downstream import (
    MAX_MATCHED,
    calls_by_cause,
    compare_calls,
    learn_calls,
)
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


def found_in(*args: Any, **more: Any) -> list[Finding]:
    return compare_calls(*args, **more).findings


def redis(*arguments: bytes) -> RecordedExchange:
    return exchange(RedisCommand(arguments=arguments), RedisReply(value=None))


CALLS = [http("/a"), http("/a?x=1", {"b": 1}), redis(b"GET", b"k"), redis(b"GET", b"l")]


@given(st.permutations(CALLS))
def test_their_order_does_not_count(now: list[RecordedExchange]) -> None:
    assert found_in(CALLS, now) == []


def test_added_missing_and_more() -> None:
    found = found_in([http("/a"), http("/b")], [http("/b"), http("/b"), http("/c")])
    assert found == [
        Finding("downstream POST /a", "missing", "1 call", None),
        Finding("downstream POST /b calls", "changed", 1, 2),
        Finding("downstream POST /c", "added", None, "1 call"),
    ]


def test_what_changed_in_a_call() -> None:
    found = found_in(
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
    assert found_in([one], [other]) == []
    assert len(found_in([one], [other], from_text("bodies: {noise: false}"))) == 2


def test_rules_hold() -> None:
    calls = [http("/a", {"n": 1})], [http("/a", {"n": 2})]
    assert found_in(*calls, from_text("bodies: {ignore: [$.n]}")) == []
    skip = from_text("operations: {POST /a: {skip: true}}")
    assert found_in([http("/a")], [], skip) == []


def test_what_is_not_whole_is_only_counted() -> None:
    broken = http("/a", {"n": 2}, incomplete=("lost",))
    assert found_in([http("/a", {"n": 1})], [broken]) == []
    assert len(found_in([broken], [])) == 1


def test_many_are_paired_in_their_order() -> None:
    many = [http("/a", {"n": n}) for n in range(MAX_MATCHED + 1)]
    assert found_in(many, many) == []
    assert len(found_in(many, many[::-1])) == MAX_MATCHED


def test_json_in_an_argument_has_places() -> None:
    one, other = (redis(b"SET", b"k", b'{"n": %d, "m": 1}' % n) for n in (1, 2))
    assert found_in([one], [other]) == [
        Finding("downstream SET arguments[2].n", "changed", 1, 2)
    ]


def test_how_often_varied_when_it_was_recorded() -> None:
    """A cache that has it, or has it not: the same request, other calls."""
    parents, calls = [], []
    for number, made in enumerate(((b"GET",), (b"GET", b"SET"), (b"GET",))):
        id_ = f"{number:016x}"
        parents.append(replace(http("/a", calls=len(made)), id=id_))
        calls += [replace(redis(name, b"k"), cause=id_) for name in made]
    by_cause = calls_by_cause(calls)
    assert [len(one) for one in by_cause.values()] == [1, 2, 1]
    counts = learn_calls(parents, by_cause)
    assert counts == {("POST /a", "SET"): frozenset({0, 1})}
    now = [redis(b"GET", b"k"), redis(b"SET", b"k"), redis(b"SET", b"k")]
    usual = {"SET": counts["POST /a", "SET"]}
    compared = compare_calls(by_cause[parents[0].id], now[:2], counts=usual)
    assert compared.findings == []
    (ignored,) = compared.ignored
    assert ignored.reason == "learned: made 0 or 1 times when it was recorded"
    assert found_in(by_cause[parents[0].id], now, counts=usual) == [
        Finding("downstream SET", "added", None, "2 calls")
    ]


def test_nothing_is_learned_of_what_is_not_known() -> None:
    parent = http("/a", calls=None)
    other = replace(http("/a", calls=0), id="0" * 16)
    calls = {parent.id: [redis(b"GET", b"k")]}
    assert learn_calls([parent, other], calls) == {}
    failed = replace(http("/a", status=500, calls=1), id="1" * 16)
    assert learn_calls([failed, other], {failed.id: [redis(b"GET")]}) == {}


def test_how_a_connection_is_set_up_does_not_count() -> None:
    now = [redis(b"HELLO", b"3"), redis(b"CLIENT", b"SETNAME", b"a"), redis(b"GET")]
    found = compare_calls([], now)
    assert [one.place for one in found.findings] == ["downstream GET"]
    assert {one.reason for one in found.ignored} == {"sets up a connection"}
