# SPDX-License-Identifier: Apache-2.0
"""All connections: who sends what when, until everything is sent or the target fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final

from deetune_otel.recording.model import RecordedExchange
from deetune_otel.replay.client import Client, Sent
from deetune_otel.replay.options import Mode, ReplayOptions, Target
from deetune_otel.replay.plan import Plan

__all__ = ["TargetFailing", "TargetUnreachable", "replay"]

# Results that nobody has taken yet: a slow judge slows the replay down, it does not fill memory.
_QUEUE: Final = 1000


class TargetUnreachable(Exception):  # noqa: N818 -- a state, not a mistake
    """Nobody listens there; nothing was sent."""


class TargetFailing(Exception):  # noqa: N818
    """It stopped answering; what was sent before was given."""


class _Pace:
    """No more than so many a second, evenly."""

    def __init__(self, rate: float) -> None:
        self._gap_s = 1 / rate if rate else 0.0
        self._next_s = 0.0

    async def wait(self) -> None:
        if not self._gap_s:
            return
        now_s = time.monotonic()
        due_s = max(self._next_s, now_s)
        self._next_s = due_s + self._gap_s
        await asyncio.sleep(due_s - now_s)


async def replay(
    plan: Plan, target: Target, options: ReplayOptions
) -> AsyncIterator[Sent]:
    """As answers come. Raises TargetUnreachable at once, and TargetFailing after the last one."""
    await _check(target, options)
    results: asyncio.Queue[Sent | None] = asyncio.Queue(_QUEUE)
    running = asyncio.create_task(_run(plan, target, options, results))
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


async def _run(
    plan: Plan,
    target: Target,
    options: ReplayOptions,
    results: asyncio.Queue[Sent | None],
) -> None:
    pace = _Pace(options.rate)
    try:
        for _ in range(options.loops):
            if options.mode is Mode.RECORDED:
                await _as_recorded(plan.in_order(), target, options, results, pace)
            elif options.mode is Mode.FAST:
                ones = ([one] for one in plan.in_order())
                await _by_workers(ones, target, options, results, pace, is_kept=True)
            else:
                sessions = iter(plan.sessions)
                await _by_workers(
                    sessions, target, options, results, pace, is_kept=False
                )
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await results.put(None)


async def _by_workers(  # noqa: PLR0913 -- what a worker needs
    sessions: Iterable[list[RecordedExchange]],
    target: Target,
    options: ReplayOptions,
    results: asyncio.Queue[Sent | None],
    pace: _Pace,
    *,
    is_kept: bool,
) -> None:
    """`is_kept`: a worker's connection outlives a session."""
    left = iter(sessions)

    async def work() -> None:
        client = Client(target, options)
        try:
            for session in left:
                for one in session:
                    await pace.wait()
                    await results.put(await client.ask(one))
                if not is_kept:
                    await client.close()
        finally:
            await client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(options.connections):
            group.create_task(work())


async def _as_recorded(
    exchanges: list[RecordedExchange],
    target: Target,
    options: ReplayOptions,
    results: asyncio.Queue[Sent | None],
    pace: _Pace,
) -> None:
    """At its time each, on a connection that is idle or a new one."""
    if not exchanges:
        return
    first_ns, began_s = exchanges[0].request_start_ns, time.monotonic()
    idle: list[Client] = []
    room = asyncio.Semaphore(options.connections)

    async def send(one: RecordedExchange) -> None:
        client = idle.pop() if idle else Client(target, options)
        try:
            await results.put(await client.ask(one))
        finally:
            idle.append(client)
            room.release()

    try:
        async with asyncio.TaskGroup() as group:
            for one in exchanges:
                due_s = (
                    began_s + (one.request_start_ns - first_ns) / 1e9 / options.speed
                )
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                await pace.wait()
                await room.acquire()
                group.create_task(send(one))
    finally:
        for client in idle:
            await client.close()
