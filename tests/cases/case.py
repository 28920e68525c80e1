# SPDX-License-Identifier: Apache-2.0
"""What a case is: turns on one connection, and what must be counted of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deetune_otel.model import End, Protocol

__all__ = ["Case", "Expected", "Turn"]


class Expected(NamedTuple):
    """A counted exchange, but for its times; operation: what its signature stands for."""

    protocol: Protocol
    operation: str
    outcome: int
    end: End
    request_bytes: int
    response_bytes: int
    request_body_bytes: int
    response_body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A request and what answers it; without an operation it is no exchange."""

    request: bytes = b""
    response: bytes = b""
    operation: str = ""
    outcome: int = 0
    request_body: int = 0
    response_body: int = 0
    end: End = End.COMPLETE

    def expected(self, protocol: Protocol) -> Expected:
        return Expected(
            protocol,
            self.operation,
            self.outcome,
            self.end,
            len(self.request),
            len(self.response),
            self.request_body,
            self.response_body,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One connection."""

    name: str
    turns: tuple[Turn, ...]
    protocol: Protocol
    closed: bool = False  # the connection ends, and so does what it has open
    in_turns: bool = False  # the next request may not come before this response
    at_the_beginning: bool = False  # of a connection alone is it understood
    lost: tuple[str, ...] = ()  # the ledger's lines for the turns that are no exchange

    @property
    def expected(self) -> list[Expected]:
        return [turn.expected(self.protocol) for turn in self.turns if turn.operation]

    @property
    def lost_bytes(self) -> int:
        return sum(
            len(turn.request) + len(turn.response)
            for turn in self.turns
            if not turn.operation
        )
