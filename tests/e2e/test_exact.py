# SPDX-License-Identifier: Apache-2.0
"""At the machine's limit our counts equal the servers' own, to the last request, at both ends."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.e2e.agent import Agent, Call
from tests.process import wait_for_equal, wait_until
from tests.programs import Nginx, Redis, pipelined, redis_benchmark, wrk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LOAD_S: Final = 8
LOOPBACK_QUEUE: Final = Path("/sys/class/net/lo/queues/rx-0/rps_cpus")
CONNECTIONS: Final = 16
PIPELINES: Final = 10_000
DEPTH: Final = 16
REDIS_REQUESTS: Final = 300_000


@pytest.fixture(params=[False, True], ids=["direct", "steered"])
def _steering(request: pytest.FixtureRequest) -> Iterator[None]:
    """Steered, what loopback receives is worked on in interrupts, as with a real network card.

    An interrupt may come at any instruction of a program, and closes a connection meanwhile.
    """
    before = LOOPBACK_QUEUE.read_text()
    processors = (1 << (os.cpu_count() or 1)) - 1
    LOOPBACK_QUEUE.write_text(f"{processors if request.param else 0:x}")
    yield
    LOOPBACK_QUEUE.write_text(before)


@pytest.mark.usefixtures("_steering")
def test_closes_do_not_disturb_what_they_interrupt(tmp_path: Path) -> None:
    with (
        Nginx.start(tmp_path) as nginx,
        Agent.start(tmp_path, {}) as agent,
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        loads = [
            pool.submit(
                wrk,
                nginx.url,
                seconds=LOAD_S,
                connections=CONNECTIONS,
                keep_alive=keep_alive,
                folder=tmp_path,
            )
            for keep_alive in (True, False)
        ]
        asked = sum(load.result().requests for load in loads)
        assert asked > 1000
        server, client = _counts(agent, nginx)
        wait_for_equal(
            lambda: server().total(), nginx.answered().total(), "nginx's own count"
        )
        wait_for_equal(lambda: client()["200"], asked, "the clients' own count")
        agent.wait_for_balance()
        ledger = agent.status()["ledger"]
        assert not any(ledger["lost"]["unparsed"].values())
        assert not any(ledger["noted"]["demoted"].values())


@pytest.mark.usefixtures("_steering")
@pytest.mark.parametrize("keep_alive", [True, False])
def test_every_http_request_is_counted(*, keep_alive: bool, tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx, Agent.start(tmp_path, {}) as agent:
        result = wrk(
            nginx.url,
            seconds=LOAD_S,
            connections=CONNECTIONS,
            keep_alive=keep_alive,
            folder=tmp_path,
        )
        answered = nginx.answered().total()
        assert nginx.requests() == answered
        assert result.requests > 1000  # there was a load at all
        server, client = _counts(agent, nginx)
        wait_for_equal(lambda: server().total(), answered, "nginx's own count")
        wait_for_equal(lambda: client()["200"], result.requests, "wrk's own count")
        # What was on its way at the end has no whole response at the client.
        assert 0 <= client().total() - result.requests <= CONNECTIONS
        agent.wait_for_balance()


def test_every_pipelined_request_is_counted(tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx, Agent.start(tmp_path, {}) as agent:
        pipelined(nginx.port, pipelines=PIPELINES, depth=DEPTH)
        expected = Counter({"200": PIPELINES * DEPTH})
        assert nginx.answered() == {200: PIPELINES * DEPTH}
        server, client = _counts(agent, nginx)
        wait_for_equal(server, expected, "nginx's own count")
        wait_for_equal(client, expected, "the client's own count")
        agent.wait_for_balance()


def test_pipelines_that_are_cut_are_counted(tmp_path: Path) -> None:
    """At the end of its time wrk hangs up in the middle of pipelines.

    nginx logs responses that it could not write any more, and never begins requests that it
    has read already: its count lies between the whole responses and the requests.
    """
    with Nginx.start(tmp_path) as nginx, Agent.start(tmp_path, {}) as agent:
        result = wrk(
            nginx.url,
            seconds=LOAD_S,
            connections=CONNECTIONS,
            pipeline=DEPTH,
            folder=tmp_path,
        )
        answered = nginx.answered().total()
        server, client = _counts(agent, nginx)
        wait_for_equal(lambda: client()["200"], result.requests, "wrk's own count")
        on_its_way = CONNECTIONS * DEPTH
        assert 0 <= client().total() - result.requests <= on_its_way
        assert server()["200"] <= answered <= server().total()
        assert server().total() - server()["200"] <= on_its_way
        agent.wait_for_balance()


@pytest.mark.parametrize("keep_alive", [True, False])
def test_an_agent_that_starts_and_ends_under_load_stays_right(
    *, keep_alive: bool, tmp_path: Path
) -> None:
    """It meets connections in the middle of requests, and may not be misled by any."""
    with Nginx.start(tmp_path) as nginx, ThreadPoolExecutor(max_workers=1) as pool:
        load = pool.submit(
            wrk,
            nginx.url,
            seconds=3
            * LOAD_S,  # for two agents to start in, which takes seconds under load
            connections=CONNECTIONS,
            keep_alive=keep_alive,
            folder=tmp_path,
        )
        wait_until(lambda: nginx.requests() > 1000, "the load runs")
        with Agent.start(tmp_path, {}) as first:
            server, _ = _counts(first, nginx)
            wait_until(lambda: server()["200"] > 1000, "the first agent counts")
            assert first.stop() == 0
        with Agent.start(tmp_path, {}) as second:
            result = load.result()
            second.wait_for_balance()
            server, client = _counts(second, nginx)
            assert 1000 < server().total() <= nginx.answered().total()
            assert 1000 < client()["200"] <= result.requests
            # Every response was 200: anything else was made up.
            assert server().keys() | client().keys() <= {"200", "!connection_closed"}
            assert "level=error" not in second.log_text()


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


def _counts(
    agent: Agent, nginx: Nginx
) -> tuple[Callable[[], Counter[str]], Callable[[], Counter[str]]]:
    """Read the server's and the client's counts, by outcome."""

    def at(role: str) -> Counter[str]:
        return Counter(
            {
                call.outcome: count
                for call, count in agent.calls([nginx.port]).items()
                if call.role == role
            }
        )

    return partial(at, "server"), partial(at, "client")
