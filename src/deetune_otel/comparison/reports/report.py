# SPDX-License-Identifier: Apache-2.0
"""All that a report can tell, and values as any report can show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from deetune_otel.comparison.clusters import Cluster
from deetune_otel.comparison.findings import general
from deetune_otel.comparison.judging import Outcome, Verdict
from deetune_otel.recording.model import HttpRequest, RecordedExchange, RedisCommand

__all__ = ["IgnoredHere", "Report", "asked", "clean", "shown"]

MAX_DEPTH: Final = 16
MAX_ENTRIES: Final = 200
MAX_TEXT: Final = 4000
MAX_BITS: Final = 1000


class IgnoredHere(NamedTuple):
    """What did not count at one place, without its values: they may be secrets."""

    operation: str
    place: str
    reason: str
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    verdicts: Sequence[Verdict]
    clusters: Sequence[Cluster]
    recording: str  # its name
    target: str
    started_ns: int
    ended_ns: int
    sent: int
    skipped: Mapping[str, int] = field(default_factory=dict)  # not sent, by cause
    # Exchanges by what became of the calls that they made: "compared", or why not.
    calls: Mapping[str, int] = field(default_factory=dict)

    def outcomes(self) -> dict[Outcome, int]:
        counted = Counter(one.outcome for one in self.verdicts)
        return {one: counted[one] for one in Outcome}

    def not_judged(self) -> dict[str, int]:
        causes = Counter(
            one.why_not_judged
            for one in self.verdicts
            if one.outcome is Outcome.NOT_JUDGED
        )
        return dict(causes.most_common())

    def operations(self) -> dict[str, dict[Outcome, int]]:
        """How the exchanges of each operation ended."""
        found: dict[str, dict[Outcome, int]] = {}
        for verdict in self.verdicts:
            counts = found.setdefault(verdict.operation, dict.fromkeys(Outcome, 0))
            counts[verdict.outcome] += 1
        return found

    def ignored(self) -> list[IgnoredHere]:
        counted = Counter(
            (verdict.operation, general(one.finding.place), one.reason)
            for verdict in self.verdicts
            for one in verdict.ignored
        )
        return [IgnoredHere(*what, count) for what, count in counted.most_common()]


def asked(exchange: RecordedExchange) -> str:
    """The request in a line."""
    match exchange.request:
        case HttpRequest(method=method, target=target):
            return clean(f"{method} {target}")
        case RedisCommand(arguments=arguments):
            words = (one.decode("utf-8", "replace") for one in arguments[:8])
            return clean(" ".join(words))
    return exchange.protocol.value


def clean(text: str) -> str:
    """Text that any file can hold: no lone surrogates, and no endless one."""
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT} more characters)"


def shown(value: object, depth: int = 0) -> Any:  # noqa: PLR0911 -- one a type
    """A value as JSON can hold it, bounded; what is left out is said."""
    match value:
        case None | bool():
            return value
        case int():
            few = value.bit_length() <= MAX_BITS
            return value if few else f"a number of {value.bit_length()} bits"
        case float():
            finite = value - value == 0
            return value if finite else str(value)
        case str():
            return clean(value)
    if not isinstance(value, dict | list | tuple):
        return clean(repr(value))
    if depth >= MAX_DEPTH:
        return "…"
    more = len(value) - MAX_ENTRIES
    if isinstance(value, dict):
        entries = list(value.items())[:MAX_ENTRIES]
        found = {clean(str(name)): shown(one, depth + 1) for name, one in entries}
        return found | ({"…": f"{more} more"} if more > 0 else {})
    items = [shown(one, depth + 1) for one in value[:MAX_ENTRIES]]
    return items + ([f"… {more} more"] if more > 0 else [])
