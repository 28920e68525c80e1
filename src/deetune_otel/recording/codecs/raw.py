# SPDX-License-Identifier: Apache-2.0
"""What nobody understands: all of one direction until the other speaks is a message.

The assembler sees who speaks, and ends the message of the one who did (`TAKES_TURNS`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deetune_otel.recording.codecs.contract import Decoded
from deetune_otel.recording.model import Message, Missing, MissingBecause, RawMessage

if TYPE_CHECKING:
    from collections import deque

__all__ = ["TAKES_TURNS", "encode", "requests", "responses"]

TAKES_TURNS: Final = True
# A message is held until the other side speaks: a long download stays bounded.
MAX_KEPT: Final = 16 * 1024 * 1024


class _Decoder:
    def __init__(self) -> None:
        self._begin = self._end = 0
        self._data = bytearray()
        self._missing: list[Missing] = []

    def feed(self, data: bytes) -> list[Decoded]:
        kept = data[: max(0, MAX_KEPT - len(self._data))]
        self._data += kept
        self._end += len(kept)
        if len(kept) < len(data):
            self.skip(len(data) - len(kept), MissingBecause.LIMIT)
        return []

    def skip(self, count: int, because: MissingBecause) -> list[Decoded]:
        at = self._end - self._begin
        last = self._missing[-1] if self._missing else None
        if last and last.at + last.bytes == at and last.because is because:
            self._missing[-1] = last._replace(bytes=last.bytes + count)
        else:
            self._missing.append(Missing(at, count, because))
        self._end += count
        return []

    def end(self) -> list[Decoded]:
        """The other side speaks, or the connection has ended."""
        if self._begin == self._end:
            return []
        message = RawMessage(data=bytes(self._data), missing=tuple(self._missing))
        found = Decoded(message, self._begin, self._end)
        self._begin = self._end
        self._data.clear()
        self._missing.clear()
        return [found]


def requests() -> _Decoder:
    return _Decoder()


def responses(asked: deque[Message]) -> _Decoder:  # noqa: ARG001 -- a codec's shape
    return _Decoder()


def encode(message: Message) -> list[bytes | Missing]:
    """The bytes as they were sent, with their gaps."""
    if not isinstance(message, RawMessage):
        raise TypeError(f"no raw message: {type(message).__name__}")
    written: list[bytes | Missing] = []
    data, at = message.data, 0
    for gap in message.missing:
        if gap.at > at:
            written.append(data[: gap.at - at])
            data = data[gap.at - at :]
        written.append(gap)
        at = gap.at + gap.bytes
    return [*written, data] if data else written
