# SPDX-License-Identifier: Apache-2.0
"""What may be sent, and where to."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from tests.exchanges import EXCHANGE
from tests.programs import Redis

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import CODECS
from deetune_otel.recording.codecs.redis import Aggregate, Simple
from deetune_otel.recording.model import (
    HttpRequest,
    Message,
    Missing,
    MissingBecause,
    Process,
    RawMessage,
    RedisCommand,
    RedisReply,
)
from deetune_otel.replay.safety import is_loopback, is_read, why_not_sent
from deetune_otel.replay.wire import written


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
        (RedisCommand(arguments=(b"CLIENT", b"setname", b"x")), True),
        (RedisCommand(arguments=(b"CLIENT", b"PAUSE", b"100000")), False),
        (RedisCommand(arguments=(b"client", b"kill", b"1.2.3.4:5")), False),
        (RedisCommand(arguments=(b"CLIENT", b"UNBLOCK", b"1")), False),
        (RedisCommand(arguments=(b"CLIENT",)), False),
        (RedisCommand(arguments=(b"CONFIG", b"GET", b"*")), True),
        (RedisCommand(arguments=(b"CONFIG", b"SET", b"dir", b"/")), False),
        (RedisCommand(arguments=(b"CONFIG", b"GET\r\n")), False),
        (RedisCommand(arguments=(b"MEMORY", b"PURGE")), False),
        (RedisCommand(arguments=(b"SCRIPT", b"EXISTS", b"x")), True),
        (RedisCommand(arguments=(b"SCRIPT", b"FLUSH")), False),
        (RedisCommand(arguments=(b"COMMAND",)), True),
        (RedisCommand(arguments=(b"SORT", b"k", b"STORE", b"k2")), False),
        (RedisCommand(arguments=(b"SORT_RO", b"k")), True),
        (RedisCommand(arguments=(b"GETEX", b"k", b"EX", b"1")), False),
        (RedisCommand(arguments=(b"GETDEL", b"k")), False),
        (RedisCommand(arguments=(b"BITFIELD", b"k", b"SET")), False),
        (RedisCommand(arguments=(b"EVAL", b"x", b"0")), False),
        (RedisCommand(arguments=(b"SUBSCRIBE", b"x")), False),
        (RedisCommand(arguments=(b"MULTI",)), False),
        (RedisCommand(arguments=()), False),
        (RawMessage(data=b"x"), False),
    ],
)
def test_reads(request_: Message, reads: bool) -> None:  # noqa: FBT001
    assert is_read(replace(EXCHANGE, request=request_)) is reads


@pytest.mark.parametrize(
    ("name", "value", "reads"),
    [
        ("X-HTTP-Method-Override", "DELETE", False),
        ("x-http-method", "put", False),
        ("X-Method-Override", "MERGE", False),
        ("X-HTTP-Method-Override", " get ", True),
        ("X-Http", "DELETE", True),
    ],
)
def test_a_method_that_a_header_overrides(
    name: str,
    value: str,
    reads: bool,  # noqa: FBT001
) -> None:
    request = HttpRequest(method="GET", target="/", headers=((name, value),))
    assert is_read(replace(EXCHANGE, request=request)) is reads


@pytest.mark.parametrize(
    ("query", "reads"),
    [("_method=delete", False), ("a=1;_method=PUT", False), ("_method=GET", True)],
)
def test_a_method_that_a_parameter_overrides(query: str, reads: bool) -> None:  # noqa: FBT001
    request = HttpRequest(method="GET", target=f"/?a=b&{query}")
    assert is_read(replace(EXCHANGE, request=request)) is reads


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
        (
            replace(EXCHANGE, request=replace(get, target="/ /")),
            "a broken request line",
        ),
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


def command_flags(port: int) -> dict[str, set[object]]:
    """By command, and "command|subcommand"."""
    asked = RedisCommand(arguments=(b"COMMAND",))
    decoder = CODECS[Protocol.REDIS].responses(deque([asked]))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(written(Protocol.REDIS, asked))
        while not (found := decoder.feed(connection.recv(1 << 16))):
            pass
    reply = found[0].message
    assert isinstance(reply, RedisReply)
    flags: dict[str, set[object]] = {}
    waiting = list(items(reply.value))
    while waiting:
        name, _, of, *_, subcommands = items(waiting.pop())
        flags[text(name)] = {text(one) for one in items(of)}
        waiting += items(subcommands)
    return flags


def items(value: object) -> tuple[object, ...]:
    assert isinstance(value, Aggregate)
    return value.items


def text(value: object) -> str:
    assert isinstance(value, bytes | Simple)
    return value.decode() if isinstance(value, bytes) else value.text


@pytest.mark.kernel  # with the other tests that have servers
def test_reads_of_redis_are_those_that_a_server_names(tmp_path: Path) -> None:
    """What it flags as a write, or as the administrator's and no read of ours, is none."""
    with Redis.start(tmp_path) as server:
        flags = command_flags(server.port)
    assert len(flags) > 200
    for words, of in flags.items():
        arguments = tuple(word.encode() for word in words.split("|"))
        request = RedisCommand(arguments=arguments)
        reads = is_read(replace(EXCHANGE, request=request))
        if "write" in of or {"pubsub", "noscript"} <= of:
            assert not reads, words
        if "readonly" in of:
            assert reads, words
