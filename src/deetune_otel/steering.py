# SPDX-License-Identifier: Apache-2.0
"""What user space tells the kernel side about an owner: its spans, and how causes are found."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Protocol

from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_EXECUTABLE_NAME,
)

from deetune_otel.runtimes import stays_on_thread

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deetune_otel.budget import SpanLimit
    from deetune_otel.model import Owner, Service

__all__ = ["Steering"]


class _Limits(Protocol):
    """What is asked of `kernel.session.Kernel`."""

    def set_span_limit(
        self, owner_id: int, *, per_second: int, keep_fraction: float
    ) -> None: ...
    def set_cause_by_thread(self, owner_id: int, *, enabled: bool) -> None: ...


class Steering:
    """Writes what changed. Thread-safe."""

    def __init__(self, kernel: _Limits) -> None:
        self._kernel = kernel
        self._lock = Lock()
        self._limits: dict[int, SpanLimit] = {}
        self._by_thread: dict[int, tuple[Owner, bool]] = {}

    def adopt(self, owner: Owner, service: Service) -> None:
        """Follow causes by thread where the program that runs now is known to allow it."""
        executable = str(service.attributes.get(PROCESS_EXECUTABLE_NAME, ""))
        wanted = (owner, stays_on_thread(executable))
        with self._lock:
            if self._by_thread.get(owner.id, (owner, False)) != wanted:
                self._kernel.set_cause_by_thread(owner.id, enabled=wanted[1])
            self._by_thread[owner.id] = wanted

    def limit(self, limits: Mapping[int, SpanLimit]) -> None:
        with self._lock:
            for owner_id, limit in limits.items():
                if self._limits.get(owner_id) != limit:
                    self._kernel.set_span_limit(
                        owner_id,
                        per_second=limit.per_second,
                        keep_fraction=limit.keep_fraction,
                    )
                    self._limits[owner_id] = limit

    def forget(self, owner_ids: Collection[int]) -> None:
        """Before the kernel gives the numbers to others."""
        with self._lock:
            for owner_id in owner_ids:
                self._limits.pop(owner_id, None)
                self._by_thread.pop(owner_id, None)
