# SPDX-License-Identifier: Apache-2.0
"""Sums and differences of what the kernel counted: exact, in integers."""

from __future__ import annotations

from operator import add, sub
from typing import TYPE_CHECKING, Final

from deetune_otel.model import DURATION_BOUNDS_S, SIZE_BOUNDS_BYTES, SeriesValue

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ZERO", "minus", "plus"]

_NO_SIZES: Final = (0,) * (len(SIZE_BOUNDS_BYTES) + 1)
ZERO: Final = SeriesValue(
    *(0,) * 7, (0,) * (len(DURATION_BOUNDS_S) + 1), _NO_SIZES, _NO_SIZES
)


def plus(a: SeriesValue, b: SeriesValue) -> SeriesValue:
    return _combine(add, a, b)


def minus(a: SeriesValue, b: SeriesValue) -> SeriesValue:
    return _combine(sub, a, b)


def _combine(
    operator: Callable[[int, int], int], a: SeriesValue, b: SeriesValue
) -> SeriesValue:
    return SeriesValue._make(
        (
            *map(operator, a[:7], b[:7]),
            *(tuple(map(operator, x, y)) for x, y in zip(a[7:], b[7:], strict=True)),
        )
    )
