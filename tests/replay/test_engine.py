# SPDX-License-Identifier: Apache-2.0
"""All connections: order, times, rates, and targets that fail."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import Final

import pytest
from tests.exchanges import numbered
from tests.process import free_port
from tests.replay.servers import answering

from deetune_otel.recording.model import HttpRequest, RecordedExchange
from deetune_otel.recording.selection import Selection
from deetune_otel.replay.client import Sent
from deetune_otel.replay.engine import TargetFailing, TargetUnreachable, replay
from deetune_otel.replay.options import Mode, ReplayOptions, Target
from deetune_otel.replay.plan import Plan, planned

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(number: int, *, connections: int = 1) -> RecordedExchange:
    one = numbered(number, connections=connections)
    return replace(one, request=HttpRequest(method="GET", target=f"/{number}"))


def plan(count: int, *, connections: int = 1) -> Plan:
    ones = [get(i, connections=connections) for i in range(count)]
    return planned(ones, selection=Selection(), allows_writes=False)


def replayed(what: Plan, target: Target, **options: object) -> list[Sent]:
    found: list[Sent] = []

    async def collect() -> None:
        settings = ReplayOptions(**options)  # type: ignore[arg-type]
        async for sent in replay(what, target, settings):
            found.append(sent)  # noqa: PERF401 -- what came before an error counts

    asyncio.run(collect())
    return found


@pytest.mark.parametrize("mode", list(Mode))
def test_everything_is_sent_once(mode: Mode) -> None:
    with answering(OK) as (target, heard):
        found = replayed(plan(50, connections=5), target, mode=mode, speed=100.0)
    assert sorted(one.exchange.id for one in found) == [get(i).id for i in range(50)]
    assert {one.answer.failure for one in found} == {""}
    assert len(heard) == 50
    assert len({one.trace_id for one in found}) == 50


def test_a_session_stays_in_its_order() -> None:
    with answering(OK) as (target, _):
        found = replayed(plan(60, connections=3), target)
    for connection in range(3):
        mine = [
            one.exchange.id
            for one in found
            if int(one.exchange.connection.id, 16) == connection
        ]
        assert mine == sorted(mine)
        assert len(mine) == 20


def test_so_many_loops() -> None:
    with answering(OK) as (target, heard):
        assert len(replayed(plan(4), target, loops=3)) == 12
    assert len(heard) == 12


def test_recorded_times_are_kept_though_answers_are_late() -> None:
    release = threading.Event()

    def answer(head: bytes) -> bytes:
        if head.startswith(b"GET /3 "):
            release.set()
        elif head.startswith(b"GET /0 "):
            # Answered only after the last one was asked: open loop, or it never comes.
            assert release.wait(20)
        return OK

    with answering(answer) as (target, _):
        found = replayed(plan(4), target, mode=Mode.RECORDED, speed=0.1)
    assert {one.answer.failure for one in found} == {""}
    started = {one.exchange.id: one.started_ns for one in found}
    # 1 ms apart when recorded, so 10 ms at a tenth of the speed; timers are never early.
    first, last = started[get(0).id], started[get(3).id]
    assert last - first >= 28_000_000


def test_no_more_than_the_rate() -> None:
    with answering(OK) as (target, _):
        began = time.monotonic()
        assert len(replayed(plan(11), target, mode=Mode.FAST, rate=100.0)) == 11
        assert time.monotonic() - began >= 0.099


def test_connections_are_bounded() -> None:
    open_now = most = 0
    lock = threading.Lock()

    def answer(_: bytes) -> bytes:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        time.sleep(0.005)
        with lock:
            open_now -= 1
        return OK

    with answering(answer) as (target, _):
        replayed(plan(40, connections=40), target, connections=3)
    assert most <= 3


def test_a_target_that_is_not_there_is_said_at_once() -> None:
    target = Target("127.0.0.1", free_port())
    with pytest.raises(TargetUnreachable, match=str(target.port)):
        replayed(plan(3), target)
    with pytest.raises(TargetUnreachable, match="no such file"):
        replayed(plan(3), Target("", 0, "/none.sock"))


def test_a_target_that_fails_ends_it() -> None:
    found: list[Sent] = []

    async def collect(target: Target) -> None:
        options = ReplayOptions(failing_after=5)
        async for sent in replay(plan(1000), target, options):
            found.append(sent)  # noqa: PERF401 -- what came before an error counts

    with (
        answering(b"", per_connection=1) as (target, _),
        pytest.raises(TargetFailing, match="5 requests in a row failed"),
    ):
        asyncio.run(collect(target))
    assert len(found) == 5


def test_single_failures_do_not_end_it() -> None:
    def answer(head: bytes) -> bytes:
        is_good = int(head.split()[1][1:]) % 3 == 0
        return OK if is_good else b"nonsense\r\n\r\n"

    with answering(answer) as (target, _):
        found = replayed(plan(30), target, failing_after=3)
    assert len(found) == 30


@pytest.mark.parametrize("mode", list(Mode))
def test_the_first_goes_alone_until_who_watches_is_ready(mode: Mode) -> None:
    heard_before: list[int] = []
    options = ReplayOptions(mode=mode, connections=8)

    async def collect(target: Target, heard: list[bytes]) -> int:
        def is_ready() -> bool:
            heard_before.append(len(heard))
            return len(heard_before) == 3

        answers = replay(plan(20, connections=5), target, options, is_ready=is_ready)
        return len([one async for one in answers])

    with answering(OK) as (target, heard):
        assert asyncio.run(collect(target, heard)) == 20
    assert heard_before == [1, 1, 1]


@pytest.mark.parametrize("mode", list(Mode))
def test_one_after_the_other_until_who_watches_has_seen_enough(mode: Mode) -> None:
    heard_before: list[int] = []
    options = ReplayOptions(mode=mode, connections=8)

    async def collect(target: Target, heard: list[bytes]) -> int:
        def is_ready() -> bool:
            heard_before.append(len(heard))
            return len(heard) == 3

        answers = replay(plan(20, connections=5), target, options, is_ready=is_ready)
        return len([one async for one in answers])

    with answering(OK) as (target, heard):
        assert asyncio.run(collect(target, heard)) == 20
    assert sorted(set(heard_before)) == [1, 2, 3]
    assert heard_before == sorted(heard_before)
    assert heard_before.count(3) == 1


def test_nobody_is_waited_for_in_vain() -> None:
    async def collect(target: Target) -> int:
        answers = replay(plan(3), target, ReplayOptions(), is_ready=lambda: False)
        return len([one async for one in answers])

    with answering(OK) as (target, _):
        assert asyncio.run(collect(target)) == 3


def test_a_ramp_grows_to_the_rate() -> None:
    with answering(OK) as (target, _):
        found = replayed(plan(40), target, rate=200.0, ramp_s=0.2, connections=1)
    first, *rest = sorted(one.started_ns for one in found)
    # n(t) = rate t² / 2 ramp: 20 in the ramp, then one each 5 ms; timers are never early.
    assert rest[0] - first >= 0.95 * 44.7e6
    assert rest[18] - first >= 0.95 * 195e6
    assert rest[38] - first >= 0.95 * 295e6
