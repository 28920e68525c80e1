# SPDX-License-Identifier: Apache-2.0
"""What was measured, as values, and as JSON, text and Markdown. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.plan import AIMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Compared", "Measured", "Results", "Spread", "markdown", "text", "to_json"]


# Of its CPUs; from there on other programs' turns are in every latency.
_BUSY: Final = 0.25


class Spread(NamedTuple):
    """Of several measurements."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


class Compared(NamedTuple):
    """The same load without and with the agent; `ratio` is of the two halves of a round."""

    key: str
    what: str
    unit: str
    without: Spread
    with_agent: Spread
    ratio: Spread


class Measured(NamedTuple):
    """Something that exists only with the agent."""

    key: str
    what: str
    unit: str
    value: Spread


@dataclass(slots=True, kw_only=True)
class Results:
    machine: dict[str, Any]
    settings: dict[str, Any]
    rounds: int = 0
    compared: list[Compared] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def to_json(results: Results) -> dict[str, Any]:
    return {
        "machine": results.machine,
        "settings": results.settings,
        "rounds": results.rounds,
        "seconds": round(results.seconds, 1),
        "compared": {
            one.key: {
                "what": one.what,
                "unit": one.unit,
                "without": one.without._asdict(),
                "with": one.with_agent._asdict(),
                "ratio": one.ratio._asdict(),
            }
            for one in results.compared
        },
        "measured": {
            one.key: {
                "what": one.what,
                "unit": one.unit,
                **one.value._asdict(),
                **_aim_json(one),
            }
            for one in results.measured
        },
        "notes": results.notes,
    }


def text(results: Results) -> str:
    """For a terminal: columns of equal width."""
    table = [_HEAD, *_rows(results)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 or at == len(widths) - 1 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], *lines[1:], "", *_remarks(results)])


def markdown(results: Results) -> str:
    rows = [_HEAD, ("---", "---:", "---:", "---:", "---"), *_rows(results)]
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*table, "", *(f"- {one}" for one in _remarks(results))])


_Row = tuple[str, str, str, str, str]
_HEAD: _Row = ("what", "without", "with", "with / without", "aim")


def _rows(results: Results) -> list[_Row]:
    rows: list[_Row] = [
        (
            one.what,
            _quantity(one.without.median, one.unit),
            _quantity(one.with_agent.median, one.unit),
            f"{one.ratio.median:.3f} ({one.ratio.least:.3f} to {one.ratio.most:.3f})",
            "",
        )
        for one in results.compared
    ]
    rows += [
        (one.what, "", _quantity(one.value.median, one.unit), "", _aim(one))
        for one in results.measured
    ]
    return rows


def _aim(one: Measured) -> str:
    aim = AIMS.get(one.key)
    if aim is None:
        return ""
    verdict = "ok" if one.value.median <= aim else "missed"
    return f"≤ {_quantity(aim, one.unit)}: {verdict}"


def _aim_json(one: Measured) -> dict[str, Any]:
    aim = AIMS.get(one.key)
    return {} if aim is None else {"aim": aim, "ok": one.value.median <= aim}


def _remarks(results: Results) -> Iterable[str]:
    machine = results.machine
    yield (
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, "
        f"Python {machine['python']}; load average at the start {machine['load']:.2f}, "
        f"{results.seconds:.0f} s in all."
    )
    if results.compared:
        yield (
            f"{results.rounds} rounds, each without and with the agent: medians, and of the "
            "ratios of a round's two halves the least and the most."
        )
    yield from results.notes
    missed = [
        f"{one.what} ({_quantity(one.value.median, one.unit)})"
        for one in results.measured
        if one.value.median > AIMS.get(one.key, math.inf)
    ]
    if missed:
        yield f"Missed: {'; '.join(missed)}."
    if machine["load"] > machine["cpus"] * _BUSY:
        yield "The machine had other work when this began: repeat it on a quiet one."


_SCALES = {"ns": ((1e6, "ms"), (1e3, "µs"), (1.0, "ns"))}


def _quantity(value: float, unit: str) -> str:
    for factor, scaled in _SCALES.get(unit, ()):
        if value >= factor:
            return f"{_digits(value / factor)} {scaled}"
    return f"{_digits(value)} {unit}".strip()


def _digits(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
