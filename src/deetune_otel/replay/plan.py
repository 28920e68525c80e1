# SPDX-License-Identifier: Apache-2.0
"""What is sent, and in which order. Pure: exchanges in, sessions out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter

from deetune_otel.recording.model import RecordedExchange
from deetune_otel.recording.selection import Selection
from deetune_otel.replay.safety import why_not_sent

__all__ = ["Plan", "planned"]


@dataclass(slots=True)
class Plan:
    """`sessions`: what each recorded connection asked, in its order; the oldest one first."""

    sessions: list[list[RecordedExchange]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # not sent, by cause

    @property
    def count(self) -> int:
        return sum(map(len, self.sessions))

    def services(self) -> Counter[str]:
        """Who answered, and how often; by protocol where nobody knows who."""
        return Counter(
            end.service
            if (end := one.connection.server_process)
            else one.protocol.value
            for session in self.sessions
            for one in session
        )

    def in_order(self) -> list[RecordedExchange]:
        """All of them, as they were recorded."""
        every = (one for session in self.sessions for one in session)
        return sorted(every, key=attrgetter("request_start_ns"))


def _answered(exchange: RecordedExchange) -> RecordedExchange:
    """Without its client: a replay takes the place of whoever asked."""
    connection = replace(exchange.connection, client_process=None)
    return replace(exchange, connection=connection)


def planned(
    exchanges: Iterable[RecordedExchange],
    *,
    selection: Selection,
    allows_writes: bool,
    limit: int = 0,
) -> Plan:
    """`limit` 0: all."""
    plan = Plan()
    sessions: dict[str, list[RecordedExchange]] = {}
    count = 0
    for one in exchanges:
        if one.is_outgoing:
            continue
        if (why := selection.why_not(_answered(one))) is not None:
            plan.skipped[f"not chosen ({why})"] += 1
        elif why := why_not_sent(one, allows_writes=allows_writes):
            plan.skipped[why] += 1
        elif limit and count >= limit:
            plan.skipped["over --limit"] += 1
        else:
            count += 1
            sessions.setdefault(one.connection.id, []).append(one)
    for session in sessions.values():
        session.sort(key=attrgetter("request_start_ns"))
    plan.sessions = sorted(sessions.values(), key=lambda one: one[0].request_start_ns)
    return plan
