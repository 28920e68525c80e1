# SPDX-License-Identifier: Apache-2.0
"""Which names say that their value is a secret: `password`, `accessToken`, `user[ssn]`.

A rule without `*` is the whole name or its last words: `pin` is also `card_pin` and `cardPin`, but
not `pinned`, nor `pin_length`. A rule with `*` is held against the name without case and
separators: `*password*` is also `Old-Password-2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Final

__all__ = ["Names"]

MAX_REMEMBERED: Final = 10_000  # names come from the traffic, and may be without end
_MAX_NAME: Final = 256
# `password_min_length`, `secretRequired`: what is about a secret has none in it.
_ABOUT: Final = frozenset(
    {
        "length",
        "required",
        "enabled",
        "disabled",
        "expired",
        "expires",
        "expiry",
        "policy",
        "strength",
        "attempts",
        "count",
        "type",
        "minimum",
        "maximum",
        "changed",
        "updated",
        "created",
        "at",
        "ttl",
    }
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD: Final = re.compile(r"[^\W\d_]+|\d+")


def _words(name: str) -> list[str]:
    words = _WORD.findall(_CAMEL.sub("_", name[-_MAX_NAME:]).casefold())
    while len(words) > 1 and words[-1].isdecimal():
        words.pop()
    return words


class Names:
    """All rules; a name is judged once."""

    def __init__(self, rules: Iterable[str]) -> None:
        rules = list(rules)
        self._plain = {"".join(_words(rule)) for rule in rules if "*" not in rule}
        globs = [translate(_squashed(rule)) for rule in rules if "*" in rule]
        self._globs = re.compile("|".join(globs) or r"(?!)")
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        if len(name) > _MAX_NAME:  # as it is judged, and so that it is not kept whole
            name = name[-_MAX_NAME:]
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            known = self._known[name] = self._judge(name)
        return known

    def _judge(self, name: str) -> bool:
        last = ""
        for word in reversed(_words(name)):
            last = word + last
            if last in self._plain:
                return True
        words = _words(name)
        if len(words) > 1 and words[-1] in _ABOUT:
            return False
        return self._globs.match(last) is not None


def _squashed(rule: str) -> str:
    return "".join(c for c in rule.casefold() if c.isalnum() or c == "*")
