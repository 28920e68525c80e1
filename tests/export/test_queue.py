# SPDX-License-Identifier: Apache-2.0
"""The queue alone, in front of an exporter whose answers the test holds in its hand."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from tests.process import wait_until

from deetune_otel.export.queue import (
    Delivery,
    DropCause,
    ExportStats,
    ExportWorker,
    Folded,
    QueueLimits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SENT: Final[Delivery[int]] = Delivery(sent=True)
DOWN: Final[Delivery[int]] = Delivery(
    sent=False, reason="connection refused", advice="Start it"
)
NEVER: Final[Delivery[int]] = Delivery(
    sent=False, retry=False, reason="it answered 400"
)

QUICK: Final = QueueLimits(
    max_delay_s=0.0, first_pause_s=0.001, max_pause_s=0.005, retry_for_s=30
)
# Nothing happens by itself within a test.
SLOW: Final = replace(QUICK, first_pause_s=60, max_pause_s=60, retry_for_s=300)


class Gate:
    """An exporter: `answer` decides; with `open` cleared it hangs, and nothing can cut it."""

    endpoint = "http://collector:4318"

    def __init__(self) -> None:
        self.answer: Callable[[Sequence[int]], Delivery[int]] = lambda _: SENT
        self.open = threading.Event()
        self.open.set()
        self.batches: list[list[int]] = []
        self.entered = 0
        self.shut_down = 0

    def export(self, batch: Sequence[int]) -> Delivery[int]:
        self.entered += 1
        self.open.wait()
        delivery = self.answer(batch)
        if delivery.sent:
            self.batches.append(list(batch))
        return delivery

    def shutdown(self) -> None:
        self.shut_down += 1

    @property
    def items(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def worker(gate: Gate, limits: QueueLimits = QUICK) -> ExportWorker[int]:
    return ExportWorker("spans", gate, size_of=lambda _: 10, limits=limits)


def adder(gate: Gate, limits: QueueLimits = QUICK) -> ExportWorker[int]:
    """A worker whose readings fold by addition; above 100 a point is lost."""
    return ExportWorker(
        "metrics",
        gate,
        size_of=lambda _: 10,
        limits=limits,
        fold=lambda items: Folded(min(sum(items), 100), max(sum(items) - 100, 0)),
    )


def assert_balances(stats: ExportStats) -> None:
    settled = stats.sent + stats.superseded + sum(stats.dropped.values())
    assert stats.accepted == settled + stats.depth


def lost(stats: ExportStats) -> dict[str, int]:
    return {str(cause): count for cause, count in stats.dropped.items() if count}


def test_batches_leave_in_order_and_within_their_bound(gate: Gate) -> None:
    gate.open.clear()
    queue = worker(gate, replace(QUICK, batch_items=4))
    queue.put([0])
    wait_until(lambda: gate.entered, "the first batch is under way")
    queue.put(list(range(1, 11)))
    gate.open.set()
    stats = queue.close(5)
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert stats.sent == stats.accepted == 11
    assert not lost(stats)
    assert_balances(stats)


def test_a_batch_is_bounded_in_bytes_too(gate: Gate) -> None:
    gate.open.clear()
    queue = worker(gate, replace(QUICK, batch_bytes=25))
    queue.put([0])
    wait_until(lambda: gate.entered, "the first batch is under way")
    queue.put([1, 2, 3])
    gate.open.set()
    queue.close(5)
    assert gate.batches == [[0], [1, 2], [3]]


def test_a_batch_waits_for_company_but_not_for_long(gate: Gate) -> None:
    queue = worker(gate, replace(QUICK, max_delay_s=0.3, batch_items=3))
    started = time.monotonic()
    queue.put([1])
    queue.put([2])
    wait_until(lambda: gate.batches, "sent after max_delay_s", every_s=0.01)
    assert gate.batches == [[1, 2]]
    assert time.monotonic() - started >= 0.3
    queue.put([3, 4, 5])
    wait_until(lambda: len(gate.batches) == 2, "a full batch does not wait")
    queue.close(5)


def test_over_the_bound_the_oldest_go_and_put_never_waits(gate: Gate) -> None:
    gate.open.clear()
    queue = worker(gate, replace(QUICK, max_items=3))
    queue.put([0])
    wait_until(lambda: gate.entered, "the first batch is under way")
    started = time.monotonic()
    queue.put(list(range(1, 9)))
    assert time.monotonic() - started < 0.5
    stats = queue.stats()
    assert lost(stats) == {"queue_full": 5}
    assert stats.depth == 4  # three wait, one is under way
    assert_balances(stats)
    gate.open.set()
    stats = queue.close(5)
    assert gate.items == [0, 6, 7, 8]
    assert (stats.sent, stats.depth, lost(stats)) == (4, 0, {"queue_full": 5})


def test_the_bound_in_bytes_holds_but_for_a_single_item(gate: Gate) -> None:
    gate.open.clear()
    queue = worker(gate, replace(QUICK, max_bytes=5))
    queue.put([0])
    wait_until(lambda: gate.entered, "the first batch is under way")
    queue.put([1, 2])
    assert queue.stats().depth_bytes == 10
    assert lost(queue.stats()) == {"queue_full": 1}
    gate.open.set()
    queue.close(5)
    assert gate.items == [0, 2]


def test_retries_until_it_works(gate: Gate) -> None:
    answers = iter([DOWN, DOWN, DOWN, SENT])
    gate.answer = lambda _: next(answers)
    queue = worker(gate)
    queue.put([1, 2])
    wait_until(lambda: queue.stats().sent == 2, "sent in the end")
    stats = queue.close(5)
    assert (stats.retries, lost(stats), stats.failing) == (3, {}, "")
    assert_balances(stats)


def test_pauses_grow_and_are_capped(gate: Gate) -> None:
    times: list[float] = []

    def refuse(_: Sequence[int]) -> Delivery[int]:
        times.append(time.monotonic())
        return DOWN

    gate.answer = refuse
    queue = worker(gate, replace(QUICK, first_pause_s=0.05, max_pause_s=0.2))
    queue.put([1])
    wait_until(lambda: len(times) >= 6, "six attempts", every_s=0.01)
    queue.close(5)
    pauses = [b - a for a, b in itertools.pairwise(times)]
    for pause, full in zip(pauses, [0.05, 0.1, 0.2, 0.2, 0.2], strict=False):
        assert full / 2 <= pause < full + 0.15  # jitter takes off up to a half


def test_the_backends_own_delay_is_respected(gate: Gate) -> None:
    answers = iter([replace(DOWN, retry_after_s=0.3), SENT])
    gate.answer = lambda _: next(answers)
    queue = worker(gate)
    started = time.monotonic()
    queue.put([1])
    wait_until(lambda: gate.batches, "sent", every_s=0.01)
    assert time.monotonic() - started >= 0.3
    queue.close(5)


def test_gives_a_batch_up_in_the_end_and_goes_on(gate: Gate) -> None:
    gate.answer = lambda batch: DOWN if 1 in batch else SENT
    queue = worker(gate, replace(QUICK, retry_for_s=0.05))
    queue.put([1])
    wait_until(lambda: lost(queue.stats()) == {"export_failed": 1}, "given up")
    queue.put([2])
    wait_until(lambda: queue.stats().sent == 1, "the next one is sent")
    assert_balances(queue.close(5))


def test_what_is_refused_for_good_is_not_tried_again(gate: Gate) -> None:
    gate.answer = lambda _: NEVER
    queue = worker(gate)
    queue.put([1, 2])
    wait_until(lambda: lost(queue.stats()) == {"rejected": 2}, "dropped")
    stats = queue.close(5)
    assert (gate.entered, stats.retries) == (1, 0)
    assert_balances(stats)


def test_a_part_that_is_refused_is_counted(gate: Gate) -> None:
    gate.answer = lambda _: replace(SENT, refused=2)
    queue = worker(gate)
    queue.put([1, 2, 3])
    assert queue.flush(5)
    stats = queue.close(5)
    assert (stats.sent, lost(stats)) == (1, {"rejected": 2})
    assert_balances(stats)


def test_an_exporter_that_raises_does_not_end_the_worker(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(batch: Sequence[int]) -> Delivery[int]:
        if 1 in batch:
            raise RuntimeError("encoder broke")
        return SENT

    gate.answer = fail
    queue = worker(gate)
    queue.put([1])
    wait_until(lambda: lost(queue.stats()) == {"rejected": 1}, "dropped")
    queue.put([2])
    wait_until(lambda: queue.stats().sent == 1, "the next one is sent")
    queue.close(5)
    assert "RuntimeError: encoder broke" in caplog.text


def test_flush_waits_for_what_was_put_before(gate: Gate) -> None:
    queue = worker(gate, replace(SLOW, max_delay_s=60))
    queue.put([1, 2])
    assert queue.flush(5)
    assert gate.items == [1, 2]
    assert queue.flush(0)  # nothing waits
    queue.close(5)


def test_flush_ends_a_pause_and_says_when_it_did_not_help(gate: Gate) -> None:
    gate.answer = lambda _: DOWN
    queue = worker(gate, SLOW)
    queue.put([1])
    wait_until(lambda: queue.stats().retries == 1, "in its pause")
    assert not queue.flush(0.2)
    assert gate.entered == 2
    gate.answer = lambda _: SENT
    assert queue.flush(5)
    queue.close(5)


def test_close_sends_what_waits(gate: Gate) -> None:
    queue = worker(gate, replace(SLOW, max_delay_s=60, batch_items=2))
    queue.put([1, 2, 3])
    stats = queue.close(5)
    assert gate.items == [1, 2, 3]
    assert (stats.sent, lost(stats), gate.shut_down) == (3, {}, 1)
    assert queue.close(5) == stats  # a second time changes nothing
    assert gate.shut_down == 1


def test_close_tries_once_more_and_drops_the_rest(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.answer = lambda _: DOWN
    queue = worker(gate, replace(SLOW, batch_items=2))
    queue.put([1, 2, 3, 4, 5])
    wait_until(lambda: queue.stats().retries == 1, "in its pause")
    started = time.monotonic()
    stats = queue.close(30)
    assert time.monotonic() - started < 5
    assert gate.entered == 2
    assert lost(stats) == {"shutdown": 5}
    assert_balances(stats)
    assert "ended with 5 spans that could not be sent" in caplog.text


def test_close_does_not_wait_for_a_backend_that_hangs(gate: Gate) -> None:
    gate.open.clear()
    queue = worker(gate, replace(QUICK, batch_items=1))
    queue.put([1, 2, 3])
    wait_until(lambda: gate.entered, "under way")
    started = time.monotonic()
    stats = queue.close(0.4)
    assert time.monotonic() - started < 1.5
    assert gate.shut_down == 1
    assert lost(stats) == {"shutdown": 3}
    assert_balances(stats)
    gate.open.set()  # the answer comes after all: it must not be counted twice
    queue._thread.join(5)
    assert queue.stats() == stats
    assert gate.items == [1]


def test_what_is_put_after_the_close_is_counted(gate: Gate) -> None:
    queue = worker(gate)
    queue.close(5)
    queue.put([1, 2])
    assert lost(queue.stats()) == {"shutdown": 2}
    assert_balances(queue.stats())


def test_readings_fold_while_the_backend_is_away(gate: Gate) -> None:
    gate.answer = lambda _: DOWN
    queue = adder(gate, replace(SLOW, max_items=2))
    for value in (1, 2, 3, 4, 5, 6):
        queue.put([value])
        wait_until(lambda: not queue._queue, "taken and folded")
    gate.answer = lambda _: SENT
    assert queue.flush(5)
    stats = queue.close(5)
    assert gate.items == [21]  # nothing lost, although only two may wait
    assert (stats.sent, stats.superseded, lost(stats)) == (1, 5, {})
    assert stats.points_lost == 0
    assert_balances(stats)


def test_a_reading_is_never_too_old(gate: Gate) -> None:
    gate.answer = lambda _: DOWN
    queue = adder(gate, replace(QUICK, retry_for_s=0.02))
    queue.put([1])
    wait_until(lambda: queue.stats().retries >= 10, "long after retry_for_s")
    gate.answer = lambda _: SENT
    queue.put([2])
    assert queue.flush(5)
    stats = queue.close(5)
    assert sum(gate.items) == 3
    assert not lost(stats)


def test_what_a_fold_cannot_keep_is_counted(gate: Gate) -> None:
    gate.open.clear()
    queue = adder(gate)
    queue.put([1])
    wait_until(lambda: gate.entered, "under way")
    queue.put([90])
    queue.put([30])
    gate.open.set()
    assert queue.flush(5)
    stats = queue.close(5)
    assert gate.items == [1, 100]
    assert (stats.points_lost, stats.superseded) == (20, 1)


def test_only_what_remains_is_tried_again(gate: Gate) -> None:
    answers = iter([replace(DOWN, remaining=[7], refused=3), SENT])
    gate.answer = lambda _: next(answers)
    queue = adder(gate)
    queue.put([10])
    assert queue.flush(5)
    stats = queue.close(5)
    assert gate.batches == [[7]]
    assert (stats.sent, stats.points_lost) == (1, 3)


def test_one_line_when_it_stops_and_one_when_it_works_again(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gate.answer = lambda _: DOWN
    queue = worker(gate, replace(QUICK, max_items=2))
    queue.put([1])
    wait_until(lambda: queue.stats().retries >= 5, "tried for a while")
    queue.put([2, 3, 4, 5])
    assert queue.stats().failing == "connection refused"
    gate.answer = lambda _: SENT
    assert queue.flush(5)
    queue.close(5)
    stopped, again = (record.getMessage() for record in caplog.records)
    assert stopped == (
        "cannot send spans to http://collector:4318: connection refused;"
        " trying again at least every 0.005 s. Start it"
    )
    assert again.startswith("sending spans to http://collector:4318 again after ")
    assert again.endswith("; dropped meanwhile: 2")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_backend_that_wavers_does_not_fill_the_log(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.answer = lambda batch: NEVER if batch[0] % 2 else SENT
    queue = worker(gate, replace(QUICK, batch_items=1))
    queue.put(list(range(100)))
    assert queue.flush(5)
    assert lost(queue.close(5)) == {"rejected": 50}
    assert len(caplog.records) == 2  # the first time it stopped and worked again


@pytest.mark.parametrize("name", ["max_items", "max_bytes", "batch_items"])
def test_limits_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        QueueLimits(**{name: 0})


def test_many_threads_may_put(gate: Gate) -> None:
    queue = worker(gate, replace(QUICK, max_items=50, batch_items=7))

    def put_many() -> None:
        for n in range(500):
            queue.put([n])

    threads = [threading.Thread(target=put_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = queue.close(10)
    assert stats.accepted == 2000
    assert stats.sent == len(gate.items)
    assert set(lost(stats)) <= {str(DropCause.QUEUE_FULL)}
    assert_balances(stats)
