# SPDX-License-Identifier: Apache-2.0
"""CSV and its like: the columns that have a secret's name in the first line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["redact"]

_SEPARATORS: Final = ",;\t|"
_NAME: Final = re.compile(r"[\w-]{1,32}")
MAX_HEADER: Final = 4096


def redact(text: str, censor: Censor, *, is_sure: bool = True) -> str | None:
    """None: its first line has no such name, or is none. `is_sure`: the type says what it is."""
    end = text.find("\n", 0, MAX_HEADER)
    if end < 0:
        return None
    header = text[:end].lstrip("\ufeff").rstrip("\r")
    separator = max(_SEPARATORS, key=header.count)
    names = [one.strip().strip('"') for one in header.split(separator)]
    secret = {n: name for n, name in enumerate(names) if name in censor.names}
    if not secret or not (is_sure or _is_table(names)):
        return None
    other = re.escape(separator)
    cell = re.compile(
        rf"""[ ]*+(?:"((?:[^"]++|"")*)"?|([^{other}\r\n]*+))([^{other}\r\n]*+)({other}|\r?\n|\r|\Z)"""
    )
    parts, at, done, column = [], end + 1, end + 1, 0
    while at < len(text) and (found := cell.match(text, at)):
        if column in secret:
            group = 1 if found[1] is not None else 2
            start, stop = found.span(group)
            plain = found[group].replace('""', '"') if group == 1 else found[group]
            parts += [text[done:start], censor.value(plain, "name", secret[column])]
            done = stop
        column = column + 1 if found[4] == separator else 0
        at = found.end()
    return text[: end + 1] + "".join((*parts, text[done:]))


def _is_table(names: list[str]) -> bool:
    return len(names) > 1 and all(map(_NAME.fullmatch, names))
