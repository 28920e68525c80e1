# SPDX-License-Identifier: Apache-2.0
"""Exchanges with the calls that were made while they were answered: chosen together, and counted.

A call is chosen when it is itself, and when the exchange that caused it is: what a service asked
others is in the file with what it was asked. So what a process answers that makes calls waits for
a moment, and a call waits for its cause. Nothing else waits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from cachetools import LRUCache

from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Process,
    RawMessage,
    RecordedExchange,
)

__all__ = ["REPLAY", "SAMPLED", "Families", "message_bytes"]

# Why an exchange is left out, where its calls are left out for the same reason.
REPLAY: Final = "replay"
SAMPLED: Final = "sampled"

# Calls that go on after the answer, and are read after it.
HOLD_NS: Final = 1_500_000_000
# An answer that takes longer is not waited for: its calls are chosen without it.
LONGEST_NS: Final = 30_000_000_000
# Of bodies that wait; above it the oldest go on.
MOST_BYTES: Final = 64 << 20
# Exchanges whose fate is remembered, and calls without a cause: the last half minute of a busy host.
MOST_FATES: Final = 100_000
MOST_STRAYS: Final = 10_000


class _Held(NamedTuple):
    due_ns: int
    exchange: RecordedExchange
    bytes: int


@dataclass(slots=True)
class _Caller:
    """A process that makes calls: when it made those of which nobody knows the cause."""

    strays: list[int] = field(default_factory=list)  # sorted
    known_from_ns: int = 0  # earlier ones were forgotten

    def add(self, at_ns: int) -> None:
        insort(self.strays, at_ns)
        if len(self.strays) > MOST_STRAYS:
            self.known_from_ns = self.strays[MOST_STRAYS // 2]
            del self.strays[: MOST_STRAYS // 2]

    def had_stray(self, start_ns: int, end_ns: int) -> bool:
        at = bisect_left(self.strays, start_ns)
        is_one = at < len(self.strays) and self.strays[at] <= end_ns
        return is_one or start_ns < self.known_from_ns


class Families:
    """`now_ns` is the caller's clock."""

    def __init__(
        self, why_not: Callable[[RecordedExchange], str | None], *, sees_calls: bool
    ) -> None:
        """`why_not` says why an exchange by itself is left out, None when it is chosen;
        `sees_calls`: every call of a chosen process comes here.
        """
        self._why_not = why_not
        self._sees_calls = sees_calls
        self._callers: dict[Process, _Caller] = {}
        self._held: deque[_Held] = deque()
        self._orphans: dict[str, list[_Held]] = {}  # due, by the cause they wait for
        self._oldest_orphans: deque[tuple[int, str]] = deque()
        self._bytes = 0
        self._fates: LRUCache[str, str | None] = LRUCache(MOST_FATES)
        self._calls: LRUCache[str, int] = LRUCache(MOST_FATES)
        self._doubtful_until_ns = 0

    def doubt(self, now_ns: int) -> None:
        """Something was lost: of what was answered lately nobody knows all calls."""
        self._doubtful_until_ns = now_ns + 2 * HOLD_NS

    def take(
        self, exchange: RecordedExchange, now_ns: int
    ) -> Iterator[tuple[RecordedExchange, str | None]]:
        """At once what need not wait, with the reason why it is left out."""
        c = exchange.connection
        if c.client_process is not None:
            self._note_call(c.client_process, exchange)
        waits_for_cause = exchange.cause and exchange.cause not in self._fates
        if not waits_for_cause and c.server_process not in self._callers:
            yield from self._decided(exchange, now_ns)
            return
        held = _Held(now_ns + HOLD_NS, exchange, message_bytes(exchange))
        self._held.append(held)
        self._bytes += held.bytes

    def due(
        self, now_ns: int, *, is_end: bool = False
    ) -> Iterator[tuple[RecordedExchange, str | None]]:
        """What has waited long enough; all of it at the end."""
        while self._held and (
            is_end or self._held[0].due_ns <= now_ns or self._bytes > MOST_BYTES
        ):
            held = self._held.popleft()
            cause = held.exchange.cause
            if cause and cause not in self._fates:
                self._orphans.setdefault(cause, []).append(held)
                self._oldest_orphans.append((held.due_ns + LONGEST_NS, cause))
            else:
                yield from self._released(held, now_ns)
        while self._oldest_orphans and (
            is_end or self._oldest_orphans[0][0] <= now_ns or self._bytes > MOST_BYTES
        ):
            for held in self._orphans.pop(self._oldest_orphans.popleft()[1], ()):
                yield from self._released(held, now_ns)

    def _note_call(self, process: Process, exchange: RecordedExchange) -> None:
        caller = self._callers.setdefault(process, _Caller())
        if exchange.cause:
            self._calls[exchange.cause] = self._calls.get(exchange.cause, 0) + 1
        else:
            caller.add(exchange.request_start_ns)

    def _released(
        self, held: _Held, now_ns: int
    ) -> Iterator[tuple[RecordedExchange, str | None]]:
        self._bytes -= held.bytes
        yield from self._decided(held.exchange, now_ns)

    def _decided(
        self, exchange: RecordedExchange, now_ns: int
    ) -> Iterator[tuple[RecordedExchange, str | None]]:
        fate = self._fates.get(exchange.cause, "") if exchange.cause else ""
        if fate not in (None, REPLAY, SAMPLED):
            fate = self._why_not(exchange)
        self._fates[exchange.id] = fate
        yield self._with_calls(exchange, now_ns), fate
        for held in self._orphans.pop(exchange.id, ()):
            yield from self._released(held, now_ns)

    def _with_calls(self, exchange: RecordedExchange, now_ns: int) -> RecordedExchange:
        process = exchange.connection.server_process
        if process is None or not self._sees_calls or now_ns < self._doubtful_until_ns:
            return exchange
        caller = self._callers.get(process)
        if caller is None:
            return replace(exchange, calls=0)
        if caller.had_stray(exchange.request_start_ns, exchange.response_end_ns):
            return exchange
        return replace(exchange, calls=self._calls.get(exchange.id, 0))


def message_bytes(exchange: RecordedExchange) -> int:
    """About what its messages take in memory."""
    size = 0
    for message in (exchange.request, exchange.response):
        if isinstance(message, HttpRequest | HttpResponse):
            size += len(message.body)
        elif isinstance(message, RawMessage):
            size += len(message.data)
        elif message is not None:
            size += message.wire_bytes
    return size
