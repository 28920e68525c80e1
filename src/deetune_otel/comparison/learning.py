# SPDX-License-Identifier: Apache-2.0
"""What differs by itself: learned from requests that were repeated, and from a second
replay.

Only values that differ at every repeat are learned. Between two reads a write may have
changed what is read: such a pair teaches nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.comparison import messages
from deetune_otel.comparison.findings import Finding, general, operation_of
from deetune_otel.comparison.rules import JudgeRules
from deetune_otel.comparison.values import Kind
from deetune_otel.recording.model import (
    HttpRequest,
    Message,
    RecordedExchange,
    RedisCommand,
)

if TYPE_CHECKING:
    from deetune_otel.comparison.judging import Verdict

__all__ = ["Evidence", "Learned", "learn"]

MAX_REMEMBERED: Final = 20_000  # requests that may come again
_LEARNED: Final = frozenset({Kind.VALUE, Kind.ORDER})
_READS: Final = frozenset(
    b"GET MGET STRLEN EXISTS TYPE TTL PTTL GETRANGE HGET HMGET HGETALL HKEYS HVALS "
    b"HLEN HEXISTS LRANGE LLEN LINDEX SMEMBERS SCARD SISMEMBER ZRANGE ZCARD ZSCORE "
    b"XLEN XRANGE PING ECHO TIME INFO DBSIZE".split()
)
_Place = tuple[str, str]  # operation, general place


class Evidence(NamedTuple):
    repeats: int
    source: str  # "in the recording", "in two replays"


@dataclass(frozen=True, slots=True)
class Learned:
    """Places that say nothing, by operation and place without indexes."""

    places: Mapping[_Place, Evidence] = field(default_factory=dict)

    def why(self, operation: str, finding: Finding) -> str | None:
        """Why a finding does not count; None: it does."""
        if finding.kind not in _LEARNED:
            return None
        evidence = self.places.get((operation, general(finding.place)))
        if evidence is None:
            return None
        repeats, source = evidence
        return f"learned: differs at {repeats} of {repeats} repeats {source}"

    def also(self, first: Iterable[Verdict], second: Iterable[Verdict]) -> Learned:
        """With what differs between the answers to two replays of the same exchanges."""
        answers = {one.exchange.id: one.answer.message for one in first}
        tally = _Tally()
        for verdict in second:
            earlier, later = answers.get(verdict.exchange.id), verdict.answer.message
            if earlier is not None and later is not None:
                tally.add(operation_of(verdict.exchange), earlier, later)
        return Learned({**tally.places("in two replays"), **self.places})


class _Tally:
    def __init__(self) -> None:
        self._pairs: Counter[str] = Counter()
        self._differing: Counter[_Place] = Counter()

    def add(self, operation: str, one: Message, other: Message) -> None:
        self._pairs[operation] += 1
        found = messages.compare(one, other, JudgeRules()).findings
        for place in {general(f.place) for f in found if f.kind in _LEARNED}:
            if place != "status":
                self._differing[operation, place] += 1

    def places(self, source: str) -> dict[_Place, Evidence]:
        return {
            place: Evidence(count, source)
            for place, count in self._differing.items()
            if count == self._pairs[place[0]]
        }


def learn(exchanges: Iterable[RecordedExchange]) -> Learned:
    """Of exchanges in their order."""
    tally = _Tally()
    writes: Counter[Hashable] = Counter()  # by server
    last: dict[Hashable, tuple[Message, int]] = {}
    for exchange in exchanges:
        server = exchange.connection.server
        key = (server, _key(exchange.request))
        is_read = _is_read(exchange.request)
        if exchange.is_complete and exchange.response is not None:
            earlier, at = last.pop(key, (None, 0))
            if earlier is not None and (not is_read or at == writes[server]):
                tally.add(operation_of(exchange), earlier, exchange.response)
            if len(last) >= MAX_REMEMBERED:
                del last[next(iter(last))]
            last[key] = exchange.response, writes[server]
        writes[server] += not is_read
    return Learned(tally.places("in the recording"))


def _is_read(request: Message) -> bool:
    match request:
        case HttpRequest(method=method):
            return method in {"GET", "HEAD", "OPTIONS"}
        case RedisCommand(arguments=(name, *_)):
            return name.upper() in _READS
    return False


def _key(request: Message) -> Hashable:
    match request:
        case HttpRequest(method=method, target=target, body=body):
            return method, target, hashlib.sha256(body).digest()
        case RedisCommand(arguments=arguments):
            return hashlib.sha256(repr(arguments).encode()).digest()
    return hashlib.sha256(repr(request).encode()).digest()
