# SPDX-License-Identifier: Apache-2.0
"""Calls of one kernel edge divided between several services: whole numbers, nothing lost.

Where the servers' own counts are known, the k-th fastest call of the client is taken for the k-th
fastest at the servers: a slow and a fast service behind one address stay slow and fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deetune_otel.topology.shares import apportioned
from deetune_otel.topology.sums import BUCKETS, CLIENT_ERRORS, COUNT, ERRORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deetune_otel.topology.sums import Numbers

__all__ = ["by_shares", "by_shares_each", "like"]


def by_shares_each(numbers: Numbers, shares: Sequence[float]) -> list[list[int]]:
    """Every number for itself: TCP's facts."""
    return _transposed([apportioned_signed(number, shares) for number in numbers])


def by_shares(calls: Numbers, shares: Sequence[float]) -> list[list[int]]:
    """Calls: every part's buckets hold as many as it has calls."""
    left = apportioned(calls[COUNT], shares)
    scalars = [apportioned(number, left) for number in calls[1:BUCKETS]]
    columns = [list(left), *scalars]
    for bucket in calls[BUCKETS:]:
        column = apportioned(bucket, left)
        left = [max(0, have - got) for have, got in zip(left, column, strict=True)]
        columns.append(column)
    return _transposed(columns)


def like(calls: Numbers, models: Sequence[Sequence[float]]) -> list[list[int]]:
    """Divide calls as the servers counted them; `models` must hold a call.

    The parts have the sums of the buckets for counts, and the other numbers by the models'.
    """
    of_bucket = _ranked(calls[BUCKETS:], [model[BUCKETS:] for model in models])
    buckets = _transposed(
        [
            apportioned(bucket, shares)
            for bucket, shares in zip(calls[BUCKETS:], of_bucket, strict=True)
        ]
    )
    counts = [sum(part) for part in buckets]
    if sum(counts) != calls[COUNT]:
        return by_shares(calls, [model[COUNT] for model in models])
    scalars = []
    for i, number in enumerate(calls[1:BUCKETS], start=1):
        if i in (ERRORS, CLIENT_ERRORS):
            # calls of one outcome: all of them are errors, or none
            scalars.append(apportioned(number, counts))
            continue
        of_models = [model[i] for model in models]
        scalars.append(apportioned(number, of_models if any(of_models) else counts))
    return [
        [count, *(scalar[i] for scalar in scalars), *buckets[i]]
        for i, count in enumerate(counts)
    ]


def apportioned_signed(number: int, shares: Sequence[float]) -> list[int]:
    """A connection that went over to another process is taken away here."""
    if number < 0:
        return [-part for part in apportioned(-number, shares)]
    return apportioned(number, shares)


def _ranked(wanted: Numbers, models: Sequence[Sequence[float]]) -> list[list[float]]:
    """Shares of every part in every wanted bucket, by the order of durations."""
    have = sum(map(sum, models))
    scale = have / (sum(wanted) or 1)
    shares = []
    bucket, used = 0, 0.0  # where in the models' order the next call lies
    for count in wanted:
        parts = [0.0] * len(models)
        left = count * scale
        while left > 1e-9 and bucket < len(models[0]):
            there = sum(model[bucket] for model in models)
            taken = min(left, there - used)
            if there:
                for i, model in enumerate(models):
                    parts[i] += taken * model[bucket] / there
            left -= taken
            used += taken
            if there - used < 1e-9:
                bucket, used = bucket + 1, 0.0
        shares.append(parts if sum(parts) > 0 else [float(sum(m)) for m in models])
    return shares


def _transposed(columns: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(part) for part in zip(*columns, strict=True)]
