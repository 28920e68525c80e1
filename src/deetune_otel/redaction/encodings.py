# SPDX-License-Identifier: Apache-2.0
"""Content encodings undone and done again, with a bound on what a body may grow to."""

from __future__ import annotations

import gzip
import zlib
from typing import Final

import zstandard

from deetune_otel.redaction.censor import CannotRedact

__all__ = ["decoded", "encoded"]

MAX_CODINGS: Final = 2
MAX_MEMBERS: Final = 64  # of gzip: what follows a member is copied for each
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_GROWTH: Final = 100  # text seldom shrinks to less than a fiftieth
_ALWAYS_BYTES: Final = 1024 * 1024
_MAX_WINDOW: Final = 8 * 1024 * 1024  # RFC 9659
_SLICE: Final = 256  # one slice of zstd grows to 11 MB at most


def _bound(data: bytes) -> int:
    return min(MAX_BYTES, max(_ALWAYS_BYTES, MAX_GROWTH * len(data)))


def _inflated(data: bytes, wbits: int) -> bytes:
    bound, left = _bound(data), data
    parts: list[bytes] = []
    while left:  # gzip: members may follow each other
        if len(parts) == MAX_MEMBERS:
            raise CannotRedact("it has too many members")
        stream = zlib.decompressobj(wbits)
        part = stream.decompress(left, bound + 1)
        bound -= len(part)
        if bound < 0:
            raise CannotRedact("it grows too much")
        if not stream.eof or (stream.unused_data and wbits < 16):
            raise CannotRedact("it is cut off, or something follows it")
        parts.append(part)
        left = stream.unused_data
    return b"".join(parts)


def _deflated(data: bytes) -> bytes:
    try:
        return _inflated(data, zlib.MAX_WBITS)
    except zlib.error:  # many send it without zlib's header
        return _inflated(data, -zlib.MAX_WBITS)


def _unzstd(data: bytes) -> bytes:
    stream = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()
    bound, parts = _bound(data), []
    for at in range(0, len(data), _SLICE):
        if stream.eof:
            raise CannotRedact("something follows it")
        part = stream.decompress(data[at : at + _SLICE])
        bound -= len(part)
        if bound < 0:
            raise CannotRedact("it grows too much")
        parts.append(part)
    if not stream.eof or stream.unused_data:
        raise CannotRedact("it is cut off, or something follows it")
    return b"".join(parts)


def _undone(data: bytes, coding: str) -> bytes:
    match coding:
        case "gzip" | "x-gzip":
            return _inflated(data, 16 + zlib.MAX_WBITS)
        case "deflate":
            return _deflated(data)
        case "zstd":
            return _unzstd(data)
    raise CannotRedact("a content encoding that is not known here")


def _codings(names: str) -> list[str]:
    codings = [one.strip().lower() for one in names.split(",")]
    return [one for one in codings if one not in {"", "identity"}]


def decoded(data: bytes, names: str) -> bytes:
    """`names`: as in Content-Encoding, in the order of their application. Raises CannotRedact."""
    codings = _codings(names)
    if len(codings) > MAX_CODINGS:
        raise CannotRedact("too many content encodings")
    try:
        for coding in reversed(codings):
            data = _undone(data, coding)
    except (zlib.error, zstandard.ZstdError) as error:
        raise CannotRedact("not in its content encoding") from error
    return data


def encoded(data: bytes, names: str) -> bytes:
    for coding in _codings(names):
        if coding == "zstd":
            data = zstandard.ZstdCompressor().compress(data)
        elif coding == "deflate":
            data = zlib.compress(data)
        else:
            data = gzip.compress(data, mtime=0)
    return data
