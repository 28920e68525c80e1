# SPDX-License-Identifier: Apache-2.0
"""HTTP/1 on the wire (RFC 9112) and what must be counted of it.

An operation is written as the kernel's signature folds it: an identifier is {}.
"""

from __future__ import annotations

from typing import Final

from tests.cases.case import Case, Turn

from deetune_otel.model import End, Protocol

__all__ = ["CASES", "METHODS", "NOT_HTTP", "PREAMBLES", "chunked"]

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return body + b"0\r\n" + trailer + b"\r\n"


def _get(path: bytes = b"/", operation: str = "GET /", head: bytes = b"") -> Turn:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n"
    return Turn(
        request=request, response=OK, operation=operation, outcome=200, response_body=5
    )


def _answered(response: bytes, outcome: int, body: int = 0, **more: object) -> Turn:
    return Turn(
        request=b"GET /a HTTP/1.1\r\n\r\n",
        response=response,
        operation="GET /a",
        outcome=outcome,
        response_body=body,
        **more,  # type: ignore[arg-type]  # fields of Turn
    )


def _posted(head: bytes, body: bytes, body_bytes: int) -> Turn:
    return Turn(
        request=b"POST /a HTTP/1.1\r\n" + head + b"\r\n" + body,
        response=OK,
        operation="POST /a",
        outcome=200,
        request_body=body_bytes,
        response_body=5,
    )


def _asked(
    method: bytes,
    target: bytes = b"/a",
    version: bytes = b" HTTP/1.1",
    end: bytes = b"\r\n",
) -> Turn:
    return Turn(
        request=method + b" " + target + version + end + b"Host: x" + end + end,
        response=OK,
        operation=(method + b" " + target.partition(b"?")[0]).decode("latin-1"),
        outcome=200,
        response_body=5,
    )


def _case(
    name: str,
    *turns: Turn,
    closed: bool = False,
    in_turns: bool = False,
    at_the_beginning: bool = False,
) -> Case:
    return Case(
        name=name,
        turns=turns,
        protocol=Protocol.HTTP,
        closed=closed,
        in_turns=in_turns,
        at_the_beginning=at_the_beginning,
    )


_HEAD: Final = Turn(
    request=b"HEAD /a HTTP/1.1\r\n\r\n",
    response=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    operation="HEAD /a",
    outcome=200,
)
_NO_CONTENT: Final = _answered(b"HTTP/1.1 204 No Content\r\n\r\n", 204)
_LONG: Final = b"".join(b"X-Header-%03d: %040d\r\n" % (i, i) for i in range(40))

_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
# What a proxy says of its client before the first request (haproxy's proxy-protocol.txt).
PREAMBLES: Final = {
    "1": b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 80\r\n",
    "1 over IPv6": b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 80\r\n",
    "1, unknown": b"PROXY UNKNOWN\r\n",
    "2": _V2 + b"\x21\x11\x00\x0c" + bytes(range(12)),
    "2, local": _V2 + b"\x20\x00\x00\x00",
    "2 with a name and line ends": _V2
    + b"\x21\x21\x00\x30"
    + b"GET / HTTP/1.1\r\n" * 3,
}

# Nobody has heard of them, or has not as they are written here.
METHODS: Final = (
    *(b"NOTIFY", b"SUBSCRIBE", b"PROPPATCH", b"RPC_IN_DATA", b"M-SEARCH"),
    *(b"get", b"Post", b"head", b"connect", b"X", b"7", b"9a"),
    # beginnings, ends and neighbours of those that are known
    *(b"GE", b"GETS", b"AGET", b"HEADS", b"XPROPFIND", b"XXPROPFIND", b"PROPFINDX"),
    *(b"PING", b"HTTP", b"HTTP.1.1", b"!#$%&'*+-.^_`|~"),
    b"M" * 64,
)

# First lines that look like HTTP's and are none.
NOT_HTTP: Final = (
    *(b"FOO bar baz\r\n", b"foo\r\n", b"foo \n", b"\x20/a HTTP/1.1\r\n"),
    *(b"FOO /a HTTP/1\r\n", b"FOO /a HTTP/1.\r\n", b"FOO /a HTTP/1.x\r\n"),
    *(b"FOO /a HTTP/1.10\r\n", b"FOO /a HTTP/2.0\r\n", b"FOO /a http/1.1\r\n"),
    *(b"FOO /aHTTP/1.1\r\n", b"FOO HTTP/1.1\r\n", b"FOO /a XHTTP/1.1\r\n"),
    *(b"FOO /a?HTTP/1.1\r\n", b"FOO /a HTTP/1.1 \r\n", b"FOO\t/a HTTP/1.1\r\n"),
    *(b"FOO /a\tb HTTP/1.1\r\n", b"FOO /\x00 HTTP/1.1\r\n", b"(F) /a HTTP/1.1\r\n"),
    *(b"F\xc3\xb6 /a HTTP/1.1\r\n", b"M" * 65 + b" /a HTTP/1.1\r\n"),
    b"DESCRIBE rtsp://h/a RTSP/1.0\r\n\r\n",
    b"INVITE sip:a@b SIP/2.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    *(b"HELO there\r\n", b"EHLO [127.0.0.1]\r\n", b"MAIL FROM:<a@b>\r\n"),
    *(b"USER me\r\n", b"NICK me\r\nUSER me 0 * :me\r\n", b"a1 LOGIN me you\r\n"),
    *(b"SET k v\r\n", b"get k\r\n", b"set k 0 0 1\r\nv\r\n", b"ruok"),
    *(b"CONNECT\naccept-version:1.2\n\n\x00", b"SSH-2.0-x\r\n", b'{"a": 1}\n'),
    b"a.b.c 42 1700000000\n",
    *(b"Q\x00\x00\x00\rSELECT 1\x00", b"\x00\x00\x00\x08\x04\xd2\x16/"),  # PostgreSQL
    *(b"U\x00\x00\x01\x85\xa6\x03", b"X\x00\x00\x00\x01\x00"),  # MySQL, MongoDB
    *(b"\x16\x03\x01\x02\x00\x01", b"AMQP\x00\x00\x09\x01", b"\x10\x0e\x00\x04MQTT"),
    b"a text " * 200 + b"\n",
)

CASES: Final = (
    _case("get", _get()),
    *(
        _case(f"the method {m.decode()}", _asked(m), _get(), _asked(m, b"/b"))
        for m in METHODS
    ),
    _case("later methods that nobody knows", _get(), *map(_asked, METHODS), _get()),
    _case(
        "known methods beside them",
        *map(_asked, (b"QUERY", b"PURGE", b"NOTIFY", b"REPORT", b"LOCK", b"UNLOCK")),
    ),
    _case(
        "lines of a method that nobody knows",
        _asked(b"FOO", version=b" HTTP/1.0"),
        _asked(b"FOO", version=b" HTTP/1.9"),
        _asked(b"FOO", end=b"\n"),
        _asked(b"FOO", b"*"),
        _asked(b"FOO", b"http://h/a"),
        _asked(b"FOO", b"/HTTP/b", b"?HTTP/1.1 HTTP/1.1"),
        _asked(b"FOO", b"/c", b" or /d HTTP/1.1"),
        _asked(b"FOO", b"/c", b" HTTP/1.1 HTTP/1.1"),
        _asked(b"FOO", "/\u00e9".encode("latin-1")),
    ),
    _case(
        "a long line of a method that nobody knows",
        _asked(b"FOO", b"/" + b"a" * 3000, b"?" + b"b=c&" * 900 + b" HTTP/1.1"),
        _get(),
        *(_asked(b"FOO", b"/" + b"-" * n) for n in range(495, 506)),
    ),
    _case(
        "bodies of a method that nobody knows",
        *(
            Turn(
                request=b"FOO /a HTTP/1.1\r\n" + head + b"\r\n" + body,
                response=OK,
                operation="FOO /a",
                outcome=200,
                request_body=3,
                response_body=5,
            )
            for head, body in (
                (b"Content-Length: 3\r\n", b"abc"),
                (b"Transfer-Encoding: chunked\r\n", chunked(b"abc")),
            )
        ),
        _get(),
    ),
    _case("keep-alive", _get(), _get(b"/a", "GET /a"), _get()),
    _case(
        "identifiers are one operation, versions and words are not",
        _get(b"/users/42", "GET /users/{}"),
        _get(b"/users/4711a", "GET /users/{}"),
        _get(b"/v1/x", "GET /v1/x"),
        _get(b"/v2/x", "GET /v2/x"),
        _get(b"/v12", "GET /v12"),
        _get(b"/v123", "GET /{}"),
        _get(b"/9", "GET /{}"),
        _get(b"/v", "GET /v"),
        _get(b"/vv1", "GET /vv1"),
        _get(b"/v1/", "GET /v1/"),
        _get(b"/V1", "GET /V1"),
        _get(b"/oauth2", "GET /oauth2"),
        _get(b"/order-123.json", "GET /order-{}.json"),
        _get(b"/order-9876.json", "GET /order-{}.json"),
        _get(b"/order-9876.xml", "GET /order-{}.xml"),
        _get(b"/caf%C3%A9", "GET /caf%C3%A9"),
        _get(b"/caf%C3", "GET /caf%C3"),
    ),
    _case(
        "parameters of a segment name no operation",
        _get(b"/a;b=c/d;e", "GET /a/d"),
        _get(b"/a;b=1;c=2/d;", "GET /a/d"),
        _get(b"/a/d", "GET /a/d"),
        _get(b"/a;?b", "GET /a"),
        _get(b"/a;b=/7;x#y", "GET /a/{}"),
        _get(b"/a/" + b"7" * 600 + b";" + b"x=y" * 600, "GET /a/{}"),
        _get(b";a", "GET "),
    ),
    _case(
        "query and fragment are not looked at",
        _get(b"/a?b=/c/1", "GET /a"),
        _get(b"/a#b", "GET /a"),
        _get(b"/a/7?8", "GET /a/{}"),
        _get(b"/a", "GET /a"),
        _get(b"?", "GET "),
    ),
    _case("path of 8 KB", _get(b"/" + b"a" * 8192, "GET /aaa"), _get()),
    _case(
        "8 KB of folded segments",
        _get(b"/12345678" * 1000, "GET " + "/{}" * 1000),
        _get(b"/1" * 1000, "GET " + "/{}" * 1000),
    ),
    _case(
        "long head", _get(head=_LONG), _get(head=b"Cookie: " + b"c" * 3000 + b"\r\n")
    ),
    _case(
        "line ends without CR",
        _answered(b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", 200, 1),
    ),
    _case(
        "empty lines before a request",
        _get(),
        Turn(
            request=b"\r\n\n\r\nGET /a HTTP/1.1\r\n\r\n",
            response=OK,
            operation="GET /a",
            outcome=200,
            response_body=5,
        ),
    ),
    _case(
        "an empty line before an answer",
        _answered(b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, 1),
        _get(),
    ),
    *(
        _case(
            f"behind a preamble of the PROXY protocol: {name}",
            Turn(
                request=preamble + b"GET /a HTTP/1.1\r\n\r\n",
                response=OK,
                operation="GET /a",
                outcome=200,
                response_body=5,
            ),
            _get(),
            in_turns=True,
            at_the_beginning=True,
        )
        for name, preamble in PREAMBLES.items()
    ),
    *(
        _case(
            f"an answer whose end nobody can tell: {name}{', not the first' * len(before)}",
            *before,
            _answered(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body, 200, len(body)),
            closed=True,
            in_turns=True,
        )
        for before in ((), (_get(),))
        for name, head, body in (
            ("no size", b"Transfer-Encoding: chunked\r\n", b" 5\r\nhello\r\n0\r\n\r\n"),
            ("no chunks", b"Transfer-Encoding: chunked\r\n", b"<html>"),
            ("more than a number", b"Content-Length: 2;\r\n", b"ok"),
            ("a negative number", b"Content-Length: -1\r\n", b"ok"),
            ("no number", b"content-length: many\r\n", b"hello"),
            (
                "too large a number",
                b"Content-Length: 99999999999999999999999\r\n",
                b"x",
            ),
        )
    ),
    _case("absolute form", _get(b"http://h/a", "GET http://h/a")),
    _case(
        "options of all",
        Turn(
            request=b"OPTIONS * HTTP/1.1\r\n\r\n",
            response=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            operation="OPTIONS *",
            outcome=200,
        ),
    ),
    _case("posted", _posted(b"Content-Length: 3\r\n", b"abc", 3), _get()),
    _case("posted nothing", _posted(b"Content-Length: 0\r\n", b"", 0), _get()),
    _case(
        "posted 3 KB", _posted(b"content-length:3000\r\n", b"G" * 3000, 3000), _get()
    ),
    _case(
        "length twice in one line",
        _posted(b"Content-Length: 3, 3\r\n", b"abc", 3),
        _get(),
    ),
    _case("length in capitals", _posted(b"CONTENT-LENGTH:\t3 \r\n", b"abc", 3), _get()),
    _case(
        "names that look like a length",
        _posted(
            b"X-Content-Length: 9\r\nContent-Lengths: 8\r\nContent-Lengt: 7\r\nContent-Length: 3\r\n",
            b"abc",
            3,
        ),
        _get(),
    ),
    _case(
        "posted in chunks",
        _posted(
            b"Transfer-Encoding: chunked\r\n",
            chunked(b"abc", b"0" * 300, b"\r\n\r\n"),
            307,
        ),
        _get(),
    ),
    _case(
        "chunks win over a length",
        _posted(
            b"Content-Length: 1\r\nTransfer-Encoding: Chunked\r\n", chunked(b"abc"), 3
        ),
        _get(),
    ),
    _case(
        "several codings",
        _posted(b"Transfer-Encoding: gzip, chunked \r\n", chunked(b"abc"), 3),
        _posted(
            b"transfer-encoding:gzip\r\ntransfer-encoding:chunked\r\n",
            chunked(b"abc"),
            3,
        ),
        _get(),
    ),
    _case(
        "answered in chunks",
        _answered(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + chunked(b"hello", b"world" * 200),
            200,
            1005,
        ),
        _get(),
    ),
    _case(
        "chunks with extensions, capitals, zeros and a trailer",
        _answered(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'0000A;name="v;w"\r\n0123456789\r\n00B \r\nhello world\r\n'
            b"000;last\r\nExpires: now\r\nX: 0\r\n\r\n",
            200,
            21,
        ),
        _get(),
    ),
    _case("head has no body", _HEAD, _get(), _HEAD, _HEAD),
    _case("204 has no body", _NO_CONTENT, _get()),
    _case(
        "304 has no body, whatever its length says",
        _answered(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
        _get(),
    ),
    _case(
        "no reason phrase", _answered(b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404)
    ),
    _case("shortest", _answered(b"HTTP/1.1 204\r\n\r\n", 204), _NO_CONTENT),
    _case(
        "a status of one's own",
        _answered(b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", 999),
    ),
    _case(
        "told to go on",
        Turn(
            request=b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
            response=b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
            operation="PUT /a",
            outcome=200,
            request_body=3,
            response_body=5,
        ),
        _get(),
    ),
    _case(
        "told no: the body never comes",
        Turn(
            request=b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
            response=b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n",
            operation="PUT /a",
            outcome=417,
        ),
        _get(),
        in_turns=True,
    ),
    _case(
        "hints come first",
        _answered(
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 102 \r\n\r\n" + OK,
            200,
            5,
        ),
        _get(),
    ),
    _case(
        "until the connection ends",
        _get(),
        _answered(b"HTTP/1.0 200 OK\r\n\r\nas long as it takes", 200, 19),
        closed=True,
    ),
    _case(
        "a coding that is not chunked lasts until the end too",
        _answered(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nzipped",
            200,
            6,
        ),
        closed=True,
    ),
    _case(
        "the end comes before the answer",
        _get(),
        Turn(request=b"GET /b HTTP/1.1\r\n\r\n", operation="GET /b", end=End.CLOSED),
        Turn(request=b"GET /c HTTP/1.1\r\n\r\n", operation="GET /c", end=End.CLOSED),
        closed=True,
    ),
    _case(
        "the end comes in the answer",
        _answered(
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
            200,
            5,
            end=End.CLOSED,
        ),
        closed=True,
    ),
    _case(
        "the end comes in the request's body",
        _get(),
        Turn(
            request=b"POST /b HTTP/1.1\r\nContent-Length: 50\r\n\r\nhello",
            operation="POST /b",
            request_body=5,
            end=End.CLOSED,
        ),
        closed=True,
    ),
    _case(
        "the end comes in the request's head",
        _get(),
        Turn(
            request=b"POST /b HTTP/1.1\r\nContent-Length: 50\r\nHost:",
            operation="POST /b",
            end=End.CLOSED,
        ),
        closed=True,
    ),
    _case(
        "the end comes in the answer's head",
        _answered(
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nDate:", 200, end=End.CLOSED
        ),
        closed=True,
    ),
    _case(
        "a proxy that refuses a tunnel",
        Turn(
            request=b"CONNECT h:443 HTTP/1.1\r\n\r\n",
            response=b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno",
            operation="CONNECT",
            outcome=407,
            response_body=2,
        ),
        Turn(
            request=b"CONNECT other.example:8443 HTTP/1.1\r\n\r\n",
            response=b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno",
            operation="CONNECT",
            outcome=407,
            response_body=2,
        ),
        _get(),
        in_turns=True,
    ),
)
