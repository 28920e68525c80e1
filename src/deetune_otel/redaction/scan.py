# SPDX-License-Identifier: Apache-2.0
"""What still looks like a secret: the redaction's own rules, held against an exchange."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.recording.model import HttpRequest, HttpResponse, Message
from deetune_otel.redaction import encodings
from deetune_otel.redaction.censor import CannotRedact, Censor, as_text
from deetune_otel.redaction.detectors import looks_random
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import TOKEN, Tokens

if TYPE_CHECKING:
    from deetune_otel.recording.model import RecordedExchange

__all__ = ["WARNING", "Finding", "scan"]

WARNING: Final = "looks_random"  # what no rule replaces, and may be a secret or an id
_RUN: Final = re.compile(r"[A-Za-z0-9+/_~-]{24,512}+={0,2}+")
_MOST_WARNINGS: Final = 20  # of an exchange: identifiers come by the thousand
# Values of these look random, and are none of anybody's.
_RANDOM_HEADERS: Final = frozenset(
    {"etag", "if-none-match", "if-match", "sec-websocket-key", "sec-websocket-accept"}
)


class Finding(NamedTuple):
    """One secret, or a body that nobody can look into."""

    rule: str
    place: str  # "request header X-Api-Key", "response body: password"
    sample_masked: str  # "ey…k4"


def _masked(secret: str) -> str:
    """Enough to find it again; of a short one nothing at all."""
    return f"{secret[:2]}…{secret[-2:]}" if len(secret) >= 12 else "…"


class _Watching(Censor):
    def __init__(self, policy: Policy, tokens: Tokens) -> None:
        super().__init__(policy, tokens)
        self.findings: list[Finding] = []

    def note(self, rule: str, secret: str, at: str) -> None:
        super().note(rule, secret, at)
        place = f"{self.place}: {at}" if at else self.place
        self.findings.append(Finding(rule, place, _masked(secret)))

    def forget_since(self, mark: Counter[str]) -> None:
        super().forget_since(mark)
        del self.findings[mark.total() :]


def scan(exchange: RecordedExchange, policy: Policy | None = None) -> list[Finding]:
    """Which rules would replace something, and what looks random and none of them takes.

    Tokens are not secrets. The latter are warnings, of the rule `looks_random`.
    """
    policy = policy or Policy.default()
    watching = _Watching(policy, Tokens(b"scan"))
    redactor = Redactor(policy, Tokens(b"scan"), censor=lambda *_: watching)
    left = redactor.redact(exchange)
    unreadable = Finding("unreadable", "body", "…")
    return [
        *watching.findings,
        *[unreadable] * redactor.dropped_bodies,
        *_warnings(left)[:_MOST_WARNINGS],
    ]


def _warnings(left: RecordedExchange) -> list[Finding]:
    found: dict[Finding, None] = {}
    for of, message in (("request", left.request), ("response", left.response)):
        for place, text in _texts(message):
            for run in _RUN.finditer(text):
                if looks_random(run[0]) and not TOKEN.search(run[0]):
                    found[Finding(WARNING, f"{of} {place}", _masked(run[0]))] = None
    return list(found)


def _texts(message: Message | None) -> list[tuple[str, str]]:
    if not isinstance(message, HttpRequest | HttpResponse):
        return []
    texts = [
        (f"header {name}", value)
        for name, value in message.headers
        if name.lower() not in _RANDOM_HEADERS
    ]
    if isinstance(message, HttpRequest):
        texts.append(("target", message.target))
    encoding = ", ".join(
        value for name, value in message.headers if name.lower() == "content-encoding"
    )
    with suppress(CannotRedact):  # it could not be redacted either, and is counted
        texts.append(("body", as_text(encodings.decoded(message.body, encoding))))
    return texts
