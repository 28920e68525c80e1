# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of what the map counts: sums, differences, rates, quantiles.

Quantiles are read from the buckets, so they are as fine as these; sums are exact.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from operator import add, sub
from typing import TYPE_CHECKING, Final

from deetune_otel.model import DURATION_BOUNDS_S
from deetune_otel.topology.model import Network, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "NO_CALLS",
    "NO_NETWORK",
    "error_ratio",
    "mean_s",
    "minus",
    "network_minus",
    "network_plus",
    "network_sum",
    "plus",
    "quantile",
    "rate",
    "total",
]

NO_CALLS: Final = Tally()
NO_NETWORK: Final = Network()


def plus(a: Tally, b: Tally) -> Tally:
    return _combine(add, a, b)


def minus(a: Tally, b: Tally) -> Tally:
    """What was added between two readings: `a` is the later."""
    return _combine(sub, a, b)


def total(tallies: Iterable[Tally]) -> Tally:
    result = NO_CALLS
    for tally in tallies:
        result = plus(result, tally)
    return result


def rate(tally: Tally, seconds: float) -> float:
    """Calls a second; 0 for no time at all."""
    return tally.count / seconds if seconds > 0 else 0.0


def error_ratio(tally: Tally) -> float | None:
    """0 to 1, without the clients' own errors; None where there was no call."""
    return tally.errors / tally.count if tally.count else None


def mean_s(tally: Tally) -> float | None:
    """Exact; None where there was no call."""
    return tally.duration_sum_s / tally.count if tally.count else None


def quantile(
    buckets: Sequence[int], q: float, *, bounds: Sequence[float] = DURATION_BOUNDS_S
) -> float | None:
    """The value below which the share `q` lies, in the bounds' unit; None when there are none.

    Even within a bucket; beyond the last bound (10 s of durations) that bound: a lower limit.
    """
    wanted = q * sum(buckets)
    if wanted == 0:
        return None
    below = 0
    for count, (low, high) in zip(buckets, pairwise((0.0, *bounds)), strict=False):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below += count
    return bounds[-1]


def network_plus(a: Network, b: Network) -> Network:
    return _combine_networks(add, a, b)


def network_minus(a: Network, b: Network) -> Network:
    """What was added between two readings; `active` is the later one's, `a`."""
    later = _combine_networks(sub, a, b)
    return Network(
        active=a.active,
        connects=later.connects,
        connect_failures={
            errno: count for errno, count in later.connect_failures.items() if count
        },
        connect_sum_s=later.connect_sum_s,
        connect_buckets=later.connect_buckets,
        rtt_sum_s=later.rtt_sum_s,
        rtt_buckets=later.rtt_buckets,
        retransmits=later.retransmits,
        sent_bytes=later.sent_bytes,
        received_bytes=later.received_bytes,
    )


def network_sum(networks: Iterable[Network]) -> Network:
    result = NO_NETWORK
    for network in networks:
        result = network_plus(result, network)
    return result


def _combine(operator: Callable[..., int], a: Tally, b: Tally) -> Tally:
    return Tally(
        count=operator(a.count, b.count),
        errors=operator(a.errors, b.errors),
        client_errors=operator(a.client_errors, b.client_errors),
        duration_sum_s=operator(a.duration_sum_s, b.duration_sum_s),
        duration_buckets=tuple(map(operator, a.duration_buckets, b.duration_buckets)),
        request_bytes=operator(a.request_bytes, b.request_bytes),
        response_bytes=operator(a.response_bytes, b.response_bytes),
    )


def _combine_networks(operator: Callable[..., int], a: Network, b: Network) -> Network:
    failures_a, failures_b = Counter(a.connect_failures), Counter(b.connect_failures)
    return Network(
        active=operator(a.active, b.active),
        connects=operator(a.connects, b.connects),
        connect_failures={
            errno: operator(failures_a[errno], failures_b[errno])
            for errno in sorted({*failures_a, *failures_b})
        },
        connect_sum_s=operator(a.connect_sum_s, b.connect_sum_s),
        connect_buckets=tuple(map(operator, a.connect_buckets, b.connect_buckets)),
        rtt_sum_s=operator(a.rtt_sum_s, b.rtt_sum_s),
        rtt_buckets=tuple(map(operator, a.rtt_buckets, b.rtt_buckets)),
        retransmits=operator(a.retransmits, b.retransmits),
        sent_bytes=operator(a.sent_bytes, b.sent_bytes),
        received_bytes=operator(a.received_bytes, b.received_bytes),
    )
