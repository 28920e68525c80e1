# SPDX-License-Identifier: Apache-2.0
"""Chunks of a file → its records, whatever ends one. Every byte is looked at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["records"]


def records(
    chunks: Iterable[bytes], separator: bytes, *, max_bytes: int
) -> Iterator[bytes | None]:
    """None for one of more than `max_bytes`. What follows the last separator comes last."""
    buffer = bytearray()
    is_too_long = False
    for chunk in chunks:
        searched = max(0, len(buffer) - len(separator) + 1)
        buffer += chunk
        begin = 0
        while (end := buffer.find(separator, max(begin, searched))) >= 0:
            is_whole = not is_too_long and end - begin <= max_bytes
            yield bytes(buffer[begin:end]) if is_whole else None
            is_too_long = False
            begin = end + len(separator)
        del buffer[:begin]
        if len(buffer) >= max_bytes + len(separator):
            is_too_long = True
            del buffer[: len(buffer) - len(separator)]
    yield None if is_too_long or len(buffer) > max_bytes else bytes(buffer)
