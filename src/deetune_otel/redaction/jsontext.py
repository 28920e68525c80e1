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
_MAX_NAME: Final = 64
_MIN_NUMBER: Final = 6  # digits of the shortest that may be a secret by itself
# `{"name": "password", "type": "x", "value": …}`: the members that name, and those that are named.
_NAMING: Final = frozenset(
    {
        "name",
        "key",
        "field",
        "fieldname",
        "id",
        "parameter",
        "param",
        "property",
        "header",
        "variable",
        "attribute",
        "label",
        "k",
        "path",
        "loc",
    }
)
_VALUES: Final = frozenset(
    {
        "value",
        "values",
        "val",
        "v",
        "content",
        "data",
        "text",
        "default",
        "defaultvalue",
        "rejectedvalue",
        "stringvalue",
        "newvalue",
        "oldvalue",
        "input",
        "answer",
    }
)
# `{"loc": ["body", "password"], "input": …}`: their last step names.
_LOCATIONS: Final = frozenset({"loc", "path"})
_TYPE: Final = "type"  # {"type": "password", "value": …}: an input of a form
_PAIR_NAME: Final = re.compile(r"[\w.:$/\[\]-]{1,64}")
_ARRAYS: Final = re.compile(r"\[[ \t\r\n]*+\[")


class NotJson(ValueError):  # noqa: N818 -- it is no error: it is another kind of text
    """The text is no JSON."""


class TooDeep(ValueError):  # noqa: N818
    """It may be JSON, but nobody nests so deep in good faith."""


class _Level:
    """An object or array that is open."""

    __slots__ = ("closing", "index", "is_pair", "is_secret", "path")

    def __init__(self, closing: str, path: str, *, is_secret: bool) -> None:
        self.closing = closing
        self.path = path  # steps, \0 before each; "" where no rule has paths
        self.index = -1
        self.is_secret = is_secret
        self.is_pair = False  # a member of it has a secret's name as its value

    def step(self, key: str | None) -> str:
        """The path of the next value in it."""
        if not self.closing:
            return ""
        return f"{self.path}\0{self.index if key is None else key}"


class _Open:
    """An object or array that is open, while pairs are looked for."""

    __slots__ = ("count", "is_named", "key", "opening", "start")

    def __init__(self, start: int, opening: str, key: str) -> None:
        self.start = start
        self.opening = opening
        self.key = key
        self.count = 0
        self.is_named = False

    def is_pair(self, above: _Open) -> bool:
        """`["password", "email"]` in an object is a list of names, and no pair."""
        if self.opening == "{":
            return self.is_named
        return self.is_named and self.count == 2 and above.opening == "["


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
        censor.spend(len(text))
        self._is_suspect = "\\" in text or censor.may_be_in(text)
        self._has_paths = bool(censor.secret_paths or censor.kept_paths)
        self._pairs: set[int] = set()
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
        text, names = self._text, dict(members)
        if any(name in self._censor.names for name in names):
            return False
        if self._has_pairs(members, set(filter(_may_name, names))):
            return False
        strings = text.split('"')[1::2]  # nothing is escaped
        if "=" not in text and "<" not in text:
            if text.count(":") == len(members):
                return True  # no colon is within a string
            strings = [string for string in strings if ":" in string]
        return not any(map(self._censor.may_name, strings))

    def _has_pairs(self, members: list[tuple[str, object]], naming: set[str]) -> bool:
        """Whether a value may be what another member is called."""
        if _ARRAYS.search(self._text):
            return True
        return bool(naming) and any(
            (_names_another(_squashed(name), value) and self._names(value))
            if isinstance(value, str)
            else _squashed(name) in _LOCATIONS
            for name, value in members
            if name in naming
        )

    def _names(self, value: str) -> bool:
        return _PAIR_NAME.fullmatch(value) is not None and value in self._censor.names

    def read(self) -> str:
        self._pairs = self._find_pairs()
        levels = [_Level("", "", is_secret=False)]
        at = 0
        while found := _TOKEN.match(self._text, at):
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

    def _find_pairs(self) -> set[int]:
        """Where objects and arrays begin of which one member is a secret's name."""
        pairs: set[int] = set()
        open_: list[_Open] = [_Open(-1, "", "")]
        at = 0
        while found := _TOKEN.match(self._text, at):
            at = found.end()
            kind, one = found.lastindex, open_[-1]
            if kind == _CLOSE:
                if len(open_) > 1:
                    open_.pop()
                    if one.is_pair(open_[-1]):
                        pairs.add(one.start)
                continue
            one.count += 1
            key = _squashed(found[_KEY]) if found[_KEY] else ""
            if kind == _OPEN:
                if len(open_) > MAX_DEPTH:
                    raise TooDeep("nested too deep")
                open_.append(_Open(found.start(_OPEN), found[_OPEN], key))
            elif kind == _STRING and len(found[_STRING]) <= _MAX_NAME:
                self._pair_member(one, open_, key, found[_STRING])
        return pairs

    def _pair_member(
        self, one: _Open, open_: list[_Open], key: str, value: str
    ) -> None:
        is_array = one.opening != "{"
        if not (is_array or _names_another(key, value)):
            return
        if not self._names(value):
            return
        if not is_array or one.count == 1:
            one.is_named = True
        if is_array and one.key in _LOCATIONS and len(open_) > 1:
            open_[-2].is_named = True

    def _value(self, found: re.Match[str], levels: list[_Level]) -> None:
        kind, level, key = found.lastindex, levels[-1], found[_KEY]
        if (key is not None) != (level.closing == "}"):
            _fail()
        is_secret, path = level.is_secret, ""
        if key is not None:
            key = self._key(found, key)
        is_secret = is_secret or self._is_named(level, key)
        if self._has_paths:
            path = level.step(key)
            self._censor.spend(len(path))  # it is copied, and held against the rules
            if _fits(self._censor.kept_paths, path):
                is_secret = False
                if kind != _OPEN:
                    return
            elif _fits(self._censor.secret_paths, path):
                is_secret = True
        if kind == _OPEN:
            _open(levels, found[_OPEN], path, is_secret=is_secret)
            levels[-1].is_pair = found.start(_OPEN) in self._pairs
        elif kind == _NUMBER:
            self._number(found, key or "", is_secret=is_secret)
        elif kind == _STRING:
            self._string(found, key or "", is_secret=is_secret)

    def _is_named(self, level: _Level, key: str | None) -> bool:
        level.index += 1
        if key is None:
            return level.is_pair and level.index == 1
        if key in self._censor.names:
            return True
        squashed = _squashed(key)
        return level.is_pair and (squashed in _VALUES or squashed.endswith("value"))

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
        elif self._is_suspect and len(raw) >= _MIN_NUMBER:
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


def _may_name(key: str) -> bool:
    squashed = _squashed(key)
    return _is_naming(squashed) or squashed == _TYPE


def _is_naming(key: str) -> bool:
    return key in _NAMING or key.endswith(("name", "key"))  # ParameterKey


def _names_another(key: str, value: str) -> bool:
    """Whether the value of this member is what another one is called; `key` is squashed."""
    return _is_naming(key) or (key == _TYPE and "pass" in value)


def _squashed(key: str) -> str:
    return key[:_MAX_NAME].replace("_", "").replace("-", "").lower()


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
