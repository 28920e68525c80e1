# SPDX-License-Identifier: Apache-2.0
"""A request of anybody's has the name that the metrics would give it."""

from __future__ import annotations

import pytest
from tests.exchanges import EXCHANGE

from deetune_otel.protocols import PROTOCOLS
from deetune_otel.protocols.routes import Routes
from deetune_otel.recording.model import HttpRequest, Message, RawMessage, RedisCommand
from deetune_otel.recording.operations import operation_name, request_head


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (HttpRequest(method="GET", target="/item?a=1"), "GET /item"),
        (HttpRequest(method="GET", target="http://h/item"), "GET /item"),
        (HttpRequest(method="BREW", target="*"), "HTTP *"),
        (RedisCommand(arguments=(b"get", b"k", b"x" * 900)), "GET"),
        (RawMessage(data=b"?"), ""),
    ],
)
def test_names(request_: Message, name: str) -> None:
    assert operation_name(request_) == name


def test_it_is_the_name_of_the_metrics() -> None:
    request = HttpRequest(method="GET", target="/users/4711/orders")
    head = request_head(request)
    named = PROTOCOLS[EXCHANGE.protocol].operation(head, Routes()).name
    assert operation_name(request) == named
