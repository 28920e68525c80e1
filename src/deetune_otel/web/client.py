# SPDX-License-Identifier: Apache-2.0
"""Asks a running agent for its map.

Bounded in time, from the connect to the last byte, and in size: what answers there may be
anything. No proxy and no redirect: the agent is the one at the address.

AgentError              expected; the message names the URL and what to look at
├── NoAgent             nothing listens there, or nothing can be reached
└── NotDeetune          something answers, and it is no agent, or one of another version
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from deetune_otel.config.hosts import wrong_with_url
from deetune_otel.topology.carry import MapFormatError, from_json
from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap
from deetune_otel.topology.writing import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AgentClient", "AgentError", "NoAgent", "NotDeetune"]

TIMEOUT_S: Final = 10.0
# Two thousand edges come to some 8 MB.
MAX_BYTES: Final = 64 * 1024 * 1024
CHUNK: Final = 256 * 1024
# Of what an agent says about a refused question; more is not for a person to read.
MAX_REASON: Final = 200

Document = TypeVar("Document", ServiceMap, EdgeDetails, NodeDetails)


class AgentError(Exception):
    """`hint` says what can be done."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NoAgent(AgentError):  # noqa: N818 - reads as what happened
    """Nothing listens there, or nothing can be reached."""


class NotDeetune(AgentError):  # noqa: N818
    """Something answers, and it is no agent, or one of another version."""


class AgentClient:
    """One question a connection; may be used from several threads."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Raises AgentError where `url` is none that could be asked."""
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        wrong = wrong_with_url(self.url)
        if wrong:
            raise AgentError(f"{url!r} is no URL of an agent: {wrong}", hint=_URL_HINT)
        parts = urlsplit(self.url)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path
        self._is_tls = parts.scheme == "https"

    def check(self) -> None:
        """Raises AgentError unless an agent answers."""
        status = self._ask("/status", {})
        if not isinstance(status, dict) or "ledger" not in status:
            raise self._not_deetune("/status is not an agent's")

    def service_map(self, *, window_s: float, with_pairs: bool = False) -> ServiceMap:
        """`with_pairs`: with what is needed to merge it with other agents' maps."""
        query = {"window": f"{window_s:g}"}
        if with_pairs:
            query["connections"] = "1"
        return self._read(ServiceMap, self._ask("/api/map", query))

    def edge_details(self, edge_id: str, *, window_s: float) -> EdgeDetails | None:
        """None: there is no such edge, or not any more."""
        return self._details(EdgeDetails, "/api/edge", edge_id, window_s)

    def node_details(self, node_id: str, *, window_s: float) -> NodeDetails | None:
        """None: there is no such node, or not any more."""
        return self._details(NodeDetails, "/api/node", node_id, window_s)

    def _details(
        self, kind: type[Document], path: str, what: str, window_s: float
    ) -> Document | None:
        try:
            found = self._ask(path, {"id": what, "window": f"{window_s:g}"})
        except _NotFound:
            return None
        return self._read(kind, found)

    def _read(self, kind: type[Document], document: object) -> Document:
        try:
            return from_json(kind, document)
        except MapFormatError as error:
            raise NotDeetune(
                f"{self.url}: the agent's answer cannot be read: {error}",
                hint="the agent and this command are of different versions: "
                "`deetune --version` on both sides",
            ) from None

    def _ask(self, path: str, query: Mapping[str, str]) -> Any:
        target = quote(f"{self._path}{path}", safe="/%")
        if query:
            target += f"?{urlencode(query)}"
        status, body = self._get(target)
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if status == http.HTTPStatus.OK and answer is not None:
            return answer
        reason = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(reason, str):
            raise self._not_deetune(f"{path} is answered with {status}")
        reason = plain(reason, limit=MAX_REASON)
        if status == http.HTTPStatus.NOT_FOUND:
            raise _NotFound(f"{self.url}: {reason}")
        raise AgentError(
            f"{self.url}: the agent cannot answer: {reason}",
            hint="the agent's own log may say more",
        )

    def _get(self, target: str) -> tuple[int, bytes]:
        """Status and body; raises AgentError and nothing else."""
        connection = self._connection()
        overdue = threading.Event()
        # The connection itself lets go of it when the answer ends with the connection.
        sockets: list[socket.socket] = []

        def cut() -> None:
            overdue.set()
            for one in sockets:
                _shut(one)

        watchdog = threading.Timer(self._timeout_s, cut)
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.connect()
            sockets.append(connection.sock)
            connection.request("GET", target, headers={"Accept": "application/json"})
            response = connection.getresponse()
            body = self._body(response)
            if overdue.is_set():
                raise self._too_slow()
        except (OSError, http.client.HTTPException) as error:
            if overdue.is_set() or isinstance(error, TimeoutError):
                raise self._too_slow() from None
            raise self._explained(error) from None
        finally:
            watchdog.cancel()
            connection.close()
        return response.status, body

    def _connection(self) -> http.client.HTTPConnection:
        kind = (
            http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        )
        return kind(self._host, self._port, timeout=self._timeout_s)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := response.read(CHUNK):
            size += len(part)
            if size > self._max_bytes:
                raise self._not_deetune(f"it answers with over {self._max_bytes} bytes")
            parts.append(part)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(parts)

    def _explained(self, error: Exception) -> AgentError:
        match error:
            case ConnectionRefusedError():
                return NoAgent(
                    f"{self.url}: nothing listens there (connection refused)",
                    hint="is the agent running (`deetune run`), with web.enabled, and is "
                    "this its web.port? It listens on loopback unless web.host says else",
                )
            case socket.gaierror():
                return NoAgent(f"{self.url}: unknown host: {error.strerror}")
            case http.client.HTTPException() | ConnectionResetError():
                # `IncompleteRead` holds the body: its name says enough.
                return self._not_deetune(f"no HTTP answer ({type(error).__name__})")
            case OSError():
                return NoAgent(f"{self.url}: {error.strerror or error}")
        raise error

    def _too_slow(self) -> AgentError:
        return AgentError(
            f"{self.url}: no answer within {self._timeout_s:g} s",
            hint="the agent may be stopped or its host overloaded",
        )

    def _not_deetune(self, reason: str) -> NotDeetune:
        return NotDeetune(
            f"{self.url}: what answers there is not a deetune agent with a map: {reason}",
            hint="a URL as the agent logs it at its start, such as "
            "http://127.0.0.1:8127",
        )


_URL_HINT: Final = "a URL such as http://127.0.0.1:8127"


class _NotFound(AgentError):  # noqa: N818
    """The agent knows no such edge or node."""


def _shut(sock: socket.socket) -> None:
    """Wakes the thread that reads from it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed meanwhile
