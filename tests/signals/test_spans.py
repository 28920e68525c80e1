# SPDX-License-Identifier: Apache-2.0
"""Spans by role, protocol and transport."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from tests.factories import edge, exchange, key

from deetune_otel.model import (
    Edge,
    End,
    Exchange,
    Operation,
    Protocol,
    Role,
    Service,
    Transport,
)
from deetune_otel.protocols import PROTOCOLS
from deetune_otel.protocols.routes import OVERFLOW, Routes
from deetune_otel.signals import spans
from deetune_otel.signals.resource import Resources
from deetune_otel.signals.traces import ParentMethod, SpanIds

HEAD = b"GET /users/42?secret=1 HTTP/1.1\r\nHost: shop:8080\r\n\r\n"
IDS = SpanIds(
    trace_id=0xA, span_id=0xB, parent_span_id=0xC, parent_method=ParentMethod.WIRE
)


def build(
    one: Exchange, one_edge: Edge, operation: Operation | None = None, **changes: Any
) -> ReadableSpan:
    resources = Resources("1")
    arguments: dict[str, Any] = {
        "ids": IDS,
        "resource": resources.of(Service(name="s")),
        "scope": resources.scope,
        "wall_clock_offset_ns": 1_000_000,
    }
    if operation is None:
        operation = PROTOCOLS[one.key.protocol].operation(one.request_head, Routes())
    return spans.build(one, one_edge, operation, **(arguments | changes))


def test_http_server() -> None:
    span = build(exchange(request_head=HEAD), edge(Role.SERVER))
    assert span.name == "GET /users/{id}"
    assert span.kind is SpanKind.SERVER
    assert dict(span.attributes or {}) == {
        "client.address": "10.0.0.2",
        "server.address": "shop",
        "server.port": 8080,
        "network.peer.address": "10.0.0.2",
        "network.peer.port": 80,
        "network.transport": "tcp",
        "network.protocol.version": "1.1",
        "http.request.method": "GET",
        "http.route": "/users/{id}",
        "http.response.status_code": 200,
        "http.request.body.size": 3,
        "http.response.body.size": 4,
        "url.path": "/users/42",
        "url.scheme": "http",
        "deetune.kept": "hash",
        "deetune.parent.method": "wire",
        "deetune.time_to_first_byte": 1e-6,
    }
    assert (span.start_time, span.end_time) == (1_001_000, 1_003_000)
    assert span.status.status_code is StatusCode.UNSET


def test_ids_parent_and_links() -> None:
    ids = SpanIds(trace_id=0xA, span_id=0xB, links=((0xE, 0xF),))
    span = build(exchange(), edge(), ids=ids)
    assert span.parent is None
    assert [(x.context.trace_id, x.context.span_id) for x in span.links] == [(0xE, 0xF)]
    assert "deetune.parent.method" not in (span.attributes or {})
    span = build(exchange(), edge())
    context = span.get_span_context()
    assert context is not None
    assert context.is_valid
    assert (context.trace_id, context.span_id) == (0xA, 0xB)
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (0xA, 0xC)


def test_client_without_a_host_header() -> None:
    span = build(exchange(request_head=b"GET / HTTP/1.0\r\n\r\n"), edge())
    attributes = dict(span.attributes or {})
    assert span.kind is SpanKind.CLIENT
    assert (
        attributes["server.address"] == attributes["network.peer.address"] == "10.0.0.2"
    )
    assert attributes["client.address"] == "10.0.0.1"
    assert attributes["url.full"] == "http://10.0.0.2:80/"


STATUS = [
    (key(404), Role.SERVER, None, None),
    (key(404), Role.CLIENT, "404", None),
    (key(0, end=End.CLOSED), Role.CLIENT, "connection_closed", "closed before"),
    (key(2, Protocol.REDIS), Role.CLIENT, "WRONGTYPE", "WRONGTYPE"),
    (key(111, Protocol.CONNECT), Role.CLIENT, "ECONNREFUSED", "connect failed"),
]


@pytest.mark.parametrize(("series", "role", "error", "words"), STATUS)
def test_status(series: Any, role: Role, error: str | None, words: str | None) -> None:
    span = build(exchange(key=series), edge(role))
    is_error = span.status.status_code is StatusCode.ERROR
    assert is_error == (error is not None)
    assert (span.attributes or {}).get("error.type") == error
    assert (words or "") in (span.status.description or "")
    assert bool(words) == bool(span.status.description)


def test_unix_sockets_show_the_servers_path() -> None:
    one = exchange(
        transport=Transport.UNIX,
        local_address="",
        local_port=0,
        peer_address="",
        peer_port=0,
        key=key(0, Protocol.REDIS),
        request_head=b"PING\r\n",
    )
    for role in (Role.CLIENT, Role.SERVER):
        path = edge(role, transport=Transport.UNIX, peer_address="/run/r.sock")
        attributes = dict(build(one, path).attributes or {})
        assert attributes["server.address"] == "/run/r.sock"
        assert attributes["network.transport"] == "unix"
        assert "server.port" not in attributes
        assert "client.address" not in attributes
        assert ("network.peer.address" in attributes) == (role is Role.CLIENT)


def test_known_peer() -> None:
    attributes = build(exchange(), edge(), peer_service="db").attributes or {}
    assert attributes["service.peer.name"] == attributes["peer.service"] == "db"


def test_an_operation_over_the_cap_still_has_its_method() -> None:
    span = build(exchange(request_head=HEAD), edge(), OVERFLOW)
    assert span.name == "other"
    assert (span.attributes or {})["http.request.method"] == "GET"
    assert "otel.metric.overflow" not in (span.attributes or {})


def test_it_can_be_exported() -> None:
    series = [key(0, protocol) for protocol in Protocol]
    made = [
        build(exchange(key=one, request_head=HEAD), edge(role))
        for one in series
        for role in Role
    ]
    request = encode_spans(made)
    [resource] = request.resource_spans
    assert len(resource.scope_spans[0].spans) == len(made)


def test_a_clock_that_stood_still() -> None:
    span = build(exchange(first_byte_ns=0, end_ns=0), edge())
    assert span.end_time == span.start_time
    assert "deetune.time_to_first_byte" not in (span.attributes or {})
