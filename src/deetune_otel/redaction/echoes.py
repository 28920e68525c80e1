# SPDX-License-Identifier: Apache-2.0
"""What was a secret by its place is one wherever it comes again: an error that quotes a password.

Kept per connection, bounded: the newest values of the connections that were used last. A value
is looked for as it is and as senders write it: percent-encoded, escaped for JSON or HTML, base64.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

from deetune_otel.redaction.detectors import Hit
from deetune_otel.redaction.tokens import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Echoes"]

MAX_CONNECTIONS: Final = 256
MAX_VALUES: Final = 32  # of a connection; each costs 0.1 µs a form in 2 KB of an answer
MAX_LENGTH: Final = 4096  # longer values are documents rather than credentials
MIN_LENGTH: Final = 4  # shorter ones are in every text
_MIN_PLAIN: Final = 6  # of letters or digits alone
_MIN_INSIDE: Final = 10  # shorter ones must not be a part of a longer word
# These rules replace whatever there is, so that a value that is a word says nothing.
_ANY: Final = frozenset({"header", "redis_value", "part"})
_MIN_ANY: Final = 8
_NEVER: Final = frozenset({"over_budget", "reason"})
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]+")
_PERCENT: Final = re.compile("%[0-9A-F]{2}")
# With one of these a text may hold a value in a form that is not looked for.
_ESCAPES: Final = ("\\", "%", "&#")


class Echoes:
    """The values of the connection that is looked at."""

    def __init__(self) -> None:
        self._connections: OrderedDict[str, OrderedDict[str, tuple[str, ...]]]
        self._connections = OrderedDict()
        self._values: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._active: Mapping[str, str] = {}
        self.learned = 0  # ever

    def begin(self, connection: str) -> None:
        """The following belongs to this connection."""
        values = self._connections.pop(connection, None)
        self._values = OrderedDict() if values is None else values
        self._connections[connection] = self._values
        if len(self._connections) > MAX_CONNECTIONS:
            self._connections.popitem(last=False)
        self._active = {}

    def learn(self, value: str, rule: str) -> None:
        if not MIN_LENGTH <= len(value) <= MAX_LENGTH or rule in _NEVER:
            return
        if value in self._values:
            self._values.move_to_end(value)
            return
        if not _says_something(value, rule):
            return
        self._values[value] = ()  # until it is looked for
        self.learned += 1
        if len(self._values) > MAX_VALUES:
            self._values.popitem(last=False)

    def expect(self, text: str) -> bool:
        """Narrows down to what may be in a text and its parts; says whether anything may."""
        if not self._values:
            self._active = {}
            return False
        is_escaped = any(one in text for one in _ESCAPES)
        self._active = {
            form: value for value, form in self._forms() if is_escaped or form in text
        }
        return bool(self._active)

    def expect_any(self) -> None:
        """Whatever follows may hold any of them."""
        self._active = {form: value for value, form in self._forms()}

    def are_in(self, text: str) -> bool:
        return any(form in text for form in self._active)

    def are_anywhere_in(self, text: str) -> bool:
        """Of a text that was hidden in the expected one."""
        return any(form in text for _, form in self._forms())

    def _forms(self) -> list[tuple[str, str]]:
        for value, forms in self._values.items():
            if not forms:
                self._values[value] = _forms(value)
        return [(value, f) for value, forms in self._values.items() for f in forms]

    def find(self, text: str) -> list[tuple[Hit, str]]:
        """Where they are, in no order, and which value each is."""
        hits: list[tuple[Hit, str]] = []
        if len(text) < MIN_LENGTH:
            return hits
        for form, value in self._active.items():
            at = text.find(form)
            while at >= 0:
                end = at + len(form)
                if _is_whole(text, at, end) and not TOKEN.match(text, at):
                    hits.append((Hit(at, end, "echo"), value))
                at = text.find(form, end)
        return hits


def _says_something(value: str, rule: str) -> bool:
    if TOKEN.search(value):
        return False
    if len(value) < _MIN_PLAIN and (value.isalpha() or value.isdecimal()):
        return False
    if rule not in _ANY:
        return True
    is_word = value.isalpha() and (value.islower() or value.istitle())
    return len(value) >= _MIN_ANY and (not is_word or len(value) >= 2 * _MIN_ANY)


def _is_whole(text: str, start: int, end: int) -> bool:
    if end - start >= _MIN_INSIDE:
        return True
    before = text[start - 1 : start] if start else ""
    if before and text[max(0, start - 3) : max(0, start - 2)] == "%":
        before = ""  # %27 is a quote
    return not (before.isalnum() or text[end : end + 1].isalnum())


def _forms(value: str) -> tuple[str, ...]:
    data = value.encode("utf-8", "surrogatepass")
    if _PLAIN.fullmatch(value):  # the usual, of which but base64 is another form
        return value, b64encode(data).decode().rstrip("=")
    percent = quote(data, safe="")
    forms = {
        value: None,
        percent: None,
        percent.replace("%2F", "/"): None,
        _PERCENT.sub(lambda one: one[0].lower(), percent): None,
        html.escape(value).replace("&#x27;", "&#39;"): None,
        quote_plus(data): None,
        html.escape(value): None,
        html.escape(value, quote=False): None,
        json.dumps(value)[1:-1]: None,
        json.dumps(value, ensure_ascii=False)[1:-1]: None,
        b64encode(data).decode().rstrip("="): None,
        urlsafe_b64encode(data).decode().rstrip("="): None,
    }
    return tuple(forms)
