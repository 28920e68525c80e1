# SPDX-License-Identifier: Apache-2.0
"""A summary counts what passes."""

from __future__ import annotations

from dataclasses import replace

from tests.exchanges import EXCHANGE, numbered

from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import RedisReply
from deetune_otel.recording.summary import Summary, outcome_of


def test_exchanges_are_counted_by_operation() -> None:
    summary = Summary()
    summary.add_all(numbered(i, connections=2) for i in range(4))
    summary.add(replace(EXCHANGE, response=None, incomplete=("closed",)))
    ((key, one),) = summary.operations.items()
    assert (key.client, key.server, key.operation) == ("", "shop", "POST /orders")
    assert one.outcomes == {"201": 4, "no response": 1}
    assert (one.quantile_ns(0.5), one.quantile_ns(0.99)) == (3, 3)
    assert (summary.count, len(summary.connections)) == (5, 3)
    assert summary.incomplete == {"closed": 1}
    assert summary.redactions == {"name": 5}
    assert summary.first_ns == EXCHANGE.request_start_ns
    assert summary.last_ns == numbered(3).response_end_ns


def test_nothing_has_no_quantile() -> None:
    summary = Summary()
    summary.add(replace(EXCHANGE, response=None))
    (one,) = summary.operations.values()
    assert one.quantile_ns(0.5) == 0


def test_outcomes_of_redis() -> None:
    error = RedisReply(value=redis.Error("ERR no"))
    assert outcome_of(replace(EXCHANGE, response=error)) == "ERR"
    assert outcome_of(replace(EXCHANGE, response=RedisReply(value=7))) == "ok"
