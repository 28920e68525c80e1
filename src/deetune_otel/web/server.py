# SPDX-License-Identifier: Apache-2.0
"""The service map, /metrics, /healthz and /status over HTTP, on loopback unless configured otherwise.

The standard library's server, one thread a request and one request a connection, hardened where
it is soft: a bound on connections and on their age, no request line or header of any size, no
answer to a page of another origin that had its name point here (DNS rebinding), no log lines.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import socketserver
import threading
import time
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from deetune_otel.export.prometheus import Exposition
from deetune_otel.web.api import API_PREFIX, Api, MapSources
from deetune_otel.web.assets import Assets
from deetune_otel.web.reply import NO_HEADERS, TEXT, Folded, Reply, as_json, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    from opentelemetry.sdk.metrics.export import MetricsData

    from deetune_otel.config.schema import WebSettings

__all__ = ["WebServer", "WebServerError", "try_to_listen"]

# That are answered at a time: a scraper, a probe, a person with a browser, and as many again.
MAX_ANSWERS: Final = 16
# With those that have not asked yet. Who comes then takes the place of the one that has waited longest
# to ask; there is always such a one.
MAX_CONNECTIONS: Final = 4 * MAX_ANSWERS
# No honest client needs longer for a request of a few hundred bytes, or takes nothing for so long.
SOCKET_TIMEOUT_S: Final = 5.0
REQUEST_AGE_S: Final = 15.0
# Of an answer that is taken slowly, but is taken. A scraper gives up long before.
ANSWER_AGE_S: Final = 120.0
# How often the accepting thread looks up: a close waits for it, and a wake-up costs 20 µs.
TURN_S: Final = 0.1
MAX_TARGET_BYTES: Final = 2048

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HEALTH: Final = "/healthz"
INDEX: Final = """\
deetune-otel

/          the service map, for browsers
/metrics   what was counted, for Prometheus (text or OpenMetrics)
/healthz   200 when all is well, else 503 and why
/status    losses, cost, rung, budget, exporters, as JSON
/api/map   the service map as JSON: ?window=SECONDS
/api/edge  an edge's details: ?id=EDGE&window=SECONDS
/api/node  a node's details: ?id=NODE&window=SECONDS
"""

_log = logging.getLogger(__name__)

_Listening = TypeVar("_Listening")


class WebServerError(Exception):
    """It cannot listen; the message names the setting. `is_taken`: somebody else does there."""

    def __init__(self, message: str, *, is_taken: bool = False) -> None:
        super().__init__(message)
        self.is_taken = is_taken


class WebServer:
    """Serves from construction until `close`. The callables are called from other threads."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        metrics: Callable[[], MetricsData],
        status: Callable[[], dict[str, Any]],
        health: Callable[[], list[str]],
        of_map: MapSources,
    ) -> None:
        self._pages = _Pages(Exposition(metrics), status, health, of_map)
        self._server = _listen(
            settings,
            lambda family, address: _Server(
                family, address, settings.host, self._pages
            ),
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(TURN_S,),
            name="web",
            daemon=True,
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was taken, also where the settings say 0."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        host = str(self._server.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def close(self) -> None:
        """Stops listening and cuts what is open."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.cut_older_than(0, 0)


class _Pages:
    """What there is, by path."""

    def __init__(
        self,
        exposition: Exposition,
        status: Callable[[], dict[str, Any]],
        health: Callable[[], list[str]],
        of_map: MapSources,
    ) -> None:
        self._exposition = exposition
        self._status = status
        self._health = health
        self._api = Api(of_map)
        self._assets = Assets()
        # Pages are made one at a time: a few scrapers together cost no more memory than one. Who
        # asks whether all is well waits for none of them.
        self._making = threading.Lock()
        self._scraped: tuple[str, float, Reply] | None = (
            None  # by type, when it was begun
        )
        self._scraping = 0  # how many wait for a page, or make it
        self._scraping_lock = threading.Lock()
        self._broken: set[str] = set()  # paths whose last page failed, each logged once

    def get(self, target: str, headers: Message) -> Reply:
        path, _, query = target.partition("?")
        # The chosen version is echoed: a folded header must not become one of ours.
        accept = " ".join(headers.get("Accept", "").split())
        encoding = headers.get("Accept-Encoding", "")
        if path == "/" and "text/html" not in accept:
            return Reply(HTTPStatus.OK, TEXT, INDEX.encode(), {"Vary": "Accept"})
        if path.startswith(API_PREFIX):
            reply = self._guarded(path, partial(self._api.get, path, query))
            return packed(reply, encoding)
        match path:
            case "/metrics":
                return packed(self._metrics(accept), encoding)
            case _ if path == HEALTH:
                return self._checked(path, self._healthz)
            case "/status":
                reply = self._guarded(
                    path, lambda: as_json(HTTPStatus.OK, self._status())
                )
                return packed(reply, encoding)
        return self._assets.get(
            path,
            accept_encoding=encoding,
            if_none_match=headers.get("If-None-Match", ""),
        ) or Reply(HTTPStatus.NOT_FOUND, TEXT, f"not found; here is:\n{INDEX}".encode())

    def _metrics(self, accept: str) -> Reply:
        """Who came before a page was begun shares it."""
        came_s = time.monotonic()
        content_type, _ = self._exposition.written(accept)
        with self._scraping_lock:
            self._scraping += 1
        try:
            with self._making:
                if self._scraped is not None:
                    made_type, begun_s, reply = self._scraped
                    if made_type == content_type and begun_s >= came_s:
                        return reply
                begun_s = time.monotonic()
                reply = self._checked("/metrics", partial(self._scrape, accept))
                self._scraped = content_type, begun_s, reply
                return reply
        finally:
            with self._scraping_lock:
                self._scraping -= 1
                if not self._scraping:
                    self._scraped = None

    def _scrape(self, accept: str) -> Reply:
        content_type, pieces = self._exposition.written(accept)
        return Reply(HTTPStatus.OK, content_type, b"", folded=Folded(pieces))

    def _healthz(self) -> Reply:
        reasons = self._health()
        if not reasons:
            return as_json(HTTPStatus.OK, {"status": "ok"})
        return as_json(
            HTTPStatus.SERVICE_UNAVAILABLE, {"status": "failing", "reasons": reasons}
        )

    def _guarded(self, path: str, make: Callable[[], Reply]) -> Reply:
        with self._making:
            return self._checked(path, make)

    def _checked(self, path: str, make: Callable[[], Reply]) -> Reply:
        try:
            reply = make()
        except Exception as error:  # noqa: BLE001 - no page ends the server
            if path not in self._broken:
                _log.exception("%s cannot be made", path)
                self._broken.add(path)
            reason = f"{type(error).__name__}: {error}"
            if path == HEALTH:
                return as_json(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    {"status": "failing", "reasons": [reason]},
                )
            return as_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": reason})
        self._broken.discard(path)
        return reply


def try_to_listen(settings: WebSettings) -> None:
    """Takes the port, and gives it back at once. Raises WebServerError."""

    def bind(family: socket.AddressFamily, address: Any) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            # as the server does: what waits for its end there is not in the way
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)

    _listen(settings, bind)


def _listen(
    settings: WebSettings, make: Callable[[socket.AddressFamily, Any], _Listening]
) -> _Listening:
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise WebServerError(
            f"web.host: {settings.host!r} is no address of this machine: {error.strerror}"
        ) from None
    problem: OSError | None = None
    for family, _, _, _, address in found:
        # a name may be ::1 where IPv6 is switched off
        try:
            return make(family, address)
        except OSError as error:
            problem = problem or error
    reason = problem.strerror if problem else "no address"
    raise WebServerError(
        f"cannot listen on {settings.host} port {settings.port}: {reason}. Set web.port"
        " (0 takes any free one) or web.host, or web.enabled to false to do without",
        is_taken=problem is not None and problem.errno == errno.EADDRINUSE,
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 4 * MAX_CONNECTIONS  # who is too many is cut, not left waiting

    def __init__(
        self, family: socket.AddressFamily, address: Any, host: str, pages: _Pages
    ) -> None:
        self.address_family = family
        self.pages = pages
        # By connection, when it was opened or its answer begun.
        self._asking: dict[socket.socket, float] = {}
        self._answering: dict[socket.socket, float] = {}
        self._open_lock = threading.Lock()
        # Who binds elsewhere wants to be reached, by names that only they know.
        self._own_host = host if _is_loopback(address[0]) else None
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the name lookup that HTTPServer does, which may take seconds."""
        socketserver.TCPServer.server_bind(self)

    def accepts_host(self, hosts: list[str]) -> bool:
        """Whether a request with these Host headers may be answered."""
        if (
            self._own_host is None or not hosts
        ):  # HTTP/1.0 needs none; browsers send one
            return True
        if len(hosts) > 1:
            return False
        try:
            name = urlsplit(f"//{hosts[0]}").hostname or ""
        except ValueError:
            return False
        name = name.rstrip(".")
        return name in ("localhost", self._own_host) or _is_loopback(name)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        with self._open_lock:
            if len(self._asking) + len(self._answering) >= MAX_CONNECTIONS:
                oldest = next(iter(self._asking), None)
                if oldest is None:
                    return False
                _cut(oldest)
                self._asking.pop(oldest)
            self._asking[request] = time.monotonic()
            return True

    def may_answer(self, request: socket.socket, path: str) -> bool:
        """Whether there is room for another answer; for that of a health check there always is."""
        with self._open_lock:
            self._asking.pop(request, None)
            if len(self._answering) >= MAX_ANSWERS and path != HEALTH:
                return False
            self._answering[request] = time.monotonic()
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._asking.pop(request, None)
            self._answering.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called every TURN_S."""
        self.cut_older_than(REQUEST_AGE_S, ANSWER_AGE_S)

    def cut_older_than(self, request_s: float, answer_s: float) -> None:
        now = time.monotonic()
        with self._open_lock:
            for connections, age_s in (
                (self._asking, request_s),
                (self._answering, answer_s),
            ):
                for request, since in connections.items():
                    if now - since >= age_s:
                        _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


def _cut(request: socket.socket) -> None:
    """Wakes the thread that reads or writes it; the thread closes it."""
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed meanwhile


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SOCKET_TIMEOUT_S
    default_request_version = "HTTP/1.0"  # 0.9 would answer without a status
    server_version = "deetune-otel"
    sys_version = ""

    def do_GET(self) -> None:
        self._send(self._reply())

    do_HEAD = do_GET  # noqa: N815 - as the standard library wants it

    def _reply(self) -> Reply:
        if not self.server.accepts_host(self.headers.get_all("Host", [])):
            return Reply(
                HTTPStatus.FORBIDDEN,
                TEXT,
                b"not by this name: use localhost, or set web.host\n",
            )
        if len(self.path) > MAX_TARGET_BYTES:
            return Reply(HTTPStatus.REQUEST_URI_TOO_LONG, TEXT, b"too long\n")
        if not self.path.startswith("/"):
            return Reply(HTTPStatus.BAD_REQUEST, TEXT, b"a path begins with /\n")
        if not self.server.may_answer(self.connection, self.path.partition("?")[0]):
            return Reply(
                HTTPStatus.SERVICE_UNAVAILABLE,
                TEXT,
                b"too many are answered already\n",
                {"Retry-After": "1"},
            )
        return self.server.pages.get(self.path, self.headers)

    def _send(self, reply: Reply, more: Mapping[str, str] = NO_HEADERS) -> None:
        folded = reply.folded
        length = folded.unpacked_bytes if folded else len(reply.body)
        self.send_response(reply.status)
        for name, value in {
            "Content-Type": reply.content_type,
            "Content-Length": str(length),
            **HEADERS,
            **reply.headers,
            **more,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for piece in folded.pieces() if folded else (reply.body,):
                self.wfile.write(piece)

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002 - it quotes the client
        explain: str | None = None,
    ) -> None:
        """What the standard library finds wrong, without its HTML."""
        if code == HTTPStatus.NOT_IMPLEMENTED:  # there is no do_X for this method
            code, explain = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD"
        status = HTTPStatus(code)
        reply = Reply(status, TEXT, f"{explain or status.phrase}\n".encode())
        is_method = status is HTTPStatus.METHOD_NOT_ALLOWED
        self._send(reply, {"Allow": "GET, HEAD"} if is_method else {})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are not logged."""
