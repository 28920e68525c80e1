# SPDX-License-Identifier: Apache-2.0
"""What user space tells the kernel side about an owner: its span limit.

The kernel counts spans by the second and stops at the budget, which is a service's, divided among
its processes. So that a busy service does not spend it in the first milliseconds, a share of all
exchanges is chosen by the hash of their wire identity; the share follows the rate of the last
reading. Both ends of a call choose alike, as far as the busier of the two goes.
"""

from __future__ import annotations

from collections import defaultdict
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deetune_otel.model import Service

__all__ = ["SpanLimit", "SpanLimiter", "span_limits"]

# The kernel keeps a quarter of the budget for errors and slow exchanges; a tenth less than the
# rest, so that a second a little busier than the last still ends within it.
_BY_HASH: Final = 0.75 * 0.9


class SpanLimit(NamedTuple):
    per_second: int
    keep_fraction: float


def span_limits(
    counts: Mapping[int, int],
    services: Mapping[int, Service],
    *,
    per_second: int,
    elapsed_s: float,
) -> dict[int, SpanLimit]:
    """By owner id, of those that were busy in the last reading: `counts` are its exchanges."""
    processes: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for owner_id, service in services.items():
        if counts.get(owner_id):
            processes[service.namespace, service.name].append(owner_id)
    limits = {}
    for owner_ids in processes.values():
        share = max(1, per_second // len(owner_ids))
        for owner_id in owner_ids:
            rate = counts[owner_id] / max(elapsed_s, 1e-3)
            limits[owner_id] = SpanLimit(share, min(1.0, _BY_HASH * share / rate))
    return limits


class _Limits(Protocol):
    """What is asked of `kernel.session.Kernel`."""

    def set_span_limit(
        self, owner_id: int, *, per_second: int, keep_fraction: float
    ) -> None: ...


class SpanLimiter:
    """Writes what changed. Thread-safe."""

    def __init__(self, kernel: _Limits) -> None:
        self._kernel = kernel
        self._lock = Lock()
        self._limits: dict[int, SpanLimit] = {}

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
