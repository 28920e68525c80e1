# SPDX-License-Identifier: Apache-2.0
"""HTTP names, outcomes and span attributes, from whole, cut and hostile heads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.http import METHODS
from tests.factories import exchange, key

from deetune_otel.model import End, Role
from deetune_otel.protocols import http
from deetune_otel.protocols.contract import CLOSED
from deetune_otel.protocols.routes import Routes

NAMES = [
    (
        b"GET /users/42?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /users/{id}",
        "/users/{id}",
    ),
    (b"GET / HTTP/1.0\r\n\r\n", "GET /", "/"),
    (b"BREW /pot HTTP/1.1\r\n", "HTTP /pot", "/pot"),
    (b"get /pot HTTP/1.1\r\n", "HTTP /pot", "/pot"),
    (b"NOTIFY /pot HTTP/1.1\r\n", "HTTP /pot", "/pot"),
    (b"PROPFIND /pot HTTP/1.1\r\n", "HTTP /pot", "/pot"),
    (b"QUERY /pot HTTP/1.1\r\n", "QUERY /pot", "/pot"),
    (b"\r\n\nGET /pot HTTP/1.1\r\n", "GET /pot", "/pot"),
    (b"\r\n", "HTTP", None),
    (b"OPTIONS * HTTP/1.1\r\n", "OPTIONS *", "*"),
    (b"CONNECT db.example:5432 HTTP/1.1\r\n", "CONNECT", None),
    (b"GET http://u:p@host:81/a/1?q HTTP/1.1\r\n", "GET /a/{id}", "/a/{id}"),
    (b"GET http://host HTTP/1.1\r\n", "GET /", "/"),
    (b"GET http://host?q HTTP/1.1\r\n", "GET /", "/"),
    (b"GET http://ho", "GET", None),
    (b"GET /users/42/ord", "GET /users/{id}/*", "/users/{id}/*"),
    (b"GET /users/42/orders?long", "GET /users/{id}/orders", "/users/{id}/orders"),
    (b"GET /old\r\n", "GET /old", "/old"),
    (b"GET /page#part HTTP/1.1\r\n", "GET /page", "/page"),
    (b"GET /tab\tbed HTTP/1.1\r\n", "GET /tab", "/tab"),
    (b"GET /nul\x00", "GET /nul", "/nul"),
    (b"GET", "HTTP", None),
    (b"GET ", "GET", None),
    (b"", "HTTP", None),
    (b"\x00\xff\x16\x03", "HTTP", None),
    (b"GET relative HTTP/1.1\r\n", "GET", None),
    (b"GET /na\xc3\xafve HTTP/1.1\r\n", "GET /{id}", "/{id}"),
]


@pytest.mark.parametrize(("head", "name", "route"), NAMES)
def test_operation(head: bytes, name: str, route: str | None) -> None:
    operation = http.operation(head, Routes())
    assert operation.name == name
    assert operation.attributes.get("http.route") == route
    assert operation.attributes["url.scheme"] == "http"
    method = name.split(" ", maxsplit=1)[0].replace("HTTP", "_OTHER")
    assert operation.attributes["http.request.method"] == method


def test_operation_uses_patterns_and_cap() -> None:
    routes = Routes(["/files/*"], max_routes=1)
    assert http.operation(b"GET /files/a/b HTTP/1.1\r\n", routes).name == "GET /files/*"
    assert http.operation(b"GET /a HTTP/1.1\r\n", routes).name == "GET /a"
    beyond = http.operation(b"GET /b HTTP/1.1\r\n", routes)
    assert beyond.name == "GET /*"
    assert beyond.attributes == {
        "http.request.method": "GET",
        "http.route": "/*",
        "otel.metric.overflow": True,
        "url.scheme": "http",
    }
    assert http.operation(b"FOO /b HTTP/1.1\r\n", routes).name == "HTTP /*"


OUTCOMES = [
    (Role.SERVER, 200, None),
    (Role.SERVER, 404, None),
    (Role.SERVER, 500, "500"),
    (Role.CLIENT, 399, None),
    (Role.CLIENT, 404, "404"),
    (Role.CLIENT, 503, "503"),
]


@pytest.mark.parametrize(("role", "status", "error"), OUTCOMES)
def test_outcome(role: Role, status: int, error: str | None) -> None:
    outcome = http.outcome(key(status), role)
    assert outcome.error_type == error
    assert outcome.attributes["http.response.status_code"] == status
    assert outcome.attributes.get("error.type") == error


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("status", "is_client_error", "is_failure"),
    [
        (200, False, False),
        (399, False, False),
        (400, True, False),
        (404, True, False),
        (429, True, False),
        (499, True, False),
        (500, False, True),
        (503, False, True),
    ],
)
def test_what_the_caller_did_wrong_is_no_failure_of_the_server(
    role: Role,
    status: int,
    is_client_error: bool,  # noqa: FBT001
    is_failure: bool,  # noqa: FBT001
) -> None:
    outcome = http.outcome(key(status), role)
    assert (outcome.is_client_error, outcome.is_failure) == (
        is_client_error,
        is_failure,
    )


@pytest.mark.parametrize("status", [0, 200])
def test_response_that_never_ended_is_an_error_and_says_so(status: int) -> None:
    outcome = http.outcome(key(status, end=End.CLOSED), Role.SERVER)
    assert outcome.error_type == CLOSED.error_type == "connection_closed"
    assert "closed before the response" in outcome.message
    assert ("http.response.status_code" in outcome.attributes) == bool(status)


HEAD = (
    b"GET /a/1?secret=1 HTTP/1.1\r\nHost: shop.example:8081\r\n"
    b"user-agent: curl/8\r\nX-Cut: abc"
)


def test_server_span_attributes() -> None:
    assert http.span_attributes(exchange(request_head=HEAD), Role.SERVER) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/a/1",
        "user_agent.original": "curl/8",
        "network.protocol.version": "1.1",
        "server.address": "shop.example",
        "server.port": 8081,
        "http.request.body.size": 3,
        "http.response.body.size": 4,
    }


def test_client_span_attributes() -> None:
    attributes = http.span_attributes(exchange(request_head=HEAD), Role.CLIENT)
    assert attributes["url.full"] == "http://shop.example:8081/a/1"
    assert "url.path" not in attributes


URLS = [
    (b"GET /x HTTP/1.1\r\n", "http://10.0.0.2:80/x"),
    (b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n", "http://[::1]:80/x"),
    (b"GET /x HTTP/1.1\r\nHost: bad host\r\n", "http://10.0.0.2:80/x"),
    (b"GET http://u:pw@h/x?k=v HTTP/1.1\r\nHost: other\r\n", "http://h/x"),
    (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n", "http://h"),
]


@pytest.mark.parametrize(("head", "url"), URLS)
def test_client_url(head: bytes, url: str) -> None:
    assert (
        http.span_attributes(exchange(request_head=head), Role.CLIENT)["url.full"]
        == url
    )


def test_unfinished_parts_are_left_out() -> None:
    cut = http.span_attributes(exchange(request_head=b"GET /long/pa"), Role.SERVER)
    assert "url.path" not in cut
    cut = http.span_attributes(
        exchange(request_head=b"GET /x HTTP/1.1\r\nHost: shop.exa"), Role.SERVER
    )
    assert "server.address" not in cut


def test_body_is_no_header() -> None:
    head = b"POST /x HTTP/1.1\r\n\r\nuser-agent: fake\r\n\r\n"
    assert "user_agent.original" not in http.span_attributes(
        exchange(request_head=head), Role.SERVER
    )


@pytest.mark.parametrize("method", [b"BREW", *METHODS])
def test_original_method_of_unknown_one(method: bytes) -> None:
    attributes = http.span_attributes(
        exchange(request_head=method + b" /x HTTP/1.1\r\n"), Role.SERVER
    )
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == method.decode()


def test_query_is_a_known_method() -> None:
    attributes = http.span_attributes(
        exchange(request_head=b"QUERY /x HTTP/1.1\r\n"), Role.CLIENT
    )
    assert attributes["http.request.method"] == "QUERY"
    assert "http.request.method_original" not in attributes


heads = st.binary(max_size=256) | st.builds(
    lambda head, at, junk: (head[:at] + junk + head[at:])[:256],
    st.sampled_from([HEAD, *(case[0] for case in NAMES)]),
    st.integers(0, 90),
    st.binary(max_size=12),
)


@given(head=heads, role=st.sampled_from(Role))
def test_any_bytes_give_readable_words(head: bytes, role: Role) -> None:
    operation = http.operation(head, Routes())
    attributes = http.span_attributes(exchange(request_head=head), role)
    for word in [operation.name, *operation.attributes.values(), *attributes.values()]:
        assert str(word).isprintable()
        assert str(word).isascii()


@given(cut=st.integers(0, len(HEAD)))
def test_query_never_leaves(cut: int) -> None:
    for role in Role:
        attributes = http.span_attributes(exchange(request_head=HEAD[:cut]), role)
        assert "secret" not in str(attributes)
    assert "secret" not in str(http.operation(HEAD[:cut], Routes()))
