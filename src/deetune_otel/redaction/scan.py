# SPDX-License-Identifier: Apache-2.0
"""What still looks like a secret: the redaction's own rules, held against an exchange."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import Tokens

if TYPE_CHECKING:
    from deetune_otel.recording.model import RecordedExchange

__all__ = ["Finding", "scan"]


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
    """Which rules would replace something; tokens are not secrets."""
    policy = policy or Policy.default()
    watching = _Watching(policy, Tokens(b"scan"))
    redactor = Redactor(policy, Tokens(b"scan"), censor=lambda *_: watching)
    redactor.redact(exchange)
    unreadable = Finding("unreadable", "body", "…")
    return watching.findings + [unreadable] * redactor.dropped_bodies
