# SPDX-License-Identifier: Apache-2.0
"""HAR entries as a browser writes them, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any, Final

from deetune_otel.recording.har_import import from_har
from deetune_otel.recording.model import HttpRequest, HttpResponse, RecordedExchange

__all__ = ["BROWSER", "FORM", "entry", "read", "request_of", "response_of"]

FORM: Final = "application/x-www-form-urlencoded"
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


def entry(
    url: str = "http://shop/a",
    method: str = "GET",
    *,
    sent: tuple[tuple[str, str], ...] = (),
    got: tuple[tuple[str, str], ...] = (),
    **more: Any,
) -> Any:
    """`request`, `response`: what else they have."""
    one = deepcopy(BROWSER["log"]["entries"][0])  # type: ignore[index]
    one["request"] |= {"url": url, "method": method}
    one["request"]["headers"] = [{"name": n, "value": v} for n, v in sent]
    one["response"]["headers"] = [{"name": n, "value": v} for n, v in got]
    one["request"] |= more.pop("request", {})
    one["response"] |= more.pop("response", {})
    return one | more


def read(*entries: Any) -> tuple[list[RecordedExchange], Counter[str]]:
    passed: Counter[str] = Counter()
    return list(from_har(entries, passed)), passed


def request_of(one: Any) -> HttpRequest:
    (found,), _ = read(one)
    assert isinstance(found.request, HttpRequest)
    return found.request


def response_of(one: Any) -> HttpResponse:
    (found,), _ = read(one)
    assert isinstance(found.response, HttpResponse)
    return found.response
