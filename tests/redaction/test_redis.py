# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest

from deetune_otel.redaction.censor import CannotRedact, Censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redis import arguments, reply
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")
V = TOKENS.token(b"v")


def censor(**changes: Any) -> Censor:
    return Censor(replace(Policy.default(), **changes), TOKENS)


@pytest.mark.parametrize(
    "command",
    [
        "SET k v EX 60 NX",
        "set k v",
        "SETEX k 60 v",
        "MSET k v k2 v",
        "GETSET k v",
        "HSET k f v f2 v",
        "HMGET k f f2",
        "HINCRBY k f 5",
        "LPUSH k v v v",
        "LRANGE k 0 -1",
        "LINSERT k BEFORE v v",
        "SADD k v v",
        "SMOVE k k2 v",
        "ZADD k NX CH 1.5 v -inf v",
        "ZADD k 1 v",
        "ZRANGEBYSCORE k (1 +inf WITHSCORES LIMIT 0 10",
        "GEOADD k 13.36 38.11 v 1 2 v",
        "XADD k MAXLEN ~ 1000 * f v f2 v",
        "XADD k 1-1 f v",
        "PUBLISH c v",
        "EVAL return:1 2 k k2 v v",
        "EVALSHA a9993e364706816aba3e25717850c26c9cd0d89d 0 v",
        "DEL k k2 k3",
        "EXPIRE k 60",
        "SCAN 0 MATCH a:* COUNT 10",
        "AUTH v",
        "AUTH v v",
        "HELLO 3 AUTH v v SETNAME n",
        "CONFIG SET maxmemory v",
        "CONFIG GET maxmemory",
        "ACL SETUSER name v v",
        "ACL WHOAMI",
        "MIGRATE h 6379 k 0 100 COPY AUTH v KEYS k",
        "MIGRATE h 6379 k 0 100 AUTH2 v v",
        "ECHO v",
        "PING",
        "MULTI",
        "CLIENT SETNAME n",
        "MODULE.CMD k v v",
        "SET k v unknown-option!".replace("unknown-option!", "v"),
    ],
)
def test_values_of_commands(command: str) -> None:
    given = tuple(command.encode().split())
    expected = tuple(V.encode() if one == b"v" else one for one in given)
    if given[0] == b"SET" and given[3:] == (b"v",):  # looks like an option's word
        expected = (*expected[:3], b"v")
    assert arguments(given, censor()) == expected


@pytest.mark.parametrize(
    ("command", "at"),
    [
        ((b"SETEX", b"k", b"x!", b"v"), 2),  # no number where one belongs
        ((b"SET", b"k", b"v", b"a secret"), 3),  # no option
        ((b"GET me", b"k"), 0),  # no command
        ((b"ZADD", b"k", b"abc", b"v"), 2),
    ],
)
def test_what_is_not_understood_is_a_value(command: tuple[bytes, ...], at: int) -> None:
    done = arguments(command, censor())
    assert done[at] == TOKENS.token(command[at]).encode()


def test_the_policy_may_keep_values_but_not_credentials() -> None:
    ours = censor(redis_values="scan")
    assert arguments((b"SET", b"k", b"v"), ours) == (b"SET", b"k", b"v")
    assert arguments((b"AUTH", b"v"), ours) == (b"AUTH", V.encode())
    done = arguments((b"SET", b"k", b'{"pin":"v"}'), ours)
    assert done[2] == f'{{"pin":"{V}"}}'.encode()
    assert reply(b"v", (b"GET", b"k"), ours) == b"v"


class Named(NamedTuple):
    value: object


@dataclass(frozen=True)
class Error:
    text: str


@pytest.mark.parametrize(
    ("command", "value", "changed"),
    [
        ("GET k", b"v", V.encode()),
        ("GET k", None, None),
        ("INCR k", 5, 5),
        ("ZSCORE k m", 1.5, 1.5),
        ("SET k v", "OK", "OK"),
        ("SET k v", b"OK", b"OK"),
        ("GET k", "ERR pin=v", f"ERR pin={V}"),
        ("GET k", Error("ERR pin=v"), Error(f"ERR pin={V}")),
        ("MGET k k", [b"v", None, b"v"], [V.encode(), None, V.encode()]),
        ("LRANGE k 0 1", (b"v",), (V.encode(),)),
        ("LRANGE k 0 1", Named([b"v"]), Named([V.encode()])),
        ("SMEMBERS k", {b"v"}, {V.encode()}),
        ("SMEMBERS k", frozenset({b"v"}), frozenset({V.encode()})),
        ("HGETALL k", [b"f", b"v", b"g", b"v"], [b"f", V.encode(), b"g", V.encode()]),
        ("HGETALL k", {b"f": b"v"}, {b"f": V.encode()}),
        ("HSCAN k 0", [b"0", [b"f", b"v"]], [b"0", [b"f", V.encode()]]),
        ("SCAN 0", [b"0", [b"key:1", b"k"]], [b"0", [b"key:1", b"k"]]),
        ("KEYS *", [b"a", b"b"], [b"a", b"b"]),
        ("INFO", b"redis_version:7.0\r\n", b"redis_version:7.0\r\n"),
        ("CONFIG GET x", [b"x", b"v"], [b"x", V.encode()]),
        ("ACL GENPASS", b"v", V.encode()),
        ("EXEC", [b"v", 1, [b"v"]], [V.encode(), 1, [V.encode()]]),
    ],
)
def test_replies(command: str, value: object, changed: object) -> None:
    assert reply(value, command.encode().split(), censor()) == changed


def test_a_reply_without_its_command_is_a_value() -> None:
    assert reply(b"v", (), censor()) == V.encode()


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(CannotRedact):
        reply(object(), (b"GET",), censor())
