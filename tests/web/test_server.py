# SPDX-License-Identifier: Apache-2.0
"""The endpoint over real sockets, by polite clients and by others."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser.maps import shop
from tests.export.makers import (
    buckets,
    counter,
    exemplar,
    gauge,
    histogram,
    number,
    reading,
)
from tests.export.parsers import parse_openmetrics, parse_text
from tests.process import wait_until
from tests.web import asking
from tests.web.asking import Answer

from deetune_otel.config.schema import WebSettings
from deetune_otel.web import server as server_module
from deetune_otel.web.api import MapSources
from deetune_otel.web.server import WebServer, WebServerError, try_to_listen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.metrics.export import MetricsData


class Agent:
    """What the server asks."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.state: dict[str, Any] = {"ledger": {"seen": 7}}
        self.data = reading(
            counter("c", number(7)),
            histogram("h", buckets(1, 0, 0, exemplars=[exemplar(0.05)])),
        )
        self.broken = False

    def metrics(self) -> MetricsData:
        if self.broken:
            raise RuntimeError("no kernel")
        return self.data

    def status(self) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError("no kernel")
        return self.state

    def health(self) -> list[str]:
        if self.broken:
            raise RuntimeError("no kernel")
        return self.reasons


@pytest.fixture
def agent() -> Agent:
    return Agent()


def serve(agent: Agent, host: str = "127.0.0.1", port: int = 0) -> WebServer:
    return WebServer(
        WebSettings(host=host, port=port),
        metrics=agent.metrics,
        status=agent.status,
        health=agent.health,
        of_map=MapSources(
            service_map=lambda window_s, _: shop(window_s),
            edge_details=lambda _id, _window_s: None,
            node_details=lambda _id, _window_s: None,
        ),
    )


@pytest.fixture
def web(agent: Agent) -> Iterator[WebServer]:
    web = serve(agent)
    yield web
    web.close()


def ask(web: WebServer, path: str, method: str = "GET", **headers: str) -> Answer:
    return asking.ask(web.port, path, method, **headers)


def send(web: WebServer, raw: bytes) -> bytes:
    """The whole answer to raw bytes; b"" if the connection was cut without one."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as connection:
        connection.sendall(raw)
        answer = b""
        try:
            while more := connection.recv(65536):
                answer += more
        except ConnectionResetError:
            pass
        return answer


def test_metrics_as_text_and_as_openmetrics(web: WebServer) -> None:
    text = ask(web, "/metrics")
    assert text.status == 200
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "c" in {family.name for family in parse_text(text.text)}
    # What Prometheus 3 sends.
    accept = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    openmetrics = ask(web, "/metrics", Accept=accept)
    assert openmetrics.headers["Content-Type"].startswith(
        "application/openmetrics-text"
    )
    families = {f.name: f for f in parse_openmetrics(openmetrics.text)}
    assert families["c"].samples[0].value == 7
    assert any(sample.exemplar for sample in families["h_seconds"].samples)


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; version=1.x.0",
        "text/plain; version=; escaping=nonsense",
        ";;;,,,===",
        "\xff",
    ],
)
def test_a_nonsensical_accept_header_gets_the_plain_text(
    web: WebServer, accept: str
) -> None:
    answer = ask(web, "/metrics", Accept=accept)
    assert answer.status == 200
    assert "c_total" in answer.text


def test_every_scrape_reads_anew(web: WebServer, agent: Agent) -> None:
    ask(web, "/metrics")
    agent.data = reading(counter("c", number(8)))
    assert " 8.0" in ask(web, "/metrics").text


def test_health(web: WebServer, agent: Agent) -> None:
    well = ask(web, "/healthz")
    assert (well.status, json.loads(well.text)) == (200, {"status": "ok"})
    agent.reasons = ["nothing is attached"]
    ill = ask(web, "/healthz")
    assert ill.status == 503
    assert json.loads(ill.text) == {
        "status": "failing",
        "reasons": ["nothing is attached"],
    }


def test_status(web: WebServer) -> None:
    answer = ask(web, "/status")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.text) == {"ledger": {"seen": 7}}


def test_what_cannot_be_made_is_an_error_and_one_log_line(
    web: WebServer, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    agent.broken = True
    for _ in range(3):
        assert ask(web, "/metrics").status == 500
        assert json.loads(ask(web, "/status").text) == {
            "error": "RuntimeError: no kernel"
        }
        ill = ask(web, "/healthz")
        assert ill.status == 503
        assert json.loads(ill.text)["reasons"] == ["RuntimeError: no kernel"]
    assert len(caplog.records) == 3
    agent.broken = False
    assert ask(web, "/healthz").status == 200


def test_the_index_names_what_is_here(web: WebServer) -> None:
    index = ask(web, "/")
    assert index.headers["Content-Type"] == "text/plain; charset=utf-8"
    for path in ("/metrics", "/healthz", "/status", "/api/map"):
        assert path in index.text


def test_browsers_get_the_page_and_others_the_index(web: WebServer) -> None:
    chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    page = ask(web, "/", Accept=chrome)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert page.headers["Cache-Control"] == "no-cache"
    for accept in ("*/*", "application/json", ""):
        assert ask(web, "/", Accept=accept).text.startswith("deetune-otel\n")
    tag = page.headers["ETag"]
    again = ask(web, "/", Accept=chrome, If_None_Match=tag)
    assert (again.status, again.text) == (304, "")


def test_the_page_is_served_with_its_files(web: WebServer) -> None:
    script = ask(web, "/page/main.js", Accept_Encoding="gzip")
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert script.headers["Content-Encoding"] == "gzip"
    assert script.headers["X-Content-Type-Options"] == "nosniff"
    assert ask(web, "/page/../server.py").status == 404
    assert ask(web, "/page/main.js", Host="evil.example").status == 403


def test_queries_are_ignored_and_unknown_paths_are_not_found(web: WebServer) -> None:
    assert ask(web, "/healthz?full=1").status == 200
    for path in ("/nothing", "/metrics/", "/%2e%2e/etc/passwd"):
        assert ask(web, path).status == 404


def test_head_has_the_same_headers_and_no_body(web: WebServer) -> None:
    head, get = ask(web, "/metrics", "HEAD"), ask(web, "/metrics")
    assert head.text == ""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"]
)
def test_other_methods_are_refused(web: WebServer, method: str) -> None:
    answer = ask(web, "/status", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_security_headers_are_on_every_answer(web: WebServer) -> None:
    for path, method in (("/", "GET"), ("/none", "GET"), ("/", "POST")):
        headers = ask(web, path, method).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Server"].strip() == "deetune-otel"
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8127", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:1", 200),
        ("[::1]:8127", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.0.0.1@evil.example", 403),
        ("169.254.169.254", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_other_names_are_refused_on_loopback(
    web: WebServer, host: str, status: int
) -> None:
    assert ask(web, "/status", Host=host).status == status


def test_a_second_host_header_is_refused(web: WebServer) -> None:
    raw = b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert b" 403 " in send(web, raw)


def test_http_1_0_needs_no_host(web: WebServer) -> None:
    assert b" 200 " in send(web, b"GET /healthz HTTP/1.0\r\n\r\n")


def test_who_binds_elsewhere_is_reached_by_any_name(agent: Agent) -> None:
    web = serve(agent, host="0.0.0.0")
    try:
        assert ask(web, "/healthz", Host="node-7.example").status == 200
    finally:
        web.close()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", b"431"),
        (b"GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    ],
)
def test_bad_requests(web: WebServer, raw: bytes, status: bytes) -> None:
    answer = send(web, raw)
    # A request with more to read may end in a reset before its answer arrives.
    assert not answer or answer.split(b" ")[1] == status
    assert b"<" not in answer  # no page that quotes what the client sent
    assert ask(web, "/healthz").status == 200


def is_cut(slow: socket.socket) -> bool:
    """Sends a little more, so that no read of the server times out."""
    try:
        slow.sendall(b"G")
        return slow.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_folded_accept_header_makes_no_header_of_ours(web: WebServer) -> None:
    raw = (
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
        b"Accept: application/openmetrics-text;version=2.\r\n Injected: yes\r\n\r\n"
    )
    head = send(web, raw).partition(b"\r\n\r\n")[0]
    assert not any(line.strip().startswith(b"Injected") for line in head.split(b"\r\n"))


def test_a_slow_client_is_cut(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_AGE_S", 0.5)
    web = serve(agent)
    try:
        with socket.create_connection(("127.0.0.1", web.port), timeout=10) as slow:
            started = time.monotonic()
            slow.settimeout(0.05)
            while not is_cut(slow):
                assert time.monotonic() - started < 5
        wait_until(lambda: not web._server._asking, "forgotten")
    finally:
        web.close()


def test_a_silent_client_is_cut(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module._Handler, "timeout", 0.2)
    web = serve(agent)
    try:
        with socket.create_connection(("127.0.0.1", web.port), timeout=10) as silent:
            assert silent.recv(1) == b""
    finally:
        web.close()


def test_who_does_not_ask_locks_nobody_out(web: WebServer) -> None:
    """Who waits longest gives way; what they hold is bounded."""
    held: list[socket.socket] = []
    try:
        before = threading.active_count()
        held.extend(
            socket.create_connection(("127.0.0.1", web.port), timeout=10)
            for _ in range(server_module.MAX_CONNECTIONS * 2)
        )
        most = server_module.MAX_CONNECTIONS
        wait_until(lambda: len(web._server._asking) == most, "full")
        for _ in range(3):
            assert ask(web, "/healthz").status == 200
        wait_until(lambda: threading.active_count() <= before + most, "all others left")
    finally:
        for connection in held:
            connection.close()


def test_health_is_told_while_all_others_take_their_time(agent: Agent) -> None:
    """As many as are answered at a time ask for a long page and read nothing of it."""
    agent.data = reading(gauge("g", *(number(n, number=n) for n in range(200_000))))
    web = serve(agent)
    held: list[socket.socket] = []
    try:
        for _ in range(server_module.MAX_ANSWERS):
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(10)
            slow.connect(("127.0.0.1", web.port))
            slow.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            held.append(slow)
        most = server_module.MAX_ANSWERS
        wait_until(lambda: len(web._server._answering) == most, "all are answered")
        assert ask(web, "/healthz").status == 200
        refused = ask(web, "/metrics")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    finally:
        for connection in held:
            connection.close()
        web.close()


def test_a_long_page_is_packed_for_who_takes_that(agent: Agent) -> None:
    agent.data = reading(gauge("g", *(number(n, number=n) for n in range(5_000))))
    web = serve(agent)
    try:
        plain = ask(web, "/metrics")
        small = ask(web, "/metrics", **{"Accept-Encoding": "gzip"})
    finally:
        web.close()
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    assert len(small.body) < len(plain.body) / 5
    assert plain.headers["Content-Length"] == str(len(plain.body))
    assert {one.headers["Vary"] for one in (plain, small)} == {"Accept-Encoding"}


def test_who_came_before_a_page_was_begun_shares_it(agent: Agent) -> None:
    """While one is made, six wait: they get the next one, all the same."""
    may_go = threading.Event()
    asked: list[int] = []

    def metrics() -> MetricsData:
        asked.append(len(asked))
        assert may_go.wait(10)
        return agent.data

    agent.metrics = metrics  # type: ignore[method-assign]
    web = serve(agent)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(web, "/metrics").status))
        for _ in range(7)
    ]
    try:
        threads[0].start()
        wait_until(lambda: asked, "the first one is made")
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: web._server.pages._scraping == 7, "all others wait")
        may_go.set()
        for thread in threads:
            thread.join(20)
    finally:
        web.close()
    assert (answers, len(asked)) == ([200] * 7, 2)


def test_scrapes_side_by_side(web: WebServer) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(web, "/metrics").status))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 8


def test_a_port_in_use_names_the_setting(agent: Agent, web: WebServer) -> None:
    with pytest.raises(WebServerError) as caught:
        serve(agent, port=web.port)
    message = str(caught.value)
    assert message.startswith(f"cannot listen on 127.0.0.1 port {web.port}: ")
    assert "Address already in use" in message
    assert "web.port" in message
    assert caught.value.is_taken


def test_to_try_is_to_find_the_same_and_to_hold_nothing(web: WebServer) -> None:
    with pytest.raises(WebServerError, match="Address already in use") as caught:
        try_to_listen(WebSettings(port=web.port))
    assert caught.value.is_taken
    with pytest.raises(WebServerError, match=r"web\.host") as caught:
        try_to_listen(WebSettings(host="192.0.2.1"))
    assert not caught.value.is_taken
    web.close()
    for _ in range(2):
        try_to_listen(WebSettings(port=web.port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_names_the_setting(
    agent: Agent, host: str
) -> None:
    with pytest.raises(WebServerError, match=r"web\.host"):
        serve(agent, host=host)


def test_localhost_and_ipv6(agent: Agent) -> None:
    for host in ("localhost", "::1"):
        try:
            web = serve(agent, host=host)
        except WebServerError as error:
            assert host == "::1"
            pytest.skip(f"no IPv6 here: {error}")
        try:
            address = web.url.removeprefix("http://")
            connection = http.client.HTTPConnection(address, timeout=10)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()
        finally:
            web.close()


def test_after_the_close_the_port_is_free_and_no_thread_is_left(agent: Agent) -> None:
    before = threading.active_count()
    web = serve(agent)
    with socket.create_connection(("127.0.0.1", web.port), timeout=10):
        wait_until(lambda: web._server._asking, "a client hangs on")
        web.close()
    wait_until(lambda: threading.active_count() <= before, "threads ended")
    serve(agent, port=web.port).close()


def test_requests_leave_no_trace_in_the_log(
    web: WebServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    ask(web, "/metrics")
    ask(web, "/none", "POST")
    send(web, b"\x00\r\n\r\n")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
