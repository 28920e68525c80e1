# SPDX-License-Identifier: Apache-2.0
"""Conversations for hypothesis: what programs may say on a connection, and how it may come.

Turns are drawn with what must be counted of them, so each strategy is a model of its protocol
too. A schedule then cuts both directions into chunks and lets them overtake each other.
"""

from __future__ import annotations

import re
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from tests.cases.case import Turn
from tests.cases.http import chunked
from tests.cases.redis import command
from tests.host.engine import Call, Chunk

from deetune_otel.config.http_path import folded
from deetune_otel.config.routes import kept_segments
from deetune_otel.protocols.redis import ERROR_CODES

__all__ = ["fold", "garbage", "http_turns", "redis_turns", "schedules", "targets"]


# ---- HTTP ----------------------------------------------------------------------------------

_METHODS: Final = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "PROPFIND",
    "NOTIFY",
    "get",
    "!#$%&'*+-.^_`|~09",
    "M" * 64,
)
_NO_BODY: Final = (204, 304)
_STATUSES: Final = (200, 201, 301, 404, 500, 503, 999, *_NO_BODY)
_INTERIM: Final = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Length: 9\r\n\r\n",
)
_PATH_WORDS: Final = st.text("abvVAB019", max_size=4) | st.sampled_from(
    [
        "users",
        "Users",
        "ID",
        "v1",
        "v12",
        "v123",
        "7",
        "42",
        "x" * 65,
        "aB0" * 6,
        "%20",
        "",
    ]
)
_SEGMENTS: Final = (
    st.lists(_PATH_WORDS | st.sampled_from("._-%{}:;@("), max_size=7).map("".join)
    | st.text("abvV019._%{}-;(", max_size=8)
    | st.sampled_from(sorted(kept_segments(())))
)
_NAMES: Final = st.sampled_from(
    [
        b"Host",
        b"content-type",
        b"Content-Lengthy",
        b"Transfer-Encodings",
        b"Expectation",
        b"b",
        b"X-Request-Identifier-Long",
        b"tracestate",
    ]
)
_VALUES: Final = st.text("abc012,;=: \t", max_size=40).map(str.encode) | st.integers(
    400, 600
).map(lambda n: b"v" * n)
_LINES: Final = st.tuples(_NAMES, _VALUES).map(lambda line: b"%b: %b\r\n" % line)
_BODIES: Final = st.binary(max_size=60) | st.sampled_from([b"G" * 512, b"H" * 1300])


def fold(target: str, kept: frozenset[str] = frozenset()) -> str:
    """What the kernel's signature tells of a request's target."""
    path = re.split("[?#]", target, maxsplit=1)[0]
    segments = (segment.partition(";")[0] for segment in path.split("/"))
    return "/".join(
        segment if segment in kept else folded(segment, "\0") for segment in segments
    )


def targets() -> SearchStrategy[str]:
    paths = st.lists(_SEGMENTS, min_size=1, max_size=5).map(lambda s: "/" + "/".join(s))
    queries = st.sampled_from(["", "", "?a=1/2", "?", "#x"])
    return st.tuples(paths, queries).map("".join) | st.just("*")


@st.composite
def _framed(draw: DrawFn) -> tuple[bytes, bytes, int]:
    """Header lines, the bytes behind the head, and the size of the body in them."""
    kind = draw(st.sampled_from(["none", "length", "chunks"]))
    if kind == "none":
        return b"", b"", 0
    if kind == "length":
        body = draw(_BODIES)
        name = draw(st.sampled_from([b"Content-Length", b"content-length"]))
        return b"%b: %d\r\n" % (name, len(body)), body, len(body)
    pieces = draw(st.lists(_BODIES.filter(bool), max_size=4))
    trailer = draw(st.sampled_from([b"", b"Digest: x\r\n"]))
    line = draw(
        st.sampled_from(
            [b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:gzip,Chunked\r\n"]
        )
    )
    return line, chunked(*pieces, trailer=trailer), sum(map(len, pieces))


@st.composite
def _lines(draw: DrawFn, framing: bytes) -> bytes:
    lines = draw(st.lists(_LINES, max_size=5))
    lines.insert(draw(st.integers(0, len(lines))), framing)
    return b"".join(lines) + b"\r\n"


@st.composite
def _http_turn(draw: DrawFn, *, last: bool) -> Turn:
    method = draw(st.sampled_from(_METHODS))
    target = draw(targets())
    framing, body, request_body = (
        (b"", b"", 0) if method in ("GET", "HEAD") else draw(_framed())
    )
    head = f"{method} {target} HTTP/1.1\r\n".encode() + draw(_lines(framing))
    status = draw(st.sampled_from(_STATUSES))
    interim = b"".join(draw(st.lists(st.sampled_from(_INTERIM), max_size=2)))
    framing, answer, response_body = draw(_framed())
    if not framing:
        answer = b"as long as it takes" if last else b""
        framing = b"" if last else b"Content-Length: 0\r\n"
        response_body = len(answer)
    if method == "HEAD" or status in _NO_BODY:
        answer, response_body = b"", 0
    reason = draw(st.sampled_from(["", " ", " OK", " Because It Is So"]))
    first = f"HTTP/1.1 {status}{reason}\r\n".encode()
    return Turn(
        request=head + body,
        response=interim + first + draw(_lines(framing)) + answer,
        operation=f"{method} {fold(target)}",
        outcome=status,
        request_body=request_body,
        response_body=response_body,
    )


@st.composite
def http_turns(draw: DrawFn) -> list[Turn]:
    """A connection whose last response may last until its end."""
    turns = draw(st.lists(_http_turn(last=False), max_size=6))
    return [*turns, draw(_http_turn(last=True))]


# ---- Redis ---------------------------------------------------------------------------------

_COMMANDS: Final = st.sampled_from(
    [b"GET", b"set", b"Ping", b"FT.SEARCH", b"CONFIG", b"client", b"EXEC", b"x" * 64]
)
_ARGUMENTS: Final = st.binary(max_size=20) | st.sampled_from(
    [b"", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"v" * 600]
)
_WORDS: Final = st.text("abc 019-", max_size=12).map(str.encode)
_ERROR: Final = st.sampled_from(ERROR_CODES[1:-1])


def _bulk(kind: bytes) -> SearchStrategy[bytes]:
    return _ARGUMENTS.map(lambda value: b"%b%d\r\n%b\r\n" % (kind, len(value), value))


def _line(kind: bytes) -> SearchStrategy[bytes]:
    return _WORDS.map(lambda word: kind + word + b"\r\n")


_SIMPLE: Final = st.one_of(
    *map(_bulk, (b"$", b"=")),
    *map(_line, (b"+", b":", b",", b"(")),
    st.sampled_from([b"_\r\n", b"#t\r\n", b"$-1\r\n", b"*-1\r\n"]),
)


def _aggregates(values: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    inner = values | _line(b"-") | _bulk(b"!")
    lists = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(inner, inner).map(b"".join), max_size=3)
    return st.one_of(
        lists.map(lambda v: b"*%d\r\n" % len(v) + b"".join(v)),
        lists.map(lambda v: b"~%d\r\n" % len(v) + b"".join(v)),
        pairs.map(lambda v: b"%%%d\r\n" % len(v) + b"".join(v)),
        st.tuples(pairs.map(lambda v: b"|%d\r\n" % len(v) + b"".join(v)), values).map(
            b"".join
        ),
    )


_REPLIES: Final = st.recursive(_SIMPLE, _aggregates, max_leaves=12)
_ATTRIBUTES: Final = st.sampled_from(
    [b"", b"", b"|1\r\n+ttl\r\n*1\r\n:60\r\n", b"|0\r\n"]
)


@st.composite
def _redis_turn(draw: DrawFn, *, first: bool) -> Turn:
    name = draw(_COMMANDS)
    if not first and draw(st.booleans()):
        request = name + draw(st.sampled_from([b"\r\n", b" k 1\r\n", b"\n"]))
    else:
        request = command(name, *draw(st.lists(_ARGUMENTS, max_size=4)))
    outcome = 0
    kind = draw(st.sampled_from(["reply", "reply", "error", "long error"]))
    if kind == "reply":
        reply = draw(_REPLIES)
    elif kind == "error":
        code = draw(_ERROR)
        outcome = ERROR_CODES.index(code)
        reply = f"-{code} ".encode() + draw(_line(b""))
    else:
        outcome = ERROR_CODES.index("OTHER")
        reply = draw(_bulk(b"!"))
    return Turn(
        request=request,
        response=draw(_ATTRIBUTES) + reply,
        operation=name.decode().upper(),
        outcome=outcome,
    )


@st.composite
def redis_turns(draw: DrawFn) -> list[Turn]:
    """A connection with RESP3 pushes between its replies."""
    turns = [draw(_redis_turn(first=True))]
    for _ in range(draw(st.integers(0, 7))):
        if draw(st.integers(0, 4)) == 0:
            values = draw(st.lists(_SIMPLE, max_size=3))
            turns.append(Turn(response=b">%d\r\n" % len(values) + b"".join(values)))
        else:
            turns.append(draw(_redis_turn(first=False)))
    return turns


# ---- how it comes --------------------------------------------------------------------------

_SIZES: Final = st.sampled_from([1, 2, 3, 5, 16, 23, 24, 25, 100, 511, 512, 513, 4000])
_IOVECS: Final = st.sampled_from([(), (0, 1, 0, 2), (1,) * 40, (512, 1), (20, 24, 300)])
_CALLS: Final = st.sampled_from([Call.PLAIN, Call.PLAIN, Call.VECTOR, Call.MESSAGE])


def _ends(messages: list[bytes]) -> list[int]:
    ends, at = [], 0
    for message in messages:
        at += len(message)
        ends.append(at)
    return ends


@st.composite
def schedules(draw: DrawFn, turns: list[Turn]) -> list[Chunk]:
    """Both directions in chunks, in an order that two processors may bring them.

    A response's bytes may be walked before its request's are, as long as what the response
    means does not depend on it: the answer to HEAD has a length and no body.
    """
    racing = draw(st.booleans())
    whole = draw(st.booleans())
    requests, responses = [t.request for t in turns], [t.response for t in turns]
    request_ends, response_ends = _ends(requests), _ends(responses)
    streams = {True: b"".join(requests), False: b"".join(responses)}
    ends = {True: request_ends, False: response_ends}
    at = {True: 0, False: 0}
    walked = 0  # of the requests, for sure, when the next chunk begins
    chunks: list[Chunk] = []

    def allowed() -> int:
        """How far the responses may go."""
        for i, turn in enumerate(turns):
            depends = not racing or turn.request.startswith(b"HEAD ")
            if depends and walked < request_ends[i]:
                return response_ends[i - 1] if i else 0
        return response_ends[-1]

    while at[True] < len(streams[True]) or at[False] < len(streams[False]):
        to = {True: len(streams[True]), False: allowed()}
        able = [way for way in (True, False) if at[way] < to[way]]
        if not able:  # the request that it waits for is being walked
            chunks[-1] = chunks[-1]._replace(points=0)
            walked = at[True]
            continue
        way = draw(st.sampled_from(able)) if len(able) > 1 else able[0]
        if chunks and chunks[-1].points and chunks[-1].is_request == way:
            chunks[-1] = chunks[-1]._replace(points=0)
        next_end = next(end for end in ends[way] if end > at[way])
        size = next_end - at[way] if whole else draw(_SIZES)
        upto = min(at[way] + size, to[way])
        data = streams[way][at[way] : upto]
        inside = bool(chunks) and chunks[-1].points > 0
        points = draw(st.integers(0, 40)) if racing and not inside else 0
        chunks.append(
            Chunk(
                is_request=way,
                data=data,
                iovecs=draw(_IOVECS),
                call=draw(_CALLS),
                spare=draw(st.sampled_from([0, 0, 100])),
                points=points,
            )
        )
        if not points:
            walked = at[True] if not way else upto
        at[way] = upto
    chunks[-1] = chunks[-1]._replace(points=0)
    return chunks


# ---- what nobody should say ----------------------------------------------------------------

_FRAGMENTS: Final = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"foo /a HTTP/1.1\r\n",
        b"FOO bar baz\r\n",
        b"FOO ",
        b"\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 288230376151711744\r\n\r\n",
        b"Content-Length: 4\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"4;x\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 \r\n\r\n",
        b"traceparent: 00-1-2-3\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        b"*1073741823\r\n",
        b"$1073741823\r\n",
        b"$-1\r\n",
        b"*1\r\n$7\r\nMONITOR\r\n",
        b"*1\r\n$4\r\nSYNC\r\n",
        b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n",
        b">1\r\n",
        b"|1\r\n",
        b"%2\r\n",
        b"+OK\r\n",
        b"-ERR\r\n",
        b"-\r\n",
        b"PING\r\n",
    ]
)


def garbage() -> SearchStrategy[list[Chunk]]:
    """Hostile bytes: parts of both protocols in any order, and anything else."""
    data = st.lists(_FRAGMENTS | st.binary(max_size=30), min_size=1, max_size=6).map(
        b"".join
    )
    chunk = st.builds(
        Chunk,
        is_request=st.booleans(),
        data=data.filter(bool),
        iovecs=_IOVECS,
        call=st.sampled_from(Call),
        spare=st.sampled_from([0, 100]),
        points=st.just(0),
    )
    return st.lists(chunk, min_size=1, max_size=12)
