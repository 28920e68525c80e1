# SPDX-License-Identifier: Apache-2.0
"""Whether an HTTP message that a file describes could have been on a wire as it is described.

A line end in a header would be a header more, or a request more. What a connection carried never
has one; what is written in JSON may. Characters are bytes here, as in all headers of a recording.
"""

from __future__ import annotations

import re
from typing import Final

from deetune_otel.recording.model import Headers, HttpRequest, HttpResponse

__all__ = ["as_latin1", "fault"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(r"[^\x00-\x20\x7f]+")
_VERSION: Final = re.compile(r"1\.[0-9]")
_LINE_END: Final = re.compile(r"[\r\n\x00]")
MAX_LATIN1: Final = "\xff"


def fault(message: HttpRequest | HttpResponse) -> str:
    """What is wrong with it, as the end of a sentence that names it; "": nothing."""
    if isinstance(message, HttpRequest):
        if not _TOKEN.fullmatch(message.method):
            return "a method that is none"
        if not _TARGET.fullmatch(message.target) or not _is_latin1(message.target):
            return "a target with a space, a control character or none at all"
    elif not (message.status == 101 or 200 <= message.status < 1000):
        return "a status that is none, or an interim one"
    elif _LINE_END.search(message.reason) or not _is_latin1(message.reason):
        return "a line end in its reason"
    if not _VERSION.fullmatch(message.version):
        return "a version that is not 1.0 or 1.1"
    return _of_headers(message.headers) or _of_headers(message.trailers)


def _of_headers(headers: Headers) -> str:
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            return "a header whose name is none"
        if _LINE_END.search(value):
            return "a line end in a header"
        if not _is_latin1(value):
            return "a header that is no text of bytes"
    return ""


def as_latin1(text: str) -> str:
    """Text beyond latin-1 as the bytes of its UTF-8, a character each; a lone surrogate stays."""
    if _is_latin1(text):
        return text
    try:
        return text.encode().decode("latin-1")
    except UnicodeEncodeError:
        return text


def _is_latin1(text: str) -> bool:
    return text.isascii() or max(text) <= MAX_LATIN1
