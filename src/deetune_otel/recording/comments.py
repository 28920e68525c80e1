# SPDX-License-Identifier: Apache-2.0
"""Facts as the comment of a packet: `exchange=9f… trace_id=… operation="GET /orders/{id}"`.

Words with a space between them; a value that is not plain is a JSON string, so that any value
is read back as it was. tshark finds them: `frame.comment contains "trace_id=4bf9…"`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["from_text", "to_text"]

_PLAIN: Final = re.compile(r"[\w./:@+*,-]+", re.ASCII)
_WORD: Final = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"]+)(?: |$)', re.ASCII)


def to_text(facts: Mapping[str, str]) -> str:
    """Keys are small letters and `_`; what is "" is left out."""
    return " ".join(f"{key}={_written(value)}" for key, value in facts.items() if value)


def from_text(text: str) -> dict[str, str]:
    """{} for a comment that is something else."""
    facts: dict[str, str] = {}
    at = 0
    while at < len(text):
        word = _WORD.match(text, at)
        if word is None:
            return {}
        key, value = word.groups()
        if value.startswith('"'):
            try:
                value = str(json.loads(value))
            except ValueError:
                return {}
        facts[key] = value
        at = word.end()
    return facts


def _written(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate: a name that was no text
        return json.dumps(value)
    return json.dumps(value, ensure_ascii=False)
