# SPDX-License-Identifier: Apache-2.0
"""JSON in which only secrets change: spaces, order, numbers and escapes stay as they were sent.

The text is read token by token and never recursed into; several values may follow each other
(NDJSON, JSON text sequences). What replaces a number is a string.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["NotJson", "TooDeep", "redact"]

MAX_DEPTH: Final = 512
# Groups are not possessive: Python before 3.11.5 matches those wrongly (gh-106052).
_TOKEN: Final = re.compile(
    r"""[ \t\r\n\x1e]*+
    (?:
        (?:"((?:[^"\\\x00-\x1f]++|\\.)*)"[ \t\r\n]*+:[ \t\r\n]*+)?
        (?:
            "((?:[^"\\\x00-\x1f]++|\\.)*)"
          | (-?[0-9][0-9.eE+-]*+)
          | (true|false|null)
          | ([\[{])
        )
      | ([\]}])
    )
    [ \t\r\n\x1e]*+,?[ \t\r\n\x1e]*+""",
    re.VERBOSE,
)
_KEY, _STRING, _NUMBER, _OPEN, _CLOSE = 1, 2, 3, 5, 6  # groups of _TOKEN


class NotJson(ValueError):  # noqa: N818 -- it is no error: it is another kind of text
    """The text is no JSON."""


class TooDeep(ValueError):  # noqa: N818
    """It may be JSON, but nobody nests so deep in good faith."""


class _Level:
    """An object or array that is open."""

    __slots__ = ("closing", "index", "is_secret", "path")

    def __init__(self, closing: str, path: str, *, is_secret: bool) -> None:
        self.closing = closing
        self.path = path  # steps, \0 before each; "" where no rule has paths
        self.index = -1
        self.is_secret = is_secret

    def step(self, key: str | None) -> str:
        """The path of the next value in it."""
        self.index += 1
        if not self.closing:
            return ""
        return f"{self.path}\0{self.index if key is None else key}"


def redact(text: str, censor: Censor, *, depth: int = 0) -> str:
    """Raises NotJson and TooDeep."""
    reader = _Reader(text, censor, depth)
    return text if reader.is_harmless() else reader.read()


class _Reader:
    def __init__(self, text: str, censor: Censor, depth: int) -> None:
        self._text = text
        self._censor = censor
        self._depth = depth
        # Without these nothing but names can make a string a secret.
        self._is_suspect = "\\" in text or censor.detectors.may_be_in(text)
        self._has_paths = bool(censor.secret_paths or censor.kept_paths)
        self._parts: list[str] = []
        self._done = 0

    def is_harmless(self) -> bool:
        """Whether nothing can change, as most often: of 2 KB known in 30 µs, not in 190."""
        if self._is_suspect or self._has_paths:
            return False
        members: list[tuple[str, object]] = []
        try:  # the hook is called with the members of each object
            json.loads(self._text, object_pairs_hook=members.extend)
        except (ValueError, RecursionError):
            return False
        if any(name in self._censor.names for name in dict(members)):
            return False
        text = self._text
        strings = text.split('"')[1::2]  # nothing is escaped
        if "=" not in text and "<" not in text:
            if text.count(":") == len(members):
                return True  # no colon is within a string
            strings = [string for string in strings if ":" in string]
        return not any(map(self._censor.may_name, strings))

    def read(self) -> str:
        levels = [_Level("", "", is_secret=False)]
        at = 0
        for found in _TOKEN.finditer(self._text):
            if found.start() != at:
                _fail()
            at = found.end()
            if found.lastindex == _CLOSE:
                if found[_CLOSE] != levels.pop().closing:
                    _fail()
            else:
                self._value(found, levels)
        if at != len(self._text) or len(levels) > 1:
            _fail()
        if not self._parts:
            return self._text
        return "".join((*self._parts, self._text[self._done :]))

    def _value(self, found: re.Match[str], levels: list[_Level]) -> None:
        kind, level, key = found.lastindex, levels[-1], found[_KEY]
        if (key is not None) != (level.closing == "}"):
            _fail()
        is_secret, path = level.is_secret, ""
        if key is not None:
            key = self._key(found, key)
            is_secret = is_secret or key in self._censor.names
        if self._has_paths:
            path = level.step(key)
            if _fits(self._censor.kept_paths, path):
                is_secret = False
                if kind != _OPEN:
                    return
            elif _fits(self._censor.secret_paths, path):
                is_secret = True
        if kind == _OPEN:
            _open(levels, found[_OPEN], path, is_secret=is_secret)
        elif kind == _NUMBER:
            self._number(found, key or "", is_secret=is_secret)
        elif kind == _STRING:
            self._string(found, key or "", is_secret=is_secret)

    def _key(self, found: re.Match[str], raw: str) -> str:
        if not self._is_suspect:
            return raw
        key = _decoded(raw)
        if (changed := self._censor.detected(key, "a key")) != key:
            self._replace(
                found.start(_KEY), found.end(_KEY), _encoded(changed, raw)[1:-1]
            )
        return key

    def _number(self, found: re.Match[str], key: str, *, is_secret: bool) -> None:
        changed = raw = found[_NUMBER]
        if is_secret:
            changed = self._censor.value(raw, "name", key)
        elif self._is_suspect and len(raw) > 12:  # a card's
            changed = self._censor.detected(raw, key)
        if changed != raw:
            self._replace(*found.span(_NUMBER), f'"{changed}"')

    def _string(self, found: re.Match[str], key: str, *, is_secret: bool) -> None:
        raw, (start, end) = found[_STRING], found.span(_STRING)
        if is_secret:
            value = _decoded(raw)
            changed = self._censor.value(value, "name", key)
        elif self._is_suspect or "=" in raw or ":" in raw or "<" in raw:
            value = _decoded(raw)
            changed = self._censor.text(value, key, depth=self._depth)
        else:
            return
        if changed != value:
            self._replace(start - 1, end + 1, _encoded(changed, raw))

    def _replace(self, start: int, end: int, text: str) -> None:
        self._parts += [self._text[self._done : start], text]
        self._done = end


def _decoded(raw: str) -> str:
    if "\\" not in raw:
        return raw
    try:
        return str(json.loads(f'"{raw}"'))
    except ValueError:
        raise NotJson("a wrong escape") from None


def _encoded(text: str, raw: str) -> str:
    """As the sender writes: with what is not ASCII escaped, or not."""
    return json.dumps(text, ensure_ascii="\\u" in raw)


def _fail() -> NoReturn:
    raise NotJson("no JSON")


def _open(levels: list[_Level], opening: str, path: str, *, is_secret: bool) -> None:
    if len(levels) > MAX_DEPTH:
        raise TooDeep("nested too deep")
    levels.append(_Level("}" if opening == "{" else "]", path, is_secret=is_secret))


def _fits(paths: re.Pattern[str] | None, path: str) -> bool:
    return paths is not None and paths.fullmatch(path) is not None
