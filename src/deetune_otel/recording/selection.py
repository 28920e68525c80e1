# SPDX-License-Identifier: Apache-2.0
"""Which exchanges are chosen, and why the others are not; which of the chosen ones are kept.

Patterns are shell patterns (`*` also stands for slashes); of several values of a condition one
must hold, of several conditions all. A condition that an exchange cannot have (the path of a Redis
command) does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import parse_qsl

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)

__all__ = ["Direction", "SampleBy", "Sampling", "Selection", "path_of"]

_FAILED_STATUS: Final = 500


class Direction(StrEnum):
    """From the side of the recorded process."""

    SERVER = "server"  # requests that it answered
    CLIENT = "client"  # requests that it made, and nobody recorded the answering end


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Conditions; one that is empty holds for all."""

    services: tuple[str, ...] = ()  # patterns of service names, of either end
    protocols: frozenset[Protocol] = frozenset()
    operations: tuple[str, ...] = ()  # patterns: "GET /orders/{id}", "SET"
    methods: tuple[str, ...] = ()  # of HTTP
    paths: tuple[str, ...] = ()  # patterns, without the query
    # "404", "5xx", "error" (5xx, an error of Redis, no response) or "ok" (anything else)
    statuses: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()  # name and pattern, of the request
    min_latency_ns: int = 0
    peers: tuple[IPv4Network | IPv6Network, ...] = ()
    ports: tuple[int, ...] = ()  # the server's
    directions: frozenset[Direction] = frozenset()
    traces: frozenset[str] = frozenset()  # trace ids
    exchanges: frozenset[str] = frozenset()  # exchange ids

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, one.name) for one in fields(self))

    def why_not(self, exchange: RecordedExchange) -> str | None:
        """The first condition that does not hold: "path", "status", …; None when chosen."""
        for name, (of, holds) in _CHECKS.items():
            wanted = getattr(self, of)
            if wanted and not holds(exchange, wanted):
                return name
        return None

    def says(self) -> str:
        """As a person would say it; "everything" without a condition."""
        parts = [
            f"{one.name.removesuffix('es') if one.name in _ES else one.name.rstrip('s')} "
            + " or ".join(sorted(map(_said, value)))
            for one in fields(self)
            if one.name != "min_latency_ns" and (value := getattr(self, one.name))
        ]
        if self.min_latency_ns:
            parts.append(f"slower than {self.min_latency_ns / 1e6:g} ms")
        return ", ".join(parts) or "everything"


class SampleBy(StrEnum):
    """What is kept or left out as a whole."""

    CONNECTION = "connection"
    TRACE = "trace"
    KEY = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """A share of what is chosen: alike in every process and on every host.

    `key` is "header:NAME", "cookie:NAME", "query:NAME" or "argument:N" (of a Redis command, the
    name being 0): what carries the session. An exchange that has none is sampled by connection.
    """

    by: SampleBy = SampleBy.CONNECTION
    fraction: float = 1.0
    key: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(
                f"a share is more than 0 and at most 1, not {self.fraction}"
            )
        if (self.by is SampleBy.KEY) != bool(self.key):
            raise ValueError("a key is named where, and only where, it decides")
        if self.key:
            kind, colon, name = self.key.partition(":")
            if kind not in _READ or not colon or not name:
                raise ValueError(
                    f"{self.key!r} is none of header:NAME, cookie:NAME, query:NAME, argument:N"
                )
            if kind == "argument" and not name.isdigit():
                raise ValueError(f"{self.key!r} has no number")

    def keeps(self, exchange: RecordedExchange) -> bool:
        if self.fraction >= 1:
            return True
        identity = ""
        if self.by is SampleBy.TRACE:
            identity = exchange.trace_id
        elif self.by is SampleBy.KEY:
            identity = self._value(exchange)
        digest = blake2b(
            (identity or exchange.connection.id).encode(errors="surrogatepass"),
            digest_size=8,
            person=b"deetune.sample",
        ).digest()
        return int.from_bytes(digest, "big") < self.fraction * (1 << 64)

    def _value(self, exchange: RecordedExchange) -> str:
        kind, _, name = self.key.partition(":")
        match exchange.request:
            case RedisCommand(arguments=arguments) if kind == "argument":
                return b"".join(arguments[int(name) : int(name) + 1]).decode(
                    errors="replace"
                )
            case HttpRequest() as request:
                return _READ[kind](request, name)
        return ""


def _of_query(request: HttpRequest, name: str) -> str:
    query = request.target.partition("?")[2].partition("#")[0]
    return next((v for k, v in parse_qsl(query) if k == name), "")


def _of_headers(request: HttpRequest, name: str) -> str:
    found = (v for k, v in request.headers if k.lower() == name.lower())
    return next(found, "")


def _of_cookies(request: HttpRequest, name: str) -> str:
    for header, value in request.headers:
        if header.lower() == "cookie":
            for cookie in value.split(";"):
                key, _, found = cookie.strip().partition("=")
                if key == name:
                    return found
    return ""


_READ: Final[Mapping[str, Callable[[HttpRequest, str], str]]] = {
    "header": _of_headers,
    "cookie": _of_cookies,
    "query": _of_query,
    "argument": lambda *_: "",
}
_ES: Final = ("statuses",)


def path_of(target: str) -> str:
    """Of a request's target, without scheme, host and query."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target.partition("?")[0].partition("#")[0]


@lru_cache(1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(_pattern(one).match(text) for one in patterns)


def _services(exchange: RecordedExchange, wanted: tuple[str, ...]) -> bool:
    c = exchange.connection
    return any(
        end is not None and _matches(end.service, wanted)
        for end in (c.server_process, c.client_process)
    )


def _protocol(exchange: RecordedExchange, wanted: frozenset[Protocol]) -> bool:
    return exchange.protocol in wanted


def _operation(exchange: RecordedExchange, wanted: tuple[str, ...]) -> bool:
    return _matches(exchange.operation, wanted)


def _method(exchange: RecordedExchange, wanted: tuple[str, ...]) -> bool:
    request = exchange.request
    return isinstance(request, HttpRequest) and request.method.upper() in wanted


def _path(exchange: RecordedExchange, wanted: tuple[str, ...]) -> bool:
    request = exchange.request
    return isinstance(request, HttpRequest) and _matches(
        path_of(request.target), wanted
    )


def _status(exchange: RecordedExchange, wanted: tuple[str, ...]) -> bool:
    response = exchange.response
    has_failed = response is None
    known: tuple[str, ...] = ()
    if isinstance(response, HttpResponse):
        has_failed = response.status >= _FAILED_STATUS
        known = (str(response.status), f"{response.status // 100}xx")
    elif isinstance(response, RedisReply):
        has_failed = isinstance(response.value, redis.Error)
    return any(one in wanted for one in (*known, "error" if has_failed else "ok"))


def _headers(exchange: RecordedExchange, wanted: tuple[tuple[str, str], ...]) -> bool:
    request = exchange.request
    return isinstance(request, HttpRequest) and all(
        any(
            name.lower() == key.lower() and _matches(value, (pattern,))
            for name, value in request.headers
        )
        for key, pattern in wanted
    )


def _latency(exchange: RecordedExchange, wanted: int) -> bool:
    return exchange.duration_ns >= wanted


def _peer(
    exchange: RecordedExchange, wanted: tuple[IPv4Network | IPv6Network, ...]
) -> bool:
    c = exchange.connection
    ends = [
        end.address
        for end, process in ((c.client, c.client_process), (c.server, c.server_process))
        if process is None or (c.client_process and c.server_process)
    ]
    for end in ends:
        try:
            address = ip_address(end)
        except ValueError:
            continue
        if any(address in network for network in wanted):
            return True
    return False


def _port(exchange: RecordedExchange, wanted: tuple[int, ...]) -> bool:
    return exchange.connection.server.port in wanted


def _direction(exchange: RecordedExchange, wanted: frozenset[Direction]) -> bool:
    return (Direction.CLIENT if exchange.is_outgoing else Direction.SERVER) in wanted


def _trace(exchange: RecordedExchange, wanted: frozenset[str]) -> bool:
    return exchange.trace_id in wanted


def _exchange(exchange: RecordedExchange, wanted: frozenset[str]) -> bool:
    return exchange.id in wanted


def _said(value: object) -> str:
    return ": ".join(value) if isinstance(value, tuple) else str(value)


# By the name under which an exchange is counted as not chosen: the condition and its test.
_CHECKS: Final[Mapping[str, tuple[str, Callable[[RecordedExchange, Any], bool]]]] = {
    "service": ("services", _services),
    "protocol": ("protocols", _protocol),
    "operation": ("operations", _operation),
    "method": ("methods", _method),
    "path": ("paths", _path),
    "status": ("statuses", _status),
    "header": ("headers", _headers),
    "latency": ("min_latency_ns", _latency),
    "peer": ("peers", _peer),
    "port": ("ports", _port),
    "direction": ("directions", _direction),
    "trace": ("traces", _trace),
    "exchange": ("exchanges", _exchange),
}
