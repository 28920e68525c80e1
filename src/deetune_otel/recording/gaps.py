# SPDX-License-Identifier: Apache-2.0
"""What is missing of a message, as JSON: `[[offset, bytes, "why"], …]`."""

from __future__ import annotations

from typing import Final

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.model import Missing, MissingBecause

__all__ = ["read_gaps", "written_gaps"]

_MAX: Final = 1 << 62
_REASONS: Final = frozenset(MissingBecause)


def written_gaps(missing: tuple[Missing, ...]) -> list[list[object]]:
    return [[one.at, one.bytes, one.because.value] for one in missing]


def read_gaps(found: object) -> tuple[Missing, ...]:
    """Raises BadInput. They come in their order, and none lies in another."""
    if found is None:
        return ()
    if not isinstance(found, list):
        raise BadInput("missing: no list")
    gaps = []
    end = 0
    for one in found:
        match one:
            case [int() as at, int() as count, str() as because] if (
                because in _REASONS and end <= at < _MAX and 0 < count < _MAX
            ):
                gaps.append(Missing(at, count, MissingBecause(because)))
                end = at + count
            case _:
                raise BadInput("missing: not [offset, bytes, reason] in their order")
    return tuple(gaps)
