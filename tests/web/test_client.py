# SPDX-License-Identifier: Apache-2.0
"""Asking an agent, and asking what is none: over real sockets, to a real HTTP server."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.process import free_port
from tests.topology.maps import calls, details, edge, node, node_details, service_map
from tests.web.serving import Answer, serving

from deetune_otel.topology.carry import to_json
from deetune_otel.web.client import AgentClient, AgentError, NoAgent, NotDeetune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EDGE = edge("service:shop/web", "service:shop/apî", calls(3))
MAP = service_map([EDGE])


def as_agent(target: str) -> Answer:
    """Answer as an agent would, and say in its errors what was asked."""
    path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
    window = float(query.get("window", ["60"])[0])
    made: dict[str, Any]
    match path, query.get("id"):
        case "/status", None:
            made = {"ledger": {}}
        case "/api/map", None:
            made = to_json(MAP, with_pairs=query.get("connections") == ["1"])
            made["window_s"] = window
        case "/api/edge", [EDGE.id]:
            made = to_json(details(EDGE), window_s=window)
        case "/api/node", ["service:shop/web"]:
            made = to_json(node_details(node("service:shop/web")), window_s=window)
        case _:
            return 404, json.dumps({"error": f"nothing at {target}"}).encode()
    return 200, json.dumps(made).encode()


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """One connection to something that need not speak HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                connection.recv(4096)
                talk(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_a_running_agent_gives_its_map_and_details() -> None:
    with serving(as_agent) as url:
        client = AgentClient(f"{url}/")
        client.check()
        assert client.service_map(window_s=60) == MAP
        assert client.service_map(window_s=90.5).window_s == 90.5
        assert client.edge_details(EDGE.id, window_s=60) == details(EDGE)
        assert client.node_details("service:shop/web", window_s=60) == node_details(
            node("service:shop/web")
        )


def test_what_is_needed_to_merge_is_asked_for() -> None:
    asked: list[str] = []

    def answer(target: str) -> Answer:
        asked.append(target)
        return as_agent(target)

    with serving(answer) as url:
        AgentClient(url).service_map(window_s=30, with_pairs=True)
        AgentClient(url).service_map(window_s=3600)
    assert asked == ["/api/map?window=30&connections=1", "/api/map?window=3600"]


def test_an_agent_below_a_path_is_asked_there() -> None:
    asked: list[str] = []

    def answer(target: str) -> Answer:
        asked.append(target)
        return as_agent(target.removeprefix("/agents/a"))

    with serving(answer) as url:
        AgentClient(f"{url}/agents/a/").check()
    assert asked == ["/agents/a/status"]


def test_what_is_not_there_any_more_is_none() -> None:
    with serving(as_agent) as url:
        assert AgentClient(url).edge_details("a→b", window_s=60) is None
        assert AgentClient(url).node_details("a", window_s=60) is None


def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NoAgent, match=f"^{url}: nothing listens there") as caught:
        AgentClient(url).check()
    assert "deetune run" in caught.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>hello</html>"),
        (200, b'{"ledger": '),
        (200, b"[" * 100_000),
        (200, b'{"status": "ok"}'),
        (200, b"[]"),
        (404, b"not found\n"),
        (302, b""),
        (500, b"{}"),
    ],
)
def test_another_server_is_no_agent(answer: Answer) -> None:
    with (
        serving(lambda _: answer) as url,
        pytest.raises(NotDeetune, match="is not a deetune agent"),
    ):
        AgentClient(url).check()


def test_what_is_not_http_is_no_agent() -> None:
    with (
        talking(lambda connection: connection.sendall(b"220 mail ready\r\n")) as url,
        pytest.raises(NotDeetune, match="no HTTP answer"),
    ):
        AgentClient(url).check()


def test_a_connection_that_is_cut_is_no_answer() -> None:
    def half(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    with talking(half) as url, pytest.raises(NotDeetune, match="IncompleteRead"):
        AgentClient(url).check()


def test_an_agent_of_another_version_is_named() -> None:
    def answer(target: str) -> Answer:
        status, body = as_agent(target)
        return status, body.replace(b'"format": 2', b'"format": 3')

    with serving(answer) as url, pytest.raises(NotDeetune, match="format 3") as caught:
        AgentClient(url).service_map(window_s=60)
    assert "different versions" in caught.value.hint


def test_what_the_agent_says_of_an_error_is_told_without_control_characters() -> None:
    body = json.dumps({"error": f"still starting\x1b[31m{'x' * 1000}"}).encode()
    with (
        serving(lambda _: (503, body)) as url,
        pytest.raises(AgentError, match="cannot answer: still starting") as caught,
    ):
        AgentClient(url).service_map(window_s=60)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_an_answer_has_a_bound() -> None:
    with (
        serving(lambda _: (200, b" " * 5000)) as url,
        pytest.raises(NotDeetune, match="over 4000 bytes"),
    ):
        AgentClient(url, max_bytes=4000).check()


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_a_server_that_takes_its_time_is_left(begin: bytes) -> None:
    """Each byte comes in time, and the answer never ends."""
    gone = threading.Event()

    def drip(connection: socket.socket) -> None:
        try:
            connection.sendall(begin)
            while not gone.is_set():
                connection.sendall(b"." if begin else b"")
                time.sleep(0.02)
        except OSError:
            return  # it hung up, as it should

    started = time.monotonic()
    with talking(drip) as url:
        try:
            with pytest.raises(AgentError, match=r"no answer within 0\.3 s"):
                AgentClient(url, timeout_s=0.3).check()
        finally:
            gone.set()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8127",
        "ftp://127.0.0.1",
        "http://",
        "http://h:x",
        "http://h:99999",
        "http://[::1",
        "http://h/?q=1",
        "http://h/\r\nX: y",
        "http://hö/",
    ],
)
def test_what_is_no_url_is_said_before_anything_is_asked(url: str) -> None:
    with pytest.raises(AgentError) as caught:
        AgentClient(url)
    assert caught.value.hint == "a URL such as http://127.0.0.1:8127"


def test_an_unknown_host_is_no_agent() -> None:
    with pytest.raises(NoAgent, match="unknown host"):
        AgentClient("http://no-such-host.invalid").check()
