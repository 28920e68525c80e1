# SPDX-License-Identifier: Apache-2.0
"""How far a replay is, as a line. Pure: times are arguments."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from deetune_otel.comparison.judging import Outcome

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """`total` is what will be sent."""

    total: int
    began_s: float
    done: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.done += 1
        self.outcomes[outcome] += 1

    def line(self, now_s: float) -> str:
        elapsed_s = max(now_s - self.began_s, 1e-9)
        rate = self.done / elapsed_s
        left_s = (self.total - self.done) / rate if rate else 0.0
        share = self.done / self.total if self.total else 1.0
        return " · ".join(
            [
                f"{share:4.0%} {self.done:,} of {self.total:,}",
                f"{rate:,.0f}/s",
                f"{self.outcomes[Outcome.DIFFERENT]:,} different",
                f"{self.outcomes[Outcome.FAILED]:,} failed",
                f"{left_s:,.0f} s left" if self.done else "beginning",
            ]
        )
