# SPDX-License-Identifier: Apache-2.0
"""A route as the configuration writes it: `/users/{id}/orders`, `/static/*`.

The kernel folds paths before it counts (a segment that contains a digit is any segment, but for
`v1`, `v12`), so a pattern that wants to tell `/2024/` from `/2025/` cannot be served: it is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["ANY_SEGMENT", "TAIL", "RoutePattern"]

ANY_SEGMENT: Final = "{id}"
TAIL: Final = "*"
_VERSION: Final = re.compile(r"v[0-9]{1,2}")
_DIGIT: Final = re.compile(r"[0-9]")


@dataclass(frozen=True, slots=True)
class RoutePattern:
    """Of a text by `parse`."""

    text: str
    segments: tuple[str | None, ...]  # None stands for any one segment
    tail: bool

    @classmethod
    def parse(cls, text: str) -> RoutePattern:
        """ValueError says what to write."""
        if not text.startswith("/"):
            raise ValueError(f"a route begins with '/', got {text!r}")
        if "?" in text:
            raise ValueError(f"{text!r}: leave out the query, it is never looked at")
        parts = text.split("/")[1:]
        tail = parts[-1] == TAIL
        if tail:
            parts.pop()
        return cls(text, tuple(_segment(text, part) for part in parts), tail)

    def matches(self, segments: tuple[str, ...], *, complete: bool) -> bool:
        """Of an incomplete path only the finished segments are given."""
        if self.tail:
            if len(segments) <= len(self.segments):
                return False
        elif not complete or len(segments) != len(self.segments):
            return False
        return all(
            want is None or want == got
            for want, got in zip(self.segments, segments, strict=False)
        )


def _segment(text: str, part: str) -> str | None:
    if part.startswith("{") and part.endswith("}") and len(part) > len("{}"):
        return None
    if "{" in part or "}" in part:
        raise ValueError(
            f"{text!r}: a parameter is a whole segment; write '{ANY_SEGMENT}' for {part!r}"
        )
    if part == TAIL:
        raise ValueError(
            f"{text!r}: '*' stands for the rest of the path and comes last; "
            f"write '{ANY_SEGMENT}' for one segment"
        )
    if _DIGIT.search(part) and not _VERSION.fullmatch(part):
        wanted = text.replace(f"/{part}", f"/{ANY_SEGMENT}")
        raise ValueError(
            f"{text!r}: segments that contain a digit are counted together in the "
            f"kernel, so {part!r} cannot be told from others; write {wanted!r}"
        )
    return part
