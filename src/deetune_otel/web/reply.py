# SPDX-License-Identifier: Apache-2.0
"""What the endpoint answers: a status, a type, a body, and headers of its own."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "JSON",
    "NO_HEADERS",
    "TEXT",
    "Folded",
    "Reply",
    "accepts_gzip",
    "as_json",
    "packed",
]

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
# Below it packing saves no packet worth the time.
LEAST_PACKED_BYTES: Final = 4096
# Level 1 takes a quarter of the default's time and makes a map a tenth larger than it.
PACKING: Final = 1
_GZIP: Final = 16 + zlib.MAX_WBITS
PIECE_BYTES: Final = 256 * 1024
_GZIP_REFUSED: Final = re.compile(r"gzip\s*;\s*q=0(\.0*)?\s*(,|$)")


class Reply(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS  # beside and over those of every answer
    folded: Folded | None = None  # in place of `body`


class Folded:
    """A long body, kept packed: what is sent unpacked is unpacked while it is sent."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        packing = zlib.compressobj(PACKING, wbits=_GZIP)
        parts = []
        self.unpacked_bytes = 0
        for piece in pieces:
            self.unpacked_bytes += len(piece)
            parts.append(packing.compress(piece))
        self.packed = b"".join((*parts, packing.flush()))

    def pieces(self) -> Iterator[bytes]:
        """Unpacked."""
        unpacking = zlib.decompressobj(wbits=_GZIP)
        rest = self.packed
        while rest:
            yield unpacking.decompress(rest, PIECE_BYTES)
            rest = unpacking.unconsumed_tail
        yield unpacking.flush()


def as_json(status: HTTPStatus, value: object, *, for_people: bool = True) -> Reply:
    """Indented for people; without, a large value takes a tenth of the time."""
    if for_people:
        text = json.dumps(value, indent=2, default=str)
    else:
        text = json.dumps(value, separators=(",", ":"), default=str)
    return Reply(status, JSON, f"{text}\n".encode())


def accepts_gzip(accept_encoding: str) -> bool:
    wanted = accept_encoding.lower()
    return "gzip" in wanted and not _GZIP_REFUSED.search(wanted)


def packed(reply: Reply, accept_encoding: str) -> Reply:
    """The same reply, smaller where the client takes that and it is worth it."""
    headers = {**reply.headers, "Vary": "Accept-Encoding"}
    if reply.folded is not None:
        if not accepts_gzip(accept_encoding):
            return reply._replace(headers=headers)
        headers["Content-Encoding"] = "gzip"
        return reply._replace(body=reply.folded.packed, headers=headers, folded=None)
    if len(reply.body) < LEAST_PACKED_BYTES:
        return reply
    if accepts_gzip(accept_encoding):
        body = gzip.compress(reply.body, compresslevel=PACKING, mtime=0)
        return reply._replace(
            body=body, headers={**headers, "Content-Encoding": "gzip"}
        )
    return reply._replace(headers=headers)
