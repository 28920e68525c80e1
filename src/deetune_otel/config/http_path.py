# SPDX-License-Identifier: Apache-2.0
"""Which parts of a path are identifiers, and so which paths are one operation.

`bpf/l7/http_path.h` decides before it counts, byte by byte; this says the same in words, for
names. Both must agree on every path: one signature has one name.

A segment ends at its parameters (`;name=value`) and is made of parts. Punctuation (`. : ( ) ' @`
and others) ends a part, and so does a mark such as `-` or `_` behind a plain word, while there
are only plain words: `order-123` is `order-` and `123`. A part is an identifier when

- it has digits and no letters: `42`, `2024-05-01`;
- a word of it is a number of two digits or more, has a number of three digits or more, or two
  numbers: `c3a-42`, `user123`, `A1B2C3`, UUIDs, hexadecimal numbers, ULIDs;
- it is long and looks random: letters of both cases and digits in no order;
- it has more than 64 letters and digits.

So `oauth2`, `s3`, `utf-8`, `log4j`, `2fa`, `3d-models` and `base64` are names. `v1`, `v1.41` and
`v1p1beta1` are versions. Bytes behind `%` are no digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANY", "SPLITTERS", "folded", "is_plain_end", "segment_hash"]

ANY: Final = "{id}"  # stands for an identifier
SPLITTERS: Final = "!$&'()*.:=@~"

_HASH_START: Final = 0xCBF29CE484222325  # FNV-1a, as in bpf/include/chunk.h
_HASH_PRIME: Final = 0x100000001B3
_U64: Final = (1 << 64) - 1

_LONG: Final = 64  # letters and digits of a part: names are shorter
_RANDOM: Final = 14  # from here on one that turns at every other letter is none

_SPLITTER: Final = re.compile(rf"([{SPLITTERS}])")
_ESCAPE: Final = re.compile(r"%.?.?")
# What is not ASCII is a small letter, and so is the "?" that stands for it in names.
_SMALL: Final = r"a-z?\x7f-\U0010ffff"
_MARK: Final = rf"[^0-9A-Z%{_SMALL}]"
_PLAIN: Final = rf"[A-Z{_SMALL}](?:[A-Z]+|[{_SMALL}]+)"
_PLAIN_WORDS: Final = re.compile(rf"(?:{_MARK}*{_PLAIN}{_MARK})*")
_PLAIN_WORD: Final = re.compile(rf"{_MARK}*{_PLAIN}{_MARK}")
_WORD: Final = re.compile(rf"[0-9A-Z{_SMALL}]+")
_NUMBER: Final = re.compile(r"[0-9]+")
_KINDS: Final = re.compile(rf"[0-9]+|[A-Z]+|[{_SMALL}]+")
_VERSION: Final = re.compile(r"[vV][0-9]")
_VERSION_END: Final = re.compile(rf"(?<![0-9A-Z{_SMALL}])[vV][0-9]{{1,2}}\Z")
_MINOR: Final = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class _Part:
    text: str
    splitter: str  # behind it; ""
    is_identifier: bool


def folded(segment: str, identifier: str = ANY) -> str:
    """The segment as it counts: without parameters, its identifiers replaced."""
    return "".join(
        (identifier if part.is_identifier else part.text) + part.splitter
        for part in _parts(segment)
    )


def segment_hash(segment: str) -> int:
    """What the kernel knows a segment by that is kept as it is written."""
    text = _HASH_START
    for part in _parts(segment):
        text = (text ^ _hash(part.text)) * _HASH_PRIME & _U64
        text ^= text >> 32
        text = _hash(part.splitter, text)
    return text


def is_plain_end(text: str) -> bool:
    """Whether what follows this beginning of a segment is a part of its own, whatever it is."""
    last = _SPLITTER.split(text)[-1]
    return not last or _PLAIN_WORDS.fullmatch(last) is not None


def _hash(text: str, start: int = _HASH_START) -> int:
    value = start
    for byte in text.encode("latin-1", "replace"):
        value = (value ^ byte) * _HASH_PRIME & _U64
    return value


def _parts(segment: str) -> Iterator[_Part]:
    pieces = _SPLITTER.split(segment.partition(";")[0])
    is_minor = False
    for piece, splitter in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        words = _PLAIN_WORDS.match(piece)
        rest = piece[words.end() :] if words else piece
        is_behind = rest != piece
        for one in _PLAIN_WORD.findall(piece[: len(piece) - len(rest)]):
            yield _Part(one, "", is_identifier=False)
        bounded = _ESCAPE.sub("%", rest)
        is_minor = is_minor and not is_behind
        is_number = _has_identifier(bounded, is_behind=is_behind, is_minor=is_minor)
        yield _Part(rest, splitter, is_number or _looks_random(bounded))
        is_version = _VERSION_END.search(bounded) is not None or (
            is_minor and _MINOR.fullmatch(bounded) is not None
        )
        is_minor = splitter == "." and is_version and not is_number


def _has_identifier(text: str, *, is_behind: bool, is_minor: bool) -> bool:
    """By its numbers. is_minor: it follows `v1.`"""
    words = _WORD.findall(text)
    if is_minor and words and text.startswith(words[0]) and _MINOR.fullmatch(words[0]):
        words, is_behind = words[1:], True
    is_bare = (
        not is_behind and not is_minor and re.search(rf"[A-Z%{_SMALL}]", text) is None
    )
    return any(_is_identifier(word) or (is_bare and word.isdigit()) for word in words)


def _is_identifier(word: str) -> bool:
    numbers = _NUMBER.findall(word)
    if not numbers:
        return False
    if numbers[0] == word:
        return len(word) > 1
    is_version = _VERSION.match(word) is not None
    return max(map(len, numbers)) > 2 or (len(numbers) > 1 and not is_version)


def _looks_random(text: str) -> bool:
    runs = [_KINDS.findall(word) for word in _WORD.findall(text)]
    count = sum(map(len, (run for word in runs for run in word)))
    turns = sum(len(word) - 1 for word in runs)
    has_digit = _NUMBER.search(text) is not None
    return count > _LONG or (has_digit and count >= _RANDOM and 2 * turns >= count)
