# SPDX-License-Identifier: Apache-2.0
"""What cannot have been on a wire is told from what can."""

from __future__ import annotations

import pytest
from hypothesis import given
from tests.exchanges import any_exchange

from deetune_otel.recording.model import HttpRequest, HttpResponse, RecordedExchange
from deetune_otel.recording.wire import as_latin1, fault


@given(any_exchange())
def test_what_was_recorded_is_sound(exchange: RecordedExchange) -> None:
    for one in (exchange.request, exchange.response):
        if isinstance(one, HttpRequest | HttpResponse):
            assert fault(one) == ""


def asked(**more: object) -> HttpRequest:
    return HttpRequest(**({"method": "GET", "target": "/"} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [
        asked(method=""),
        asked(method="GET /"),
        asked(target=""),
        asked(target="/ HTTP/1.1\r\nX: y"),
        asked(target="/\u2192"),
        asked(version="2"),
        asked(headers=(("X", "1\r\nY: 2"),)),
        asked(headers=(("X", "1\n"),)),
        asked(headers=(("X: 1\r\nY", "2"),)),
        asked(headers=(("X Y", "2"),)),
        asked(headers=(("X", "\u2192"),)),
        asked(trailers=(("X", "\r"),)),
        HttpResponse(status=0),
        HttpResponse(status=100),
        HttpResponse(status=1000),
        HttpResponse(status=200, reason="a\r\nb"),
    ],
)
def test_what_is_wrong_is_said(message: HttpRequest | HttpResponse) -> None:
    assert fault(message)


def test_text_becomes_its_bytes() -> None:
    assert as_latin1("\xe9") == "\xe9"
    assert as_latin1("\u2192").encode("latin-1").decode() == "\u2192"
    assert as_latin1("\ud800") == "\ud800"
