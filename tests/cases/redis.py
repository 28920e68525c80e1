# SPDX-License-Identifier: Apache-2.0
"""Redis on the wire (RESP2, RESP3, inline) and what must be counted of it.

Outcomes are numbers of enum dt_redis_outcome.
"""

from __future__ import annotations

from typing import Final

from tests.cases.case import Case, Turn

from deetune_otel.model import End, Protocol
from deetune_otel.protocols.redis import ERROR_CODES

__all__ = ["CASES", "command"]


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%b\r\n" % (len(word), word) for word in words
    )


def _call(
    response: bytes, *words: bytes, outcome: str = "", operation: str = ""
) -> Turn:
    words = words or (b"GET", b"k")
    return Turn(
        request=command(*words),
        response=response,
        operation=operation or words[0].decode("latin-1").upper(),
        outcome=ERROR_CODES.index(outcome),
    )


def _case(
    name: str,
    *turns: Turn,
    closed: bool = False,
    in_turns: bool = False,
    lost: tuple[str, ...] = (),
    at_the_beginning: bool = False,
) -> Case:
    return Case(
        name=name,
        turns=turns,
        protocol=Protocol.REDIS,
        closed=closed,
        in_turns=in_turns,
        lost=lost,
        at_the_beginning=at_the_beginning,
    )


_OK: Final = b"+OK\r\n"
_NO_CALL: Final = ("lost_not_a_call",)
_LONG: Final = b"v" * 3000
_MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"

CASES: Final = (
    _case("a value", _call(b"$5\r\nhello\r\n")),
    _case(
        "several commands",
        _call(_OK, b"SET", b"k", b"v"),
        _call(b"$1\r\nv\r\n", b"GET", b"k"),
        _call(_OK, b"set", b"k2", b""),
        _call(b":2\r\n", b"DeL", b"k", b"k2"),
    ),
    _case(
        "nothing",
        _call(b"$-1\r\n"),
        _call(b"*-1\r\n"),
        _call(b"_\r\n"),
        _call(b"$0\r\n\r\n"),
    ),
    _case("empty arrays", _call(b"*0\r\n"), _call(b"%0\r\n"), _call(b"~0\r\n")),
    _case(
        "long values",
        _call(_OK, b"SET", b"k", _LONG),
        _call(b"$3000\r\n%b\r\n" % _LONG),
    ),
    _case(
        "values that look like the protocol",
        _call(_OK, b"SET", b"k", b"\r\n*1\r\n$4\r\nPING\r\n"),
        _call(b"$12\r\n-ERR no\r\n+OK\r\n"),
        _call(b"$3\r\n\r\n+\r\n"),
    ),
    _case(
        "arrays in arrays",
        _call(b"*2\r\n*3\r\n:1\r\n:-2\r\n+three\r\n*2\r\n$1\r\na\r\n*1\r\n$-1\r\n"),
        _call(b"*3\r\n-ERR inside\r\n*0\r\n+OK\r\n", b"EXEC"),
    ),
    _case(
        "RESP3's types",
        _call(
            b"%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n",
            b"HELLO",
            b"3",
        ),
        _call(b"#t\r\n"),
        _call(b",3.14\r\n"),
        _call(b",inf\r\n"),
        _call(b"(3492890328409238509324850943850943825024385\r\n"),
        _call(b"=7\r\ntxt:abc\r\n"),
        _call(b"~2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        _call(b"%1\r\n~1\r\n:1\r\n%1\r\n:1\r\n*1\r\n_\r\n"),
    ),
    _case(
        "attributes come before what they belong to",
        _call(b"|1\r\n+key\r\n%1\r\n$1\r\na\r\n,0.1\r\n*2\r\n:1\r\n:2\r\n"),
        _call(b"*2\r\n|1\r\n+ttl\r\n:3600\r\n:1\r\n:2\r\n"),
        _call(b"|0\r\n+OK\r\n"),
        _call(b"|1\r\n+a\r\n+b\r\n-ERR x\r\n", outcome="ERR"),
    ),
    _case(
        "errors",
        *(
            _call(b"-" + code.encode() + b" words\r\n", outcome=code)
            for code in ERROR_CODES[1:-1]
        ),
        _call(b"-ERR\r\n", outcome="ERR"),
        _call(b"-SHORT\r\n", outcome="OTHER"),
        _call(b"-X\r\n", outcome="OTHER"),
        _call(b"-\r\n", outcome="OTHER"),
        _call(b"-BUSYGROUP Consumer Group name already exists\r\n", outcome="BUSY"),
        _call(b"!14\r\nSYNTAX invalid\r\n", outcome="OTHER"),
    ),
    _case(
        "pushes answer nothing",
        _call(_OK),
        Turn(response=b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"),
        _call(b"$1\r\nv\r\n"),
        Turn(response=b">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n"),
        _call(_OK),
        lost=_NO_CALL,
    ),
    _case(
        "an old client's subscription",
        _call(b"+PONG\r\n", b"PING"),
        Turn(
            request=command(b"SUBSCRIBE", b"c"),
            response=b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
        ),
        Turn(response=_MESSAGE),
        Turn(response=b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$2\r\nhi\r\n"),
        _call(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", b"PING"),
        Turn(
            request=command(b"unsubscribe"),
            response=b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n",
        ),
        _call(_OK),
        in_turns=True,
        lost=_NO_CALL,
    ),
    _case(
        "an array that only looks like a message",
        _call(_MESSAGE, b"LRANGE", b"l", b"0", b"-1"),
        _call(_OK),
    ),
    _case(
        "a monitor's lines",
        _call(_OK),
        Turn(request=command(b"MONITOR")),
        Turn(response=b'+OK\r\n+1700000000.0 [0 127.0.0.1:1] "GET" "k"\r\n'),
        in_turns=True,
        lost=_NO_CALL,
    ),
    _case(
        "commands that get no answer",
        _call(_OK),
        Turn(request=b"*0\r\n"),
        _call(_OK),
        Turn(request=b"*-1\r\n"),
        _call(_OK),
        lost=_NO_CALL,
    ),
    _case(
        "inline commands",
        _call(_OK),
        Turn(request=b"PING\r\n", response=b"+PONG\r\n", operation="PING"),
        Turn(request=b"get k\r\n", response=b"$1\r\nv\r\n", operation="GET"),
        Turn(request=b"ping\n", response=b"+PONG\r\n", operation="PING"),
    ),
    _case(
        "a health check's inline ping comes first",
        Turn(request=b"PING\r\n", response=b"+PONG\r\n", operation="PING"),
        _call(_OK),
        in_turns=True,
    ),
    _case(
        "an inline command comes first",
        Turn(request=b"set k v\r\n", response=b"+OK\r\n", operation="SET"),
        _call(_OK),
        Turn(request=b"INCR n\n", response=b":1\r\n", operation="INCR"),
        in_turns=True,
        at_the_beginning=True,
    ),
    _case(
        "with something to be said back",
        Turn(request=b"PING a b\r\n", response=b"$3\r\na b\r\n", operation="PING"),
        _call(_OK),
        in_turns=True,
    ),
    _case(
        "subcommands are one operation",
        _call(_OK, b"CONFIG", b"SET", b"a", b"b"),
        _call(b"*0\r\n", b"CONFIG", b"GET", b"a"),
        _call(b":7\r\n", b"CLIENT", b"ID"),
        _call(_OK, b"client", b"setname", b"x"),
        _call(_OK, b"CLIENT", b"NO-EVICT", b"on"),
    ),
    _case(
        "transactions answer QUEUED, then all",
        _call(_OK, b"MULTI"),
        _call(b"+QUEUED\r\n", b"INCR", b"a"),
        _call(b"+QUEUED\r\n", b"INCR", b"b"),
        _call(b"*2\r\n:1\r\n:2\r\n", b"EXEC"),
    ),
    _case(
        "module commands",
        _call(b"*1\r\n:0\r\n", b"FT.SEARCH", b"i", b"*"),
        _call(_OK, b"_x"),
    ),
    _case(
        "commands as long as they may be",
        _call(b"-ERR unknown\r\n", b"A" * 64, outcome="ERR"),
        _call(b"-ERR unknown\r\n", b"A" * 63 + b"B", outcome="ERR"),
        _call(_OK),
    ),
    _case(
        "the end comes before the answer",
        _call(_OK),
        Turn(request=command(b"BLPOP", b"l", b"0"), operation="BLPOP", end=End.CLOSED),
        closed=True,
    ),
    _case(
        "the end comes in the answer",
        _call(_OK),
        Turn(
            request=command(b"GET", b"k"),
            response=b"$100\r\nhello",
            operation="GET",
            end=End.CLOSED,
        ),
        closed=True,
    ),
)
