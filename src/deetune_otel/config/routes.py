# SPDX-License-Identifier: Apache-2.0
"""A route as the configuration writes it: `/users/{id}/orders`, `/@{user}/*`, `/{file}.json`.

The kernel counts all identifiers of a path together (http_path.py), so a parameter ends where a
part of a segment ends. A segment without parameters that would be an identifier is told to the
kernel, which keeps it: `/2010-04-01/accounts/{id}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from deetune_otel.config.http_path import ANY, SPLITTERS, folded, is_plain_end

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_KEPT_SEGMENTS", "TAIL", "WELL_KNOWN", "RoutePattern", "kept_segments"]

TAIL: Final = "*"
# Entries of the kernel's map, of 64 bytes each; one that is full would merge what is configured.
MAX_KEPT_SEGMENTS: Final = 1024

# Names that would be identifiers by their digits, and none of which is one of many.
WELL_KNOWN: Final = frozenset(
    {
        *(f"{major}.{minor}" for major in range(1, 10) for minor in range(10)),
        *("404.html", "500.html", "h264", "h265", "iso8601", "rfc3339", "s3v4"),
        *("sha224", "sha256", "sha384", "sha512", "sha-224", "sha-256", "sha-384"),
        *("sha-512", "utf-16", "utf-32", "utf8mb4", "x509", "x86_64", "x86-64"),
    }
)

_PARAMETER: Final = re.compile(r"\{[^{}]+\}")
_OTHERS_PARAMETER: Final = re.compile(r":[A-Za-z_]\w*|<.+>")  # of other frameworks
_VERSION: Final = ("v", "V")  # and a number are told apart, whatever the number is
# Of a segment that is matched: the kernel's samples have no more, and imported paths no bound.
_SEGMENT_CHARACTERS: Final = 256
_FOLDED: Final = "\0"  # stands in no path


@dataclass(frozen=True, slots=True)
class RoutePattern:
    """Of a text by `parse`."""

    text: str
    segments: tuple[str | re.Pattern[str], ...]  # an expression where it has parameters
    tail: bool

    @classmethod
    def parse(cls, text: str) -> RoutePattern:
        """ValueError says what to write."""
        if not text.startswith("/"):
            raise ValueError(f"a route begins with '/', got {text!r}")
        if "?" in text:
            raise ValueError(f"{text!r}: leave out the query, it is never looked at")
        if ";" in text:
            raise ValueError(
                f"{text!r}: leave out ';' and what follows, parameters of a segment "
                "are never looked at"
            )
        if not all("!" <= character <= "~" for character in text):
            raise ValueError(
                f"{text!r}: write it as it is sent, with %20 for a space and %C3%A9 for 'é'"
            )
        parts = text.split("/")[1:]
        tail = parts[-1] == TAIL
        if tail:
            parts.pop()
        return cls(text, tuple(_segment(text, part) for part in parts), tail)

    def kept(self) -> set[str]:
        """Its segments that would be identifiers."""
        return {
            segment
            for segment in self.segments
            if isinstance(segment, str) and folded(segment) != segment
        }

    def matches(
        self, segments: tuple[str, ...], *, kept: frozenset[str], complete: bool
    ) -> bool:
        """Of an incomplete path only the finished segments are given; none has parameters."""
        if self.tail:
            if len(segments) <= len(self.segments):
                return False
        elif not complete or len(segments) != len(self.segments):
            return False
        return all(
            want == got if isinstance(want, str) else _is_match(want, got, kept)
            for want, got in zip(self.segments, segments, strict=False)
        )


def kept_segments(patterns: Iterable[RoutePattern]) -> frozenset[str]:
    """All segments that are no identifiers although they look like one.

    ValueError says what to write when there are too many.
    """
    kept = WELL_KNOWN.union(*(pattern.kept() for pattern in patterns))
    if len(kept) > MAX_KEPT_SEGMENTS:
        own = MAX_KEPT_SEGMENTS - len(WELL_KNOWN)
        raise ValueError(
            f"{len(kept) - len(WELL_KNOWN)} segments look like identifiers and are to be kept "
            f"apart, of {own} that can be; write '{ANY}' for those that are values"
        )
    return kept


def _is_match(want: re.Pattern[str], got: str, kept: frozenset[str]) -> bool:
    """What the kernel cannot tell apart must not be told apart here either."""
    text = got if got in kept else folded(got, _FOLDED)
    return want.fullmatch(text[:_SEGMENT_CHARACTERS]) is not None


def _segment(text: str, part: str) -> str | re.Pattern[str]:
    if TAIL in part:
        raise ValueError(
            f"{text!r}: '{TAIL}' stands for the rest of the path, alone and as the last "
            f"segment; write '{ANY}' for one segment or a part of it"
        )
    if _OTHERS_PARAMETER.fullmatch(part):
        raise ValueError(f"{text!r}: a parameter is written '{ANY}', got {part!r}")
    literals = _PARAMETER.split(part)
    if any("{" in literal or "}" in literal for literal in literals):
        raise ValueError(
            f"{text!r}: a parameter is written '{ANY}', with a name and nothing else in "
            f"braces, got {part!r}"
        )
    if len(literals) > 1:
        _check_parameters(text, part, literals)
        return re.compile("(.+)".join(map(re.escape, literals)), re.DOTALL)
    return part


def _check_parameters(text: str, part: str, literals: list[str]) -> None:
    """What stands beside a parameter must be the same whatever the parameter is."""
    begins = all(is_plain_end(literal) for literal in literals[1:-1]) and (
        literals[0] in _VERSION or is_plain_end(literals[0])
    )
    ends = all(literal[:1] in [*SPLITTERS] for literal in literals[1:-1]) and (
        not literals[-1] or literals[-1][0] in SPLITTERS
    )
    if not begins or not ends:
        raise ValueError(
            f"{text!r}: {part!r} cannot be told from other identifiers; a parameter begins "
            f"behind '/', behind a word of several letters and '-' or '_', or behind one of "
            f"{SPLITTERS}, and ends at '/' or at one of {SPLITTERS}: write '{ANY}'"
        )
    for literal in literals:
        if folded(literal) != literal:
            raise ValueError(
                f"{text!r}: {literal!r} is itself an identifier and cannot be told from "
                f"others beside a parameter; write '{ANY}' for it"
            )
