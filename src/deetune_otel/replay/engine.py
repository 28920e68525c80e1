# SPDX-License-Identifier: Apache-2.0
"""All connections: who sends what when, until everything is sent or the target fails."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from deetune_otel.recording.model import RecordedExchange
from deetune_otel.replay.carry import Carrier
from deetune_otel.replay.client import Client, Sent
from deetune_otel.replay.options import Mode, ReplayOptions, Target
from deetune_otel.replay.plan import Plan

__all__ = ["TargetFailing", "TargetUnreachable", "replay"]

# Results that nobody has taken yet: a slow judge slows the replay down, it does not fill memory.
_QUEUE: Final = 1000
# Whoever watches says after an answer that it is ready, or needs another one: what it learns from
# an answer it knows by then.
_MOMENT_S: Final = 0.2
# Who is not ready by then will not be.
_READY_S: Final = 2.0


class TargetUnreachable(Exception):  # noqa: N818 -- a state, not a mistake
    """Nobody listens there; nothing was sent."""


class TargetFailing(Exception):  # noqa: N818
    """It stopped answering; what was sent before was given."""


class _Pace:
    """No more than so many a second, evenly, and growing to that at first; one after the other, where
    somebody must first see who answers, and how.
    """

    def __init__(
        self, rate: float, ramp_s: float, is_ready: Callable[[], bool] | None
    ) -> None:
        self._gap_s = 1 / rate if rate else 0.0
        self._ramp_s = ramp_s
        self._began_s = self._next_s = 0.0
        self._is_ready = is_ready
        self._is_open = is_ready is None
        self._alone = asyncio.Lock()  # held by the only one that is asked
        self._ready_by_s = 0.0
        self.held_s = 0.0  # how long the others waited until they could all be asked

    async def wait(self) -> None:
        if not self._is_open:
            began_s = time.monotonic()
            await self._alone.acquire()
            self.held_s += time.monotonic() - began_s
            if self._is_open:
                self._alone.release()
        if not self._gap_s:
            return
        now_s = time.monotonic()
        self._began_s = self._began_s or now_s
        due_s = max(self._next_s, now_s)
        self._next_s = self._began_s + self._after(due_s - self._began_s)
        await asyncio.sleep(due_s - now_s)

    def _after(self, at_s: float) -> float:
        """When the next one is due, from the beginning: in a ramp the count grows with the
        square of the time.
        """
        if at_s >= self._ramp_s:
            return at_s + self._gap_s
        return math.sqrt(at_s**2 + 2 * self._ramp_s * self._gap_s)

    async def answered(self) -> None:
        if self._is_open or self._is_ready is None:
            return
        now_s = time.monotonic()
        self._ready_by_s = self._ready_by_s or now_s + _READY_S
        deadline_s = min(now_s + _MOMENT_S, self._ready_by_s)
        while not (is_ready := self._is_ready()) and time.monotonic() < deadline_s:  # noqa: ASYNC110 -- asked, not told
            await asyncio.sleep(0.01)
        self._is_open = is_ready or time.monotonic() >= self._ready_by_s
        self._alone.release()


async def replay(
    plan: Plan,
    target: Target,
    options: ReplayOptions,
    *,
    carrier: Carrier | None = None,
    is_ready: Callable[[], bool] | None = None,
) -> AsyncIterator[Sent]:
    """As answers come. Raises TargetUnreachable at once, and TargetFailing after the last one.

    With `is_ready` requests go one after the other, for a moment at most, until it says that whoever
    watches has seen enough of the answers. Without a carrier nothing is carried over.
    """
    await _check(target, options)
    results: asyncio.Queue[Sent | None] = asyncio.Queue(_QUEUE)
    pace = _Pace(options.rate, options.ramp_s, is_ready)
    run = _Run(plan, target, options, results, pace, carrier=carrier)
    running = asyncio.create_task(run.all())
    failures = 0
    try:
        while (sent := await results.get()) is not None:
            yield sent
            failures = failures + 1 if sent.answer.failure else 0
            if failures >= options.failing_after:
                raise TargetFailing(
                    f"{target}: {failures} requests in a row failed, the last one with "
                    f"{sent.answer.failure!r}"
                )
        await running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _check(target: Target, options: ReplayOptions) -> None:
    try:
        async with asyncio.timeout(options.timeout_s):
            if target.path:
                _, writer = await asyncio.open_unix_connection(target.path)
            else:
                _, writer = await asyncio.open_connection(target.host, target.port)
    except TimeoutError:
        raise TargetUnreachable(
            f"{target} does not answer within {options.timeout_s:g} s"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TargetUnreachable(f"{target}: {reason}") from None
    writer.close()


class _Run:
    """Everything that is sent, once or several times."""

    def __init__(  # noqa: PLR0913 -- what everything that is sent needs
        self,
        plan: Plan,
        target: Target,
        options: ReplayOptions,
        results: asyncio.Queue[Sent | None],
        pace: _Pace,
        *,
        carrier: Carrier | None,
    ) -> None:
        self._plan = plan
        self._target = target
        self._options = options
        self._results = results
        self._pace = pace
        self._carrier = carrier

    async def all(self) -> None:
        plan, mode = self._plan, self._options.mode
        try:
            for _ in range(self._options.loops):
                if mode is Mode.RECORDED:
                    await self._as_recorded(plan.in_order())
                elif mode is Mode.FAST:
                    ones = ([one] for one in plan.in_order())
                    await self._by_workers(ones, is_kept=True)
                else:
                    await self._by_workers(plan.sessions, is_kept=False)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self._results.put(None)

    async def _by_workers(
        self, sessions: Iterable[list[RecordedExchange]], *, is_kept: bool
    ) -> None:
        """`is_kept`: a worker's connection outlives a session."""
        left = iter(sessions)

        async def work() -> None:
            client = self._client()
            try:
                for session in left:
                    for one in session:
                        await self._pace.wait()
                        await self._ask(client, one)
                    if not is_kept:
                        await client.close()
            finally:
                await client.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.connections):
                group.create_task(work())

    async def _as_recorded(self, exchanges: list[RecordedExchange]) -> None:
        """At its time each, on a connection that is idle or a new one."""
        began_s = time.monotonic()
        idle: list[Client] = []
        room = asyncio.Semaphore(self._options.connections)

        async def send(one: RecordedExchange) -> None:
            client = idle.pop() if idle else self._client()
            try:
                await self._ask(client, one)
            finally:
                idle.append(client)
                room.release()

        try:
            async with asyncio.TaskGroup() as group:
                for one in exchanges:
                    after_ns = one.request_start_ns - exchanges[0].request_start_ns
                    due_s = began_s + after_ns / 1e9 / self._options.speed
                    late_s = time.monotonic() - due_s - self._pace.held_s
                    await asyncio.sleep(max(0.0, -late_s))
                    await self._pace.wait()
                    await room.acquire()
                    group.create_task(send(one))
        finally:
            for client in idle:
                await client.close()

    async def _ask(self, client: Client, one: RecordedExchange) -> None:
        await self._results.put(await client.ask(one))
        await self._pace.answered()

    def _client(self) -> Client:
        return Client(self._target, self._options, self._carrier)
