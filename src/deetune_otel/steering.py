# SPDX-License-Identifier: Apache-2.0
"""What user space tells the kernel side about an owner: its span limit, and how causes are found.

Spans: the kernel counts them by the second and stops at the budget, which is a service's, divided
among its processes. So that a busy service does not spend it in the first milliseconds, a share of
all exchanges is chosen by the hash of their wire identity; the share follows the rate of the last
reading. Both ends of a call choose alike, as far as the busier of the two goes.

Causes: a request is caused by what its thread is answering, where the program is known to stay on
its thread. Threads per request (CPython, Ruby, PHP, Perl) and single-threaded loops (node, nginx)
do; where a loop has several requests open the kernel side sees that and links none. Go moves its
goroutines between threads, the JVM's and native servers' pools hand requests on: for all that is
not in the list a thread says nothing, and a wrong parent is worse than none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_EXECUTABLE_NAME,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deetune_otel.model import Owner, Service

__all__ = ["SpanLimit", "Steering", "span_limits", "stays_on_thread"]

# The kernel keeps a quarter of the budget for errors and slow exchanges; a tenth less than the
# rest, so that a second a little busier than the last still ends within it.
_BY_HASH: Final = 0.75 * 0.9
# Executables' names, with the versions that distributions put behind them.
_STAYS: Final = re.compile(
    r"(python|pypy|ruby|perl|php|php-fpm|php-cgi|uwsgi|node|nodejs|nginx|openresty"
    r"|apache2|httpd)[\d.]*(-\w+)?"
)


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


def stays_on_thread(executable: str) -> bool:
    """`executable` is a file's name: "python3.11", "php-fpm8.2"."""
    return _STAYS.fullmatch(executable) is not None


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

    def adopted(self) -> list[Owner]:
        with self._lock:
            return [owner for owner, _ in self._by_thread.values()]

    def forget(self, owner_ids: Collection[int]) -> None:
        """Before the kernel gives the numbers to others."""
        with self._lock:
            for owner_id in owner_ids:
                self._limits.pop(owner_id, None)
                self._by_thread.pop(owner_id, None)
