# SPDX-License-Identifier: Apache-2.0
"""Values that differ at every run, and mean nothing by it.

Both must be of the same sort: a UUID where a date was is a difference.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["noise"]

_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_FORMS: Final = (
    ("redacted", re.compile(r"redacted-[0-9a-f]{16}")),
    (
        "UUID",
        re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    ),
    (
        "RFC 3339 date",
        re.compile(
            r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
            r"[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)"
            r"(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
        ),
    ),
    (
        "HTTP date",
        re.compile(
            rf"{_DAY}, [0-9]{{2}} {_MONTH} [0-9]{{4}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} GMT"
        ),
    ),
)
_NUMBER: Final = re.compile(r"[0-9]{10}(?:[0-9]{3})?(?:\.[0-9]{1,9})?")
_HEX: Final = re.compile(r"[0-9a-f]{16,}|[0-9A-F]{16,}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
# 2001 to 2100, in seconds. A larger step than a month is a change, not a later run.
_EPOCH: Final = (1_000_000_000, 4_102_444_800)
_NEAR: Final = 31 * 86400


def _epoch(expected: float, actual: float) -> str | None:
    for name, scale in (("epoch seconds", 1), ("epoch milliseconds", 1000)):
        low, high = _EPOCH[0] * scale, _EPOCH[1] * scale
        if low <= expected <= high and low <= actual <= high:
            return name if abs(expected - actual) <= _NEAR * scale else None
    return None


def _looks_random(text: str) -> bool:
    """An id has digits, and letters of both cases: words in a row do not."""
    return (
        any(c.isdigit() for c in text)
        and any(c.islower() for c in text)
        and any(c.isupper() for c in text)
    )


def _is_hex_id(text: str) -> bool:
    return _HEX.fullmatch(text) is not None and any(c.isalpha() for c in text)


def _is_base64_id(text: str) -> bool:
    return _BASE64.fullmatch(text) is not None and _looks_random(text)


def noise(  # noqa: PLR0911
    expected: object, actual: object
) -> str | None:
    """The sort of noise that both values are, or None: they differ, and it counts."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return None
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return _epoch(expected, actual)
    if not isinstance(expected, str) or not isinstance(actual, str):
        return None
    for name, form in _FORMS:
        if form.fullmatch(expected) and form.fullmatch(actual):
            return name
    if _NUMBER.fullmatch(expected) and _NUMBER.fullmatch(actual):
        return _epoch(float(expected), float(actual))
    if len(expected) == len(actual):
        if _is_hex_id(expected) and _is_hex_id(actual):
            return "hex id"
        if _is_base64_id(expected) and _is_base64_id(actual):
            return "base64 id"
    return None
