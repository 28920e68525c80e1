# SPDX-License-Identifier: Apache-2.0
"""HTTP/1: bytes to requests and responses, and back (RFC 9112).

Where nobody can say where a message ends (two lengths that differ, a length beside chunks, a chunk
without a size), its head is known all the same: a request ends with it, and what follows is
refused; a response lasts until the connection's end. A wrong guess would pair requests with
others' responses.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NoReturn

from deetune_otel.recording.codecs.contract import CodecError, Decoded
from deetune_otel.recording.model import (
    Headers,
    HttpRequest,
    HttpResponse,
    Message,
    Missing,
    MissingBecause,
)

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable

__all__ = [
    "Requests",
    "Responses",
    "encode",
    "head",
    "is_chunked",
    "length_of",
    "requests",
    "responses",
]

# Servers refuse heads of 8 to 64 KB; what is longer is none.
MAX_HEAD_BYTES: Final = 256 << 10
# "1fffffff;name=value": hexadecimal digits and extensions nobody uses.
MAX_CHUNK_LINE_BYTES: Final = 4096
# A line of the PROXY protocol; its second version's header is shorter, what follows has a length.
MAX_PREAMBLE_BYTES: Final = 107
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
# Of what is fed, looked at in one go: what stands behind a body or chunk is moved.
_SLICE_BYTES: Final = 16 << 10
_SPACES: Final = " \t"
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rf"({_WORD}) ([^ \t\r\n]+) HTTP/(1\.[0-9])")
_STATUS_LINE: Final = re.compile(r"HTTP/(1\.[0-9]) ([1-9][0-9][0-9])(?: ([^\r\n]*))?")
_NAME: Final = re.compile(_WORD)
# Of the PROXY protocol (haproxy's proxy-protocol.txt), before a connection's first request.
_PREAMBLE: Final = re.compile(
    rb"PROXY [^\n]{0,101}\n|\r\n\r\n\0\r\nQUIT\n..(?P<length>..)", re.DOTALL
)
_PREAMBLES: Final = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class _State(Enum):
    HEAD = auto()
    BODY = auto()  # so many bytes
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    UNTIL_CLOSE = auto()
    OTHER = auto()  # the connection is no HTTP any more


class _Decoder:
    """What both directions have in common; `_begin` reads a head and says what follows."""

    def __init__(self) -> None:
        self._state = _State.HEAD
        self._buffer = bytearray()  # not yet understood; empty within a body
        self._searched = 0  # bytes of it that hold no end of a line or head
        self._next = 0  # offset in the stream of the buffer's first byte
        self._first = 0  # of the message's first byte
        self._head_end = 0  # in the buffer
        self._left = 0  # of the body or chunk
        self._body = bytearray()
        self._missing: list[Missing] = []
        self._trailers: Headers = ()
        self._found: list[Decoded] = []

    def feed(self, data: bytes) -> list[Decoded]:
        for at in range(0, len(data), _SLICE_BYTES):
            self._feed(data[at : at + _SLICE_BYTES])
        found, self._found = self._found, []
        return found

    def _feed(self, data: bytes) -> None:
        while data:
            if self._state is _State.OTHER:
                if self._found:
                    return  # it is given first; whatever comes next is refused
                _refuse("this connection speaks no HTTP any more")
            if not self._is_reading_lines():
                data = data[self._take_body(data) :]
                continue
            self._buffer += data
            used = self._lines()
            self._next += used
            data = b""
            if self._is_reading_lines():
                del self._buffer[:used]
            else:
                data = bytes(self._buffer[used:])
                self._buffer.clear()

    def skip(self, count: int, because: MissingBecause) -> list[Decoded]:
        bodies = (_State.BODY, _State.CHUNK, _State.UNTIL_CLOSE)
        if self._state not in bodies:
            _refuse("more is missing than a body")
        if self._state is not _State.UNTIL_CLOSE:
            if count > self._left:
                _refuse("more is missing than a body")
            self._left -= count
        self._missing.append(Missing(self._place(), count, because))
        self._next += count
        self._end_of_part()
        found, self._found = self._found, []
        return found

    @property
    def body_bytes_to_come(self) -> int:
        """Of a message that has begun, where its head says how many; 0 where it does not."""
        return self._left if self._state is _State.BODY else 0

    def end(self) -> list[Decoded]:
        if self._state is _State.UNTIL_CLOSE:
            self._finish()
        found, self._found = self._found, []
        return found

    def _is_reading_lines(self) -> bool:
        return self._state not in (
            _State.BODY,
            _State.CHUNK,
            _State.UNTIL_CLOSE,
            _State.OTHER,
        )

    def _place(self) -> int:
        """Where the body has come to, with what is missing of it."""
        return len(self._body) + sum(one.bytes for one in self._missing)

    def _take_body(self, data: bytes) -> int:
        count = len(data)
        if self._state is not _State.UNTIL_CLOSE:
            count = min(count, self._left)
            self._left -= count
        self._body += data[:count]
        self._next += count
        self._end_of_part()
        return count

    def _end_of_part(self) -> None:
        if self._left or self._state is _State.UNTIL_CLOSE:
            return
        if self._state is _State.CHUNK:
            self._state = _State.CHUNK_END
        else:
            self._finish()

    def _lines(self) -> int:
        """Reads heads and the lines of chunks, as many as are whole; of how many bytes."""
        used = 0
        while self._is_reading_lines():
            read = self._head(used) if self._state is _State.HEAD else self._line(used)
            if not read:
                break
            used += read
        return used

    def _head(self, at: int) -> int:
        preamble = self._preamble() if not self._next else 0
        if preamble is None:
            return 0
        blank = max(at, preamble)
        while blank < len(self._buffer) and self._buffer[blank] in b"\r\n":
            blank += 1  # empty lines before a message
        found = _HEAD_END.search(self._buffer, max(blank, at + self._searched - 3))
        if found is None:
            self._searched = len(self._buffer) - at
            if len(self._buffer) - blank > MAX_HEAD_BYTES:
                _refuse(f"a head of more than {MAX_HEAD_BYTES} bytes")
            return 0
        self._searched = 0
        self._first = self._next + blank
        self._body, self._missing, self._trailers = bytearray(), [], ()
        text = self._buffer[blank : found.start()].decode("latin-1")
        first, _, rest = text.partition("\n")
        self._head_end = found.end()
        self._begin(first.removesuffix("\r"), _headers(rest))
        return found.end() - at

    def _line(self, at: int) -> int:
        """A line of the chunked coding."""
        end = self._buffer.find(b"\n", at)
        if end < 0:
            if len(self._buffer) - at > MAX_CHUNK_LINE_BYTES:
                _refuse("a chunk's line that does not end")
            return 0
        line = bytes(self._buffer[at:end]).removesuffix(b"\r")
        if self._state is _State.CHUNK_END:
            if line:
                self._odd("a chunk that is longer than it says")
                return 0
            self._state = _State.CHUNK_SIZE
        elif self._state is _State.TRAILERS:
            if line:
                self._trailers += _headers(line.decode("latin-1"))
            else:
                self._finish(end + 1)
        else:
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                self._odd("no size of a chunk")
                return 0
            self._left = int(size[1], 16)
            self._state = _State.CHUNK if self._left else _State.TRAILERS
        return end + 1 - at

    def _finish(self, used: int = 0) -> None:
        """The message ends so many bytes into the buffer."""
        end = self._next + used
        self._found.append(Decoded(self._message(end - self._first), self._first, end))
        self._state = _State.HEAD
        self._searched = 0

    def _preamble(self) -> int | None:
        """Bytes of what comes before the first message; None: more of it is to come."""
        return 0

    def _odd(self, why: str) -> None:
        """Within a message whose end nobody can tell. Raises CodecError."""
        _refuse(why)

    def _begin(self, first: str, headers: Headers) -> None:
        raise NotImplementedError

    def _message(self, wire_bytes: int) -> Message:
        raise NotImplementedError

    def _follows(self, length: int | None) -> None:
        """A body of so many bytes; None: chunks."""
        if length is None:
            self._state = _State.CHUNK_SIZE
        elif length:
            self._state, self._left = _State.BODY, length
        else:
            self._finish(self._head_end)


class Requests(_Decoder):
    _method = _target = _version = ""
    _headers: Headers = ()
    _is_chunked = False

    def _begin(self, first: str, headers: Headers) -> None:
        line = _REQUEST_LINE.fullmatch(first)
        if line is None:
            _refuse("no request line")
        self._method, self._target, self._version = line.groups()
        self._headers = headers
        try:
            self._is_chunked = is_chunked(headers)
            length = None if self._is_chunked else length_of(headers) or 0
        except CodecError:
            self._is_chunked = False
            self._follows(0)
            self._state = _State.OTHER
        else:
            self._follows(length)

    def _preamble(self) -> int | None:
        found = _PREAMBLE.match(self._buffer)
        if found is not None:
            length = int.from_bytes(found["length"] or b"")
            return (
                found.end() + length
                if len(self._buffer) >= found.end() + length
                else None
            )
        begin = bytes(self._buffer[:12])
        may_begin = any(
            one.startswith(begin) or begin.startswith(one) for one in _PREAMBLES
        )
        is_open = len(self._buffer) <= MAX_PREAMBLE_BYTES and b"\n" not in begin[6:]
        return None if may_begin and is_open else 0

    def _odd(self, why: str) -> None:
        if self._state is not _State.CHUNK_SIZE:
            _refuse(why)
        self._finish()
        self._state = _State.OTHER

    def _message(self, wire_bytes: int) -> Message:
        return HttpRequest(
            method=self._method,
            target=self._target,
            version=self._version,
            headers=self._headers,
            body=bytes(self._body),
            trailers=self._trailers,
            is_chunked=self._is_chunked,
            missing=tuple(self._missing),
            wire_bytes=wire_bytes,
        )


class Responses(_Decoder):
    _status = 0
    _version = _reason = ""
    _headers: Headers = ()
    _is_chunked = _has_no_body = _is_until_close = False

    def __init__(self, asked: deque[Message]) -> None:
        super().__init__()
        self._asked = asked

    def _begin(self, first: str, headers: Headers) -> None:
        line = _STATUS_LINE.fullmatch(first)
        if line is None:
            _refuse("no status line")
        self._version, self._reason = line[1], line[3] or ""
        self._status, self._headers = int(line[2]), headers
        if 100 <= self._status < 200 and self._status != 101:
            return  # the response is still to come
        request = self._asked.popleft() if self._asked else None
        method = request.method if isinstance(request, HttpRequest) else ""
        is_tunnel = self._status == 101 or (
            method == "CONNECT" and 200 <= self._status < 300
        )
        self._has_no_body = is_tunnel or method == "HEAD" or self._status in (204, 304)
        length, self._is_chunked, is_odd = None, False, False
        try:
            self._is_chunked = not self._has_no_body and is_chunked(headers)
            length = None if self._is_chunked else length_of(headers)
        except CodecError:
            is_odd = True
        self._is_until_close = False
        if self._has_no_body:
            self._follows(0)
            if is_tunnel:
                self._state = _State.OTHER
        elif is_odd or (length is None and not self._is_chunked):
            self._is_until_close = True
            self._state = _State.UNTIL_CLOSE
        else:
            self._follows(length)

    def _odd(self, why: str) -> None:  # noqa: ARG002 -- the connection's end tells the message's
        self._is_chunked, self._is_until_close = False, True
        self._state = _State.UNTIL_CLOSE

    def _message(self, wire_bytes: int) -> Message:
        return HttpResponse(
            status=self._status,
            reason=self._reason,
            version=self._version,
            headers=self._headers,
            body=bytes(self._body),
            trailers=self._trailers,
            is_chunked=self._is_chunked,
            has_no_body=self._has_no_body,
            ends_with_connection=self._is_until_close,
            missing=tuple(self._missing),
            wire_bytes=wire_bytes,
        )


def requests() -> Requests:
    """A decoder of the client's direction."""
    return Requests()


def responses(asked: deque[Message]) -> Responses:
    """A decoder of the server's direction."""
    return Responses(asked)


def encode(message: Message) -> list[bytes | Missing]:
    """The message as it is sent. Content-Length is that of the body, what is missing included."""
    if not isinstance(message, HttpRequest | HttpResponse):
        raise TypeError(f"{type(message).__name__} is no message of HTTP")
    length = len(message.body) + sum(one.bytes for one in message.missing)
    has_body = isinstance(message, HttpRequest) or not message.has_no_body
    parts: list[bytes | Missing] = [head(message)]
    if has_body and (length or message.is_chunked):
        if message.is_chunked and length:
            parts.append(b"%x\r\n" % length)
        parts += _pieces(message.body, message.missing)
        if message.is_chunked:
            end = b"\r\n0\r\n" if length else b"0\r\n"
            parts.append(end + _written(message.trailers) + b"\r\n")
    return parts


def head(message: HttpRequest | HttpResponse) -> bytes:
    """Up to and with the empty line."""
    if isinstance(message, HttpRequest):
        first = f"{message.method} {message.target} HTTP/{message.version}"
        has_body, until_close = True, False
    else:
        first = f"HTTP/{message.version} {message.status} {message.reason}".rstrip()
        has_body, until_close = not message.has_no_body, message.ends_with_connection
    length = len(message.body) + sum(one.bytes for one in message.missing)
    headers = message.headers
    if has_body and not until_close and not message.is_chunked:
        is_needed = bool(length) or isinstance(message, HttpResponse)
        headers = _with_length(headers, length, is_needed=is_needed)
    return _written((("", first), *headers)) + b"\r\n"


def _written(headers: Iterable[tuple[str, str]]) -> bytes:
    lines = (
        f"{name}: {value}\r\n" if name else f"{value}\r\n" for name, value in headers
    )
    return "".join(lines).encode("latin-1")


def _with_length(headers: Headers, length: int, *, is_needed: bool) -> Headers:
    there = any(name.lower() == "content-length" for name, _ in headers)
    if not there:
        return (*headers, ("Content-Length", str(length))) if is_needed else headers
    return tuple(
        (name, str(length) if name.lower() == "content-length" else value)
        for name, value in headers
    )


def _pieces(body: bytes, missing: tuple[Missing, ...]) -> list[bytes | Missing]:
    parts: list[bytes | Missing] = []
    at = gone = 0
    for one in missing:
        there = one.at - gone
        if there > at:
            parts.append(body[at:there])
        parts.append(one)
        at, gone = there, gone + one.bytes
    if body[at:]:
        parts.append(body[at:])
    return parts


def _headers(text: str) -> Headers:
    found: list[tuple[str, str]] = []
    for line in text.split("\n") if text else ():
        bare = line.removesuffix("\r")
        if bare[:1] in (" ", "\t") and found:  # folded: one value on several lines
            name, value = found[-1]
            found[-1] = name, f"{value} {bare.strip(_SPACES)}".strip(_SPACES)
            continue
        name, colon, value = bare.partition(":")
        if not colon or _NAME.fullmatch(name) is None or "\r" in value:
            _refuse("no header line")
        found.append((name, value.strip(_SPACES)))
    return tuple(found)


def is_chunked(headers: Headers) -> bool:
    """Raises CodecError."""
    codings = [v.lower() for n, v in headers if n.lower() == "transfer-encoding"]
    if not codings:
        return False
    if codings[-1].rpartition(",")[2].strip() != "chunked":
        _refuse("a transfer coding that does not say where it ends")
    if any(name.lower() == "content-length" for name, _ in headers):
        _refuse("both a length and chunks")
    return True


def length_of(headers: Headers) -> int | None:
    """Raises CodecError."""
    values = {v for n, v in headers if n.lower() == "content-length"}
    if not values:
        return None
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()) or len(value) > 18:
        _refuse("no single length")
    return int(value)


def _refuse(why: str) -> NoReturn:
    raise CodecError(why)
