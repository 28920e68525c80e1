# SPDX-License-Identifier: Apache-2.0
"""A request as the bytes that are sent: read back before they are, so that they are one request.

A recording may come from anybody. A line end in a header, a length beside chunks or a body that
nobody announces would put another request on the connection than the one that was judged to be
a read. What a careful reader does not find again, alone and the same, is not sent.
"""

from __future__ import annotations

import re
from typing import Final

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import CODECS
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.model import Headers, HttpRequest, Message, RedisCommand

__all__ = ["Unsendable", "written"]

# RFC 9110, 5.5 and 5.6.2; a lone CR, NUL or line end is a line end to one server or another.
_WORD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET: Final = re.compile(r"[\x21-\x7e\x80-\xff]+")
_VERSIONS: Final = ("1.0", "1.1")


class Unsendable(Exception):  # noqa: N818 -- a state, not a mistake
    """In a few words, why this request is not sent."""


def written(protocol: Protocol, request: Message) -> bytes:
    """Raises Unsendable."""
    if isinstance(request, HttpRequest):
        _check(request)
    try:
        parts = CODECS[protocol].encode(request)
    except (UnicodeEncodeError, TypeError):
        raise Unsendable("a request that cannot be written") from None
    data = b"".join(part for part in parts if isinstance(part, bytes))
    if any(not isinstance(part, bytes) for part in parts):
        raise Unsendable("a request with missing bytes")
    decoder = CODECS[protocol].requests()
    try:
        found = decoder.feed(data)
    except CodecError:
        found = []
    if len(found) != 1 or not _is_same(found[0].message, request, data):
        raise Unsendable("a request that could be read as another one")
    return data


def _check(request: HttpRequest) -> None:
    names = [name.lower() for name, _ in request.headers]
    if not _WORD.fullmatch(request.method) or not _TARGET.fullmatch(request.target):
        raise Unsendable("a broken request line")
    if request.version not in _VERSIONS:
        raise Unsendable("a broken request line")
    if not _is_clean(request.headers) or not _is_clean(request.trailers):
        raise Unsendable("a broken header")
    if names.count("content-length") > 1 or (
        "transfer-encoding" in names
        and (
            "content-length" in names
            or names.count("transfer-encoding") > 1
            or request.version == "1.0"
            or not request.is_chunked
        )
    ):
        raise Unsendable("a request whose length is in doubt")


def _is_clean(headers: Headers) -> bool:
    return all(
        _WORD.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers
    )


def _is_same(found: Message, meant: Message, data: bytes) -> bool:
    if isinstance(found, HttpRequest) and isinstance(meant, HttpRequest):
        return (
            (found.method, found.target, found.body, found.wire_bytes)
            == (meant.method, meant.target, meant.body, len(data))
        )  # fmt: skip
    if isinstance(found, RedisCommand) and isinstance(meant, RedisCommand):
        return (found.arguments, found.wire_bytes) == (meant.arguments, len(data))
    return False
