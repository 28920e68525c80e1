# SPDX-License-Identifier: Apache-2.0
"""The options that choose exchanges: the same words for record, recording filter and replay."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Callable
from typing import Final

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import CODECS
from deetune_otel.recording.selection import Direction, Selection

__all__ = ["add_selection", "byte_count", "duration_ns", "selection_of"]

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "": 1_000_000_000,
}
_UNITS_BYTES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MOST_PORT: Final = 65535


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Every option may be given more than once: any of its values will do."""
    group = parser.add_argument_group(
        "which exchanges", "Patterns are the shell's: 'GET /orders/*', shop-*."
    )

    def add(flag: str, metavar: str, text: str, kind: Callable[[str], object]) -> None:
        group.add_argument(
            flag,
            metavar=metavar,
            nargs="+",
            action="extend",
            default=[],
            type=kind,
            help=text,
        )

    add("--service", "NAME", "of a service that called or was called", str)
    add("--path", "PATTERN", "of HTTP, without the query", str)
    add("--method", "METHOD", "of HTTP: GET, POST, …", str.upper)
    add("--operation", "PATTERN", "'GET /orders/{id}', SET", str)
    add("--status", "STATUS", "404, 5xx, error or ok", _status)
    add("--header", "NAME=PATTERN", "of the request", _header)
    add(
        "--protocol",
        "PROTOCOL",
        " or ".join(sorted(CODECS)),
        _protocol,
    )
    add("--peer", "NETWORK", "10.1.0.0/16, 10.1.2.3", _network)
    add("--port", "PORT", "of the server", _port)
    add("--trace", "ID", "trace ids", _hex(32))
    add("--exchange", "ID", "exchange ids", _hex(16))
    group.add_argument(
        "--direction",
        choices=[one.value for one in Direction],
        help="server: requests answered by the service; client: those that it made",
    )
    group.add_argument(
        "--slower-than",
        metavar="TIME",
        type=duration_ns,
        default=0,
        help="at least so long: 250ms, 2s",
    )


def selection_of(args: argparse.Namespace) -> Selection:
    """What `add_selection` has read."""
    return Selection(
        services=tuple(args.service),
        protocols=frozenset(args.protocol),
        operations=tuple(args.operation),
        methods=tuple(args.method),
        paths=tuple(args.path),
        statuses=tuple(args.status),
        headers=tuple(args.header),
        min_latency_ns=args.slower_than,
        peers=tuple(args.peer),
        ports=tuple(args.port),
        directions=frozenset(
            {Direction(args.direction)} if args.direction else frozenset()
        ),
        traces=frozenset(args.trace),
        exchanges=frozenset(args.exchange),
    )


def duration_ns(text: str) -> int:
    """An argument's type: 250ms, 2s; a bare number is seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 250ms or 2s, got {text!r}"
        )
    return round(float(found[1]) * _UNITS_NS[found[2]])


def byte_count(text: str) -> int:
    """An argument's type: 64k, 16M, 1G (of 1,024); a bare number is bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if not found or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(
            f"expected a size such as 64k, 16M or 1G, got {text!r}"
        )
    return round(float(found[1]) * _UNITS_BYTES[found[2]])


def _status(text: str) -> str:
    if not re.fullmatch(r"[1-5]\d\d|[1-5]xx|error|ok", text.lower()):
        raise argparse.ArgumentTypeError(
            f"expected 404, 5xx, error or ok, got {text!r}"
        )
    return text.lower()


def _header(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(
            f"expected a name and a pattern such as 'x-tenant=acme*', got {text!r}"
        )
    return name, pattern


def _protocol(text: str) -> Protocol:
    known = sorted(CODECS)
    if text not in known:
        raise argparse.ArgumentTypeError(f"expected {' or '.join(known)}, got {text!r}")
    return Protocol(text)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a network such as 10.1.0.0/16, got {text!r}"
        ) from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MOST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port, got {text!r}")
    return int(text)


def _hex(digits: int) -> Callable[[str], str]:
    def kind(text: str) -> str:
        if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", text.lower()):
            raise argparse.ArgumentTypeError(
                f"expected {digits} hexadecimal digits, got {text!r}"
            )
        return text.lower()

    return kind
