# SPDX-License-Identifier: Apache-2.0
"""What bytes on a connection do not say of an exchange, as the comment of its first packet.

Ids, processes, times, why bytes are missing, and how many bytes belong to it: with these and
the bytes, reading gives back an equal exchange.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from deetune_otel.model import Protocol, Transport
from deetune_otel.recording.comments import from_text, to_text
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    MissingBecause,
    Process,
    RawMessage,
    RecordedExchange,
)

__all__ = [
    "Extent",
    "Facts",
    "Gap",
    "connection_comment",
    "exchange_comment",
    "facts_in",
    "response_comment",
]

MAX_TIME_NS: Final = 1 << 63  # the year 2262
_WORD: Final = re.compile(r"[\w.:$*-]+", re.ASCII)


class Gap(NamedTuple):
    """Bytes of a message that are not in the file."""

    at: int  # in sequence numbers, from the message's first one
    bytes: int
    because: MissingBecause


class Extent(NamedTuple):
    """How a message lies in the file."""

    sequence: int = 0  # how many sequence numbers it takes
    gaps: tuple[Gap, ...] = ()
    wire_bytes: int | None = None  # None: as many as its bytes in the file


class Facts(NamedTuple):
    """An exchange without its messages."""

    id: str
    connection_id: str
    protocol: Protocol
    transport: Transport
    client: Endpoint | None  # None: as the packets say
    server: Endpoint | None
    client_process: Process | None
    server_process: Process | None
    peer_service: str
    is_raw: bool
    times_ns: tuple[int, int, int, int]
    request: Extent
    response: Extent | None  # None: there was none
    trace_id: str
    span_id: str
    operation: str
    cause: str
    cause_method: str
    calls: int | None
    incomplete: tuple[str, ...]
    redactions: tuple[str, ...]


# Writing


def exchange_comment(
    exchange: RecordedExchange,
    request: Extent,
    response: Extent | None,
    *,
    connection: str,
) -> str:
    """For the request's first packet; `connection` is what `connection_comment` gave."""
    times = (
        exchange.request_start_ns,
        exchange.request_end_ns,
        exchange.response_start_ns,
        exchange.response_end_ns,
    )
    facts = {
        "exchange": exchange.id,
        "trace_id": exchange.trace_id,
        "span_id": exchange.span_id,
        "operation": exchange.operation,
        "cause": exchange.cause,
        "cause_method": exchange.cause_method,
        "calls": "" if exchange.calls is None else str(exchange.calls),
        "incomplete": _joined(exchange.incomplete),
        "redactions": _joined(exchange.redactions),
        "raw": "yes" if isinstance(exchange.request, RawMessage) else "",
        "times_ns": ",".join(map(str, times)),
        **_extent("request", request),
        **(_extent("response", response) if response else {}),
    }
    return f"{to_text(facts)} {connection}"


def connection_comment(
    connection: Connection, *, client: Endpoint, server: Endpoint
) -> str:
    """The part that is the same for all of a connection's exchanges.

    `client` and `server` are what the packets say; what differs is written out.
    """
    facts = {"connection": connection.id, "protocol": connection.protocol.value}
    if connection.peer_service:
        facts["peer_service"] = connection.peer_service
    if connection.transport is not Transport.TCP:
        facts["transport"] = connection.transport.value
    for end, real, shown in (
        ("client", connection.client, client),
        ("server", connection.server, server),
    ):
        if real != shown:
            facts |= {f"{end}_address": real.address, f"{end}_port": str(real.port)}
    for end, process in (
        ("client", connection.client_process),
        ("server", connection.server_process),
    ):
        if process is not None:
            facts |= {
                f"{end}_service": process.service,
                f"{end}_namespace": process.service_namespace,
                f"{end}_pid": str(process.pid),
                f"{end}_command": process.command,
                f"{end}_container": process.container_id,
            }
    return to_text(facts)


def response_comment(exchange: RecordedExchange) -> str:
    """For the response's first packet: enough to find it by."""
    return to_text({"exchange": exchange.id, "trace_id": exchange.trace_id})


def _extent(end: str, extent: Extent) -> dict[str, str]:
    wire_bytes = extent.wire_bytes
    return {
        f"{end}_bytes": str(extent.sequence),
        f"{end}_gaps": ",".join(f"{a}:{n}:{why.value}" for a, n, why in extent.gaps),
        f"{end}_wire_bytes": "" if wire_bytes is None else str(wire_bytes),
    }


def _joined(words: Iterable[str]) -> str:
    found = list(words)
    if all(_WORD.fullmatch(word) for word in found):
        return ",".join(found)
    return json.dumps(found)


# Reading


def facts_in(comment: str) -> Facts | None:
    """None for a comment that begins no exchange; BadInput for one that does, and is broken."""
    if "times_ns=" not in comment:
        return None
    found = from_text(comment)
    if "exchange" not in found:
        return None
    try:
        return _facts(found)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"the facts of exchange {found['exchange']}: {error}") from None


def _facts(found: Mapping[str, str]) -> Facts:
    get = found.get
    start, end, response_start, response_end = map(_time, found["times_ns"].split(","))
    return Facts(
        id=found["exchange"],
        connection_id=get("connection", ""),
        protocol=Protocol(found["protocol"]),
        transport=Transport(get("transport", Transport.TCP)),
        client=_endpoint(found, "client"),
        server=_endpoint(found, "server"),
        client_process=_process(found, "client"),
        server_process=_process(found, "server"),
        peer_service=get("peer_service", ""),
        is_raw="raw" in found,
        times_ns=(start, end, response_start, response_end),
        request=_read_extent(found, "request"),
        response=(
            _read_extent(found, "response") if "response_bytes" in found else None
        ),
        trace_id=get("trace_id", ""),
        span_id=get("span_id", ""),
        operation=get("operation", ""),
        cause=get("cause", ""),
        cause_method=get("cause_method", ""),
        calls=int(found["calls"]) if "calls" in found else None,
        incomplete=_words(get("incomplete", "")),
        redactions=_words(get("redactions", "")),
    )


def _time(text: str) -> int:
    at_ns = int(text)
    if not 0 <= at_ns < MAX_TIME_NS:
        raise ValueError(f"{text} is no time")
    return at_ns


def _endpoint(found: Mapping[str, str], end: str) -> Endpoint | None:
    if f"{end}_port" not in found:
        return None
    return Endpoint(found.get(f"{end}_address", ""), int(found[f"{end}_port"]))


def _process(found: Mapping[str, str], end: str) -> Process | None:
    if f"{end}_pid" not in found:
        return None
    return Process(
        service=found.get(f"{end}_service", ""),
        service_namespace=found.get(f"{end}_namespace", ""),
        pid=int(found[f"{end}_pid"]),
        command=found.get(f"{end}_command", ""),
        container_id=found.get(f"{end}_container", ""),
    )


def _read_extent(found: Mapping[str, str], end: str) -> Extent:
    wire_bytes = found.get(f"{end}_wire_bytes")
    gaps = []
    for text in found.get(f"{end}_gaps", "").split(","):
        if text:
            at, count, because = text.split(":")
            gaps.append(Gap(int(at), int(count), MissingBecause(because)))
    return Extent(
        sequence=int(found[f"{end}_bytes"]),
        gaps=tuple(gaps),
        wire_bytes=None if wire_bytes is None else int(wire_bytes),
    )


def _words(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        return tuple(map(str, json.loads(text)))
    return tuple(text.split(",")) if text else ()
