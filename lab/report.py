# SPDX-License-Identifier: Apache-2.0
"""The lab's table, for a terminal, for docs/accuracy.md and for machines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.scoring import Score

__all__ = ["Row", "markdown", "text", "to_json"]

_HEAD = (
    "scenario", "agents", "edges", "precision", "recall",
    "counts exact", "calls", "addresses alone: precision", "recall",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scenario: the map's score, and that of addresses alone (its edges, not its counts)."""

    name: str
    title: str
    agents: int
    score: Score
    addresses: Score
    seconds: float


def text(rows: Sequence[Row]) -> str:
    """Columns, and under them what was wrong."""
    table = [_HEAD, *(_cells(row, row.name) for row in rows), _total(rows)]
    widths = [max(len(line[n]) for line in table) for n in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join(
        [*lines, *(f"  {row.name}: {one}" for row in rows for one in row.score.wrong)]
    )


def markdown(rows: Sequence[Row], *, kernel: str) -> str:
    table = [_HEAD, *(_cells(row, row.title) for row in rows), _total(rows)]
    lines = [f"| {' | '.join(line)} |" for line in table]
    lines.insert(1, "| --- |" + " ---: |" * (len(_HEAD) - 1))
    wrong = [
        f"- Wrong in {row.title}: {one}" for row in rows for one in row.score.wrong
    ]
    seconds = sum(row.seconds for row in rows)
    return "\n".join([*lines, "", *wrong, f"- Linux {kernel}; {seconds:.0f} s in all."])


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        row.name: {
            "title": row.title,
            "agents": row.agents,
            "seconds": round(row.seconds, 1),
            "map": _numbers(row.score),
            "addresses_alone": _numbers(row.addresses),
            "wrong": list(row.score.wrong),
        }
        for row in rows
    }


def _numbers(score: Score) -> dict[str, float]:
    return {
        "edges": score.true,
        "drawn": score.predicted,
        "right": score.right,
        "exact": score.exact,
        "calls": score.calls,
        "precision": score.precision,
        "recall": score.recall,
    }


def _cells(row: Row, name: str) -> tuple[str, ...]:
    return (name, str(row.agents), *_scores(row.score, row.addresses))


def _total(rows: Sequence[Row]) -> tuple[str, ...]:
    nothing = Score(true=0, predicted=0, right=0, exact=0, calls=0)
    return (
        "all",
        str(sum(row.agents for row in rows)),
        *_scores(
            sum((row.score for row in rows), nothing),
            sum((row.addresses for row in rows), nothing),
        ),
    )


def _scores(score: Score, addresses: Score) -> tuple[str, ...]:
    return (
        str(score.true),
        _percent(score.precision),
        _percent(score.recall),
        f"{score.exact}/{score.true}",
        f"{score.calls:,}",
        _percent(addresses.precision),
        _percent(addresses.recall),
    )


def _percent(share: float) -> str:
    """100 % is all, and nothing less."""
    return "100 %" if share == 1 else f"{min(share * 100, 99.9):.1f} %"
