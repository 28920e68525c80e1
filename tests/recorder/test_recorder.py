# SPDX-License-Identifier: Apache-2.0
"""Recordings of real programs by the whole agent: every exchange is captured, or in the account."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.messages import OK, get
from tests.process import wait_until
from tests.programs import Client, Nginx, Redis, program, wrk

from deetune_otel.agent.agent import Agent
from deetune_otel.config.schema import AgentSettings, Config, SpanSettings, WebSettings
from deetune_otel.recorder.owners import OwnerChoice
from deetune_otel.recorder.recorder import Bounds, Ended, Plan
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    MissingBecause,
    RedisCommand,
    RedisReply,
)
from deetune_otel.recording.selection import SampleBy, Sampling, Selection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deetune_otel.recorder.recorder import Recorder
    from deetune_otel.recording.model import Manifest, RecordedExchange

pytestmark = pytest.mark.kernel

PLENTY: Final = 1 << 40


class Memory:
    """A sink."""

    def __init__(self) -> None:
        self.exchanges: list[RecordedExchange] = []
        self.bytes = 0

    def write(self, exchange: RecordedExchange) -> None:
        self.exchanges.append(exchange)

    def flush(self) -> None:
        """Nothing waits."""


class Running:
    """A recorder in a thread, until `end`."""

    def __init__(self, recorder: Recorder, sink: Memory) -> None:
        self.recorder, self.sink = recorder, sink
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()
        self.manifest: Manifest | None = None

    def _run(self) -> None:
        while not self.recorder.step() and not self._stop.wait(0.02):
            pass
        self.manifest = self.recorder.finish()

    def end(self) -> Manifest:
        self._stop.set()
        return self.join()

    def join(self) -> Manifest:
        self._thread.join(30)
        assert self.manifest is not None
        assert balances(self.manifest)
        return self.manifest


def balances(m: Manifest) -> bool:
    return m.seen == (
        m.captured
        + m.filtered
        + m.sampled_out
        + m.over_bound
        + m.unfinished
        + sum(m.lost.values())
    )


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    one = Agent(
        Config(
            agent=AgentSettings(interval_s=1),
            web=WebSettings(enabled=False),
            spans=SpanSettings(enabled=False),
        ),
        environ={},
    )
    one.start()
    try:
        yield one
    finally:
        one.stop()


@contextmanager
def recording(
    agent: Agent, owners: OwnerChoice | None = None, **plan: Any
) -> Iterator[Running]:
    sink = Memory()
    recorder = agent.record(
        Plan(chooses=owners or OwnerChoice(), **plan),
        redactor=None,
        sink=sink,
        free_bytes=lambda: PLENTY,
    )
    running = Running(recorder, sink)
    try:
        yield running
    finally:
        running.end()


def test_every_exchange_of_a_load_is_captured(agent: Agent, tmp_path: Path) -> None:
    with (
        Nginx.start(tmp_path) as nginx,
        recording(agent, selection=Selection(ports=(nginx.port,))) as running,
    ):
        before = nginx.requests()
        wrk(nginx.url, seconds=1, connections=4, folder=tmp_path)
        answered = nginx.requests() - before
        manifest = running.end()
    assert answered > 100
    assert manifest.seen >= answered
    assert manifest.captured + sum(manifest.lost.values()) + manifest.unfinished == (
        manifest.seen
    )
    assert len({one.id for one in running.sink.exchanges}) == manifest.captured


def test_a_bound_holds_under_a_load_without_end(agent: Agent, tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx:
        load = subprocess.Popen(
            [
                *(str(program("wrk", "wrk")), "-t1", "-c16", "-d30s"),
                nginx.url,
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            bounds = Bounds(seconds=2.0, per_second=1_000_000)
            with recording(
                agent, selection=Selection(ports=(nginx.port,)), bounds=bounds
            ) as running:
                manifest = running.join()
                assert load.poll() is None, "the load ended before the recording"
        finally:
            load.kill()
            load.wait()
    assert manifest.ended_because == Ended.TIME
    assert manifest.captured > 1000


def test_who_was_not_recorded_is_named_and_what_was_not_is_counted(
    agent: Agent,
) -> None:
    """One process among others: its caller as the map names it, its unknown protocol by count."""
    with Actor() as server, Actor() as client:
        listener, address = server.listen()
        unknown = Ends(client.connect(address), listener.accept())
        owners = OwnerChoice(pids=frozenset({server.pid}))
        with recording(agent, owners) as running:
            talk = Ends(client.connect(address), listener.accept())
            for _ in range(3):
                talk.call(get(), OK)
                unknown.call(b"\x01hello", b"\x02world")
            wait_until(lambda: len(running.sink.exchanges) == 3, "three exchanges")
            manifest = running.end()
    caller = agent._names.program(client_owner(agent, client.pid))
    for one in running.sink.exchanges:
        assert one.connection.client_process is None
        assert one.connection.peer_service == caller
    assert manifest.other_protocols == {"unknown": 3}


def client_owner(agent: Agent, pid: int) -> int:
    (found,) = (one.id for one in agent._names.owners() if one.local_pid == pid)
    return found


def test_what_was_recorded_says_who_and_what(agent: Agent, tmp_path: Path) -> None:
    with (
        Nginx.start(tmp_path) as nginx,
        recording(agent, selection=Selection(ports=(nginx.port,))) as running,
    ):
        (tmp_path / "visitor").mkdir()
        with Client.start(
            tmp_path / "visitor",
            nginx.port,
            count=3,
            paths=("/orders/17",),
            env={"OTEL_SERVICE_NAME": "visitor"},
        ):
            wait_until(lambda: len(running.sink.exchanges) == 3, "three exchanges")
        manifest = running.end()
    assert (manifest.seen, manifest.captured, manifest.incomplete) == (3, 3, 0)
    for one in running.sink.exchanges:
        c = one.connection
        assert c.server_process is not None
        assert c.client_process is not None
        assert (c.client_process.service, c.server_process.command) == (
            "visitor",
            "nginx",
        )
        assert (c.server.port, one.operation) == (nginx.port, "GET /orders/{id}")
        assert isinstance(one.request, HttpRequest)
        assert isinstance(one.response, HttpResponse)
        assert (one.request.target, one.response.body) == ("/orders/17", b"ok\n")
        assert one.request_start_ns <= one.response_start_ns <= one.response_end_ns
        assert len(one.trace_id) == 32
        assert int(one.trace_id, 16)


def test_processes_that_were_not_chosen_are_not_recorded(
    agent: Agent, tmp_path: Path
) -> None:
    owners = OwnerChoice(services=("nobody-*",))
    with Nginx.start(tmp_path) as nginx, recording(agent, owners) as running:
        wrk(nginx.url, seconds=1, connections=2, folder=tmp_path)
        manifest = running.end()
    assert (manifest.seen, manifest.captured) == (0, 0)


def test_what_is_left_out_is_counted(agent: Agent, tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx:
        chosen = Selection(ports=(nginx.port,), paths=("/a*",))
        with recording(
            agent,
            selection=chosen,
            sampling=Sampling(by=SampleBy.TRACE, fraction=0.5),
        ) as running:
            ask(nginx.port, ["/a1", "/b"] * 50)
            manifest = running.end()
    assert running.recorder.filtered == {"path": 50}
    assert manifest.seen == 100
    assert 0 < manifest.captured < 50
    assert manifest.captured + manifest.sampled_out == 50


def test_a_bound_ends_it(agent: Agent, tmp_path: Path) -> None:
    with (
        Nginx.start(tmp_path) as nginx,
        recording(
            agent,
            selection=Selection(ports=(nginx.port,)),
            bounds=Bounds(exchanges=7),
        ) as running,
    ):
        ask(nginx.port, ["/"] * 20)
        manifest = running.join()
    assert (manifest.ended_because, manifest.captured) == (Ended.EXCHANGES, 7)
    assert manifest.seen == 7 + manifest.over_bound + manifest.unfinished


def test_its_time_ends_it(agent: Agent) -> None:
    nobody = OwnerChoice(services=("nobody",))
    with recording(agent, nobody, bounds=Bounds(seconds=0.1)) as running:
        assert running.join().ended_because == Ended.TIME


def test_more_than_the_rate_is_left_out(agent: Agent, tmp_path: Path) -> None:
    with (
        Nginx.start(tmp_path) as nginx,
        recording(
            agent,
            selection=Selection(ports=(nginx.port,)),
            bounds=Bounds(per_second=10),
        ) as running,
    ):
        ask(nginx.port, ["/"] * 300)
        manifest = running.end()
    assert manifest.seen == 300
    assert 10 <= manifest.captured <= 100
    assert manifest.over_bound == 300 - manifest.captured


def test_long_bodies_are_cut_exactly(agent: Agent, tmp_path: Path) -> None:
    with (
        Nginx.start(tmp_path) as nginx,
        recording(
            agent, selection=Selection(ports=(nginx.port,)), body_limit=1000
        ) as running,
    ):
        ask(nginx.port, ["/"], body_bytes=200_000)
        manifest = running.end()
    (one,) = running.sink.exchanges
    assert isinstance(one.request, HttpRequest)
    assert one.request.body == b"x" * 1000
    (gap,) = one.request.missing
    assert (gap.at, gap.bytes, gap.because) == (1000, 199_000, MissingBecause.LIMIT)
    assert one.incomplete == (MissingBecause.LIMIT,)
    assert manifest.missing_bytes == {"limit": 199_000}


CHILD: Final = """
import http.client, sys, json
port, paths, size = json.loads(sys.argv[1])
c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
for path in paths:
    c.request("POST" if size else "GET", path, body=b"x" * size or None)
    c.getresponse().read()
c.close()
"""


def ask(port: int, paths: list[str], *, body_bytes: int = 0) -> None:
    """One process, one connection: the requests in their order."""
    subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([port, paths, body_bytes])],
        check=True,
        timeout=60,
    )


SET_AND_GET: Final = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
f = s.makefile("rb")
for wire, lines in (
    (b"*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$5\\r\\nvalue\\r\\n", 1),
    (b"*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nk\\r\\n", 2),
):
    s.sendall(wire)
    for _ in range(lines):
        f.readline()
s.close()
"""


def test_redis_is_recorded_as_values(agent: Agent, tmp_path: Path) -> None:
    with (
        Redis.start(tmp_path) as server,
        recording(agent, selection=Selection(ports=(server.port,))) as running,
    ):
        subprocess.run(
            [sys.executable, "-c", SET_AND_GET, str(server.port)],
            check=True,
            timeout=30,
        )
        wait_until(lambda: len(running.sink.exchanges) >= 2, "two exchanges")
        running.end()
    commands = {
        one.operation: (one.request, one.response) for one in running.sink.exchanges
    }
    request, response = commands["SET"]
    assert isinstance(request, RedisCommand)
    assert isinstance(response, RedisReply)
    assert request.arguments == (b"SET", b"k", b"value")
    assert response.value == redis.Simple("OK")
    _, response = commands["GET"]
    assert isinstance(response, RedisReply)
    assert response.value == b"value"


def test_a_downstream_call_names_its_cause(agent: Agent, tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as behind:
        front = tmp_path / "front.py"
        front.write_text(FRONT.replace("PORT", str(behind.port)))
        with subprocess.Popen(
            [sys.executable, front], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                owners = OwnerChoice(pids=frozenset({process.pid}))

                def is_understood() -> bool:
                    ask(port, ["/first"])
                    known = [owner.local_pid for owner, _ in agent.understood()]
                    return process.pid in known

                wait_until(is_understood, "how it waits is understood")
                with recording(agent, owners) as running:
                    ask(port, ["/outer"] * 3)
                    wait_until(
                        lambda: len(running.sink.exchanges) == 6, "six exchanges"
                    )
                    running.end()
            finally:
                process.kill()
    outer = {one.id: one for one in running.sink.exchanges if not one.is_outgoing}
    inner = [one for one in running.sink.exchanges if one.is_outgoing]
    assert (len(outer), len(inner)) == (3, 3)
    assert {one.cause for one in inner} == outer.keys()
    assert {one.cause_method for one in inner} == {"thread"}
    for one in inner:
        assert one.trace_id
        assert outer[one.cause].request_start_ns <= one.request_start_ns


FRONT: Final = """
import http.client, http.server

class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        c = http.client.HTTPConnection("127.0.0.1", PORT)
        c.request("GET", "/inner")
        data = c.getresponse().read()
        c.close()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_what_only_looks_like_http_is_not_counted_as_lost(agent: Agent) -> None:
    """PostgreSQL's messages begin as PUT and POST do, until their second byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with (
            recording(agent, selection=Selection(ports=(port,))) as running,
            subprocess.Popen(
                [sys.executable, "-c", LIKE_POSTGRES, str(port)], text=True
            ) as child,
        ):
            connection, _ = server.accept()
            with connection:
                for _ in range(50):
                    assert connection.recv(100)
                    connection.sendall(b"T\0\0\0\x06\0\0Z\0\0\0\x05I")
                assert connection.recv(100) == b""
            assert child.wait(20) == 0
            manifest = running.end()
    assert (manifest.captured, manifest.lost) == (0, {})


LIKE_POSTGRES: Final = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(50):
    s.sendall(b"P\\0\\0\\0\\x20\\0SELECT 1\\0\\0\\0B\\0\\0\\0\\x0cE\\0\\0\\0\\x09S\\0\\0\\0\\x04")
    s.recv(100)
"""
