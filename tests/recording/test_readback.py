# SPDX-License-Identifier: Apache-2.0
"""What would not be read again is told before it is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from tests.exchanges import EXCHANGE, any_exchange

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.recording.readback import why_not_written

COMMAND = replace(
    EXCHANGE, connection=replace(EXCHANGE.connection, protocol=Protocol.REDIS)
)
GET = RedisCommand(arguments=(b"GET", b"k"))


@given(any_exchange())
def test_what_was_recorded_can_be_written(exchange: RecordedExchange) -> None:
    assert why_not_written(exchange) == ""


@pytest.mark.parametrize(
    "exchange",
    [
        replace(EXCHANGE, request=HttpRequest(method="GET", target="/ /")),
        replace(EXCHANGE, request=HttpRequest(method="GET", target="/\u2192")),
        replace(EXCHANGE, response=HttpResponse(status=100)),
        replace(EXCHANGE, request=GET),
        replace(
            COMMAND, request=GET, response=RedisReply(value=redis.Simple("\r\n$9"))
        ),
        replace(COMMAND, request=RedisCommand(arguments=()), response=None),
    ],
)
def test_what_cannot_be_is_said(exchange: RecordedExchange) -> None:
    assert why_not_written(exchange)
