# SPDX-License-Identifier: Apache-2.0
"""The report as a comment on a pull request: what changed, in a table that is not too
long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deetune_otel.comparison.clusters import short
from deetune_otel.comparison.judging import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.comparison.reports.report import Report

__all__ = ["markdown"]

MAX_ROWS: Final = 40
MAX_CELL: Final = 120


def _code(value: object) -> str:
    """In a code span nothing is a link, a mention or a tag."""
    text = " ".join(short(value, MAX_CELL).split())
    text = text.encode("utf-8", "replace").decode()
    text = text.replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else "(empty)"


def _of(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {_code(cause)}" for cause, count in counts.items())


def markdown(report: Report) -> str:
    counts = report.outcomes()
    bad = counts[Outcome.DIFFERENT] + counts[Outcome.FAILED]
    title = "no differences"
    if bad:
        title = f"{bad} of {len(report.verdicts)} exchanges differ"
    elif not counts[Outcome.SAME]:
        title = "nothing was judged"
    lines = [
        f"### Replay of {_code(report.recording)}: {title}",
        "",
        f"Against {_code(report.target)}: {report.sent} sent, "
        + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()),
    ]
    if report.clusters:
        lines += ["", "| exchanges | operation | place | kind | expected | actual |"]
        lines.append("| ---: | --- | --- | --- | --- | --- |")
    for one in report.clusters[:MAX_ROWS]:
        example = one.examples[0]
        cells = [one.operation, one.place, one.kind, example.expected, example.actual]
        row = " | ".join(_code(cell) for cell in cells)
        lines.append(f"| {one.exchanges} | {row} |")
    if (more := len(report.clusters) - MAX_ROWS) > 0:
        lines += ["", f"… and {more} more kinds of differences."]
    if not_judged := report.not_judged():
        first = dict(list(not_judged.items())[:MAX_ROWS])
        lines += ["", f"Not judged: {_of(first)}"]
    if report.skipped:
        lines += ["", f"Not sent: {_of(dict(list(report.skipped.items())[:MAX_ROWS]))}"]
    if report.calls:
        lines += ["", f"Calls of the service: {_of(report.calls)}"]
    if ignored := sum(one.times for one in report.ignored()):
        places = len(report.ignored())
        lines += ["", f"{ignored} differences at {places} places were ignored."]
    return "\n".join([*lines, ""])
