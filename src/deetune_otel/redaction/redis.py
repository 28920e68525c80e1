# SPDX-License-Identifier: Apache-2.0
"""Redis: names of commands, keys, fields and options stay; values become tokens.

What a command's arguments are is a table. An argument that the table does not know is a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import chain, cycle, islice, repeat, takewhile
from typing import TYPE_CHECKING, Any, Final

from deetune_otel.redaction import urls
from deetune_otel.redaction.censor import CannotRedact, as_bytes, as_text

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["arguments", "reply"]

MAX_DEPTH: Final = 64  # of arrays in replies; RESP clients stop far earlier
# k: key, kept but for what looks like a credential; f: field or other name; n: number; v: value;
# o: option, a word of letters or a number. What is in brackets repeats.
_SHAPES: Final = {
    name: (shape.partition("[")[0], shape.partition("[")[2].rstrip("]") or "v")
    for names, shape in (
        (
            "GET STRLEN TYPE TTL PTTL EXPIRETIME PEXPIRETIME PERSIST INCR DECR LLEN SCARD",
            "k",
        ),
        ("SMEMBERS HGETALL HKEYS HVALS HLEN ZCARD XLEN GETDEL DUMP HRANDFIELD", "k[o]"),
        (
            "MGET DEL UNLINK EXISTS TOUCH WATCH RENAME RENAMENX SINTER SUNION SDIFF",
            "[k]",
        ),
        ("SINTERSTORE SUNIONSTORE SDIFFSTORE PFCOUNT PFMERGE RPOPLPUSH KEYS", "[k]"),
        (
            "SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE",
            "[k]",
        ),
        ("BLPOP BRPOP BZPOPMIN BZPOPMAX BRPOPLPUSH", "[k]"),
        ("SET", "kv[o]"),
        ("SETNX GETSET APPEND LPUSHX RPUSHX PUBLISH SPUBLISH", "kv"),
        ("SETEX PSETEX SETRANGE LSET LREM ZINCRBY", "knv"),
        ("MSET MSETNX", "[kv]"),
        (
            "LPUSH RPUSH SADD SREM SISMEMBER SMISMEMBER ZREM ZSCORE ZMSCORE PFADD",
            "k[v]",
        ),
        ("ZRANK ZREVRANK LPOS GETEX", "kv[o]"),
        ("LINSERT", "kovv"),
        ("SMOVE", "kkv"),
        ("HSET HMSET", "k[fv]"),
        ("HSETNX", "kfv"),
        ("HGET HMGET HDEL HEXISTS HSTRLEN", "k[f]"),
        ("HINCRBY HINCRBYFLOAT", "kfn"),
        (
            "INCRBY DECRBY INCRBYFLOAT EXPIRE PEXPIRE EXPIREAT PEXPIREAT GETRANGE",
            "kn[o]",
        ),
        ("SUBSTR GETBIT SETBIT LTRIM LRANGE LINDEX LPOP RPOP SPOP SRANDMEMBER", "k[o]"),
        (
            "ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZCOUNT ZPOPMIN ZPOPMAX",
            "k[o]",
        ),
        (
            "ZREMRANGEBYRANK ZREMRANGEBYSCORE BITCOUNT XRANGE XREVRANGE XTRIM XDEL",
            "k[o]",
        ),
        ("LMOVE", "kkoo"),
        ("BLMOVE", "kkoon"),
        ("SCAN HSCAN SSCAN ZSCAN", "[k]"),
        ("SELECT SWAPDB WAIT", "[n]"),
        ("PING ECHO", "[v]"),
        ("MULTI EXEC DISCARD UNWATCH DBSIZE FLUSHDB FLUSHALL TIME LASTSAVE", "[o]"),
        ("RANDOMKEY READONLY READWRITE ASKING QUIT RESET ROLE SAVE BGSAVE", "[o]"),
        (
            "INFO COMMAND CLUSTER CLIENT LATENCY SLOWLOG MONITOR PUBSUB MEMORY OBJECT",
            "[f]",
        ),
    )
    for name in names.split()
}
_MODULES: Final = ("k", "v")
_UNKNOWN: Final = ("", "v")  # it may be AUTH with a slip of the finger
# Of these, replies are names rather than values.
_TEXT_REPLIES: Final = frozenset(
    {
        *("KEYS", "SCAN", "RANDOMKEY", "TYPE", "HKEYS", "INFO"),
        *("COMMAND", "CLUSTER", "CLIENT", "LATENCY", "PUBSUB", "HELLO"),
        *("ROLE", "TIME", "OBJECT", "MEMORY", "SUBSCRIBE", "PSUBSCRIBE"),
        *("SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "WAIT", "PING"),
        *("XADD"),
    }
)
_ECHOED: Final = "args beginning with:"
_QUOTED: Final = re.compile(r"""(['"`])([^'"`]++)['"`]?""")
_OPTION: Final = re.compile(rb"[A-Za-z]{1,16}|[-+(\[]|[=~*$>]")
_NUMBER: Final = re.compile(
    rb"\(?[-+]?(?:[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?|inf)"
    rb"|[0-9]{1,20}-[0-9*]{1,20}"  # the id of a stream's entry
)


def arguments(given: Sequence[bytes], censor: Censor) -> tuple[bytes, ...]:
    """The first is the command's name, and stays."""
    if not given:
        return ()
    name, *rest = given
    command = name.upper().decode("latin-1")
    if not _OPTION.fullmatch(name) and not re.fullmatch(rb"[A-Za-z0-9_.-]{1,40}", name):
        return tuple(_value(one, censor, "command", i) for i, one in enumerate(given))
    kinds = _kinds(command, rest)
    changed = [name]
    is_secret = False  # whether the key or field before it says so
    for index, (one, kind) in enumerate(zip(rest, kinds, strict=True), 1):
        changed.append(_argument(one, kind, censor, index, is_secret=is_secret))
        if kind in "kf":
            is_secret = as_text(one) in censor.names or (is_secret and kind == "f")
    return tuple(changed)


def _kinds(command: str, rest: list[bytes]) -> str:
    """What each argument is; "s": a secret under any policy, "t": a text."""
    if special := _SPECIAL.get(command):
        words = [one.upper() for one in rest]
        return "".join(islice(special(command, words), len(rest)))
    once, again = _SHAPES.get(command, _MODULES if "." in command else _UNKNOWN)
    return (once + again * len(rest))[: len(rest)]


def _auth(_command: str, _words: list[bytes]) -> Iterator[str]:
    return repeat("s")


def _with_auth(command: str, words: list[bytes]) -> Iterator[str]:
    secrets = 0
    for word in words:
        if secrets:
            secrets -= 1
            yield "s"
            continue
        if word in {b"AUTH", b"AUTH2"}:
            secrets = 1 if command == "MIGRATE" and word == b"AUTH" else 2
        yield "f"


def _config(_command: str, words: list[bytes]) -> Iterator[str]:
    return chain("f", cycle("fs")) if words[:1] == [b"SET"] else repeat("f")


def _acl(_command: str, words: list[bytes]) -> Iterator[str]:
    return chain("ff" if words[:1] == [b"SETUSER"] else "f", repeat("s"))


def _script(command: str, words: list[bytes]) -> Iterator[str]:
    if command in {"SCRIPT", "FUNCTION"}:
        return chain("f", repeat("t"))
    count = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return chain("tn", repeat("k", min(count, len(words))), repeat("v"))


def _scored(command: str, words: list[bytes]) -> Iterator[str]:
    options = takewhile(_SCORE_OPTIONS.__contains__, words[1:])
    numbers = "n" if command == "ZADD" else "nn"
    return chain("k", "o" * sum(1 for _ in options), cycle(numbers + "v"))


def _entry(_command: str, words: list[bytes]) -> Iterator[str]:
    options = takewhile(lambda one: one != b"*" and b"-" not in one, words[1:])
    return chain("k", "o" * (sum(1 for _ in options) + 1), cycle("fv"))


_SCORE_OPTIONS: Final = frozenset({b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"})
_SCRIPTS: Final = ("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO")
_SPECIAL: Final[Mapping[str, Callable[[str, list[bytes]], Iterator[str]]]] = {
    "AUTH": _auth,
    "HELLO": _with_auth,
    "MIGRATE": _with_auth,
    "CONFIG": _config,
    "ACL": _acl,
    **dict.fromkeys((*_SCRIPTS, "SCRIPT", "FUNCTION"), _script),
    "ZADD": _scored,
    "GEOADD": _scored,
    "XADD": _entry,
}


def _argument(
    one: bytes, kind: str, censor: Censor, index: int, *, is_secret: bool
) -> bytes:
    censor.place = f"command argument {index}"
    match kind:
        case "k" | "f":
            return _changed(one, lambda text: urls.segments(text, censor))
        case "t":
            return _changed(one, censor.text)
        case "n" if _NUMBER.fullmatch(one):
            return one
        case "o" if _OPTION.fullmatch(one) or _NUMBER.fullmatch(one):
            return one
        case "s":
            return as_bytes(censor.value(as_text(one), "redis_auth"))
    return _value(one, censor, "command argument", index, is_secret=is_secret)


def _value(
    one: bytes, censor: Censor, place: str, index: int, *, is_secret: bool = False
) -> bytes:
    censor.place = f"{place} {index}"
    if censor.policy.redis_values == "scan" and not is_secret:
        return _changed(one, censor.text)
    return as_bytes(censor.value(as_text(one), "redis_value"))


def _changed(one: bytes, change: Any) -> bytes:
    text = as_text(one)
    changed = change(text)
    return one if changed == text else as_bytes(changed)


def reply(value: object, command: Sequence[bytes], censor: Censor) -> object:
    """A reply as the codec gives it: containers, and values of types of its own."""
    name = command[0].upper().decode("latin-1") if command else ""
    sub = command[1].upper() if len(command) > 1 else b""
    kind = "value"
    if name in _TEXT_REPLIES:
        kind = "text"
    elif name in {"HGETALL", "CONFIG"} or (name == "HSCAN"):
        kind = "pairs"
    elif name == "ACL":
        kind = "secret"
    if name == "CONFIG" and sub != b"GET":
        kind = "text"
    if kind == "value" and any(as_text(one) in censor.names for one in command[1:]):
        kind = "named"
    return _reply(value, kind, censor, 0)


def _reply(value: object, kind: str, censor: Censor, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise CannotRedact("nested too deep")
    censor.place = "reply"
    match value:
        case None | bool() | int() | float():
            return value
        case bytes():
            return _bulk(value, kind, censor)
        case str():
            changed = censor.text(_without_arguments(value, censor))
            return value if changed == value else type(value)(changed)
        case dict():
            return {
                _reply(key, "text", censor, depth + 1): _reply(
                    one, _kind_of(key, kind, censor), censor, depth + 1
                )
                for key, one in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return _several(value, kind, censor, depth + 1)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {
            one.name: _reply(getattr(value, one.name), kind, censor, depth + 1)
            for one in fields(value)
        }
        return replace(value, **changes)
    raise CannotRedact("a reply of an unknown type")


def _kind_of(key: object, kind: str, censor: Censor) -> str:
    is_secret = isinstance(key, bytes) and as_text(key) in censor.names
    return "named" if is_secret and kind in {"pairs", "value"} else kind


def _without_arguments(text: str, censor: Censor) -> str:
    """`ERR unknown command 'AUHT', with args beginning with: 'secret'`."""
    head, mark, rest = text.partition(_ECHOED)
    if not mark:
        return text
    return (
        head
        + mark
        + _QUOTED.sub(
            lambda one: one[1] + censor.value(one[2], "redis_value") + one[1], rest
        )
    )


def _several(values: Any, kind: str, censor: Censor, depth: int) -> Any:
    kinds: Iterable[str] = repeat(kind)
    if kind == "pairs" and isinstance(values, list | tuple):
        has_inner = any(isinstance(one, list | tuple) for one in values)
        # HSCAN: a cursor, and then the pairs; else names and values in turn.
        kinds = chain(["text"], repeat(kind)) if has_inner else cycle(["text", "value"])
    changed = []
    is_secret = False  # whether the name before it says so
    for one, its in zip(values, kinds, strict=False):
        is_named = is_secret and its == "value"
        changed.append(_reply(one, "named" if is_named else its, censor, depth))
        is_secret = isinstance(one, bytes) and as_text(one) in censor.names
    if hasattr(values, "_fields"):
        return type(values)(*changed)
    return type(values)(changed)


def _bulk(value: bytes, kind: str, censor: Censor) -> bytes:
    if kind == "text":
        return _changed(value, lambda text: censor.text(urls.segments(text, censor)))
    if kind == "secret":
        return as_bytes(censor.value(as_text(value), "redis_auth"))
    if kind == "value" and value == b"OK":
        return value
    return _value(value, censor, "reply", 0, is_secret=kind == "named")
