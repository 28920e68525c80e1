# SPDX-License-Identifier: Apache-2.0
"""What a replay may send, and where to: only reads, and only to this machine, unless told so."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl

from deetune_otel.recording.model import (
    HttpRequest,
    RecordedExchange,
    RedisCommand,
)
from deetune_otel.replay.wire import Unsendable, written

__all__ = ["is_loopback", "is_read", "why_not_sent"]

_READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# By these a server that knows them takes a GET for something else.
_OVERRIDES: Final = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override"}
)
_OVERRIDE_PARAMETER: Final = "_method"
# Of Redis: what COMMAND flags as "readonly" (7.0; of 7.4 what expires fields of hashes), and what reads
# no keys. What is not here may write.
_READ_COMMANDS: Final = frozenset(
    [
        "BITCOUNT",
        "BITFIELD_RO",
        "BITPOS",
        "DBSIZE",
        "DUMP",
        "EVALSHA_RO",
        "EVAL_RO",
        "EXISTS",
        "EXPIRETIME",
        "FCALL_RO",
        "GEODIST",
        "GEOHASH",
        "GEOPOS",
        "GEORADIUSBYMEMBER_RO",
        "GEORADIUS_RO",
        "GEOSEARCH",
        "GET",
        "GETBIT",
        "GETRANGE",
        "HEXISTS",
        "HEXPIRETIME",
        "HGET",
        "HGETALL",
        "HKEYS",
        "HLEN",
        "HMGET",
        "HPEXPIRETIME",
        "HPTTL",
        "HRANDFIELD",
        "HSCAN",
        "HSTRLEN",
        "HTTL",
        "HVALS",
        "KEYS",
        "LCS",
        "LINDEX",
        "LLEN",
        "LOLWUT",
        "LPOS",
        "LRANGE",
        "MGET",
        "PEXPIRETIME",
        "PFCOUNT",
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
        "SORT_RO",
        "SRANDMEMBER",
        "SSCAN",
        "STRLEN",
        "SUBSTR",
        "SUNION",
        "TOUCH",
        "TTL",
        "TYPE",
        "XLEN",
        "XPENDING",
        "XRANGE",
        "XREAD",
        "XREVRANGE",
        "ZCARD",
        "ZCOUNT",
        "ZDIFF",
        "ZINTER",
        "ZINTERCARD",
        "ZLEXCOUNT",
        "ZMSCORE",
        "ZRANDMEMBER",
        "ZRANGE",
        "ZRANGEBYLEX",
        "ZRANGEBYSCORE",
        "ZRANK",
        "ZREVRANGE",
        "ZREVRANGEBYLEX",
        "ZREVRANGEBYSCORE",
        "ZREVRANK",
        "ZSCAN",
        "ZSCORE",
        "ZUNION",
        "ECHO",
        "INFO",
        "LASTSAVE",
        "PING",
        "ROLE",
        "TIME",
    ]
)
# Of the connection alone: they read nothing and write nothing.
_STATE_COMMANDS: Final = frozenset(
    ["ASKING", "AUTH", "HELLO", "READONLY", "READWRITE", "SELECT"]
)
# What a command reads by its subcommand; any other may write, end or hold up what others do.
_READ_SUBCOMMANDS: Final = {
    command: frozenset(f"HELP {subcommands}".split())
    for command, subcommands in {
        "ACL": "CAT DRYRUN GETUSER LIST USERS WHOAMI",
        "CLIENT": "GETNAME GETREDIR ID INFO LIST NO-EVICT NO-TOUCH SETINFO SETNAME TRACKINGINFO",
        "CLUSTER": "COUNT-FAILURE-REPORTS COUNTKEYSINSLOT GETKEYSINSLOT INFO KEYSLOT LINKS MYID "
        "MYSHARDID NODES REPLICAS SHARDS SLAVES SLOTS",
        "COMMAND": "COUNT DOCS GETKEYS GETKEYSANDFLAGS INFO LIST",
        "CONFIG": "GET",
        "FUNCTION": "DUMP LIST STATS",
        "LATENCY": "DOCTOR GRAPH HISTOGRAM HISTORY LATEST",
        "MEMORY": "DOCTOR MALLOC-STATS STATS USAGE",
        "MODULE": "LIST",
        "OBJECT": "ENCODING FREQ IDLETIME REFCOUNT",
        "PUBSUB": "CHANNELS NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB",
        "SCRIPT": "EXISTS",
        "SLOWLOG": "GET LEN",
        "XINFO": "CONSUMERS GROUPS STREAM",
    }.items()
}


def is_read(exchange: RecordedExchange) -> bool:
    """Whether its request changes nothing at a server that keeps to the protocol."""
    request = exchange.request
    if isinstance(request, HttpRequest):
        return request.method in _READ_METHODS and not _is_overridden(request)
    if isinstance(request, RedisCommand) and request.arguments:
        name, *rest = (one.decode("latin-1").upper() for one in request.arguments[:2])
        if (subcommands := _READ_SUBCOMMANDS.get(name)) is None:
            return name in _READ_COMMANDS or name in _STATE_COMMANDS
        return rest[0] in subcommands if rest else name == "COMMAND"
    return False


def _is_overridden(request: HttpRequest) -> bool:
    asked = [value for name, value in request.headers if name.lower() in _OVERRIDES]
    query = request.target.partition("?")[2].replace(";", "&")
    asked += [
        v for k, v in parse_qsl(query, encoding="latin-1") if k == _OVERRIDE_PARAMETER
    ]
    return any(one.strip().upper() not in _READ_METHODS for one in asked)


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
    return _why_unsendable(exchange)


def _why_unsendable(exchange: RecordedExchange) -> str:
    try:
        written(exchange.protocol, exchange.request)
    except Unsendable as error:
        return str(error)
    return ""


def is_loopback(host: str) -> bool:
    """A name that is not "localhost" may be anybody's."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
