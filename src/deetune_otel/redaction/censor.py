# SPDX-License-Identifier: Apache-2.0
"""The policy at work on texts: whole values that are secrets, and secrets within a text.

Texts are `str`: bytes are read as UTF-8, and what is none of it survives as surrogates, so that
the same bytes have the same token wherever they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from deetune_otel.redaction import jsontext
from deetune_otel.redaction.detectors import Detectors
from deetune_otel.redaction.names import Names
from deetune_otel.redaction.policy import path_pattern
from deetune_otel.redaction.tokens import TOKEN

if TYPE_CHECKING:
    from deetune_otel.redaction.policy import Policy
    from deetune_otel.redaction.tokens import Tokens

__all__ = ["CannotRedact", "Censor", "as_bytes", "as_text"]

MAX_DEPTH: Final = 4  # of JSON in a string of JSON
_SCHEME: Final = re.compile(
    r"(?:basic|bearer|digest|dpop|negotiate|ntlm|token|apikey|aws4-hmac-sha256"
    r"|scram-sha-(?:1|256)|hoba|vapid|signature)[ ]+",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(
    r"""(?<![\w.-])([A-Za-z_][\w.\[\]-]{0,63}+)["']?[ \t]{0,4}+(?:(=>?|:=)|:(?!//))[ \t]{0,4}+"""
)
# The usual text with a colon, and slow to be searched for names: 0.4 µs rather than 1.1.
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]*+(?:Z|[+-][0-9:]*+)?")
_QUOTED: Final = re.compile(r""""((?:[^"\\]|\\.)*)|'((?:[^'\\]|\\.)*)""", re.DOTALL)
_WORD: Final = re.compile(r"""[^\s&;"'<>]++""")
_LINE: Final = re.compile(r"""[^\r\n"'<>]++""")
_TAG: Final = re.compile(r"<(?:[\w.-]{1,64}:)?([\w.-]{1,64}+)([^<>]{0,4096}+)>")
_CONTENT: Final = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)|([^<]++)", re.DOTALL)
_ATTRIBUTE: Final = re.compile(r"""([\w:.-]{1,64}+)\s{0,4}+=\s{0,4}+["']([^"'<>]*+)""")
_SECRET_TAGS: Final = frozenset({"input", "meta", "param"})


class CannotRedact(Exception):  # noqa: N818 -- it is no error: the body is dropped
    """Nothing of it may be kept. The message names no content."""


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def as_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # JSON's lone surrogates
        return text.encode("utf-8", "surrogatepass")


class Censor:
    """Replaces, and counts by rule. `place` is what is being looked at, for those who list it."""

    def __init__(self, policy: Policy, tokens: Tokens) -> None:
        self.policy = policy
        self.names = Names(policy.secret_names)
        self.detectors = Detectors(policy.detectors, policy.patterns)
        self.secret_paths = _paths(policy.secret_paths)
        self.kept_paths = _paths(policy.kept_paths)
        self.counts: Counter[str] = Counter()
        self.place = ""
        self._tokens = tokens

    def note(self, rule: str, secret: str, at: str) -> None:  # noqa: ARG002
        """Something is replaced; those who scan want to know what and where."""
        self.counts[rule] += 1

    def mark(self) -> Counter[str]:
        """Where `forget_since` goes back to."""
        return self.counts.copy()

    def forget_since(self, mark: Counter[str]) -> None:
        """What was noted since was not replaced after all: it is read in another way."""
        self.counts = mark

    def value(self, text: str, rule: str, at: str = "") -> str:
        """A whole value that is a secret. The scheme of a credential is none."""
        if not text or TOKEN.fullmatch(text):
            return text
        if " " in text and (scheme := _SCHEME.match(text)):
            return scheme[0] + self.value(text[scheme.end() :], rule, at)
        self.note(rule, text, at)
        return self._tokens.token(as_bytes(text))

    def text(self, text: str, at: str = "", *, depth: int = 0) -> str:
        """A text that may hold secrets: by names in it, by their look, in JSON."""
        if text[:1] in {"{", "["} and '"' in text and depth < MAX_DEPTH:
            mark = self.mark()
            try:
                return jsontext.redact(text, self, depth=depth + 1)
            except jsontext.NotJson:
                self.forget_since(mark)
        if "<" in text:
            text = self._marked_up(text)
        if "=" in text or ":" in text:
            text = self._named(text)
        return self.detected(text, at)

    def may_name(self, text: str) -> bool:
        """Whether names in a text may make a part of it a secret."""
        if "<" in text:
            return True
        if "=" not in text and ":" not in text:
            return False
        if _TIME.fullmatch(text):
            return False
        return any(found[1] in self.names for found in _NAMED.finditer(text))

    def detected(self, text: str, at: str = "") -> str:
        """Only what gives itself away."""
        hits = self.detectors.find(text)
        if not hits:
            return text
        parts = []
        done = 0
        for start, end, rule in hits:
            secret = text[start:end]
            self.note(rule, secret, at)
            parts += [text[done:start], self._tokens.token(as_bytes(secret))]
            done = end
        return "".join((*parts, text[done:]))

    def _named(self, text: str) -> str:
        parts = []
        done = 0
        for found in _NAMED.finditer(text):
            if found.start() < done or found[1] not in self.names:
                continue
            value = _QUOTED.match(text, found.end())
            if value is None:
                value = (_WORD if found[2] else _LINE).match(text, found.end())
            if value is None:
                continue
            start, end = value.span(value.lastindex or 0)
            parts += [text[done:start], self.value(text[start:end], "name", found[1])]
            done = end
        return "".join((*parts, text[done:])) if parts else text

    def _marked_up(self, text: str) -> str:
        """Elements of XML, and the hidden fields of HTML, that have a secret's name."""
        parts = []
        done = 0
        for tag in _TAG.finditer(text):
            if tag.start() < done:  # within what is replaced
                continue
            start, end = self._secret_of(text, tag)
            if start == end:
                continue
            parts += [text[done:start], self.value(text[start:end], "name", tag[1])]
            done = end
        return "".join((*parts, text[done:])) if parts else text

    def _secret_of(self, text: str, tag: re.Match[str]) -> tuple[int, int]:
        if tag[1].lower() in _SECRET_TAGS:
            there = {one[1].lower(): one for one in _ATTRIBUTE.finditer(tag[2])}
            names = (there[n][2] for n in ("name", "id", "property") if n in there)
            value = there.get("value") or there.get("content")
            if value and any(name in self.names for name in names):
                return value.start(2) + tag.start(2), value.end(2) + tag.start(2)
        elif tag[1] in self.names and (content := _CONTENT.match(text, tag.end())):
            return content.span(content.lastindex or 0)
        return 0, 0


def _paths(paths: tuple[str, ...]) -> re.Pattern[str] | None:
    if not paths:
        return None
    return re.compile("|".join(path_pattern(path) for path in paths), re.DOTALL)
