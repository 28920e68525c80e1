# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace

from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.judging import Answer, JudgeRules, Outcome, judge
from deetune_otel.comparison.learning import Learned, learn
from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    RecordedExchange,
)

CONNECTION = Connection(
    id="00000000000000aa",
    protocol=Protocol.HTTP,
    client=Endpoint("10.0.0.1", 40000),
    server=Endpoint("10.0.0.2", 80),
)


def response(value: object) -> HttpResponse:
    return HttpResponse(status=200, body=json.dumps(value).encode())


def exchange(
    value: object, method: str = "GET", target: str = "/a"
) -> RecordedExchange:
    return RecordedExchange(
        id=f"{method}{target}",
        connection=CONNECTION,
        request=HttpRequest(method=method, target=target),
        response=response(value),
        request_start_ns=0,
        request_end_ns=0,
    )


def rows(*hits: int) -> list[RecordedExchange]:
    return [exchange([{"hits": hit, "name": "x"}]) for hit in hits]


def test_what_differs_at_every_repeat_is_learned() -> None:
    learned = learn(rows(1, 2, 3))
    finding = Finding("$[7].hits", "value", 1, 9)
    assert (
        learned.why("GET /a", finding)
        == "learned: differs at 2 of 2 repeats in the recording"
    )
    assert learned.why("GET /b", finding) is None
    assert learned.why("GET /a", finding._replace(place="$[7].name")) is None
    assert learned.why("GET /a", finding._replace(kind="missing")) is None
    verdict = judge(
        rows(1)[0], Answer(response([{"hits": 5, "name": "y"}])), JudgeRules(), learned
    )
    assert [one.place for one in verdict.findings] == ["$[0].name"]
    assert [one.finding.place for one in verdict.ignored] == ["$[0].hits"]


def test_what_differs_sometimes_is_not() -> None:
    assert learn(rows(1, 1, 2)) == Learned()


def test_a_write_in_between_explains_it() -> None:
    one, other = rows(1, 2)
    assert learn([one, exchange(1, "POST", "/b"), other]) == Learned()
    elsewhere = replace(CONNECTION, server=Endpoint("10.0.0.3", 80))
    write = replace(exchange(1, "POST", "/b"), connection=elsewhere)
    assert learn([one, write, other]) != Learned()


def test_repeated_writes_teach() -> None:
    assert ("POST /a", "line *") in learn(
        [exchange(1, "POST"), exchange(2, "POST")]
    ).places


def test_what_is_not_whole_teaches_nothing() -> None:
    one, other = rows(1, 2)
    assert learn([one, replace(other, incomplete=("lost",))]) == Learned()


def test_a_second_replay_teaches() -> None:
    recorded, nothing = rows(1)[0], Learned()
    first, second = (
        judge(
            recorded,
            Answer(response([{"hits": hit, "name": "x"}])),
            JudgeRules(),
            nothing,
        )
        for hit in (5, 6)
    )
    learned = nothing.also([first], [second])
    assert list(learned.places) == [("GET /a", "$[*].hits")]
    again = judge(recorded, first.answer, JudgeRules(), learned)
    assert again.outcome is Outcome.SAME
    assert "in two replays" in again.ignored[0].reason
