# SPDX-License-Identifier: Apache-2.0
"""Answers of an agent, again and again, asked for in a thread of its own.

So keys are heard while an agent takes its time, and while there is none the last answer stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

from deetune_otel.cli.rows import By, Row, rows
from deetune_otel.cli.watching import Source
from deetune_otel.topology import tally
from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap
from deetune_otel.web.client import AgentError

__all__ = ["Answer", "Feed", "Question", "ask"]

# Each is a question of its own: what a person could read through.
MOST_SERVICES: Final = 40


class Question(NamedTuple):
    window_s: float
    by: By
    opened: str = ""  # id of the edge or node whose details are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The last good one; `problem` says why there is none since `failing_since_s`."""

    question: Question
    map: ServiceMap | None = None
    rows: tuple[Row, ...] = ()
    left_out: int = 0  # services whose operations were not asked for
    details: EdgeDetails | NodeDetails | None = None
    problem: str = ""
    failing_since_s: float = 0.0  # of time.monotonic()


def ask(source: Source, question: Question) -> Answer:
    """Raises web.client.AgentError where the source is an agent over HTTP."""
    window_s, by, opened = question
    shown = source.service_map(window_s=window_s)
    asked: list[NodeDetails] = []
    left_out = 0
    if by is By.OPERATION:
        busy = _busiest(shown)
        left_out = max(0, len(busy) - MOST_SERVICES)
        found = (
            source.node_details(one, window_s=window_s) for one in busy[:MOST_SERVICES]
        )
        asked = [one for one in found if one is not None]
    details: EdgeDetails | NodeDetails | None = None
    if opened:
        of = source.edge_details if by is By.EDGE else source.node_details
        details = of(opened, window_s=window_s)
    return Answer(
        question=question,
        map=shown,
        rows=tuple(rows(shown, by, asked)),
        left_out=left_out,
        details=details,
    )


class Feed:
    """Asks from entering to leaving; `news` is called, from its thread, after each answer."""

    def __init__(
        self,
        source: Source,
        question: Question,
        *,
        every_s: float,
        news: Callable[[], None],
    ) -> None:
        self._source = source
        self._every_s = every_s
        self._news = news
        self._is_over = False
        self._answer = Answer(question=question)
        self._question = question
        self._new_question = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Does not wait for an answer that is under way: a person has pressed a key."""
        self._is_over = True
        self._new_question.set()

    @property
    def answer(self) -> Answer:
        return self._answer

    def want(self, question: Question) -> None:
        """Asked from now on, and at once where it is another one than before."""
        if question != self._question:
            self._question = question
            self._new_question.set()

    def _run(self) -> None:
        while not self._is_over:
            self._new_question.clear()
            question = self._question
            try:
                self._answer = ask(self._source, question)
            except AgentError as error:
                self._answer = self._failed(str(error))
            except Exception as error:  # noqa: BLE001 - said on the screen; the next may be well
                self._answer = self._failed(f"{type(error).__name__}: {error}")
            if not self._is_over:
                self._news()
            self._new_question.wait(self._every_s)

    def _failed(self, problem: str) -> Answer:
        before = self._answer
        since_s = before.failing_since_s if before.problem else time.monotonic()
        return replace(before, problem=problem, failing_since_s=since_s)


def _busiest(shown: ServiceMap) -> list[str]:
    """Ids of nodes that were called, by the time that their calls took in all."""
    time_s: dict[str, float] = {}
    for node in shown.nodes:
        if node.served:
            time_s[node.id] = tally.total(
                one.calls for one in node.served
            ).duration_sum_s
    for edge in shown.edges:
        if edge.server not in time_s:
            time_s[edge.server] = 0.0
    return sorted(time_s, key=lambda one: -time_s[one])
