# SPDX-License-Identifier: Apache-2.0
"""A bounded queue and a thread in front of an exporter that may be slow or unreachable.

`put` never waits. What is over a bound is dropped from the old end, because after an outage
the present matters more than its beginning. A batch that could not be sent is kept and tried
again with growing pauses, until it is sent, refused for good, or too old.

Readings of metrics are not a list of events: an older reading folds into a newer one (`fold`),
so an outage costs neither memory nor counts.

Everything is counted: accepted == sent + superseded + sum(dropped) + depth, at any moment.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "READING_LIMITS",
    "SPAN_LIMITS",
    "Delivery",
    "DropCause",
    "ExportStats",
    "ExportWorker",
    "Exporter",
    "Fold",
    "Folded",
    "QueueLimits",
]

Item = TypeVar("Item")

MIB: Final = 1 << 20
# Between asking an exporter to cut a request that hangs and giving its thread up.
CUT_S: Final = 0.2
# A backend that alternates between yes and no must not fill the log.
SAY_AGAIN_S: Final = 60.0

_log = logging.getLogger(__name__)


class DropCause(StrEnum):
    QUEUE_FULL = "queue_full"
    EXPORT_FAILED = "export_failed"  # tried for `retry_for_s`
    REJECTED = "rejected"  # refused for good, or it cannot even be encoded
    SHUTDOWN = "shutdown"  # could not be sent before the agent ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[Item]):
    """What came of one attempt to export a batch."""

    sent: bool
    retry: bool = True  # if not sent: whether another attempt can help
    reason: str = ""  # never empty if not sent
    advice: str = ""  # what a person can do about it
    retry_after_s: float | None = None  # the backend's own wish
    refused: int = 0  # spans or data points left out of what was taken
    remaining: Sequence[Item] | None = None  # what is still to be sent, if not all


class Exporter(Protocol[Item]):
    """Sends batches; `export` is called from one thread, `shutdown` from any."""

    @property
    def endpoint(self) -> str:
        """For people, without secrets."""

    def export(self, batch: Sequence[Item]) -> Delivery[Item]: ...

    def shutdown(self) -> None:
        """Cuts what it can of a running `export`."""


class Folded(NamedTuple, Generic[Item]):
    item: Item
    points_lost: int  # over the fold's own bound


class Fold(Protocol[Item]):
    """Makes one of several readings, oldest first."""

    def __call__(self, items: Sequence[Item], /) -> Folded[Item]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """The bounds of one queue. Sizes are estimates of resident memory."""

    max_items: int = 4096
    max_bytes: int = 16 * MIB  # a fifth of the 80 MB that the agent may have
    batch_items: int = 512  # the SDK's own choice for spans
    batch_bytes: int = 2 * MIB  # encoded it is less; gRPC receivers refuse above 4 MiB
    max_delay_s: float = 1.0  # a person who watches should not wait longer
    first_pause_s: float = 1.0
    max_pause_s: float = 30.0  # a Collector that came back is found within this
    retry_for_s: float = 300.0  # the Collector's own max_elapsed_time

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value < 0 or (value == 0 and name != "max_delay_s"):
                raise ValueError(f"{name} must be above 0, got {value}")


SPAN_LIMITS: Final = QueueLimits()
# Readings come seconds apart and are sent at once; while one hangs, few others can queue up.
READING_LIMITS: Final = QueueLimits(max_items=6, batch_items=6, max_delay_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportStats:
    """Counts since the start, in items: spans, or readings of metrics."""

    accepted: int
    sent: int
    superseded: int  # folded into a newer reading: not lost
    dropped: dict[DropCause, int]
    points_lost: int  # data points of readings: refused, or over the fold's bound
    retries: int
    depth: int  # waiting, the batch under way included
    depth_bytes: int  # waiting, without the batch under way
    failing: str  # why nothing can be sent at present; "" if it can


class _Waiting(NamedTuple, Generic[Item]):
    item: Item
    size: int
    since: float


@dataclass(slots=True)
class _Counts:
    accepted: int = 0
    sent: int = 0
    superseded: int = 0
    points_lost: int = 0
    retries: int = 0
    dropped: dict[DropCause, int] = field(
        default_factory=lambda: dict.fromkeys(DropCause, 0)
    )

    @property
    def settled(self) -> int:
        return self.sent + self.superseded + sum(self.dropped.values())


class ExportWorker(Generic[Item]):
    """Runs from construction until `close`.

    `what` names the items in log lines ("spans"). `size_of` estimates bytes. With `fold`,
    everything that waits is made one item before it is sent.
    """

    def __init__(
        self,
        what: str,
        exporter: Exporter[Item],
        *,
        size_of: Callable[[Item], int],
        limits: QueueLimits = SPAN_LIMITS,
        fold: Fold[Item] | None = None,
    ) -> None:
        self._what = what
        self._exporter = exporter
        self._size_of = size_of
        self._limits = limits
        self._fold = fold

        self._changed = threading.Condition()  # guards all below
        self._queue: deque[_Waiting[Item]] = deque()
        self._queue_bytes = 0
        self._counts = _Counts()
        self._flush_to = 0  # `settled` that a flush waits for
        self._hurry = False  # a flush or the close wants an attempt without a pause
        self._closing = False
        self._cut = False  # the exporter was shut down: failing is no refusal any more
        self._abandoned = False  # a thread that was given up counts nothing any more
        self._health = _Health(what, exporter.endpoint, limits.max_pause_s)

        self._thread = threading.Thread(
            target=self._run, name=f"export-{what}", daemon=True
        )
        self._thread.start()

    def put(self, items: Sequence[Item]) -> None:
        """Takes the items, dropping the oldest of what waits where there is no room."""
        sizes = [self._size_of(item) for item in items]
        now = time.monotonic()
        with self._changed:
            self._counts.accepted += len(items)
            if self._closing:
                self._drop(len(items), DropCause.SHUTDOWN)
                return
            for item, size in zip(items, sizes, strict=True):
                self._queue.append(_Waiting(item, size, now))
                self._queue_bytes += size
            while len(self._queue) > 1 and (
                len(self._queue) > self._limits.max_items
                or self._queue_bytes > self._limits.max_bytes
            ):
                self._queue_bytes -= self._queue.popleft().size
                self._drop(1, DropCause.QUEUE_FULL)
            self._changed.notify_all()

    def stats(self) -> ExportStats:
        with self._changed:
            return self._stats()

    def flush(self, deadline_s: float) -> bool:
        """Waits until all that was put before is sent, folded or given up; False if it is not."""
        with self._changed:
            target = self._counts.accepted
            self._flush_to = max(self._flush_to, target)
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: self._counts.settled >= target, deadline_s
            )

    def close(self, deadline_s: float) -> ExportStats:
        """Sends what waits, each batch tried once, and ends; the rest is dropped and counted.

        Returns after `deadline_s` at the latest, also when the backend hangs. A request that
        hangs then counts as dropped, although the backend may have taken it.
        """
        with self._changed:
            if self._closing:
                return self._stats()
            self._closing = self._hurry = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline_s - CUT_S))
        with self._changed:
            self._cut = True
        self._exporter.shutdown()
        self._thread.join(min(CUT_S, deadline_s))
        with self._changed:
            self._drop_queue(DropCause.SHUTDOWN)
            under_way = self._counts.accepted - self._counts.settled
            self._drop(under_way, DropCause.SHUTDOWN)
            self._abandoned = True
            ended = self._stats()
        lost = ended.dropped[DropCause.SHUTDOWN]
        if lost:
            _log.warning(
                "ended with %d %s that could not be sent to %s",
                lost,
                self._what,
                self._exporter.endpoint,
            )
        return ended

    def _stats(self) -> ExportStats:
        counts = self._counts
        return ExportStats(
            accepted=counts.accepted,
            sent=counts.sent,
            superseded=counts.superseded,
            dropped=dict(counts.dropped),
            points_lost=counts.points_lost,
            retries=counts.retries,
            depth=counts.accepted - counts.settled,
            depth_bytes=self._queue_bytes,
            failing=self._health.failing,
        )

    def _run(self) -> None:
        while batch := self._next_batch():
            self._deliver(batch)

    def _next_batch(self) -> list[Item]:
        """Waits until a batch is due; empty when the worker is to end."""
        with self._changed:
            while not self._is_due():
                oldest = self._queue[0].since if self._queue else None
                self._changed.wait(
                    None
                    if oldest is None
                    else max(0.0, oldest + self._limits.max_delay_s - time.monotonic())
                )
            batch = self._pop()
        return self._folded(batch)

    def _is_due(self) -> bool:
        if not self._queue:
            return self._closing
        return (
            self._closing
            or self._counts.settled < self._flush_to
            or len(self._queue) >= self._limits.batch_items
            or self._queue_bytes >= self._limits.batch_bytes
            or time.monotonic() >= self._queue[0].since + self._limits.max_delay_s
        )

    def _pop(self) -> list[Item]:
        batch: list[Item] = []
        batch_bytes = 0
        while self._queue and (
            self._fold is not None
            or not batch
            or (
                len(batch) < self._limits.batch_items
                and batch_bytes + self._queue[0].size <= self._limits.batch_bytes
            )
        ):
            waiting = self._queue.popleft()
            batch.append(waiting.item)
            batch_bytes += waiting.size
        self._queue_bytes -= batch_bytes
        return batch

    def _folded(self, batch: list[Item]) -> list[Item]:
        """Folds outside the lock: it takes milliseconds, and `put` does not wait."""
        if self._fold is None or len(batch) < 2:
            return batch
        item, points_lost = self._fold(batch)
        with self._changed:
            if not self._abandoned:
                self._counts.superseded += len(batch) - 1
                self._counts.points_lost += points_lost
                self._changed.notify_all()
        return [item]

    def _deliver(self, batch: list[Item]) -> None:
        """Returns when the batch is settled."""
        give_up_at = time.monotonic() + self._limits.retry_for_s
        pause_s = self._limits.first_pause_s
        while True:
            with self._changed:
                self._hurry = self._closing
            delivery = self._attempt(batch)
            with self._changed:
                if self._abandoned:
                    return
                line = self._health.heard(delivery, sum(self._counts.dropped.values()))
                settled = self._settle(batch, delivery, give_up_at)
            if line is not None:  # outside the lock: a log may block
                _log.log(line.level, line.text)
            if settled:
                return
            if delivery.remaining is not None:
                batch = list(delivery.remaining)
            wait_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            if delivery.retry_after_s is not None:
                wait_s = max(wait_s, delivery.retry_after_s)
            batch = self._pause(min(wait_s, self._limits.retry_for_s), batch)
            pause_s = min(pause_s * 2, self._limits.max_pause_s)

    def _attempt(self, batch: list[Item]) -> Delivery[Item]:
        try:
            return self._exporter.export(batch)
        except Exception as error:  # noqa: BLE001 - the worker outlives any exporter
            return Delivery(
                sent=False, retry=False, reason=f"{type(error).__name__}: {error}"
            )

    def _settle(
        self, batch: list[Item], delivery: Delivery[Item], give_up_at: float
    ) -> bool:
        """Counts an outcome; False if the batch is to be tried again."""
        if self._fold is not None:
            self._counts.points_lost += delivery.refused
        if delivery.sent:
            refused = min(delivery.refused, len(batch)) if self._fold is None else 0
            self._counts.sent += len(batch) - refused
            self._drop(refused, DropCause.REJECTED)
        elif not delivery.retry and not self._cut:
            self._drop(len(batch), DropCause.REJECTED)
        elif self._closing:  # which `_cut` implies
            self._drop(len(batch), DropCause.SHUTDOWN)
            self._drop_queue(DropCause.SHUTDOWN)
        elif self._fold is None and time.monotonic() >= give_up_at:
            self._drop(len(batch), DropCause.EXPORT_FAILED)
        else:  # a reading never becomes too old: it goes on as part of a newer one
            self._counts.retries += 1
            return False
        return True

    def _pause(self, seconds: float, batch: list[Item]) -> list[Item]:
        """Waits before the next attempt; readings that come meanwhile are folded in."""
        until = time.monotonic() + seconds
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._hurry or (self._fold is not None and self._queue),
                    max(0.0, until - time.monotonic()),
                )
                newer = self._pop() if self._fold is not None else []
                over = self._hurry or time.monotonic() >= until
            batch = self._folded(batch + newer)
            if over:
                return batch

    def _drop(self, count: int, cause: DropCause) -> None:
        self._counts.dropped[cause] += count
        self._changed.notify_all()

    def _drop_queue(self, cause: DropCause) -> None:
        self._drop(len(self._queue), cause)
        self._queue.clear()
        self._queue_bytes = 0


class _Line(NamedTuple):
    level: int
    text: str


class _Health:
    """Makes one log line of the moment when sending stops to work, one of when it works again."""

    def __init__(self, what: str, endpoint: str, max_pause_s: float) -> None:
        self.failing = ""
        self._what = what
        self._endpoint = endpoint
        self._max_pause_s = max_pause_s
        self._since = 0.0
        self._dropped_before = 0
        self._said = False  # that it fails, since it does
        self._said_at = -SAY_AGAIN_S

    def heard(self, delivery: Delivery[Any], dropped: int) -> _Line | None:
        """`dropped`: all so far, without those of this outcome."""
        now = time.monotonic()
        before, self.failing = self.failing, "" if delivery.sent else delivery.reason
        if delivery.sent:
            return self._recovered(now, dropped) if before and self._said else None
        if not before:
            self._since = now
            self._dropped_before = dropped
            self._said = False
        if before == delivery.reason or now - self._said_at < SAY_AGAIN_S:
            return None
        self._said = True
        self._said_at = now
        return self._stopped(delivery)

    def _stopped(self, delivery: Delivery[Any]) -> _Line:
        then = (
            f"trying again at least every {self._max_pause_s:g} s"
            if delivery.retry
            else "what is refused is dropped and counted"
        )
        text = (
            f"cannot send {self._what} to {self._endpoint}: {delivery.reason}; {then}"
        )
        return _Line(logging.WARNING, f"{text}. {delivery.advice}".rstrip(". "))

    def _recovered(self, now: float, dropped: int) -> _Line:
        lost = dropped - self._dropped_before
        return _Line(
            logging.WARNING if lost else logging.INFO,
            f"sending {self._what} to {self._endpoint} again after "
            f"{now - self._since:.1f} s; dropped meanwhile: {lost}",
        )
