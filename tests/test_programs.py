# SPDX-License-Identifier: Apache-2.0
"""The programs that make traffic, and whether their own counts can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.programs import Client, Nginx, PythonService, Redis, redis_benchmark, wrk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(("keep_alive", "pipeline"), [(True, 1), (False, 1), (True, 8)])
def test_wrk_and_nginx_agree(
    *, keep_alive: bool, pipeline: int, tmp_path: Path
) -> None:
    connections = 8
    with Nginx.start(tmp_path) as nginx:
        result = wrk(
            nginx.url,
            seconds=1,
            connections=connections,
            keep_alive=keep_alive,
            pipeline=pipeline,
            folder=tmp_path,
        )
        answered = nginx.answered()
        assert nginx.requests() == answered.total()
    assert result.requests > 100
    assert result[1:] == (0, 0, 0, 0, 0)
    # What was on its way when wrk's time was over.
    assert 0 <= answered.total() - result.requests <= connections * pipeline


def test_nginx_counts_by_status(tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx:
        with Client.start(
            tmp_path, nginx.port, count=5, paths=["/", "/missing"]
        ) as client:
            assert client.result() == {200: 5, 404: 5}
        assert nginx.answered() == {200: 5, 404: 5}


def test_redis_counts_its_commands(tmp_path: Path) -> None:
    with Redis.start(tmp_path) as redis:
        redis_benchmark(redis.port, requests=1000, clients=4, pipeline=1)
        calls = redis.calls()
        assert redis.calls() == calls
    assert (calls["set"], calls["get"]) == (1000, 1000)
    assert calls["config|get"] == 2
    assert calls.total() == 2002


def test_the_chain_of_services_answers(tmp_path: Path) -> None:
    with (
        Redis.start(tmp_path) as redis,
        PythonService.start(tmp_path, "aio.py", redis.port) as stock,
        PythonService.start(tmp_path, "threaded.py", stock.port, redis.port) as orders,
        Nginx.start(tmp_path, upstreams={"/orders/": orders.port}) as nginx,
        Client.start(
            tmp_path, nginx.port, count=11, paths=["/orders/{n}", "/orders/fail"]
        ) as client,
    ):
        assert client.result() == {200: 11, 500: 11}
        assert nginx.answered() == {200: 11, 500: 11}
        assert redis.calls() == {"set": 11, "get": 11}
