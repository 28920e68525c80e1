# SPDX-License-Identifier: Apache-2.0
"""Calls then and now: compared only where all of them are known (watching: tests/e2e)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tests.exchanges import EXCHANGE

from deetune_otel.comparison.findings import Finding
from deetune_otel.comparison.judging import Answer, JudgeRules
from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    HttpRequest,
    Process,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.replay.calls import Downstream
from deetune_otel.replay.client import Sent

if TYPE_CHECKING:
    from collections.abc import Iterable

ASKED: Final = replace(
    EXCHANGE,
    id="a" * 16,
    request=HttpRequest(method="GET", target="/orders/1"),
    operation="GET /orders/{id}",
    calls=1,
)


def call(cause: str, key: bytes = b"k") -> RecordedExchange:
    connection = replace(
        EXCHANGE.connection,
        protocol=Protocol.REDIS,
        server_process=None,
        client_process=Process("shop"),
    )
    return replace(
        EXCHANGE,
        id="c" * 16,
        connection=connection,
        request=RedisCommand(arguments=(b"GET", key)),
        response=RedisReply(value=b"v"),
        operation="GET",
        cause=cause,
        calls=None,
    )


@dataclass
class Seen:
    """In place of a Watch."""

    exchanges: list[RecordedExchange] = field(default_factory=list)
    made: list[RecordedExchange] = field(default_factory=list)

    def answered(self, trace_id: str) -> RecordedExchange | None:
        return next((x for x in self.exchanges if x.trace_id == trace_id), None)

    def calls(self) -> dict[str, list[RecordedExchange]]:
        return {one.cause: [one] for one in self.made}


def compared(
    downstream: Downstream,
    exchange: RecordedExchange,
    now: Iterable[RecordedExchange],
    made: Iterable[RecordedExchange],
) -> list[Finding]:
    sent = Sent(exchange, Answer(EXCHANGE.response), "f" * 32, "e" * 16, 0)
    seen = Seen(list(now), list(made))
    (found,) = downstream.compare([sent], seen, JudgeRules())
    return found.findings


NOW: Final = replace(ASKED, id="b" * 16, trace_id="f" * 32)


def test_the_same_calls_and_others() -> None:
    ours = Downstream([ASKED, call(ASKED.id)])
    assert compared(ours, ASKED, [NOW], [call(NOW.id)]) == []
    assert ours.outcomes == {"compared": 1}
    found = compared(ours, ASKED, [NOW], [call(NOW.id, b"other")])
    assert found == [Finding("downstream GET arguments[1]", "changed", "k", "other")]
    none = replace(NOW, calls=0)
    assert compared(ours, ASKED, [none], []) == [
        Finding("downstream GET", "missing", "1 call", None)
    ]


def test_what_was_not_known_when_recorded_is_not_compared() -> None:
    for exchange in (replace(ASKED, calls=None), replace(ASKED, calls=2)):
        ours = Downstream([exchange, call(exchange.id)])
        assert not ours.knows(exchange)
        assert compared(ours, exchange, [NOW], []) == []
        assert ours.outcomes == {"not known when recorded": 1}
    redis = replace(call(""), calls=0)
    assert not Downstream([redis]).knows(redis)


def test_what_is_not_known_now_is_not_compared() -> None:
    ours = Downstream([ASKED, call(ASKED.id)])
    for now in ([], [replace(NOW, calls=None)], [replace(NOW, calls=2)]):
        assert compared(ours, ASKED, now, [call(NOW.id, b"other")]) == []
        assert ours.outcomes == {"not known now": 1}


def test_what_varied_in_the_recording_does_not_count() -> None:
    cold = replace(ASKED, id="d" * 16, calls=0)
    ours = Downstream([ASKED, call(ASKED.id), cold])
    assert compared(ours, cold, [NOW], [call(NOW.id)]) == []
