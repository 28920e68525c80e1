# SPDX-License-Identifier: Apache-2.0
"""How a recording is replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from deetune_otel.replay.rewrite import Rewrites

__all__ = ["Mode", "ReplayOptions", "Target"]


class Mode(StrEnum):
    """In which order, and when."""

    SESSIONS = "sessions"  # each recorded connection in its order, several at a time
    RECORDED = "recorded"  # when it was recorded, whether or not answers have come
    FAST = "fast"  # in the recorded order, as fast as answers come


class Target(NamedTuple):
    """Where requests go. A path is a Unix socket's."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Target:
        """`127.0.0.1:8081`, `[::1]:8081`, `unix:/run/a.sock`; ValueError."""
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls("", 0, text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not colon or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError(
                f"expected an address such as 127.0.0.1:8081 or unix:/run/a.sock, got {text!r}"
            )
        return cls(host, int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    mode: Mode = Mode.SESSIONS
    speed: float = 1.0  # of Mode.RECORDED: 2 is twice as fast
    rate: float = 0.0  # requests a second at most; 0: no bound
    ramp_s: float = 0.0  # until the rate is reached, growing evenly from nothing
    loops: int = 1
    connections: int = 16  # at a time, at most
    timeout_s: float = 10.0  # of one request, with connecting
    carries: bool = (
        True  # the test instance's ids, cookies and tokens into later requests
    )
    rewrites: Rewrites = field(default_factory=Rewrites)
    # So many failures one after the other, without one answer between, end the replay.
    failing_after: int = 20
