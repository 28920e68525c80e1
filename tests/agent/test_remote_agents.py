# SPDX-License-Identifier: Apache-2.0
"""Other agents that answer, are down, hang or talk nonsense: real ones as far as HTTP goes."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.process import free_port, wait_until

from deetune_otel.agent.remote_agents import RemoteAgents
from deetune_otel.model import Pair, Role, Service, Transport
from deetune_otel.topology.carry import to_json
from deetune_otel.topology.model import (
    AgentView,
    Edge,
    Ends,
    Node,
    NodeKind,
    ServiceMap,
)
from deetune_otel.web.client import AgentError

WEB = Service(name="web", namespace="shop", found_by="container")
ORDERS = Service(name="orders", found_by="script")


def node(service: Service) -> Node:
    return Node(
        id=f"service:{service.namespace}/{service.name}",
        kind=NodeKind.SERVICE,
        name=service.name,
        namespace=service.namespace,
        found_by=service.found_by,
    )


STRANGER = Node(id="address:10.0.0.7:80", kind=NodeKind.ADDRESS, name="10.0.0.7:80")


def edge(client: Node, server: Node, ends: Ends, *pairs: Pair) -> Edge:
    return Edge(
        id=f"{client.id}→{server.id}",
        client=client.id,
        server=server.id,
        ends=ends,
        transports=(Transport.TCP,),
        pairs=pairs,
    )


def service_map(*edges: Edge) -> ServiceMap:
    return ServiceMap(
        agents=(AgentView(host="other", version="1"),),
        start_unix_ns=1,
        time_unix_ns=2,
        window_s=30,
        nodes=(STRANGER, node(ORDERS), node(WEB)),
        edges=edges,
    )


@contextmanager
def agent(body: Callable[[str], bytes], port: int = 0) -> Iterator[str]:
    """Something that answers GET; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the standard library's name
            answer = body(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keeps the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


@contextmanager
def asking(*urls: str, **settings: float) -> Iterator[RemoteAgents]:
    peers = RemoteAgents(urls, **{"interval_s": 0.05, "timeout_s": 1.0, **settings})  # type: ignore[arg-type]
    peers.start()
    try:
        yield peers
    finally:
        peers.close()
        for thread in peers._threads:
            thread.join()


def answers(*edges: Edge) -> Callable[[str], bytes]:
    body = json.dumps(to_json(service_map(*edges))).encode()
    return lambda _: body


def test_the_end_that_it_sees_is_told() -> None:
    called, calls, both, nobody = (Pair(i, i + 100) for i in range(4))
    body = answers(
        edge(STRANGER, node(WEB), Ends.SERVER, called),
        edge(node(ORDERS), STRANGER, Ends.CLIENT, calls),
        edge(node(ORDERS), node(WEB), Ends.BOTH, both),
    )
    with agent(body) as url, asking(url) as peers:
        wait_until(lambda: peers.counts["answered"], "an answer")
        assert peers.service_at(called, Role.SERVER) == WEB
        assert peers.service_at(calls, Role.CLIENT) == ORDERS
        # the end that it does not see, connections that need no help, and others
        assert peers.service_at(called, Role.CLIENT) is None
        assert peers.service_at(both, Role.SERVER) is None
        assert peers.service_at(nobody, Role.SERVER) is None
        assert peers.failing == {}


def test_it_is_asked_for_recent_connections() -> None:
    asked: list[str] = []

    def body(path: str) -> bytes:
        asked.append(path)
        return answers()(path)

    with agent(body) as url, asking(f"{url}/") as peers:
        wait_until(lambda: peers.counts["answered"] >= 2, "two answers")
    assert set(asked) == {"/api/map?window=0.15&connections=1"}


def test_one_that_hangs_keeps_nobody_waiting() -> None:
    pair = Pair(1, 2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        agent(answers(edge(STRANGER, node(WEB), Ends.SERVER, pair))) as url,
        asking(f"http://127.0.0.1:{silent.getsockname()[1]}", url) as peers,
    ):
        wait_until(lambda: peers.service_at(pair, Role.SERVER), "an answer")
        assert peers.counts["failed"] == 0, "the other one still hangs"
        wait_until(lambda: peers.counts["failed"], "the end of its patience")


def test_one_that_is_down_is_said_once_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "deetune_otel.agent.remote_agents")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with asking(url) as peers:
        wait_until(lambda: peers.counts["failed"] >= 3, "three failures")
        assert list(peers.failing) == [url]
        with agent(answers(), port):
            wait_until(lambda: peers.counts["answered"], "an answer")
            assert peers.failing == {}
    # When the agent ends it may be asked once more, and is down again.
    down, back, *_ = (record.message for record in caplog.records)
    assert "nothing listens there" in down
    assert back == f"agent {url} answers again"


@pytest.mark.parametrize("answer", [b"hello", b"[]", b'{"format": 2}', b""])
def test_nonsense_is_a_failure(answer: bytes) -> None:
    with agent(lambda _: answer) as url, asking(url) as peers:
        wait_until(lambda: peers.counts["failed"] >= 2, "two failures")
        assert list(peers.failing) == [url]


def test_what_is_kept_is_bounded() -> None:
    pairs = [Pair(i, i) for i in range(20)]
    body = answers(edge(STRANGER, node(WEB), Ends.SERVER, *pairs))
    with agent(body) as url, asking(url, max_answers=5) as peers:
        wait_until(lambda: peers.counts["answered"], "an answer")
        assert sum(bool(peers.service_at(one, Role.SERVER)) for one in pairs) == 5


def test_an_end_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with asking(url, interval_s=60) as peers:
            silent.settimeout(5)
            accepted, _ = silent.accept()
            with accepted:
                peers.close()
        assert peers.counts["failed"] == 1


def test_what_is_no_url_is_refused_at_once() -> None:
    with pytest.raises(AgentError):
        RemoteAgents(["10.0.0.7"], interval_s=1)
