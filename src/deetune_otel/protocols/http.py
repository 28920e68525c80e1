# SPDX-License-Identifier: Apache-2.0
"""HTTP/1: names and attributes from the first bytes of a request's head.

The head comes with up to 256 bytes and may end anywhere. Only finished parts are used: a path
that something ends, header lines that end in CRLF. Empty lines before it are passed over. Query strings never leave this module.
Percent-encoding stays as it is (a decoded slash would name another route).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from opentelemetry.semconv._incubating.attributes.http_attributes import (
    HTTP_REQUEST_BODY_SIZE,
    HTTP_RESPONSE_BODY_SIZE,
    HttpRequestMethodValues,  # the stable ones are without QUERY
)
from opentelemetry.semconv._incubating.metrics import http_metrics
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import (
    SERVER_ADDRESS,
    SERVER_PORT,
)
from opentelemetry.semconv.attributes.url_attributes import (
    URL_FULL,
    URL_PATH,
    URL_SCHEME,
)
from opentelemetry.semconv.attributes.user_agent_attributes import USER_AGENT_ORIGINAL

from deetune_otel.model import End, Operation, Protocol, Role
from deetune_otel.protocols.contract import (
    CLOSED,
    Attributes,
    Instrument,
    Measure,
    Outcome,
    error,
    server_endpoint,
)
from deetune_otel.protocols.routes import ANY_ROUTE, OVERFLOW_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.model import Edge, Exchange, SeriesKey
    from deetune_otel.protocols.routes import Routes

__all__ = [
    "METRICS",
    "OVERFLOWS",
    "beyond_cap",
    "edge_attributes",
    "operation",
    "outcome",
    "span_attributes",
]

METRICS: Final[Mapping[Role, tuple[Instrument, ...]]] = {
    Role.SERVER: (
        Instrument(
            name=http_metrics.HTTP_SERVER_REQUEST_DURATION,
            unit="s",
            description="Duration of HTTP server requests.",
            measure=Measure.DURATION,
        ),
        Instrument(
            name=http_metrics.HTTP_SERVER_REQUEST_BODY_SIZE,
            unit="By",
            description="Size of HTTP server request bodies.",
            measure=Measure.REQUEST_BODY,
        ),
        Instrument(
            name=http_metrics.HTTP_SERVER_RESPONSE_BODY_SIZE,
            unit="By",
            description="Size of HTTP server response bodies.",
            measure=Measure.RESPONSE_BODY,
        ),
    ),
    Role.CLIENT: (
        Instrument(
            name=http_metrics.HTTP_CLIENT_REQUEST_DURATION,
            unit="s",
            description="Duration of HTTP client requests.",
            measure=Measure.DURATION,
        ),
        Instrument(
            name=http_metrics.HTTP_CLIENT_REQUEST_BODY_SIZE,
            unit="By",
            description="Size of HTTP client request bodies.",
            measure=Measure.REQUEST_BODY,
        ),
        Instrument(
            name=http_metrics.HTTP_CLIENT_RESPONSE_BODY_SIZE,
            unit="By",
            description="Size of HTTP client response bodies.",
            measure=Measure.RESPONSE_BODY,
        ),
    ),
}

_SCHEME: Final = "http"  # plaintext is all that this module sees
_OTHER: Final = HttpRequestMethodValues.OTHER.value
_KNOWN_METHODS: Final = frozenset(
    method.value for method in HttpRequestMethodValues
) - {_OTHER}
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z+.-]*://([^/?#]*)")
_VERSION: Final = re.compile(r"HTTP/(\d\.\d)")
_HOST: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~%-]{1,253})(?::(?P<port>\d{1,5}))?"
)
# What ends a path for the kernel's signature too: control characters, blank, query, fragment.
_PATH_END: Final = re.compile(r"[\x00-\x20?#]")
# The kernel's signatures of what is beyond its own cap, from the second on.
OVERFLOWS: Final = (
    "GET",
    "PUT",
    "HEAD",
    "POST",
    "PATCH",
    "TRACE",
    "QUERY",
    "DELETE",
    "OPTIONS",
)
# Any token may be a method (RFC 9110, section 9.1); the bound is the kernel's, DT_METHOD_BYTES.
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What is certain of a request's head; "" and None for what is not."""

    method: str = ""
    authority: str = ""  # of an absolute-form target
    path: str = ""  # "" when the target has none
    path_complete: bool = False
    version: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # by lower-case name

    @property
    def conventional_method(self) -> str:
        return self.method if self.method in _KNOWN_METHODS else _OTHER

    def host(self) -> tuple[str, int | None]:
        """The host and the port that the request names; the target wins over the header."""
        match = _HOST.fullmatch(self.authority or self.headers.get("host", ""))
        if match is None:
            return "", None
        port = match["port"]
        return match["host"].strip("[]"), int(port) if port else None


def operation(head: bytes, routes: Routes) -> Operation:
    """`GET /users/{id}`; without a path the method alone, `HTTP` for methods nobody knows."""
    parsed = _parse(head)
    method = parsed.conventional_method
    attributes: Attributes = {HTTP_REQUEST_METHOD: method, URL_SCHEME: _SCHEME}
    name = "HTTP" if method == _OTHER else method
    if parsed.path:
        route = _route(parsed, routes)
        attributes[HTTP_ROUTE] = route
        name = f"{name} {route}"
    return routes.capped(
        Protocol.HTTP,
        Operation(name=name, attributes=attributes),
        beyond=beyond_cap(method),
    )


def beyond_cap(method: str) -> Operation:
    """What an operation is counted as that is one too many: its method is still told."""
    name = "HTTP" if method == _OTHER else method
    return Operation(
        name=f"{name} {ANY_ROUTE}",
        attributes={
            HTTP_REQUEST_METHOD: method,
            URL_SCHEME: _SCHEME,
            HTTP_ROUTE: ANY_ROUTE,
            OVERFLOW_ATTRIBUTE: True,
        },
    )


def outcome(key: SeriesKey, role: Role) -> Outcome:
    """An error is 5xx at a server, 4xx and 5xx at a client, and a response that never ended."""
    attributes: Attributes = (
        {HTTP_RESPONSE_STATUS_CODE: key.outcome} if key.outcome else {}
    )
    if key.end is End.CLOSED:
        return error(
            str(CLOSED.error_type), message=CLOSED.message, attributes=attributes
        )
    is_client_error = 400 <= key.outcome < 500
    made = Outcome(attributes=attributes)
    if key.outcome >= (500 if role is Role.SERVER else 400):
        made = error(str(key.outcome), attributes=attributes)
    return replace(made, is_client_error=True) if is_client_error else made


def edge_attributes(edge: Edge) -> Attributes:
    return server_endpoint(edge)


def span_attributes(exchange: Exchange, role: Role) -> Attributes:
    """From the head; server.address and server.port only where the request names them."""
    parsed = _parse(exchange.request_head)
    attributes: Attributes = {
        HTTP_REQUEST_METHOD: parsed.conventional_method,
        URL_SCHEME: _SCHEME,
        HTTP_REQUEST_BODY_SIZE: exchange.request_body_bytes,
        HTTP_RESPONSE_BODY_SIZE: exchange.response_body_bytes,
    }
    if parsed.method and parsed.conventional_method == _OTHER:
        attributes[HTTP_REQUEST_METHOD_ORIGINAL] = parsed.method
    if parsed.version:
        attributes[NETWORK_PROTOCOL_VERSION] = parsed.version
    if user_agent := parsed.headers.get("user-agent"):
        attributes[USER_AGENT_ORIGINAL] = user_agent
    host, port = parsed.host()
    if host:
        attributes[SERVER_ADDRESS] = host
        if port is not None:
            attributes[SERVER_PORT] = port
    if parsed.path and parsed.path_complete:
        if role is Role.CLIENT:
            attributes[URL_FULL] = _full_url(parsed, exchange)
        else:
            attributes[URL_PATH] = parsed.path
    return attributes


def _route(parsed: _Head, routes: Routes) -> str:
    if not parsed.path.startswith("/"):
        return parsed.path  # "*", the only other form with a path
    return routes.route(parsed.path, complete=parsed.path_complete)


def _full_url(parsed: _Head, exchange: Exchange) -> str:
    host, port = parsed.host()
    if not host:
        host, port = exchange.peer_address or "localhost", exchange.peer_port or None
    if ":" in host:
        host = f"[{host}]"
    authority = host if port is None else f"{host}:{port}"
    return f"{_SCHEME}://{authority}{parsed.path.removeprefix('*')}"


def _parse(head: bytes) -> _Head:
    # latin-1 never fails and keeps one character a byte; what shows is filtered below.
    lines = head.lstrip(b"\r\n").decode("latin-1").split("\n")
    finished = len(lines) > 1
    method, blank, rest = lines[0].rstrip("\r").partition(" ")
    if not blank or not _METHOD.fullmatch(method):
        return _Head()
    target, blank, version = rest.partition(" ")
    authority, path, path_complete = _split_target(
        method, target, finished=bool(blank) or finished
    )
    match = _VERSION.fullmatch(version) if finished else None
    return _Head(
        method=method,
        authority=authority,
        path=path,
        path_complete=path_complete,
        version=match[1] if match else "",
        headers=_headers(lines[1:-1]),
    )


def _split_target(method: str, target: str, *, finished: bool) -> tuple[str, str, bool]:
    """Authority, path and whether that is the whole path (RFC 9112, section 3.2)."""
    if method == "CONNECT":
        return target if finished else "", "", finished
    authority = ""
    path, *after = _PATH_END.split(target, maxsplit=1)
    complete = finished or bool(after)
    if match := _ABSOLUTE.match(path):
        path = path[match.end() :]
        authority = match[1].rpartition("@")[2]  # credentials stay here
        if not path and not complete:
            return "", "", False  # cut in the middle of the host
        path = path or "/"
    if path == "*" or path.startswith("/"):
        return authority, _printable(path), complete
    return authority, "", False


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            break  # the blank line: what follows is the body
        headers.setdefault(name.lower(), _printable(value.strip()))
    return headers


def _printable(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)
