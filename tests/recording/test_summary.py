# SPDX-License-Identifier: Apache-2.0
"""A summary counts what passes."""

from __future__ import annotations

from dataclasses import replace

from tests.exchanges import EXCHANGE, numbered

from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import Endpoint, RedisReply
from deetune_otel.recording.summary import MAX_ADDRESSES, MORE, Summary, outcome_of


def test_exchanges_are_counted_by_operation() -> None:
    summary = Summary()
    summary.add_all(numbered(i, connections=2) for i in range(4))
    summary.add(replace(EXCHANGE, response=None, incomplete=("closed",)))
    ((key, one),) = summary.operations.items()
    assert (key.client, key.server, key.operation) == (
        "front door",
        "shop",
        "POST /orders",
    )
    assert one.outcomes == {"201": 4, "no response": 1}
    assert (one.quantile_ns(0.5), one.quantile_ns(0.99)) == (3, 3)
    assert (summary.count, len(summary.connections)) == (5, 3)
    assert summary.incomplete == {"closed": 1}
    assert summary.redactions == {"name": 5}
    assert summary.first_ns == EXCHANGE.request_start_ns
    assert summary.last_ns == numbered(3).response_end_ns


def test_an_end_that_was_not_recorded_is_its_service_or_its_address() -> None:
    asked = replace(EXCHANGE.connection, peer_service="nginx")
    called = replace(
        EXCHANGE.connection,
        client_process=EXCHANGE.connection.server_process,
        server_process=None,
        server=Endpoint("::1", 5432),
        peer_service="",
    )
    summary = Summary()
    summary.add_all(replace(EXCHANGE, connection=one) for one in (asked, called))
    assert [(key.client, key.server) for key in summary.operations] == [
        ("nginx", "shop"),
        ("shop", "[::1]:5432"),
    ]


def test_callers_by_address_are_a_bound_of_lines() -> None:
    summary = Summary()
    for i in range(MAX_ADDRESSES + 9):
        client = Endpoint(f"10.0.{i}.1", 40_000)
        one = replace(EXCHANGE.connection, client=client, peer_service="")
        summary.add(replace(EXCHANGE, connection=one))
    assert len(summary.operations) == MAX_ADDRESSES + 1
    last = list(summary.operations)[-1]
    assert (last.client, summary.operations[last].count) == (MORE, 9)


def test_nothing_has_no_quantile() -> None:
    summary = Summary()
    summary.add(replace(EXCHANGE, response=None))
    (one,) = summary.operations.values()
    assert one.quantile_ns(0.5) == 0


def test_outcomes_of_redis() -> None:
    error = RedisReply(value=redis.Error("ERR no"))
    assert outcome_of(replace(EXCHANGE, response=error)) == "ERR"
    assert outcome_of(replace(EXCHANGE, response=RedisReply(value=7))) == "ok"
