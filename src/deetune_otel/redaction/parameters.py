# SPDX-License-Identifier: Apache-2.0
"""`form-data; name="a"; filename="b"`: the value of a header with parameters, read once.

The standard library's reader counts quotes from the beginning at each semicolon, which a part of
a multipart body can make last for minutes.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

__all__ = ["parameters"]

_PARAMETER: Final = re.compile(
    r""";[ \t\r\n]*+([^\s;="]{1,64}+)[ \t]*+=[ \t]*+(?:"((?:[^"\\]++|\\.)*)"|([^;"]*+))""",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """What stands before the first semicolon, and the parameters, names in lower case.

    Of two with one name the first counts; `name*=utf-8''a` and `name*0=` are `name` (RFC 2231).
    """
    kind, _, _ = value.partition(";")
    found: dict[str, str] = {}
    at = len(kind)
    while match := _PARAMETER.search(value, at):
        at = match.end()
        name, quoted, bare = match[1].lower(), match[2], match[3]
        text = _ESCAPE.sub(r"\1", quoted) if quoted is not None else bare.strip()
        base, star, number = name.partition("*")
        if star and name.endswith("*"):
            text = unquote(text.rpartition("'")[2], errors="surrogateescape")
        if star and number.rstrip("*").isdecimal() and base in found:
            found[base] += text
        else:
            found.setdefault(base, text)
    return kind.strip().lower(), found
