# SPDX-License-Identifier: Apache-2.0
"""A recording that writes nothing: how many bytes a file would have, and of whose exchanges."""

from __future__ import annotations

from collections import Counter

from deetune_otel.recording import pcapng
from deetune_otel.recording.model import RecordedExchange
from deetune_otel.recording.segments import Segments

__all__ = ["Rehearsal"]


class Rehearsal:
    """A sink. `operations` counts exchanges by service and operation."""

    def __init__(self) -> None:
        self._segments = Segments()
        self._bytes = 0
        self.operations: Counter[tuple[str, str]] = Counter()

    @property
    def bytes(self) -> int:
        return self._bytes

    def write(self, exchange: RecordedExchange) -> None:
        for at_ns, packet, comment in self._segments.of(exchange):
            self._bytes += len(pcapng.packet(at_ns, packet, comment))
        self.operations[exchange.service, exchange.operation] += 1

    def flush(self) -> None:
        """There is nothing that waits."""
