# SPDX-License-Identifier: Apache-2.0
"""Exchanges as HAR: what the format says of bodies, sizes and cookies, and there and back."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import haralyzer  # type: ignore[import-untyped]
from hypothesis import given
from tests.exchanges import EXCHANGE, any_exchange, numbered

from deetune_otel.recording.har_entries import entries_in
from deetune_otel.recording.har_export import to_har
from deetune_otel.recording.har_import import from_har
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Missing,
    MissingBecause,
    RecordedExchange,
)


def _decode(data: bytes, coding: str) -> bytes | None:
    return gzip.decompress(data) if coding == "gzip" else None


def text_of(*exchanges: RecordedExchange) -> str:
    return "".join(to_har(exchanges, creator="deetune 1.0", decode=_decode))


def document(*exchanges: RecordedExchange) -> Any:
    return json.loads(text_of(*exchanges))


def back(*exchanges: RecordedExchange) -> list[RecordedExchange]:
    passed: Counter[str] = Counter()
    found = list(from_har(entries_in([text_of(*exchanges).encode()]), passed))
    assert not passed
    return found


def answered(body: bytes, *headers: tuple[str, str], **more: Any) -> RecordedExchange:
    response = HttpResponse(status=200, headers=headers, body=body, **more)
    return replace(EXCHANGE, response=response)


def test_what_matters_is_read_back() -> None:
    binary = replace(
        numbered(1), response=HttpResponse(status=200, body=b"\xff\x00", headers=())
    )
    unanswered = replace(
        numbered(2), response=None, response_start_ns=0, response_end_ns=0
    )
    found = back(EXCHANGE, binary, unanswered)
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


def test_bodies_are_decoded_and_sizes_are_the_formats() -> None:
    plain = b'{"name":"shop","items":[1,2,3]}'
    packed = gzip.compress(plain, mtime=0)
    one = answered(
        packed, ("Content-Encoding", "gzip"), ("Content-Type", "application/json")
    )
    response = document(one)["log"]["entries"][0]["response"]
    content = response["content"]
    assert content["text"] == plain.decode()
    assert "encoding" not in content
    assert content["size"] == len(plain)
    assert response["bodySize"] == len(packed)
    assert content["compression"] == len(plain) - len(packed)
    assert response["headersSize"] == len(
        b"HTTP/1.1 200\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(packed)
    )
    (again,) = back(one)
    assert isinstance(again.response, HttpResponse)
    assert again.response.body == packed, "as it was sent, for a replay"


def test_what_cannot_be_decoded_stays_as_it_was_sent() -> None:
    one = answered(b"\xffbr", ("Content-Encoding", "br"))
    content = document(one)["log"]["entries"][0]["response"]["content"]
    assert base64.b64decode(content["text"]) == b"\xffbr"
    assert content["encoding"] == "base64"


def test_cookies_have_their_place() -> None:
    one = answered(
        b"",
        ("Set-Cookie", "a=1; Path=/; HttpOnly; Secure; SameSite=Lax"),
        ("Set-Cookie", "b=2; Domain=shop; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
        ("Set-Cookie", "c=3; Expires=never"),
    )
    request = HttpRequest(method="GET", target="/", headers=(("Cookie", "x=1; y=2"),))
    entry = document(replace(one, request=request))["log"]["entries"][0]
    assert entry["request"]["cookies"] == [
        {"name": "x", "value": "1"},
        {"name": "y", "value": "2"},
    ]
    assert entry["response"]["cookies"] == [
        {
            "name": "a",
            "value": "1",
            "path": "/",
            "httpOnly": True,
            "secure": True,
            "sameSite": "Lax",
        },
        {
            "name": "b",
            "value": "2",
            "domain": "shop",
            "expires": "2026-10-21T07:28:00+00:00",
        },
        {"name": "c", "value": "3"},
    ]


def test_what_is_missing_stays_missing() -> None:
    gaps = (Missing(1, 5, MissingBecause.LIMIT), Missing(7, 2, MissingBecause.LOST))
    request = HttpRequest(method="POST", target="/", body=b"ab", missing=gaps)
    one = replace(
        answered(b"", missing=gaps[:1]), request=request, incomplete=("limit", "lost")
    )
    (again,) = back(one)
    assert again.request.missing == gaps
    assert again.response is not None
    assert again.response.missing == gaps[:1]
    assert again.incomplete == ("limit", "lost")


@given(any_exchange())
def test_bodies_and_gaps_there_and_back(exchange: RecordedExchange) -> None:
    if not isinstance(exchange.request, HttpRequest):
        return
    (again,) = back(exchange)
    assert isinstance(again.request, HttpRequest)
    assert again.request.body == exchange.request.body
    assert again.request.missing == exchange.request.missing
    if isinstance(exchange.response, HttpResponse):
        assert isinstance(again.response, HttpResponse)
        assert again.response.body == exchange.response.body
        assert again.response.missing == exchange.response.missing
