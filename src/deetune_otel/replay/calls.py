# SPDX-License-Identifier: Apache-2.0
"""The calls that a service made when it was recorded, against those of the test instance.

Only where all calls of an exchange are known, then and now, are they compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from deetune_otel.comparison.downstream import (
    CallCounts,
    calls_by_cause,
    compare_calls,
    learn_calls,
)
from deetune_otel.comparison.findings import Found, operation_of
from deetune_otel.comparison.judging import JudgeRules
from deetune_otel.recording.model import HttpRequest, RecordedExchange
from deetune_otel.replay.client import Sent

__all__ = ["Downstream", "Watched"]


class Watched(Protocol):
    """What the test instance was seen to do: `downstream.Watch`."""

    def answered(self, trace_id: str) -> RecordedExchange | None: ...
    def calls(self) -> dict[str, list[RecordedExchange]]: ...


class Downstream:
    """The calls of a recording, against those of a replay. `outcomes` counts exchanges."""

    def __init__(self, exchanges: list[RecordedExchange]) -> None:
        self._recorded = calls_by_cause(exchanges)
        self._counts: CallCounts = learn_calls(exchanges, self._recorded)
        self.outcomes: Counter[str] = Counter()

    def is_wanted(self, exchanges: Iterable[RecordedExchange]) -> bool:
        """Whether there is anything to compare."""
        return any(map(self.knows, exchanges))

    def knows(self, exchange: RecordedExchange) -> bool:
        """Whether all calls that it made are in the recording."""
        made = len(self._recorded.get(exchange.id, ()))
        return isinstance(exchange.request, HttpRequest) and exchange.calls == made

    def compare(
        self, sent: list[Sent], watch: Watched, rules: JudgeRules
    ) -> list[Found]:
        """For each that was sent, in their order."""
        calls = watch.calls()
        self.outcomes.clear()
        found = []
        for one in sent:
            outcome, differs = self._one(one, watch, calls, rules)
            self.outcomes[outcome] += 1
            found.append(differs)
        return found

    def _one(
        self,
        sent: Sent,
        watch: Watched,
        calls: dict[str, list[RecordedExchange]],
        rules: JudgeRules,
    ) -> tuple[str, Found]:
        nothing = Found([], [])
        if not self.knows(sent.exchange):
            return "not known when recorded", nothing
        now = watch.answered(sent.trace_id)
        made = calls.get(now.id, []) if now is not None else []
        if now is None or now.calls != len(made):
            return "not known now", nothing
        operation = operation_of(sent.exchange)
        counts = {
            call: usual
            for (name, call), usual in self._counts.items()
            if name == operation
        }
        then = self._recorded.get(sent.exchange.id, [])
        return "compared", compare_calls(then, made, rules, counts=counts)
