# SPDX-License-Identifier: Apache-2.0
"""What a replay may send, and where to: only reads, and only to this machine, unless told so."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from deetune_otel.recording.model import (
    HttpRequest,
    RecordedExchange,
    RedisCommand,
)

__all__ = ["is_loopback", "is_read", "why_not_sent"]

_READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Of Redis; what is not here may write.
_READ_COMMANDS: Final = frozenset(
    [
        "BITCOUNT",
        "BITPOS",
        "COMMAND",
        "DBSIZE",
        "ECHO",
        "EXISTS",
        "EXPIRETIME",
        "GEODIST",
        "GEOHASH",
        "GEOPOS",
        "GET",
        "GETBIT",
        "GETRANGE",
        "HEXISTS",
        "HGET",
        "HGETALL",
        "HKEYS",
        "HLEN",
        "HMGET",
        "HRANDFIELD",
        "HSCAN",
        "HSTRLEN",
        "HVALS",
        "INFO",
        "KEYS",
        "LCS",
        "LINDEX",
        "LLEN",
        "LPOS",
        "LRANGE",
        "MGET",
        "OBJECT",
        "PEXPIRETIME",
        "PFCOUNT",
        "PING",
        "PTTL",
        "RANDOMKEY",
        "SCAN",
        "SCARD",
        "SDIFF",
        "SINTER",
        "SINTERCARD",
        "SISMEMBER",
        "SMEMBERS",
        "SMISMEMBER",
        "SRANDMEMBER",
        "SSCAN",
        "STRLEN",
        "SUNION",
        "TIME",
        "TTL",
        "TYPE",
        "XINFO",
        "XLEN",
        "XPENDING",
        "XRANGE",
        "XREAD",
        "XREVRANGE",
        "ZCARD",
        "ZCOUNT",
        "ZDIFF",
        "ZINTER",
        "ZLEXCOUNT",
        "ZMSCORE",
        "ZRANGE",
        "ZRANGEBYLEX",
        "ZRANGEBYSCORE",
        "ZRANK",
        "ZREVRANGE",
        "ZREVRANGEBYSCORE",
        "ZREVRANK",
        "ZSCAN",
        "ZSCORE",
        "ZUNION",
    ]
)
# Of a connection's state: they read nothing and write nothing.
_STATE_COMMANDS: Final = frozenset(("AUTH", "CLIENT", "HELLO", "SELECT", "READONLY"))


def is_read(exchange: RecordedExchange) -> bool:
    """Whether its request changes nothing at a server that keeps to the protocol."""
    request = exchange.request
    if isinstance(request, HttpRequest):
        return request.method in _READ_METHODS
    if isinstance(request, RedisCommand) and request.arguments:
        name = request.arguments[0].decode("latin-1").upper()
        return name in _READ_COMMANDS or name in _STATE_COMMANDS
    return False


def why_not_sent(exchange: RecordedExchange, *, allows_writes: bool) -> str:
    """ "" when it is sent; else the words under which it is counted."""
    request = exchange.request
    if exchange.is_outgoing:
        return "a call of the recorded service"
    if not isinstance(request, HttpRequest | RedisCommand):
        return "a protocol that cannot be replayed"
    if request.missing:
        return "a request with missing bytes"
    if isinstance(request, HttpRequest) and request.method == "CONNECT":
        return "a tunnel"
    if not allows_writes and not is_read(exchange):
        return "a write (--allow-writes)"
    return ""


def is_loopback(host: str) -> bool:
    """A name that is not "localhost" may be anybody's."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
