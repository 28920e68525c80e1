# SPDX-License-Identifier: Apache-2.0
"""How a recording is replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from deetune_otel.replay.rewrite import Rewrites

__all__ = ["Mode", "ReplayOptions", "Target"]


class Mode(StrEnum):
    """In which order, and when."""

    SESSIONS = "sessions"  # each recorded connection in its order, several at a time
    RECORDED = "recorded"  # when it was recorded, whether or not answers have come
    FAST = "fast"  # in the recorded order, as fast as answers come


_PORTS: Final = {"http": 80, "redis": 6379}


class Target(NamedTuple):
    """Where requests go. A path is a Unix socket's."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Target:
        """`127.0.0.1:8081`, `[::1]:8081`, `http://127.0.0.1:8081`, `unix:/run/a.sock`; ValueError."""
        if "@" in text and not text.startswith(
            "unix:"
        ):  # whose password is not repeated
            raise ValueError("a target has no user: --set-header sets one")
        if "://" in text:
            return cls._of_url(text)
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls("", 0, text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        is_host = (
            host and not set(host) & set(" /?#") and host.partition(":")[0] != "http"
        )
        if (
            not is_host
            or not colon
            or not (port.isascii() and port.isdigit())
            or not 0 < int(port) < 65_536
        ):
            raise ValueError(
                f"expected an address such as 127.0.0.1:8081 or unix:/run/a.sock, got {text!r}"
            )
        return cls(host, int(port))

    @classmethod
    def _of_url(cls, text: str) -> Target:
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        if scheme in ("https", "rediss"):
            raise ValueError(
                f"{scheme} is not spoken: name the address behind what ends TLS, got {text!r}"
            )
        if scheme not in _PORTS:
            raise ValueError(f"expected {' or '.join(_PORTS)}, got {text!r}")
        try:
            parts = urlsplit(f"//{rest}")
            host = parts.hostname or ""
            port = _PORTS[scheme] if parts.port is None else parts.port
        except ValueError:
            host, port = "", 0
        if parts_beyond := rest.partition("/")[2]:
            raise ValueError(
                f"a target has no path ({parts_beyond!r}): --rewrite-path changes it"
            )
        if not host or not port or set(rest) & set(" ?#"):
            raise ValueError(f"expected http://127.0.0.1:8081, got {text!r}")
        return cls(host, port)

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
