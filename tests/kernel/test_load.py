# SPDX-License-Identifier: Apache-2.0
"""At the machine's limit: our counts are the programs' own, to the last exchange."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from tests.kernel.conftest import PROGRAMS, compiled
from tests.kernel.messages import OK, get, post, redis
from tests.kernel.observe import Call, Calls, Watch, http
from tests.process import Child, wait_until
from tests.programs import Nginx, Redis, redis_benchmark, wrk

from deetune_otel.model import End, Protocol, Role

pytestmark = pytest.mark.kernel

SECONDS: Final = 3
CONNECTIONS: Final = 16
BENCHMARK: Final = 40_000  # of each command


@pytest.mark.parametrize(
    ("keep_alive", "pipeline"),
    [(True, 1), (False, 1), (True, 16)],
    ids=["keep-alive", "connection-a-request", "pipelined"],
)
def test_nginx_and_wrk(
    watch: Watch, tmp_path: Path, *, keep_alive: bool, pipeline: int
) -> None:
    """What nginx read is what we counted there; what wrk got whole, at its end."""
    with Nginx.start(tmp_path) as nginx:
        said = wrk(
            nginx.url,
            seconds=SECONDS,
            connections=CONNECTIONS,
            keep_alive=keep_alive,
            pipeline=pipeline,
            folder=tmp_path,
        )
        answered = nginx.answered().total()
        client = watch.children(os.getpid(), "wrk")
        server = watch.children(nginx.pid, "nginx")
        assert len(client) == 1

        def at_the_server() -> int:
            found = watch.calls(*server)
            assert {call.protocol for call in found} == {Protocol.HTTP}
            # less what this process asked nginx for its own counts
            return sum(n.number for n in found.values()) - nginx._asked

        on_its_way = CONNECTIONS * pipeline
        # Of a pipeline that wrk cuts off at its end nginx has read more than it logs.
        more = on_its_way if pipeline > 1 else 0
        wait_until(
            lambda: 0 <= at_the_server() - answered <= more,
            "each request at nginx",
            timeout_s=5,
        )
        whole = watch.count(http(Role.CLIENT), *client)
        assert 0 <= whole - said.requests <= on_its_way
        assert said.requests > 1000
        found = watch.calls(*client)
        closed = sum(n.number for c, n in found.items() if c.end is End.CLOSED)
        assert whole + closed == sum(n.number for n in found.values())
        assert closed <= on_its_way


@pytest.mark.parametrize(("pipeline", "clients"), [(1, 16), (16, 50)])
def test_redis_benchmark(
    watch: Watch, tmp_path: Path, pipeline: int, clients: int
) -> None:
    """Both ends count what the server's own statistics say."""
    with Redis.start(tmp_path) as store:
        redis_benchmark(
            store.port, requests=BENCHMARK, clients=clients, pipeline=pipeline
        )
        client = watch.children(os.getpid(), "redis-benchmark")
        asked = store.calls()
        assert asked["set"] >= BENCHMARK
        assert asked["get"] >= BENCHMARK
        for pids in (client, {store.pid}):
            names = watch.operations(*pids)
            assert names[b"SET"] == asked["set"]
            assert names[b"GET"] == asked["get"]
        sent, taken = (watch.calls(*pids) for pids in (client, {store.pid}))
        assert Call(Role.CLIENT, Protocol.REDIS) in sent
        assert {call.end for call in (*sent, *taken)} == {End.COMPLETE}


@pytest.fixture(scope="module")
def duplex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("duplex"), "duplex.c")


class DuplexServer(Child):
    @property
    def port(self) -> int:
        return int(self.wait_ready(self.log_text, "the server says its port"))


MESSAGES: Final = {
    "http": (get("/duplex"), OK, Protocol.HTTP, 0, 3),
    "http-body": (post(b"b" * 1500, "/d"), OK, Protocol.HTTP, 1500, 3),
    "redis": (redis("GET", "key"), b"$-1\r\n", Protocol.REDIS, 0, 0),
}


@pytest.mark.parametrize("in_flight", [1, 3, 64])
@pytest.mark.parametrize("messages", ["http", "http-body", "redis"])
def test_reader_and_writer_apart(
    watch: Watch, duplex: Path, tmp_path: Path, messages: str, in_flight: int
) -> None:
    """A response may be seen before its request: none is missed, and none is doubled."""
    request, answer, protocol, sent, received = MESSAGES[messages]
    connections, count = 8, 2500
    words = (request.decode(), answer.decode())
    with DuplexServer([duplex, "server", *words], log=tmp_path / "log") as server:
        client = subprocess.Popen(
            [
                *(duplex, "client", *words),
                *map(str, (server.port, connections, count, in_flight)),
            ]
        )
        assert client.wait(30) == 0
        n = connections * count
        totals = Calls(n, n * len(request), n * len(answer), n * sent, n * received)
        code = 200 if protocol is Protocol.HTTP else 0
        watch.expect_both(client.pid, server.pid, {(protocol, code): totals})


GO: Final = shutil.which("go", path="/usr/local/go/bin:/usr/bin:/bin") or ""

if GO:

    @pytest.fixture(scope="module")
    def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
        target = tmp_path_factory.mktemp("go") / "gohttp"
        subprocess.run(
            [GO, "build", "-o", target, PROGRAMS / "http.go"], check=True, timeout=180
        )
        return target

    @pytest.mark.timeout(240)
    def test_go(watch: Watch, go_program: Path, tmp_path: Path) -> None:
        """Goroutines that move between threads, reads of one byte ahead, chunked bodies."""
        count, workers = 1000, 8
        with Child([go_program, "server"], log=tmp_path / "log") as server:
            url = server.wait_ready(server.log_text, "the server says its URL").strip()
            client = subprocess.Popen(
                [go_program, "client", url, str(count), str(workers)]
            )
            assert client.wait(60) == 0
            each = workers * count // 4
            ends = ((client.pid, Role.CLIENT), (server.pid, Role.SERVER))
            wait_until(
                lambda: all(
                    sum(n.number for n in watch.calls(pid).values()) == 4 * each
                    for pid, _ in ends
                ),
                "every request",
                timeout_s=5,
            )
            for pid, role in ends:
                found = watch.calls(pid)
                assert {c: n.number for c, n in found.items()} == {
                    http(role): 3 * each,
                    http(role, 404): each,
                }
                ok, gone = found[http(role)], found[http(role, 404)]
                assert (ok.request_body, ok.response_body) == (
                    each * 2000,
                    each * (1000 + 9000 + 1000),
                )
                assert gone.response_body == 0
                assert watch.operations(pid) == {
                    b"GET /sized": each,
                    b"GET /chunked": each,
                    b"POST /sized": each,
                    b"HEAD /gone": each,
                }
            sizes = [sum(watch.bytes(pid)) for pid in (client.pid, server.pid)]
            assert sizes[0] == sizes[1]
