# SPDX-License-Identifier: Apache-2.0
"""While a replay runs: an agent that watches which calls the test instance makes.

A replayed request is found again by the trace that it was sent with, its calls by their cause.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final, Self

from deetune_otel.agent.agent import Agent
from deetune_otel.comparison.downstream import calls_by_cause
from deetune_otel.config.schema import AgentSettings, Config, SpanSettings, WebSettings
from deetune_otel.recorder.owners import Listening
from deetune_otel.recorder.recorder import Bounds, Plan, Recorder, is_replay
from deetune_otel.recording.model import HttpRequest, RecordedExchange
from deetune_otel.replay.client import Sent
from deetune_otel.replay.options import Target

__all__ = ["Watch", "watching_calls"]

STEP_S: Final = 0.02
# After the last answer: calls that go on, and the way from the kernel.
SETTLE_S: Final = 3.0
# After a first answer, and all of them: until it is known how the instance's threads wait.
MOMENT_S: Final = 0.2
READY_S: Final = 2.0
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
        self._ready_by_s = 0.0
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

    def get_ready(self) -> None:
        """To be called behind each answer, where requests are sent one after the other."""
        now_s = time.monotonic()
        self._ready_by_s = self._ready_by_s or now_s + READY_S
        deadline_s = min(now_s + MOMENT_S, self._ready_by_s)
        while time.monotonic() < deadline_s and not self.is_ready():
            time.sleep(STEP_S)

    def wait(self, sent: Iterable[Sent]) -> None:
        """Until all that was answered is seen, for a moment at most."""
        wanted = {
            one.trace_id
            for one in sent
            if one.answer.message is not None
            and isinstance(one.exchange.request, HttpRequest)
        }
        deadline_s = time.monotonic() + SETTLE_S
        while wanted - self._seen.answered.keys() and time.monotonic() < deadline_s:
            time.sleep(STEP_S)

    def end(self, sent: Iterable[Sent]) -> None:
        self.wait(sent)
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
