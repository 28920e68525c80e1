# SPDX-License-Identifier: Apache-2.0
"""Redis: RESP2 and RESP3 as values and back (https://redis.io/docs/latest/develop/reference/protocol-spec/).

What a reply's value is, by its first byte:

    $ bytes                    : int                     # bool          + Simple
    - ! Error                  , Double                  ( BigNumber     = Verbatim
    $-1 *-1 _ Nil              * ~ % Aggregate (of a map: key, value, key, value, …)

Pushes belong to no request and are passed over. What answers to no request or to many
(subscriptions, MONITOR, CLIENT REPLY), attributes and streamed types raise CodecError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from deetune_otel.recording.codecs.contract import CodecError, Decoded
from deetune_otel.recording.model import (
    Message,
    Missing,
    MissingBecause,
    RedisCommand,
    RedisReply,
)

if TYPE_CHECKING:
    from collections import deque

__all__ = [
    "Aggregate",
    "BigNumber",
    "Double",
    "Error",
    "Nil",
    "Simple",
    "Verbatim",
    "encode",
    "requests",
    "responses",
]


@dataclass(frozen=True, slots=True)
class Simple:
    text: str  # latin-1, as all text here


@dataclass(frozen=True, slots=True)
class Error:
    text: str  # "WRONGTYPE Operation against …"
    is_bulk: bool = False


@dataclass(frozen=True, slots=True)
class Double:
    text: str  # as sent: "1.50", "inf"


@dataclass(frozen=True, slots=True)
class BigNumber:
    digits: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    kind: str  # "txt", "mkd"
    data: bytes


@dataclass(frozen=True, slots=True)
class Nil:
    kind: str = "bulk"  # or "array", "null"


@dataclass(frozen=True, slots=True)
class Aggregate:
    kind: str  # "array", "set", "map"
    items: tuple[Any, ...] = ()


# A line without its end: what stands before data, errors, inline commands (64 KB in Redis).
MAX_LINE: Final = 64 * 1024
MAX_BULK: Final = 512 * 1024 * 1024  # Redis's own bound
MAX_ITEMS: Final = 1024 * 1024  # the same
# Of one message, as far as it is there: it is held in memory until it is whole.
MAX_KEPT: Final = 128 * 1024 * 1024
MAX_DEPTH: Final = 32

_NUMBER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_BIG: Final = re.compile(rb"[+-]?[0-9]+")
_INLINE: Final = re.compile(rb"[A-Za-z]")
# Nothing, or several things, answer to these.
_UNPAIRED: Final = frozenset(
    {
        *(b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE"),
        *(b"PUNSUBSCRIBE", b"SUNSUBSCRIBE", b"MONITOR", b"SYNC", b"PSYNC"),
    }
)
_AGGREGATES: Final = {b"*": "array", b"~": "set", b"%": "map", b">": "push"}
_BULKS: Final = frozenset((b"$", b"!", b"="))
_MARKS: Final = {"array": b"*", "set": b"~", "map": b"%"}
_NILS: Final = {"bulk": b"$-1\r\n", "array": b"*-1\r\n", "null": b"_\r\n"}


_ANY: Final = re.compile(rb"[^\r\n]*")
_NO_SCALAR: Final = re.compile(rb"(?!)"), bytes
# By the first byte: what the rest of the line must be, and what it becomes.
_SCALARS: Final[Mapping[bytes, tuple[re.Pattern[bytes], Callable[[bytes], object]]]] = {
    b"+": (_ANY, lambda rest: Simple(rest.decode("latin-1"))),
    b"-": (_ANY, lambda rest: Error(rest.decode("latin-1"))),
    b":": (_NUMBER, int),
    b"_": (re.compile(rb""), lambda _: Nil("null")),
    b"#": (re.compile(rb"[tf]"), lambda rest: rest == b"t"),
    b",": (_ANY, lambda rest: Double(rest.decode("latin-1"))),
    b"(": (_BIG, lambda rest: BigNumber(rest.decode("latin-1"))),
}


class _Level:
    """An aggregate that is not complete yet."""

    __slots__ = ("items", "kind", "left")

    def __init__(self, kind: str, left: int) -> None:
        self.kind = kind
        self.left = left
        self.items: list[Any] = []


class _Decoder:
    """One direction; what a line and a complete value mean is its subclass's."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first byte
        self._searched = 0  # in the buffer: no end of a line before
        self._begin = -1  # of the message that is open; -1: none is
        self._levels: list[_Level] = []
        self._kept = 0
        self._gaps: list[Missing] = []
        self._is_bulk = False  # one is open
        self._bulk_mark = b""
        self._data = bytearray()  # of it
        self._left = 0  # bytes of it that are to come
        self._ends = 0  # bytes of the line's end that are to come
        self._found: list[Decoded] = []

    def feed(self, data: bytes) -> list[Decoded]:
        self._buffer += data
        at = 0
        while True:
            behind = self._take_bulk(at) if self._is_bulk else self._take(at)
            if behind < 0:
                break
            at = behind
        return self._given()

    def skip(self, count: int, because: MissingBecause) -> list[Decoded]:
        if not self._is_bulk or self._buffer:
            raise CodecError("more is missing than the data of a value")
        hidden = min(count, self._left)
        if hidden:
            self._gaps.append(Missing(self._offset - self._begin, hidden, because))
            self._left -= hidden
        rest = count - hidden
        if rest > self._ends:
            raise CodecError("more is missing than the data of a value")
        self._ends -= rest
        self._offset += count
        if not self._left and not self._ends:
            self._close_bulk(self._offset)
        return self._given()

    def end(self) -> list[Decoded]:
        return []

    def _given(self) -> list[Decoded]:
        found, self._found = self._found, []
        return found

    def _take(self, at: int) -> int:
        """One line; where it ended, -1: it is not whole."""
        buffer = self._buffer
        end = buffer.find(b"\r\n", max(at, self._searched))
        if end < 0:
            if len(buffer) - at > MAX_LINE:
                raise CodecError("a line without an end")
            self._cut(at)
            self._searched = max(0, len(buffer) - 1)
            return -1
        if end - at > MAX_LINE:
            raise CodecError("a line without an end")
        if self._begin < 0:
            self._begin = self._offset + at
        self._line(bytes(buffer[at:end]), self._offset + end + 2)
        return end + 2

    def _take_bulk(self, at: int) -> int:
        buffer = self._buffer
        size = min(self._left, len(buffer) - at)
        if size:
            self._data += buffer[at : at + size]
            self._left -= size
            at += size
        while not self._left and self._ends and at < len(buffer):
            if buffer[at] != b"\r\n"[-self._ends]:
                raise CodecError("data without its end")
            self._ends -= 1
            at += 1
        if self._left or self._ends:
            self._cut(at)
            return -1
        self._close_bulk(self._offset + at)
        return at

    def _cut(self, at: int) -> None:
        del self._buffer[:at]
        self._offset += at
        self._searched = 0

    def _open_bulk(self, mark: bytes, size: int) -> None:
        if not 0 <= size <= MAX_BULK:
            raise CodecError("an impossible length")
        self._is_bulk, self._bulk_mark = True, mark
        self._left, self._ends = size, 2

    def _close_bulk(self, end: int) -> None:
        data, self._is_bulk = bytes(self._data), False
        self._data.clear()
        self._kept += len(data)
        if self._kept > MAX_KEPT:
            raise CodecError("a message that is too long to be held")
        self._value(self._bulk_value(data), end)

    def _bulk_value(self, data: bytes) -> object:
        return data

    def _value(self, value: object, end: int) -> None:
        """A value is complete, and with it all that it completes."""
        while self._levels:
            level = self._levels[-1]
            level.items.append(value)
            level.left -= 1
            if level.left:
                return
            self._levels.pop()
            value = Aggregate(level.kind, tuple(level.items))
        self._message(value, end)

    def _close(self, message: Message | None, end: int) -> None:
        if message is not None:
            self._found.append(Decoded(message, self._begin, end))
        self._begin = -1
        self._kept = 0
        self._gaps = []

    def _line(self, line: bytes, end: int) -> None:
        raise NotImplementedError

    def _message(self, value: object, end: int) -> None:
        raise NotImplementedError


class _Requests(_Decoder):
    def _line(self, line: bytes, end: int) -> None:
        mark, rest = line[:1], line[1:]
        if self._levels:
            if mark != b"$":
                raise CodecError("an argument that is no data")
            self._open_bulk(mark, _number(rest))
        elif mark == b"*":
            count = _number(rest)
            if count > MAX_ITEMS:
                raise CodecError("too many arguments")
            if count <= 0:
                self._close(None, end)  # Redis passes over it, too
            else:
                self._levels.append(_Level("array", count))
        elif not line.strip():
            self._close(None, end)
        elif _INLINE.match(line):
            self._command(tuple(line.split()), end, is_inline=True)
        else:
            raise CodecError("no command")

    def _message(self, value: object, end: int) -> None:
        arguments = value.items if isinstance(value, Aggregate) else ()
        self._command(arguments, end, is_inline=False)

    def _command(
        self, arguments: tuple[bytes, ...], end: int, *, is_inline: bool
    ) -> None:
        words = [one.upper() for one in arguments[:2]]
        if words[0] in _UNPAIRED or words == [b"CLIENT", b"REPLY"]:
            raise CodecError("a command that has not one reply")
        command = RedisCommand(
            arguments=arguments,
            is_inline=is_inline,
            missing=tuple(self._gaps),
            wire_bytes=end - self._begin,
        )
        self._close(command, end)


class _Responses(_Decoder):
    def __init__(self, asked: deque[Message]) -> None:
        super().__init__()
        self._asked = asked

    def _line(self, line: bytes, end: int) -> None:
        mark, rest = line[:1], line[1:]
        if not self._levels and mark != b">" and self._asked:
            self._asked.popleft()
        if mark in _AGGREGATES:
            self._open(_AGGREGATES[mark], rest, end)
        elif mark in _BULKS:
            if mark == b"$" and rest == b"-1":
                self._value(Nil("bulk"), end)
            else:
                self._open_bulk(mark, _number(rest))
        else:
            self._value(_scalar(mark, rest), end)

    def _open(self, kind: str, rest: bytes, end: int) -> None:
        if kind == "array" and rest == b"-1":
            self._value(Nil("array"), end)
            return
        count = _number(rest) * (2 if kind == "map" else 1)
        if not 0 <= count <= MAX_ITEMS or len(self._levels) >= MAX_DEPTH:
            raise CodecError("too many values, or too deep")
        if kind == "push" and self._levels:
            raise CodecError("a push within a reply")
        if count:
            self._levels.append(_Level(kind, count))
        else:
            self._value(Aggregate(kind), end)

    def _bulk_value(self, data: bytes) -> object:
        if self._bulk_mark == b"!":
            return Error(data.decode("latin-1"), is_bulk=True)
        if self._bulk_mark == b"=":
            if data[3:4] != b":":
                raise CodecError("a verbatim string without a format")
            return Verbatim(data[:3].decode("latin-1"), data[4:])
        return data

    def _message(self, value: object, end: int) -> None:
        if isinstance(value, Aggregate) and value.kind == "push":
            self._close(None, end)
            return
        reply = RedisReply(
            value=value, missing=tuple(self._gaps), wire_bytes=end - self._begin
        )
        self._close(reply, end)


def _scalar(mark: bytes, rest: bytes) -> object:
    pattern, value = _SCALARS.get(mark, _NO_SCALAR)
    if not pattern.fullmatch(rest):
        raise CodecError("no reply")
    return value(rest)


def _number(text: bytes) -> int:
    if not _NUMBER.fullmatch(text):
        raise CodecError("no number")
    return int(text)


def requests() -> _Requests:
    return _Requests()


def responses(asked: deque[Message]) -> _Responses:
    return _Responses(asked)


def encode(message: Message) -> list[bytes | Missing]:
    """As it is sent; a gap stands in the data in which it was found."""
    if isinstance(message, RedisCommand):
        if message.is_inline:
            return [b" ".join(message.arguments) + b"\r\n"]
        parts = _bulks(b"*%d\r\n" % len(message.arguments), message.arguments)
    elif isinstance(message, RedisReply):
        parts = _written(message.value)
    else:
        raise TypeError(f"no message of Redis: {type(message).__name__}")
    return _with_gaps(parts, message.missing)


class _Data(NamedTuple):
    """A value's data, which may have gaps."""

    mark: bytes
    before: bytes  # a verbatim string's format
    data: bytes


def _bulks(head: bytes, values: tuple[bytes, ...]) -> Iterator[bytes | _Data]:
    yield head
    for one in values:
        yield _Data(b"$", b"", one)


def _written(value: object) -> Iterator[bytes | _Data]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Aggregate):
            count = len(one.items) // 2 if one.kind == "map" else len(one.items)
            yield b"%s%d\r\n" % (_MARKS[one.kind], count)
            waiting += reversed(one.items)
        else:
            write = _WRITERS.get(type(one))
            if write is None:
                raise TypeError(f"no value of Redis: {type(one).__name__}")
            yield write(one)


def _line_of(text: str) -> bytes:
    """One line, whatever is in it."""
    return re.sub(rb"[\r\n]", b" ", text.encode("latin-1", errors="replace"))


def _of_error(error: Error) -> bytes | _Data:
    if error.is_bulk:
        return _Data(b"!", b"", error.text.encode("latin-1", errors="replace"))
    return b"-%s\r\n" % _line_of(error.text)


_WRITERS: Final[Mapping[type, Callable[[Any], bytes | _Data]]] = {
    bytes: lambda one: _Data(b"$", b"", one),
    bool: lambda one: b"#t\r\n" if one else b"#f\r\n",
    int: lambda one: b":%d\r\n" % one,
    Simple: lambda one: b"+%s\r\n" % _line_of(one.text),
    Error: _of_error,
    Double: lambda one: b",%s\r\n" % _line_of(one.text),
    BigNumber: lambda one: b"(%s\r\n" % _line_of(one.digits),
    Verbatim: lambda one: _Data(b"=", f"{one.kind}:".encode("latin-1"), one.data),
    Nil: lambda one: _NILS[one.kind],
}


def _with_gaps(
    parts: Iterator[bytes | _Data], missing: tuple[Missing, ...]
) -> list[bytes | Missing]:
    written: list[bytes | Missing] = []
    text = bytearray()
    gaps = list(missing)
    at = 0  # in the message as sent
    for part in parts:
        if isinstance(part, bytes):
            text += part
            at += len(part)
            continue
        size = len(part.before) + len(part.data)
        there = list(_gaps_in(gaps, at, part.mark, size))
        del gaps[: len(there)]
        whole = size + sum(gap.bytes for gap in there)
        head = b"%s%d\r\n" % (part.mark, whole)
        text += head
        at += len(head)
        data = part.before + part.data
        for gap in there:
            before = gap.at - at
            text += data[:before]
            data = data[before:]
            written += [bytes(text), gap] if text else [gap]
            text.clear()
            at = gap.at + gap.bytes
        text += data + b"\r\n"
        at += len(data) + 2
    return [*written, bytes(text), *gaps] if text else [*written, *gaps]


def _gaps_in(gaps: list[Missing], at: int, mark: bytes, size: int) -> Iterator[Missing]:
    """Of the first ones, those in the data that begins at `at` with its head."""
    hidden = 0
    for gap in gaps:
        head = len(b"%s%d\r\n" % (mark, size + hidden + gap.bytes))
        if gap.at > at + head + size + hidden:
            return
        hidden += gap.bytes
        yield gap
