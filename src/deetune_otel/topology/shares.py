# SPDX-License-Identifier: Apache-2.0
"""Counts divided by shares: whole numbers, whose parts come to the same sum.

Largest remainders decide who gets the calls that do not divide, the first of equals first. A
part's buckets hold as many calls as it has, and no part has more errors than calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from deetune_otel.topology.model import Network, Tally

__all__ = ["apportioned", "divided", "divided_network"]


def apportioned(amount: int, shares: Sequence[float]) -> list[int]:
    """Where the shares come to nothing, all goes to the first."""
    whole = sum(shares)
    if whole <= 0:
        return [amount, *(0 for _ in shares[1:])]
    exact = [amount * share / whole for share in shares]
    parts = [int(one) for one in exact]
    # beyond 2^53 a quotient is rounded, up too
    parts[parts.index(max(parts))] -= max(0, sum(parts) - amount)
    by_remainder = sorted(
        range(len(shares)), key=lambda i: exact[i] - parts[i], reverse=True
    )
    for step in range(amount - sum(parts)):
        parts[by_remainder[step % len(parts)]] += 1
    return parts


def divided(tally: Tally, shares: Sequence[float]) -> list[Tally]:
    counts = apportioned(tally.count, shares)
    buckets = _spread(tally.duration_buckets, counts)
    errors = apportioned(tally.errors, counts)
    client_errors = apportioned(tally.client_errors, counts)
    requests = apportioned(tally.request_bytes, counts)
    responses = apportioned(tally.response_bytes, counts)
    return [
        Tally(
            count=count,
            errors=errors[i],
            client_errors=client_errors[i],
            duration_sum_s=_share(tally.duration_sum_s, count, tally.count, i),
            duration_buckets=buckets[i],
            request_bytes=requests[i],
            response_bytes=responses[i],
        )
        for i, count in enumerate(counts)
    ]


def divided_network(network: Network, shares: Sequence[float]) -> list[Network]:
    """By connections: `connects` and what was measured of them divide alike."""

    def parts(amount: int) -> list[int]:
        return apportioned(amount, shares)

    connects = parts(sum(network.connect_buckets))
    samples = parts(sum(network.rtt_buckets))
    connect_buckets = _spread(network.connect_buckets, connects)
    rtt_buckets = _spread(network.rtt_buckets, samples)
    failures = {errno: parts(n) for errno, n in network.connect_failures.items()}
    columns = zip(
        parts(network.active),
        parts(network.connects),
        parts(network.retransmits),
        parts(network.sent_bytes),
        parts(network.received_bytes),
        strict=True,
    )
    return [
        Network(
            active=active,
            connects=opened,
            connect_failures={e: n[i] for e, n in failures.items() if n[i]},
            connect_sum_s=_share(network.connect_sum_s, connects[i], sum(connects), i),
            connect_buckets=connect_buckets[i],
            rtt_sum_s=_share(network.rtt_sum_s, samples[i], sum(samples), i),
            rtt_buckets=rtt_buckets[i],
            retransmits=retransmits,
            sent_bytes=sent,
            received_bytes=received,
        )
        for i, (active, opened, retransmits, sent, received) in enumerate(columns)
    ]


def _share(amount: float, part: int, whole: int, index: int) -> float:
    """Of a sum that belongs to counts; where there are none, all is the first's."""
    if whole:
        return amount * part / whole
    return amount if index == 0 else 0.0


def _spread(buckets: Sequence[int], counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Each bucket by what every part still has to get, so that each gets its count."""
    left = list(counts)
    columns = []
    for bucket in buckets:
        column = apportioned(bucket, left)
        columns.append(column)
        left = [max(0, have - got) for have, got in zip(left, column, strict=True)]
    return [tuple(column[i] for column in columns) for i in range(len(counts))]
