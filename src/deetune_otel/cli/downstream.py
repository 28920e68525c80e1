# SPDX-License-Identifier: Apache-2.0
"""While a replay runs: an agent that watches which calls the test instance makes.

A replayed request is found again by the trace that it was sent with, its calls by their cause.
Only where all calls of an exchange are known, then and now, are they compared.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final, Self

from deetune_otel.comparison.downstream import (
    CallCounts,
    calls_by_cause,
    compare_calls,
    learn_calls,
)
from deetune_otel.comparison.findings import Found, operation_of
from deetune_otel.comparison.judging import JudgeRules
from deetune_otel.config.schema import AgentSettings, Config, SpanSettings, WebSettings
from deetune_otel.pipeline import Agent
from deetune_otel.recorder.owners import Listening
from deetune_otel.recorder.recorder import Bounds, Plan, Recorder, is_replay
from deetune_otel.recording.model import HttpRequest, RecordedExchange
from deetune_otel.replay.client import Sent
from deetune_otel.replay.options import Target

__all__ = ["Downstream", "Watch", "watching_calls"]

STEP_S: Final = 0.02
# After the last answer: calls that go on, and the way from the kernel.
SETTLE_S: Final = 3.0
# Nothing ends the watching but the end of the replay.
_ENDLESS: Final = Bounds(
    seconds=float("inf"),
    bytes=sys.maxsize,
    exchanges=sys.maxsize,
    per_second=sys.maxsize,
    free_bytes=0,
)


@dataclass(slots=True)
class _Seen:
    """A sink: what the test instance answered and asked."""

    bytes: int = 0  # nothing is written
    answered: dict[str, list[RecordedExchange]] = field(
        default_factory=dict
    )  # by trace
    calls: list[RecordedExchange] = field(default_factory=list)

    def write(self, exchange: RecordedExchange) -> None:
        if exchange.cause:
            self.calls.append(exchange)
        if exchange.connection.server_process is not None and is_replay(exchange):
            self.answered.setdefault(exchange.trace_id, []).append(exchange)

    def flush(self) -> None:
        """Nothing waits."""


class Watch:
    """In a thread, from the beginning to `end`."""

    def __init__(self, agent: Agent, target: Target) -> None:
        self._agent = agent
        self._seen = _Seen()
        self._is_target = Listening(target.port, target.path)
        self._recorder: Recorder = agent.record(
            Plan(
                chooses=self._is_target,
                bounds=_ENDLESS,
                with_replays=True,
            ),
            redactor=None,
            sink=self._seen,
            free_bytes=lambda: sys.maxsize,
        )
        self._stop = Event()
        self._thread = Thread(target=self._run, name="downstream")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def is_ready(self) -> bool:
        """Whether a process of the target was seen, and it is known how its calls are followed."""
        return any(self._is_target(*one) for one in self._agent.understood())

    def end(self, sent: Iterable[Sent]) -> None:
        """Waits, for a moment at most, until all that was answered is seen."""
        wanted = {
            one.trace_id
            for one in sent
            if one.answer.message is not None
            and isinstance(one.exchange.request, HttpRequest)
        }
        deadline_s = time.monotonic() + SETTLE_S
        while wanted - self._seen.answered.keys() and time.monotonic() < deadline_s:
            time.sleep(STEP_S)
        self.__exit__()

    def answered(self, trace_id: str) -> RecordedExchange | None:
        """What the target answered in this trace; None when not seen, or by several."""
        found = self._seen.answered.get(trace_id, [])
        return found[0] if len(found) == 1 else None

    def calls(self) -> dict[str, list[RecordedExchange]]:
        return calls_by_cause(self._seen.calls)

    def _run(self) -> None:
        while not self._stop.wait(STEP_S):
            self._recorder.step()
        self._recorder.finish()


@contextmanager
def watching_calls(target: Target) -> Iterator[Watch]:
    """Raises KernelUnavailable."""
    agent = Agent(
        Config(
            agent=AgentSettings(interval_s=1.0, log_level="warning"),
            spans=SpanSettings(enabled=False),
            web=WebSettings(enabled=False),
        ),
        environ={},
    )
    agent.start()
    try:
        with Watch(agent, target) as watch:
            yield watch
    finally:
        agent.stop()


class Downstream:
    """The calls of a recording, against those of a replay. `outcomes` counts exchanges."""

    def __init__(self, exchanges: list[RecordedExchange]) -> None:
        self._recorded = calls_by_cause(exchanges)
        self._counts: CallCounts = learn_calls(exchanges, self._recorded)
        self.outcomes: Counter[str] = Counter()

    def knows(self, exchange: RecordedExchange) -> bool:
        """Whether all calls that it made are in the recording."""
        made = len(self._recorded.get(exchange.id, ()))
        return isinstance(exchange.request, HttpRequest) and exchange.calls == made

    def compare(self, sent: list[Sent], watch: Watch, rules: JudgeRules) -> list[Found]:
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
        watch: Watch,
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
