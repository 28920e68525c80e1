# SPDX-License-Identifier: Apache-2.0
"""A line there and back, its names, and what is no such line."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exchanges import EXCHANGE, any_exchange

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    RecordedExchange,
)
from deetune_otel.recording.ndjson import from_line, to_line


@given(any_exchange())
def test_any_exchange_there_and_back(exchange: RecordedExchange) -> None:
    line = to_line(exchange)
    assert "\n" not in line
    assert from_line(line) == exchange


def test_names_are_the_conventions() -> None:
    found = json.loads(to_line(EXCHANGE))
    assert found["http.request.method"] == "POST"
    assert (found["url.path"], found["url.query"]) == ("/orders", "a=b")
    assert found["http.response.status_code"] == 201
    assert found["service.name"] == "shop"
    assert found["duration_ns"] == 3


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"request": 1}',
        '{"request": {"type": "smtp"}}',
        "[" * 100_000,
        '{"a":' * 50_000,
    ],
)
def test_what_is_no_exchange_is_refused(line: str) -> None:
    with pytest.raises(BadInput):
        from_line(line)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (["exchange"], 1),
        (["server.port"], "80"),
        (["server.port"], True),
        (["start_time_unix_nano"], -1),
        (["network.transport"], "pigeon"),
        (["incomplete"], [1]),
        (["server.process"], []),
        (["request", "headers"], [["a"]]),
        (["request", "body"], {"base64": "?"}),
        (["request", "body"], "\ud800"),
        (["request", "missing"], [[0, 0, "lost"]]),
        (["response", "missing"], [[0, 1, "eaten"]]),
        (["response", "type"], "raw request"),
    ],
)
def test_a_wrong_field_is_named(at: list[str], value: object) -> None:
    document = json.loads(to_line(EXCHANGE))
    inner = document
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    with pytest.raises(BadInput, match=at[-1].split(".")[0]):
        from_line(json.dumps(document))


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["array", "map", "nil", "base64", "simple", "error"]), inner
        )
    ),
    max_leaves=6,
)


@given(any_exchange(), st.data())
def test_any_json_raises_nothing_else(
    exchange: RecordedExchange, data: st.DataObject
) -> None:
    document = json.loads(to_line(exchange))
    inner = document
    for _ in range(data.draw(st.integers(0, 1))):
        inner = (
            document[data.draw(st.sampled_from(["request", "response"]))] or document
        )
    inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(_ANY)
    with suppress(BadInput):
        from_line(json.dumps(document))


@pytest.mark.parametrize(
    ("headers", "is_chunked", "missing"),
    [
        ([["Content-Length", "7"]], False, 0),
        ([["Content-Length", "10"]], False, 3),
        ([["Content-Length", "1"]], False, 0),
        ([["Transfer-Encoding", "chunked"]], True, 0),
        ([["Content-Length", "7"], ["Transfer-Encoding", "gzip"]], False, 0),
        ([], False, 0),
    ],
)
def test_a_message_is_as_its_headers_say(
    headers: list[list[str]],
    is_chunked: bool,  # noqa: FBT001
    missing: int,
) -> None:
    document = json.loads(to_line(EXCHANGE))
    document["request"] |= {"headers": headers, "is_chunked": False}
    request = from_line(json.dumps(document)).request
    assert isinstance(request, HttpRequest)
    assert request.is_chunked is is_chunked
    assert sum(gap.bytes for gap in request.missing) == missing


@pytest.mark.parametrize(
    ("end", "at", "value"),
    [
        ("request", "headers", [["X", "1\r\n\r\nDELETE /all HTTP/1.1"]]),
        ("request", "headers", [["X: 1\r\nY", "1"]]),
        ("request", "method", "GET /x HTTP/1.1\r\nX:"),
        ("request", "target", "/a b"),
        ("request", "trailers", [["X", "\n"]]),
        ("response", "reason", "OK\r\nX: y"),
        ("response", "status", 7),
    ],
)
def test_what_cannot_have_been_on_a_wire_is_refused(
    end: str, at: str, value: object
) -> None:
    document = json.loads(to_line(EXCHANGE))
    document[end][at] = value
    with pytest.raises(BadInput, match=end):
        from_line(json.dumps(document))


def test_lines_without_ids_get_their_own() -> None:
    document = json.loads(to_line(EXCHANGE))
    del document["exchange"], document["connection"]
    one = from_line(json.dumps(document))
    document["start_time_unix_nano"] += 1
    other = from_line(json.dumps(document))
    assert one.id
    assert one.id != other.id
    assert one.connection.id != other.connection.id


def test_what_answers_head_has_no_body() -> None:
    document = json.loads(to_line(EXCHANGE))
    document["request"]["method"] = "HEAD"
    document["response"] |= {"headers": [["Content-Length", "99"]], "body": ""}
    response = from_line(json.dumps(document)).response
    assert isinstance(response, HttpResponse)
    assert (response.has_no_body, response.missing) == (True, ())
