# SPDX-License-Identifier: Apache-2.0
"""The parameters of a form, as HAR lists them → the body that was sent.

Some write them as they were sent, some decoded: where the length is known, it decides.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus

__all__ = [
    "MULTIPART",
    "URLENCODED",
    "Parameter",
    "multipart",
    "plain_text",
    "urlencoded",
]

MULTIPART: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"
_BOUNDARY: Final = re.compile(r'boundary="?([^";,\s]{1,70})', re.IGNORECASE)
_OWN_BOUNDARY: Final = "deetune-boundary-of-a-form"


class Parameter(NamedTuple):
    name: str
    value: str | None  # None: it is not in the file
    file_name: str = ""
    content_type: str = ""


def urlencoded(parameters: list[Parameter], length: int) -> bytes:
    ways = (
        lambda text: quote_plus(text, errors="surrogatepass"),
        lambda text: quote(text, safe="", errors="surrogatepass"),
        lambda text: text,
    )
    bodies = [
        "&".join(f"{way(one.name)}={way(one.value or '')}" for one in parameters)
        for way in ways
    ]
    encoded = [one.encode(errors="surrogatepass") for one in bodies]
    return next((one for one in encoded if len(one) == length), encoded[0])


def plain_text(parameters: list[Parameter]) -> bytes:
    lines = "".join(f"{one.name}={one.value or ''}\r\n" for one in parameters)
    return lines.encode(errors="surrogatepass")


def multipart(parameters: list[Parameter], mime_type: str) -> tuple[bytes, str]:
    """The body, and the content type with its boundary."""
    named = _BOUNDARY.search(mime_type)
    boundary = named[1] if named else _OWN_BOUNDARY
    kind = mime_type if named else f"{MULTIPART}; boundary={boundary}"
    parts = []
    for one in parameters:
        head = f'Content-Disposition: form-data; name="{_quoted(one.name)}"'
        if one.file_name:
            head += f'; filename="{_quoted(one.file_name)}"'
        if one.content_type:
            head += f"\r\nContent-Type: {_quoted(one.content_type)}"
        parts.append(f"--{boundary}\r\n{head}\r\n\r\n{one.value or ''}\r\n")
    parts.append(f"--{boundary}--\r\n")
    return "".join(parts).encode(errors="surrogatepass"), kind


def _quoted(text: str) -> str:
    """As browsers do (WHATWG's multipart/form-data encoding)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
