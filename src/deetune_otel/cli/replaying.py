# SPDX-License-Identifier: Apache-2.0
"""A replay under way: progress for people, verdicts, and the calls that the test instance made."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Final

from rich.live import Live

from deetune_otel.agent.downstream import Watch, watching_calls
from deetune_otel.cli import output
from deetune_otel.cli.errors import CommandError, ExitCode
from deetune_otel.cli.interrupts import NUMBERS
from deetune_otel.comparison.clusters import cluster
from deetune_otel.comparison.covering import Covering
from deetune_otel.comparison.judging import JudgeRules, Verdict, judge
from deetune_otel.comparison.learning import learn
from deetune_otel.comparison.reports.report import Report
from deetune_otel.kernel.errors import KernelUnavailable
from deetune_otel.recording.model import RecordedExchange
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.tokens import Tokens
from deetune_otel.replay import carry
from deetune_otel.replay.calls import Downstream
from deetune_otel.replay.carry import Carrier
from deetune_otel.replay.client import Sent
from deetune_otel.replay.engine import TargetFailing, TargetUnreachable, replay
from deetune_otel.replay.options import ReplayOptions, Target
from deetune_otel.replay.plan import Plan
from deetune_otel.replay.progress import Progress

__all__ = ["Replaying"]

REFRESH_S: Final = 0.25
PLAIN_S: Final = 10.0


class Replaying:
    """`failure` says why it stopped early; "" when it did not."""

    def __init__(  # noqa: PLR0913 -- what a replay needs
        self,
        plan: Plan,
        target: Target,
        options: ReplayOptions,
        *,
        rules: JudgeRules,
        exchanges: list[RecordedExchange],
        watches: bool | None,
        is_quiet: bool,
        repeats: bool,
        covers: bool,
    ) -> None:
        """`exchanges`: the whole recording. `watches` None: where it helps, and is possible.
        `covers`: secrets of the answers are not shown.
        """
        self._plan = plan
        self._target = target
        self._options = options
        self._rules = rules
        self._learned = learn(exchanges)
        self._downstream = Downstream(exchanges)
        self._watches = watches
        self._is_quiet = is_quiet
        self._repeats = repeats
        self._console = output.console(stderr=True, soft_wrap=True)
        self._covering = (
            Covering(Policy.default(), Tokens(secrets.token_bytes(32)))
            if covers
            else None
        )
        self._links = carry.learn(chain(*plan.sessions))
        self._carrier = Carrier(self._links)
        self._watch: Watch | None = None
        self.failure = ""
        self.is_interrupted = False

    def run(self, recording: str) -> Report:
        started_ns = time.time_ns()
        sent, verdicts = self._once()
        if self._repeats and not self.failure and not self.is_interrupted:
            first = verdicts
            sent, verdicts = self._once()
            self._learned = self._learned.also(first, verdicts)
            verdicts = self._judged(sent)
        if self._covering is not None:
            verdicts = list(map(self._covering.verdict, verdicts))
        skipped = Counter(self._plan.skipped)
        if unsent := self._plan.count * self._options.loops - len(sent):
            skipped["not sent before the replay ended"] += unsent
        return Report(
            verdicts=verdicts,
            clusters=cluster(verdicts),
            recording=recording,
            target=str(self._target),
            started_ns=started_ns,
            ended_ns=time.time_ns(),
            sent=len(sent),
            skipped=skipped,
            calls=dict(self._downstream.outcomes.most_common()),
        )

    @property
    def carried(self) -> tuple[int, int]:
        """Values that requests carried, and those that the test instance did not give."""
        return self._carrier.carried, self._carrier.missing

    def _once(self) -> tuple[list[Sent], list[Verdict]]:
        with self._watching() as watch:
            sent = self._sent(watch)
            if watch is not None:
                watch.end(sent)
            self._watch = watch
        return sent, self._judged(sent)

    @contextmanager
    def _watching(self) -> Iterator[Watch | None]:
        wants = self._watches
        if wants is None:
            wants = self._downstream.is_wanted(chain(*self._plan.sessions))
        if not wants:
            yield None
            return
        with ExitStack() as stack:
            watch = None
            try:
                watch = stack.enter_context(watching_calls(self._target))
            except KernelUnavailable as error:
                if self._watches:
                    raise
                self._console.print(
                    f"the calls of the service are not compared: {error.args[0]}",
                    style="dim",
                    markup=False,
                )
            yield watch

    def _judged(self, sent: list[Sent]) -> list[Verdict]:
        verdicts = [
            judge(one.exchange, one.answer, self._rules, self._learned) for one in sent
        ]
        if self._watch is not None:
            calls = self._downstream.compare(sent, self._watch, self._rules)
            both = zip(verdicts, calls, strict=True)
            verdicts = [one.with_calls(found) for one, found in both]
        return [one.with_aliases(self._carrier.aliases) for one in verdicts]

    def _sent(self, watch: Watch | None) -> list[Sent]:
        found: list[Sent] = []
        try:
            asyncio.run(self._collect(found, watch))
        except TargetUnreachable as error:
            raise CommandError(
                str(error),
                hint="is the instance running, and is this its address?",
                code=ExitCode.UNAVAILABLE,
            ) from None
        except TargetFailing as error:
            self.failure = str(error)
        return found

    async def _collect(self, found: list[Sent], watch: Watch | None) -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in NUMBERS:
            loop.add_signal_handler(number, task.cancel if task else loop.stop)
        progress = Progress(self._plan.count * self._options.loops, time.monotonic())
        is_live = self._console.is_terminal and not self._is_quiet
        live = Live(console=self._console, auto_refresh=False, transient=True)
        shown_s = time.monotonic()
        is_ready = watch.is_ready if watch is not None else None
        if self._options.carries:
            self._carrier = Carrier(self._links)
        answers = replay(
            self._plan,
            self._target,
            self._options,
            carrier=self._carrier if self._options.carries else None,
            is_ready=is_ready,
        )
        if is_live:
            live.start()
        try:
            async for sent in answers:
                found.append(sent)
                verdict = judge(sent.exchange, sent.answer, self._rules, self._learned)
                progress.add(verdict.outcome)
                now_s = time.monotonic()
                if now_s - shown_s >= (REFRESH_S if is_live else PLAIN_S):
                    shown_s = now_s
                    if is_live:
                        live.update(progress.line(now_s), refresh=True)
                    elif not self._is_quiet:
                        self._console.print(progress.line(now_s), markup=False)
        except asyncio.CancelledError:
            self.is_interrupted = True
        finally:
            if is_live:
                live.stop()
