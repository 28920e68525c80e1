# SPDX-License-Identifier: Apache-2.0
"""The policy at work on texts: whole values that are secrets, and secrets within a text.

Texts are `str`: bytes are read as UTF-8, and what is none of it survives as surrogates, so that
the same bytes have the same token wherever they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from deetune_otel.redaction import jsontext, markup, named
from deetune_otel.redaction.blobs import blobs, is_user_and_password
from deetune_otel.redaction.detectors import Detectors, Hit
from deetune_otel.redaction.echoes import Echoes
from deetune_otel.redaction.names import Names
from deetune_otel.redaction.policy import path_pattern
from deetune_otel.redaction.tokens import TOKEN

if TYPE_CHECKING:
    from deetune_otel.redaction.policy import Policy
    from deetune_otel.redaction.tokens import Tokens

__all__ = ["CannotRedact", "Censor", "OverBudget", "as_bytes", "as_text"]

MAX_DEPTH: Final = 4  # of JSON in a string of JSON
_SCHEME: Final = re.compile(
    r"(?:basic|bearer|digest|dpop|negotiate|ntlm|token|apikey|aws4-hmac-sha256"
    r"|scram-sha-(?:1|256)|hoba|vapid|signature)[ ]+",
    re.IGNORECASE,
)
# What looking at a text costs at least, and what an exchange's message may cost: characters that
# are looked at. The usual body costs less than 4 a byte.
_CALL: Final = 32
MAX_STEPS: Final = 4 * 1024 * 1024
STEPS_PER_BYTE: Final = 16


class CannotRedact(Exception):  # noqa: N818 -- it is no error: the body is dropped
    """Nothing of it may be kept. The message names no content."""


class OverBudget(CannotRedact):
    """Looking at it takes too long: others wait."""


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
        self.echoes = Echoes()
        self.steps_left = MAX_STEPS
        self._blob_depth = 0
        self._tokens = tokens

    def note(self, rule: str, secret: str, at: str) -> None:  # noqa: ARG002
        """Something is replaced; those who scan want to know what and where."""
        self.counts[rule] += 1

    def begin(self, size: int) -> None:
        """A message of so many bytes: from here on its budget is spent."""
        self.steps_left = max(MAX_STEPS, STEPS_PER_BYTE * size)

    def spend(self, steps: int) -> None:
        """Raises OverBudget."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise OverBudget("it takes too long")

    def may_be_in(self, text: str) -> bool:
        """Whether anything but names can make a part of this text a secret."""
        return (
            self.detectors.may_be_in(text)
            or self.echoes.are_in(text)
            or any(self._is_secret_blob(plain) for _, _, plain in blobs(text))
        )

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
            credential = text[scheme.end() :]
            if scheme[0][:5].lower() == "basic":
                self._learn_basic(credential, rule)
            return scheme[0] + self.value(credential, rule, at)
        self.spend(len(text))
        self.note(rule, text, at)
        self.echoes.learn(text, rule)
        return self._tokens.token(as_bytes(text))

    def text(self, text: str, at: str = "", *, depth: int = 0) -> str:
        """A text that may hold secrets: by names in it, by their look, in JSON."""
        if text[:1] in {"{", "["} and '"' in text and depth < MAX_DEPTH:
            mark = self.mark()
            try:
                return jsontext.redact(text, self, depth=depth + 1)
            except jsontext.NotJson:
                self.forget_since(mark)
        self.spend(len(text) + _CALL)
        if "<" in text:
            text = markup.redact(text, self)
        if "=" in text or ":" in text:
            text = named.redact(text, self)
        return self.detected(text, at)

    def may_name(self, text: str) -> bool:
        """Whether names in a text may make a part of it a secret."""
        if "<" in text:
            return True
        if "=" not in text and ":" not in text:
            return False
        return named.may_be_in(text, self)

    def detected(self, text: str, at: str = "") -> str:
        """Only what gives itself away."""
        self.spend(len(text) + _CALL)
        hits = self._hits(text)
        if not hits:
            return text
        parts = []
        done = 0
        for (start, end, rule), secret in hits:
            self.note(rule, secret, at)
            parts += [text[done:start], self._tokens.token(as_bytes(secret))]
            done = end
        return "".join((*parts, text[done:]))

    def _hits(self, text: str) -> list[tuple[Hit, str]]:
        """What is replaced, in its order, and the value of which it becomes the token."""
        found = [(hit, text[hit.start : hit.end]) for hit in self.detectors.find(text)]
        more = self.echoes.find(text)
        for start, end, plain in blobs(text):
            if self._is_secret_blob(plain):
                more.append((Hit(start, end, "base64"), text[start:end]))
        if not more:
            return found
        hits: list[tuple[Hit, str]] = []
        for hit, secret in sorted(found + more, key=_order):
            if not hits or hit.start >= hits[-1][0].end:
                hits.append((hit, secret))
            elif hit.end > hits[-1][0].end:  # overlapping: nothing of either may stay
                merged = hits[-1][0]._replace(end=hit.end)
                hits[-1] = merged, text[merged.start : merged.end]
        return hits

    def _is_secret_blob(self, plain: str) -> bool:
        if is_user_and_password(plain) or self.echoes.are_anywhere_in(plain):
            return True
        if self._blob_depth >= MAX_DEPTH:
            return False
        mark, self._blob_depth = self.mark(), self._blob_depth + 1
        try:
            return self.text(plain) != plain
        finally:
            self._blob_depth -= 1
            self.forget_since(mark)

    def _learn_basic(self, credential: str, rule: str) -> None:
        for _, _, plain in blobs(credential):
            self.echoes.learn(plain.partition(":")[2], rule)


def _order(found: tuple[Hit, str]) -> tuple[int, bool, int]:
    """Of two with one beginning, what gives itself away says which rule it is."""
    hit = found[0]
    return hit.start, hit.rule in {"echo", "base64"}, -hit.end


def _paths(paths: tuple[str, ...]) -> re.Pattern[str] | None:
    if not paths:
        return None
    return re.compile("|".join(path_pattern(path) for path in paths), re.DOTALL)
