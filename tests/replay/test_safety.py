# SPDX-License-Identifier: Apache-2.0
"""What may be sent, and where to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.exchanges import EXCHANGE

from deetune_otel.recording.model import (
    HttpRequest,
    Message,
    Missing,
    MissingBecause,
    Process,
    RawMessage,
    RedisCommand,
)
from deetune_otel.replay.safety import is_loopback, is_read, why_not_sent


@pytest.mark.parametrize(
    ("request_", "reads"),
    [
        (HttpRequest(method="GET", target="/"), True),
        (HttpRequest(method="HEAD", target="/"), True),
        (HttpRequest(method="DELETE", target="/"), False),
        (HttpRequest(method="get", target="/"), False),
        (RedisCommand(arguments=(b"get", b"k")), True),
        (RedisCommand(arguments=(b"AUTH", b"x")), True),
        (RedisCommand(arguments=(b"SET", b"k", b"v")), False),
        (RedisCommand(arguments=(b"FLUSHALL",)), False),
        (RedisCommand(arguments=(b"MODULE.X",)), False),
        (RedisCommand(arguments=()), False),
        (RawMessage(data=b"x"), False),
    ],
)
def test_reads(request_: Message, reads: bool) -> None:  # noqa: FBT001
    assert is_read(replace(EXCHANGE, request=request_)) is reads


def test_why_something_is_not_sent() -> None:
    gap = (Missing(0, 5, MissingBecause.LOST),)
    get = HttpRequest(method="GET", target="/")
    outgoing = replace(
        EXCHANGE.connection, server_process=None, client_process=Process("a")
    )
    for exchange, why in (
        (EXCHANGE, "a write (--allow-writes)"),
        (replace(EXCHANGE, request=get), ""),
        (replace(EXCHANGE, request=replace(get, missing=gap)), "missing bytes"),
        (replace(EXCHANGE, request=RawMessage(data=b"x")), "cannot be replayed"),
        (replace(EXCHANGE, request=replace(get, method="CONNECT")), "a tunnel"),
        (replace(EXCHANGE, connection=outgoing), "a call of the recorded service"),
    ):
        said = why_not_sent(exchange, allows_writes=False)
        assert why in said
        assert bool(why) == bool(said)
    assert why_not_sent(EXCHANGE, allows_writes=True) == ""


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("shop", False),
        ("localhost.example", False),
    ],
)
def test_this_machine(host: str, is_here: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is is_here
