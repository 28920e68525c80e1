# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    MissingBecause,
    Process,
    RecordedExchange,
)

CONNECTION = Connection(
    id="00000000000000aa",
    protocol=Protocol.HTTP,
    client=Endpoint("10.0.0.1", 40000),
    server=Endpoint("10.0.0.2", 80),
    client_process=Process("shop-frontend"),
)
EXCHANGE = RecordedExchange(
    id="00000000000000bb",
    connection=CONNECTION,
    request=HttpRequest(method="GET", target="/"),
    response=HttpResponse(status=200),
    request_start_ns=100,
    request_end_ns=110,
    response_start_ns=120,
    response_end_ns=150,
)


def test_who_answered_names_the_exchange_before_who_asked() -> None:
    both = replace(CONNECTION, server_process=Process("shop-catalog"))

    assert EXCHANGE.service == "shop-frontend"
    assert EXCHANGE.is_outgoing
    assert replace(EXCHANGE, connection=both).service == "shop-catalog"
    assert not replace(EXCHANGE, connection=both).is_outgoing


def test_it_is_complete_with_a_response_and_nothing_missing() -> None:
    assert EXCHANGE.is_complete
    assert not replace(EXCHANGE, response=None).is_complete
    assert not replace(EXCHANGE, incomplete=(MissingBecause.LOST,)).is_complete


def test_it_lasts_from_first_byte_to_last() -> None:
    assert EXCHANGE.duration_ns == 50
    assert replace(EXCHANGE, response=None, response_end_ns=0).duration_ns == 0
