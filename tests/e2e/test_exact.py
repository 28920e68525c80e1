# SPDX-License-Identifier: Apache-2.0
"""At the machine's limit our counts equal the servers' own, to the last request, at both ends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from tests.e2e.agent import Agent, Call
from tests.process import wait_for_equal
from tests.programs import Nginx, Redis, redis_benchmark, wrk

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LOAD_S: Final = 10
CONNECTIONS: Final = 16
REDIS_REQUESTS: Final = 300_000


@pytest.mark.parametrize(
    ("keep_alive", "pipeline"),
    [(True, 1), (False, 1), (True, 16)],
    ids=["keep-alive", "connection-a-request", "pipelined"],
)
def test_every_http_request_is_counted(
    *, keep_alive: bool, pipeline: int, tmp_path: Path
) -> None:
    with Nginx.start(tmp_path) as nginx, Agent.start(tmp_path, {}) as agent:
        result = wrk(
            nginx.url,
            seconds=LOAD_S,
            connections=CONNECTIONS,
            keep_alive=keep_alive,
            pipeline=pipeline,
            folder=tmp_path,
        )
        answered = nginx.answered().total()
        assert nginx.requests() == answered

        def counted() -> Counter[Call]:
            return agent.calls([nginx.port])

        def at(role: str) -> int:
            return sum(n for call, n in counted().items() if call.role == role)

        # What was on its way at the end has no whole response at the client.
        whole = Call("client", nginx.port, "200")
        wait_for_equal(lambda: at("server"), answered, "nginx's own count")
        wait_for_equal(lambda: counted()[whole], result.requests, "wrk's own count")
        on_its_way = CONNECTIONS * pipeline
        assert 0 <= at("client") - result.requests <= on_its_way
        agent.wait_for_balance()
        assert result.requests > 1000  # there was a load at all


@pytest.mark.parametrize("pipeline", [1, 16])
def test_every_redis_command_is_counted(pipeline: int, tmp_path: Path) -> None:
    with Redis.start(tmp_path) as redis, Agent.start(tmp_path, {}) as agent:
        redis_benchmark(
            redis.port,
            requests=REDIS_REQUESTS,
            clients=CONNECTIONS,
            pipeline=pipeline,
        )
        calls = redis.calls()
        assert calls["set"] >= REDIS_REQUESTS
        agent.wait_for_balance()

        def counted(call: Call) -> int:
            return agent.calls([redis.port])[call]

        for role in ("server", "client"):
            for command in ("set", "get"):
                call = Call(role, redis.port, command.upper())
                wait_for_equal(
                    partial(counted, call), calls[command], "Redis's own count"
                )
