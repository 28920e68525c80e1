# SPDX-License-Identifier: Apache-2.0
"""The entries of a HAR document, one at a time: what stands in memory is one of them.

A document is one JSON value of any size, and in memory many times larger than as text. Here only
its brackets, commas and strings are told apart; what lies between two commas of `log.entries` is
parsed by itself. Every byte is looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from deetune_otel.recording.documents import parsed
from deetune_otel.recording.errors import BadInput

__all__ = ["entries_in"]

MAX_ENTRIES: Final = 1_000_000
# Of one entry as text, bodies included; browsers stop at 10 to 100 MB of a body.
MAX_ENTRY_BYTES: Final = 128 * 1024 * 1024
MAX_DEPTH: Final = 500
_MARK: Final = re.compile(rb'["{}\[\],]')
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
# Within an entry only brackets count. No possessive group in another one: Python 3.11.2 (Debian
# 12's) takes a string's end for a beginning then (python/cpython#106052).
_UP_TO_BRACKET: Final = re.compile(
    rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*")*', re.DOTALL
)
_CLOSES: Final = {ord("}"): ord("{"), ord("]"): ord("[")}
_QUOTE: Final = ord('"')
_COMMA: Final = ord(",")
_LIST: Final = 3  # how many brackets are open in `{"log": {"entries": [`


def entries_in(chunks: Iterable[bytes]) -> Iterator[Any]:
    """Raises BadInput, for what breaks off as well."""
    splitter = _Splitter()
    for chunk in chunks:
        yield from splitter.feed(chunk)
    splitter.end()


class _Splitter:
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # what stands before is read
        self._begin = 0  # of the entry, or of the last string
        self._is_in_string = False
        self._open = bytearray()
        self._keys = [b"", b""]  # the last strings of the document and of `log`
        self._is_in_entries = self._is_through = False
        self._count = 0

    def feed(self, chunk: bytes) -> Iterator[Any]:
        self._buffer += chunk
        while self._skip_string():
            if self._is_in_entries and len(self._open) > _LIST:
                passed = _UP_TO_BRACKET.match(self._buffer, self._at)
                self._at = passed.end() if passed else self._at
                del passed
            mark = _MARK.search(self._buffer, self._at)
            if mark is None:
                self._at = len(self._buffer)
                break
            at, kind = mark.start(), self._buffer[mark.start()]
            del mark  # it holds the buffer
            self._at = at + 1
            if kind == _QUOTE:
                self._is_in_string = True
                if not self._is_in_entries:
                    self._begin = at
            elif kind == _COMMA:
                if self._is_in_entries and len(self._open) == _LIST:
                    yield self._entry(at)
            else:
                yield from self._bracket(kind, at)
        self._let_go()

    def end(self) -> None:
        if self._is_in_string or self._open:
            raise BadInput("no JSON: the document ends before its last bracket")
        if not self._is_through:
            raise BadInput("log.entries: no list of entries")

    def _skip_string(self) -> bool:
        """False where the buffer ends first."""
        if not self._is_in_string:
            return True
        found = _IN_STRING.match(self._buffer, self._at)
        self._at = found.end() if found else self._at
        del found
        if self._at >= len(self._buffer) or self._buffer[self._at] != _QUOTE:
            return False
        self._at += 1
        self._is_in_string = False
        depth = len(self._open)
        if not self._is_in_entries and depth in (1, 2):
            self._keys[depth - 1] = bytes(self._buffer[self._begin : self._at])
        return True

    def _bracket(self, kind: int, at: int) -> Iterator[Any]:
        opened = _CLOSES.get(kind)
        if opened is None:
            if len(self._open) == MAX_DEPTH:
                raise BadInput(f"nested more than {MAX_DEPTH} levels deep")
            self._open.append(kind)
            if (
                self._open == b"{{["
                and self._keys == [b'"log"', b'"entries"']
                and not self._is_through
            ):
                self._is_in_entries = True
                self._begin = at + 1
            return
        if not self._open or self._open.pop() != opened:
            raise BadInput("no JSON: a bracket closes that was not open")
        if self._is_in_entries and len(self._open) < _LIST:
            if self._count or self._buffer[self._begin : at].strip():
                yield self._entry(at)
            self._is_in_entries, self._is_through = False, True

    def _entry(self, end: int) -> Any:
        name = f"log.entries[{self._count}]"
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise BadInput(f"log.entries: more than {MAX_ENTRIES:,} entries")
        data = bytes(self._buffer[self._begin : end])
        self._begin = end + 1
        try:
            return parsed(data)
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from None

    def _let_go(self) -> None:
        kept = self._at
        if self._is_in_entries or self._is_in_string:
            kept = min(self._begin, self._at)
        if len(self._buffer) - kept > MAX_ENTRY_BYTES:
            name = f"log.entries[{self._count}]" if self._is_in_entries else "a text"
            raise BadInput(f"{name}: more than {MAX_ENTRY_BYTES:,} bytes")
        del self._buffer[:kept]
        self._at -= kept
        self._begin -= kept
