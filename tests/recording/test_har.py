# SPDX-License-Identifier: Apache-2.0
"""HAR there and back, in a second reader, from a browser, and what is none."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import haralyzer  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exchanges import EXCHANGE, any_exchange, numbered

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.har import from_har, to_har
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    RecordedExchange,
)


def document(*exchanges: RecordedExchange) -> Any:
    return json.loads("".join(to_har(exchanges, creator="deetune 1.0")))


def test_what_matters_is_read_back() -> None:
    binary = replace(
        numbered(1), response=HttpResponse(status=200, body=b"\xff\x00", headers=())
    )
    unanswered = replace(
        numbered(2), response=None, response_start_ns=0, response_end_ns=0
    )
    found = list(from_har(document(EXCHANGE, binary, unanswered)))
    for one, other in zip(found, (EXCHANGE, binary, unanswered), strict=True):
        assert (one.id, one.trace_id, one.operation) == (
            other.id,
            other.trace_id,
            other.operation,
        )
        assert one.connection.id == other.connection.id
        assert one.service == "shop"
        assert one.request_start_ns == other.request_start_ns
        assert isinstance(one.request, HttpRequest)
        assert isinstance(other.request, HttpRequest)
        assert one.request.target == other.request.target
        assert one.request.body == other.request.body
        assert (one.response is None) == (other.response is None)
    assert isinstance(found[1].response, HttpResponse)
    assert found[1].response.body == b"\xff\x00"


def test_a_second_reader_opens_it() -> None:
    parser = haralyzer.HarParser(document(EXCHANGE, numbered(1)))
    (page_less,) = [parser.har_data["entries"]]
    entry = haralyzer.HarEntry(page_less[0])
    assert entry.request.url == "http://shop/orders?a=b"
    assert entry.response.status == 201
    assert entry.startTime.year == 2023


BROWSER: Final = {
    "log": {
        "version": "1.2",
        "creator": {"name": "x", "version": "1"},
        "entries": [
            {
                "startedDateTime": "2026-01-02T03:04:05.678+01:00",
                "time": 12.5,
                "request": {
                    "method": "GET",
                    "url": "https://example.test/a?b=c#d",
                    "httpVersion": "h2",
                    "headers": [
                        {"name": ":authority", "value": "example.test"},
                        {"name": "accept", "value": "*/*"},
                    ],
                },
                "response": {
                    "status": 200,
                    "statusText": "",
                    "httpVersion": "h2",
                    "headers": [{"name": "content-encoding", "value": "gzip"}],
                    "content": {"size": 2, "mimeType": "text/plain", "text": "hé"},
                },
                "cache": {},
                "timings": {"send": 0.5, "wait": 10, "receive": 2, "blocked": -1},
            }
        ],
    }
}


def test_a_browsers_is_read() -> None:
    (one,) = from_har(BROWSER)
    assert isinstance(one.request, HttpRequest)
    assert isinstance(one.response, HttpResponse)
    assert (one.request.target, one.request.headers) == ("/a?b=c", (("accept", "*/*"),))
    assert one.connection.server == ("example.test", 443)
    assert one.response.body == "hé".encode()
    assert one.response.headers == (("Content-Length", "3"),)
    assert one.request_start_ns == 1_767_319_445_678_000_000
    assert one.duration_ns == 12_500_000


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        {},
        {"log": []},
        {"log": {"entries": {}}},
        {"log": {"entries": [1]}},
        {"log": {"entries": [{}]}},
    ],
)
def test_what_is_none_is_refused(found: object) -> None:
    with pytest.raises(BadInput):
        list(from_har(found))


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(any_exchange(), st.data())
def test_any_json_raises_nothing_else(
    exchange: RecordedExchange, data: st.DataObject
) -> None:
    whole = document(exchange, EXCHANGE)
    inner = whole["log"]["entries"][-1]
    for _ in range(data.draw(st.integers(0, 2))):
        deeper = inner[data.draw(st.sampled_from(sorted(inner)))]
        if not isinstance(deeper, dict) or not deeper:
            break
        inner = deeper
    inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(_ANY)
    with suppress(BadInput):
        list(from_har(whole))
