# SPDX-License-Identifier: Apache-2.0
"""What is in a recording: exchanges by service and operation, how they ended, what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    HttpResponse,
    Message,
    RecordedExchange,
    RedisReply,
)
from deetune_otel.topology.places import endpoint

__all__ = ["OperationKey", "OperationSummary", "Summary", "outcome_of"]

# Of one operation: quantiles of more are those of its first ones.
MAX_DURATIONS = 100_000


# Ends that are named by their address alone; a list of a thousand clients says less.
MAX_ADDRESSES = 64
MORE = "more"


class OperationKey(NamedTuple):
    """Ends are services, or else addresses as the map has them; "" where nothing is known."""

    client: str
    server: str
    protocol: Protocol
    operation: str


@dataclass(slots=True)
class OperationSummary:
    count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    durations_ns: list[int] = field(default_factory=list)

    def quantile_ns(self, share: float) -> int:
        """0 where nothing was answered."""
        if not self.durations_ns:
            return 0
        ordered = sorted(self.durations_ns)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True)
class Summary:
    """Counted while exchanges pass."""

    count: int = 0
    connections: set[str] = field(default_factory=set)
    traces: int = 0
    first_ns: int = 0
    last_ns: int = 0
    body_bytes: int = 0
    operations: dict[OperationKey, OperationSummary] = field(default_factory=dict)
    incomplete: Counter[str] = field(default_factory=Counter)
    missing_bytes: Counter[str] = field(default_factory=Counter)
    redactions: Counter[str] = field(default_factory=Counter)  # exchanges by rule
    _addresses: set[str] = field(default_factory=set)

    def add(self, one: RecordedExchange) -> None:
        c = one.connection
        client = c.client_process.service if c.client_process else c.peer_service
        server = c.server_process.service if c.server_process else c.peer_service
        key = OperationKey(
            client or self._address(c.client.address),
            server or self._address(endpoint(*c.server)),
            c.protocol,
            one.operation,
        )
        of = self.operations.setdefault(key, OperationSummary())
        of.count += 1
        of.outcomes[outcome_of(one)] += 1
        if one.response is not None and len(of.durations_ns) < MAX_DURATIONS:
            of.durations_ns.append(one.duration_ns)
        self.count += 1
        self.connections.add(c.id)
        self.traces += bool(one.trace_id)
        self.first_ns = min(self.first_ns or one.request_start_ns, one.request_start_ns)
        self.last_ns = max(self.last_ns, one.request_end_ns, one.response_end_ns)
        self.redactions.update(one.redactions)
        self.incomplete.update(one.incomplete)
        for message in (one.request, one.response):
            self.body_bytes += _bytes(message)
            for gap in message.missing if message is not None else ():
                self.missing_bytes[gap.because.value] += gap.bytes

    def _address(self, address: str) -> str:
        if address in self._addresses or len(self._addresses) < MAX_ADDRESSES:
            self._addresses.add(address)
            return address
        return MORE

    def add_all(self, exchanges: Iterable[RecordedExchange]) -> None:
        for one in exchanges:
            self.add(one)


def outcome_of(one: RecordedExchange) -> str:
    """ "200"; of Redis "ok" or the error's first word; "no response"."""
    response = one.response
    if isinstance(response, HttpResponse):
        return str(response.status)
    if isinstance(response, RedisReply) and isinstance(response.value, redis.Error):
        return response.value.text.partition(" ")[0]
    return "no response" if response is None else "ok"


def _bytes(message: Message | None) -> int:
    return message.wire_bytes if message is not None else 0
