# SPDX-License-Identifier: Apache-2.0
"""The line says how far it is, and how long it takes."""

from __future__ import annotations

from deetune_otel.comparison.judging import Outcome
from deetune_otel.replay.progress import Progress


def test_the_line() -> None:
    progress = Progress(2000, 10.0)
    assert progress.line(10.0) == (
        "  0% 0 of 2,000 · 0/s · 0 different · 0 failed · beginning"
    )
    for outcome in [Outcome.SAME] * 498 + [Outcome.DIFFERENT, Outcome.FAILED]:
        progress.add(outcome)
    assert progress.line(12.0) == (
        " 25% 500 of 2,000 · 250/s · 1 different · 1 failed · 6 s left"
    )
