# SPDX-License-Identifier: Apache-2.0
"""The flight recorder's memory: the last exchanges, redacted, and whether one of them is a reason
to write them down.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final

from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.recorder.families import message_bytes
from deetune_otel.recording.model import Manifest, RecordedExchange
from deetune_otel.recording.selection import Selection

__all__ = ["Flight", "forget_old", "write_flight"]

# Of an exchange beside its bodies: its objects, headers and names, measured with small ones.
OWN_BYTES: Final = 6_000
PATTERN: Final = "flight-*.pcapng"
_FAILED: Final = Selection(statuses=("error",))


class Flight:
    """A sink of a recorder that never ends. Belongs to one thread."""

    def __init__(
        self, *, keep_ns: int, keep_bytes: int, on_error: bool, slow_ns: int
    ) -> None:
        """`slow_ns` 0: nothing is slow."""
        self._keep_ns = keep_ns
        self._keep_bytes = keep_bytes
        self._on_error = on_error
        self._slow_ns = slow_ns
        self._kept: deque[tuple[RecordedExchange, int]] = deque()
        self._bytes = 0
        self.reason = ""  # since the last `take`: what happened first

    @property
    def bytes(self) -> int:
        """0: no bound of the recorder ends it."""
        return 0

    def write(self, exchange: RecordedExchange) -> None:
        size = message_bytes(exchange) + OWN_BYTES
        self._kept.append((exchange, size))
        self._bytes += size
        oldest_ns = exchange.request_end_ns - self._keep_ns
        while self._kept and (
            self._bytes > self._keep_bytes
            or self._kept[0][0].request_end_ns < oldest_ns
        ):
            self._bytes -= self._kept.popleft()[1]
        self.reason = self.reason or self._why(exchange)

    def flush(self) -> None:
        """Nothing is written until something happens."""

    def take(self, now_ns: int) -> list[RecordedExchange]:
        """Of the last minutes before `now_ns` of the Unix epoch, in their order; they stay."""
        self.reason = ""
        return sorted(
            (
                one
                for one, _ in self._kept
                if one.request_end_ns >= now_ns - self._keep_ns
            ),
            key=lambda one: one.request_start_ns,
        )

    def _why(self, exchange: RecordedExchange) -> str:
        what = f"{exchange.service} {exchange.operation}"
        if self._on_error and _FAILED.why_not(exchange) is None:
            return f"an error of {what}"
        if self._slow_ns and exchange.duration_ns >= self._slow_ns:
            return f"{exchange.duration_ns / 1e9:.1f} s for {what}"
        return ""


def write_flight(
    exchanges: list[RecordedExchange], path: Path, *, reason: str, key: bytes
) -> None:
    """The file, and beside it the key of its tokens. Raises OSError."""
    times = [one.request_start_ns for one in exchanges]
    with RecordingWriter(path, description=f"flight recorder: {reason}") as writer:
        for one in exchanges:
            writer.write(one)
        writer.close(
            Manifest(
                selection=f"flight recorder: {reason}",
                started_ns=min(times, default=0),
                ended_ns=max((one.response_end_ns for one in exchanges), default=0),
                ended_because="flight",
                seen=len(exchanges),
                captured=len(exchanges),
                incomplete=sum(bool(one.incomplete) for one in exchanges),
            )
        )
    key_path = path.with_name(f"{path.name}.key")
    key_path.touch(mode=0o600, exist_ok=False)
    key_path.write_text(f"{key.hex()}\n")


def forget_old(folder: Path, *, keep: int) -> None:
    """Deletes all but the newest files; their names are in the order of time."""
    for path in sorted(folder.glob(PATTERN))[:-keep]:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.key").unlink(missing_ok=True)
