# SPDX-License-Identifier: Apache-2.0
"""Spans a second: a service's budget, divided among its processes and spread over the second.

The kernel counts spans by the second and stops at the budget. So that a busy service does not
spend it in the first milliseconds, a share of all exchanges is chosen by the hash of their wire
identity; the share follows the rate of the last reading. Both ends of a call choose alike, as far
as the busier of the two goes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.model import Service

__all__ = ["SpanLimit", "span_limits"]

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
