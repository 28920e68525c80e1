# SPDX-License-Identifier: Apache-2.0
"""A kept exchange becomes the SDK's ReadableSpan, with explicit ids and times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.semconv._incubating.attributes.peer_attributes import PEER_SERVICE
from opentelemetry.semconv._incubating.attributes.service_attributes import (
    SERVICE_PEER_NAME,
)
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.network_attributes import (
    NETWORK_PEER_ADDRESS,
    NETWORK_PEER_PORT,
    NETWORK_TRANSPORT,
)
from opentelemetry.semconv.attributes.server_attributes import (
    SERVER_ADDRESS,
    SERVER_PORT,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from deetune_otel.model import Role, Transport
from deetune_otel.protocols import PROTOCOLS
from deetune_otel.protocols.routes import OVERFLOW_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from deetune_otel.model import Edge, Exchange, Operation
    from deetune_otel.protocols.contract import Outcome
    from deetune_otel.signals.traces import SpanIds

__all__ = ["build"]

Value = str | int | float

PARENT_METHOD: Final = "deetune.parent.method"
KEPT: Final = "deetune.kept"
TIME_TO_FIRST_BYTE: Final = "deetune.time_to_first_byte"  # seconds

_KINDS: Final[Mapping[Role, SpanKind]] = {
    Role.CLIENT: SpanKind.CLIENT,
    Role.SERVER: SpanKind.SERVER,
    Role.UNKNOWN: SpanKind.INTERNAL,
}


def build(  # noqa: PLR0913 - a span is made of many things, each by its name
    exchange: Exchange,
    edge: Edge,
    operation: Operation,
    *,
    ids: SpanIds,
    resource: Resource,
    scope: InstrumentationScope,
    wall_clock_offset_ns: int,
    peer_service: str = "",
) -> ReadableSpan:
    """`wall_clock_offset_ns` is what turns CLOCK_MONOTONIC into Unix time."""
    module = PROTOCOLS[exchange.key.protocol]
    outcome = module.outcome(exchange.key, edge.role)
    attributes: dict[str, Value] = {
        **_connection_attributes(exchange, edge),
        **module.span_attributes(exchange, edge.role),
        **operation.attributes,
        **outcome.attributes,
        KEPT: exchange.kept.value,
    }
    attributes.pop(OVERFLOW_ATTRIBUTE, None)  # of metrics
    if exchange.first_byte_ns > exchange.start_ns:
        waited_ns = exchange.first_byte_ns - exchange.start_ns
        attributes[TIME_TO_FIRST_BYTE] = waited_ns / 1e9
    if ids.parent_method is not None:
        attributes[PARENT_METHOD] = ids.parent_method.value
    if peer_service:
        attributes[SERVICE_PEER_NAME] = attributes[PEER_SERVICE] = peer_service
    return ReadableSpan(
        name=operation.name,
        context=_context(ids.trace_id, ids.span_id, is_remote=False),
        parent=None
        if ids.parent_span_id is None
        else _context(ids.trace_id, ids.parent_span_id, is_remote=True),
        resource=resource,
        attributes=attributes,
        links=tuple(Link(_context(*link, is_remote=True)) for link in ids.links),
        kind=_KINDS[edge.role],
        status=_status(outcome),
        start_time=exchange.start_ns + wall_clock_offset_ns,
        end_time=max(exchange.end_ns, exchange.start_ns) + wall_clock_offset_ns,
        instrumentation_scope=scope,
    )


def _connection_attributes(exchange: Exchange, edge: Edge) -> dict[str, Value]:
    """Addresses and ports, as far as they are known; a Unix server's path for its address."""
    is_server = edge.role is Role.SERVER
    peer, local = exchange.peer_address, exchange.local_address
    if exchange.transport is Transport.UNIX:
        server, port = edge.server_address, 0
        client, peer = "", "" if is_server else server
    elif is_server:
        server, port, client = local, exchange.local_port, peer
    else:
        server, port, client = peer, exchange.peer_port, local
    known: dict[str, Value] = {
        CLIENT_ADDRESS: client,
        SERVER_ADDRESS: server,
        SERVER_PORT: port,
        NETWORK_PEER_ADDRESS: peer,
        NETWORK_PEER_PORT: exchange.peer_port,
        NETWORK_TRANSPORT: exchange.transport.value,
    }
    return {name: value for name, value in known.items() if value}


def _status(outcome: Outcome) -> Status:
    if outcome.error_type is None:
        return Status(StatusCode.UNSET)
    return Status(StatusCode.ERROR, outcome.message or None)


def _context(trace_id: int, span_id: int, *, is_remote: bool) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))
