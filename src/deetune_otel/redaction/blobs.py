# SPDX-License-Identifier: Apache-2.0
"""Base64 of a text with a secret: `user:password` without its `Basic`, JSON in a cookie's clothes.

A run of symbols is decoded once, by its beginning alone where that is no text; what it holds is
judged by the same rules, to a bounded depth (base64 of base64).
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["blobs", "is_user_and_password"]

_SYMBOLS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_CLASSES: Final = bytes(ord("x") if one in _SYMBOLS else 32 for one in range(256))
LEAST: Final = 12  # `a:123456` has 8 symbols, 12 in base64
_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}+={0,2}+")
_PART: Final = re.compile(r"[A-Za-z0-9+_-]{12,}+={0,2}+")
_HEAD: Final = 16  # symbols that show whether it is a text
_STANDARD: Final = str.maketrans("-_", "+/")
_USER: Final = re.compile(r"[A-Za-z][\w.@+-]{0,63}:([\x21-\x39\x3b-\x7e]{6,128})")
# Ids of GraphQL (`User:123`), times and UUIDs are no passwords.
_ID: Final = re.compile(r"[0-9a-f.,TZ:+-]+|[A-Za-z_]+|[0-9]+[A-Za-z]?", re.IGNORECASE)


def blobs(text: str) -> Iterator[tuple[int, int, str]]:
    """Where base64 of a text is, and the text."""
    if len(text) < LEAST:
        return
    data = text.encode("ascii", "replace")
    if b"x" * LEAST not in data.translate(_CLASSES):
        return
    for run in _RUN.finditer(text):
        if (plain := _plain(run[0])) is not None:
            yield run.start(), run.end(), plain
        elif "/" in run[0]:  # segments of a path
            for part in _PART.finditer(text, run.start(), run.end()):
                if (plain := _plain(part[0])) is not None:
                    yield part.start(), part.end(), plain


def _plain(run: str) -> str | None:
    if run.islower() or run.isupper() or run.isdecimal():
        return None
    symbols = run.rstrip("=").translate(_STANDARD)
    if len(symbols) % 4 == 1 or not _decoded(symbols[:_HEAD], is_head=True):
        return None
    return _decoded(symbols, is_head=False)


def _decoded(symbols: str, *, is_head: bool) -> str | None:
    try:
        data = b64decode(symbols + "=" * (-len(symbols) % 4), validate=True)
        # The beginning may end within a symbol of UTF-8.
        text = data.decode("utf-8", "ignore" if is_head else "strict")
    except (binascii.Error, ValueError):
        return None
    lost = len(data) - len(text.encode()) if is_head else 0
    is_text = text.isprintable() or all(c.isprintable() or c in "\t\r\n" for c in text)
    return text if is_text and lost < 4 else None


def is_user_and_password(text: str) -> bool:
    found = _USER.fullmatch(text)
    return found is not None and not _ID.fullmatch(found[1])
