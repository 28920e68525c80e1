# SPDX-License-Identifier: Apache-2.0
"""Tokens of redaction in what was recorded: what stood there is not known, so it cannot
differ.

The rest of the text can: `Bearer redacted-…` is still no `Basic dXNlcg==`.
"""

from __future__ import annotations

from typing import Final

from deetune_otel.redaction.tokens import TOKEN

__all__ = ["REDACTED", "is_masked"]

REDACTED: Final = "redacted"


def is_masked(expected: object, actual: object) -> bool:
    """Whether only tokens of `expected` make the difference."""
    if not isinstance(expected, str) or (found := TOKEN.search(expected)) is None:
        return False
    if found.span() == (0, len(expected)):  # it may have been a number
        return True
    return isinstance(actual, str) and _fits(TOKEN.split(expected), actual)


def _fits(literals: list[str], text: str) -> bool:
    """What stands around the tokens is there, in its order."""
    first, *middle, last = literals
    end = len(text) - len(last)
    if end < len(first) or not (text.startswith(first) and text.endswith(last)):
        return False
    at = len(first)
    for literal in middle:
        if (at := text.find(literal, at, end)) < 0:
            return False
        at += len(literal)
    return True
