# SPDX-License-Identifier: Apache-2.0
"""One connection: what is sent, what is read, and why there is no answer."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from tests.exchanges import EXCHANGE
from tests.process import free_port
from tests.programs import Redis
from tests.replay.servers import answering, listening

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.replay.client import Client, Sent
from deetune_otel.replay.options import ReplayOptions, Target
from deetune_otel.replay.rewrite import Rewrites

if TYPE_CHECKING:
    from pathlib import Path

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET: Final = replace(
    EXCHANGE,
    request=HttpRequest(
        method="GET",
        target="/a?b=c",
        headers=(
            ("Host", "shop"),
            ("Traceparent", "00-1-2-01"),
            ("Authorization", "Bearer redacted-0000000000000000"),
        ),
    ),
)


def asked(
    target: Target, *exchanges: RecordedExchange, options: ReplayOptions | None = None
) -> list[Sent]:
    async def ask() -> list[Sent]:
        client = Client(target, options or ReplayOptions(timeout_s=5))
        try:
            return [await client.ask(one) for one in exchanges]
        finally:
            await client.close()

    return asyncio.run(ask())


def test_a_request_is_sent_as_recorded_and_says_what_it_is() -> None:
    options = ReplayOptions(
        rewrites=Rewrites(headers=(("Authorization", "Bearer mine"),))
    )
    with answering(OK) as (target, heard):
        (sent,) = asked(target, GET, options=options)
    assert isinstance(sent.answer.message, HttpResponse)
    assert sent.answer.message.body == b"ok"
    lines = heard[0].decode().split("\r\n")
    assert lines[:2] == ["GET /a?b=c HTTP/1.1", "Host: shop"]
    assert f"traceparent: 00-{sent.trace_id}-{sent.span_id}-01" in lines
    assert f"Deetune-Replay: {GET.id}" in lines
    assert f"Deetune-Replay-Of: {GET.trace_id}-{GET.span_id}" in lines
    assert "Authorization: Bearer mine" in lines
    assert len(lines) == 6


def test_a_connection_is_kept_and_opened_again_when_the_target_closed_it() -> None:
    with answering(OK, per_connection=2) as (target, heard):
        found = asked(target, *[GET] * 5)
    assert [one.answer.failure for one in found] == [""] * 5
    assert len(heard) == 5


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_every_way_to_end_an_answer(answer: bytes) -> None:
    with answering(answer, per_connection=1) as (target, _):
        found = asked(target, GET, GET)
    assert [one.answer.failure for one in found] == ["", ""]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "closed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "broken answer"),
    ],
)
def test_answers_that_are_none(answer: bytes, failure: str) -> None:
    with answering(answer, per_connection=1) as (target, _):
        (sent,) = asked(target, GET)
    assert sent.answer.message is None
    assert sent.answer.failure.startswith(failure)


def test_a_target_that_hangs_costs_its_timeout() -> None:
    def hang(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with listening(hang) as target:
        began = time.monotonic()
        (sent,) = asked(target, GET, options=ReplayOptions(timeout_s=0.2))
        assert time.monotonic() - began >= 0.2
    assert sent.answer.failure == "timeout"
    assert sent.answer.duration_ns >= 200_000_000


def test_a_target_that_is_not_there() -> None:
    (sent,) = asked(Target("127.0.0.1", free_port()), GET)
    assert sent.answer.failure == "refused"
    (sent,) = asked(Target("", 0, "/none.sock"), GET)
    assert sent.answer.failure == "refused"


def test_redis_answers_as_values(tmp_path: Path) -> None:
    def command(*words: bytes) -> RecordedExchange:
        return replace(
            EXCHANGE,
            connection=replace(EXCHANGE.connection, protocol=Protocol.REDIS),
            request=RedisCommand(arguments=words),
        )

    with Redis.start(tmp_path) as server:
        found = asked(
            Target("127.0.0.1", server.port),
            command(b"SET", b"k", b"v"),
            command(b"GET", b"k"),
            command(b"LPUSH", b"k", b"x"),
        )
    values = [
        one.answer.message.value
        for one in found
        if isinstance(one.answer.message, RedisReply)
    ]
    assert values[:2] == [redis.Simple("OK"), b"v"]
    assert isinstance(values[2], redis.Error)
