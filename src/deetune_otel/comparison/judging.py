# SPDX-License-Identifier: Apache-2.0
"""An exchange and the answer that came now: a verdict.

What is not whole is never judged. What does not count is listed, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from deetune_otel.comparison import messages
from deetune_otel.comparison.findings import Finding, Found, Ignored, operation_of
from deetune_otel.comparison.learning import Learned
from deetune_otel.comparison.rules import JudgeRules, RulesError
from deetune_otel.recording.codecs.redis import Aggregate
from deetune_otel.recording.model import (
    Message,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)

__all__ = [
    "Answer",
    "Finding",
    "Ignored",
    "JudgeRules",
    "Learned",
    "Outcome",
    "RulesError",
    "Verdict",
    "judge",
]

# Of one exchange; the rest is counted in a last one.
MAX_FINDINGS: Final = 200
_CARRIED: Final = "carried over: the test instance's own"
_WORD: Final = re.compile(r"[\w.-]+")
# Redis promises no order of what these answer.
_UNORDERED: Final = frozenset(
    {"SMEMBERS", "SINTER", "SUNION", "SDIFF", "KEYS", "HKEYS", "HVALS"}
)


# RESP2 answers these with names and values in turn, in no order.
_PAIRED: Final = frozenset({"HGETALL", "CONFIG"})


class Answer(NamedTuple):
    """What the target said, or why it said nothing."""

    message: Message | None
    failure: str = ""  # "timeout", "refused", "closed", …
    duration_ns: int = 0


class Outcome(StrEnum):
    SAME = "same"
    DIFFERENT = "different"
    NOT_JUDGED = "not judged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    exchange: RecordedExchange
    answer: Answer
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    why_not_judged: str = ""

    def with_aliases(self, aliases: Mapping[str, str]) -> Verdict:
        """Without what differs because the test instance gave a thing another name: an id that
        later requests carried.
        """
        renamed = [one for one in self.findings if _is_renamed(one, aliases)]
        if not renamed:
            return self
        findings = tuple(one for one in self.findings if one not in renamed)
        is_same = not findings and self.outcome is Outcome.DIFFERENT
        return replace(
            self,
            findings=findings,
            ignored=(*self.ignored, *(Ignored(one, _CARRIED) for one in renamed)),
            outcome=Outcome.SAME if is_same else self.outcome,
        )

    def with_calls(self, found: Found) -> Verdict:
        """With what differs in the calls that the service made."""
        if self.outcome is Outcome.NOT_JUDGED or not (found.findings or found.ignored):
            return self
        is_different = found.findings and self.outcome is Outcome.SAME
        return replace(
            self,
            findings=(*self.findings, *found.findings),
            ignored=(*self.ignored, *found.ignored),
            outcome=Outcome.DIFFERENT if is_different else self.outcome,
        )

    @property
    def operation(self) -> str:
        return operation_of(self.exchange)


def judge(
    exchange: RecordedExchange, answer: Answer, rules: JudgeRules, learned: Learned
) -> Verdict:
    operation = operation_of(exchange)
    mine = rules.of(operation)
    if isinstance(exchange.request, RedisCommand) and operation in _UNORDERED:
        sets = (*mine.bodies.sets, "$")
        mine = replace(mine, bodies=replace(mine.bodies, sets=sets))
    recorded, message = exchange.response, answer.message
    if mine.is_skipped:
        return _not_judged(exchange, answer, "a rule skips this operation")
    if exchange.incomplete:
        why = ", ".join(exchange.incomplete)
        return _not_judged(exchange, answer, f"recorded incompletely: {why}")
    if recorded is None:
        return _not_judged(exchange, answer, "no response was recorded")
    if message is None:
        why = answer.failure or "no answer"
        finding = Finding("failure", "failure", None, why)
        return Verdict(
            exchange=exchange,
            answer=answer,
            outcome=Outcome.FAILED,
            findings=(finding,),
        )
    if missing := getattr(message, "missing", ()):
        causes = ", ".join(sorted({one.because for one in missing}))
        return _not_judged(exchange, answer, f"answer incomplete: {causes}")
    if isinstance(exchange.request, RedisCommand) and operation in _PAIRED:
        recorded, message = _as_map(recorded), _as_map(message)
    found = messages.compare(recorded, message, mine)
    findings: list[Finding] = []
    for finding in found.findings:
        if (reason := learned.why(operation, finding)) is None:
            findings.append(finding)
        else:
            found.ignored.append(Ignored(finding, reason))
    return Verdict(
        exchange=exchange,
        answer=answer,
        outcome=Outcome.DIFFERENT if findings else Outcome.SAME,
        findings=_bounded(findings),
        ignored=tuple(found.ignored),
    )


def _as_map(message: Message) -> Message:
    if isinstance(message, RedisReply):
        value = message.value
        is_array = isinstance(value, Aggregate) and value.kind == "array"
        if isinstance(value, Aggregate) and is_array and len(value.items) % 2 == 0:
            return replace(message, value=Aggregate("map", value.items))
    return message


def _is_renamed(finding: Finding, aliases: Mapping[str, str]) -> bool:
    expected, actual = finding.expected, finding.actual
    if not isinstance(expected, str | int) or not isinstance(actual, str | int):
        return False
    text = str(expected)
    named = aliases.get(text) or _WORD.sub(
        lambda one: aliases.get(one[0], one[0]), text
    )
    return named != text and named == str(actual)


def _bounded(findings: list[Finding]) -> tuple[Finding, ...]:
    more = len(findings) - MAX_FINDINGS
    if more <= 0:
        return tuple(findings)
    return (*findings[:MAX_FINDINGS], Finding("…", "more", None, f"{more} more"))


def _not_judged(exchange: RecordedExchange, answer: Answer, why: str) -> Verdict:
    return Verdict(
        exchange=exchange,
        answer=answer,
        outcome=Outcome.NOT_JUDGED,
        why_not_judged=why,
    )
