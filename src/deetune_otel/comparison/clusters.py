# SPDX-License-Identifier: Apache-2.0
"""Findings that are one: of the same operation, at the same place, of the same kind."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from deetune_otel.comparison.findings import general

if TYPE_CHECKING:
    from deetune_otel.comparison.judging import Verdict

__all__ = ["Cluster", "Example", "cluster", "short"]

MAX_EXAMPLES: Final = 5
MAX_SHOWN: Final = 60
# Of these, other values are another finding: 200 → 404 is not 200 → 503.
_BY_VALUE: Final = frozenset({"status", "failure"})


class Example(NamedTuple):
    exchange_id: str
    place: str  # with its indexes
    expected: Any
    actual: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    operation: str
    place: str  # without indexes
    kind: str
    count: int  # findings
    exchanges: int  # in which they are
    examples: tuple[Example, ...]  # the first ones

    def say(self) -> str:
        """What happened, in a line."""
        one = self.examples[0]
        match self.kind:
            case "missing":
                what = f"is missing, was {short(one.expected)}"
            case "extra" | "added":
                what = f"is new: {short(one.actual)}"
            case "order":
                what = "has the same elements in another order"
            case "failure":
                return f"{self.operation}: no answer ({one.actual})"
            case "type":
                what = (
                    f"is of another type: {short(one.expected)} → {short(one.actual)}"
                )
            case _:
                what = f"{short(one.expected)} → {short(one.actual)}"
        return f"{self.operation}: {self.place} {what}"


def short(value: object, limit: int = MAX_SHOWN) -> str:
    """A value in a line, as JSON would have it, for the most part."""
    if isinstance(value, dict | list):
        unit = "fields" if isinstance(value, dict) else "elements"
        kind = "an object" if isinstance(value, dict) else "an array"
        return f"{kind} of {len(value)} {unit}"
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 1000:
            return f"a number of {value.bit_length()} bits"
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cluster(verdicts: Iterable[Verdict]) -> list[Cluster]:
    """The most frequent first."""
    counts: dict[Hashable, int] = {}
    within: dict[Hashable, int] = {}
    examples: dict[Hashable, list[Example]] = {}
    names: dict[Hashable, tuple[str, str, str]] = {}
    for verdict in verdicts:
        operation, id_ = verdict.operation, verdict.exchange.id
        seen: set[Hashable] = set()
        for finding in verdict.findings:
            place = general(finding.place)
            values = (finding.expected, finding.actual) if place in _BY_VALUE else ()
            key = (operation, place, str(finding.kind), values)
            names[key] = key[:3]
            counts[key] = counts.get(key, 0) + 1
            within[key] = within.get(key, 0) + (key not in seen)
            some = examples.setdefault(key, [])
            if key not in seen and len(some) < MAX_EXAMPLES:
                what = finding.place, finding.expected, finding.actual
                some.append(Example(id_, *what))
            seen.add(key)
    found = [
        Cluster(
            operation=operation,
            place=place,
            kind=kind,
            count=counts[key],
            exchanges=within[key],
            examples=tuple(examples[key]),
        )
        for key, (operation, place, kind) in names.items()
    ]
    return sorted(found, key=lambda one: (-one.exchanges, -one.count))
