# SPDX-License-Identifier: Apache-2.0
"""JUnit XML as CI servers read it: an operation is a suite, an exchange a test case."""

from __future__ import annotations

import html
import re
from typing import Final

from deetune_otel.comparison.clusters import short
from deetune_otel.comparison.judging import Outcome, Verdict
from deetune_otel.comparison.reports.report import Report, asked

__all__ = ["junit"]

# What XML 1.0 has no way to write.
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(text: object) -> str:
    return html.escape(_ILLEGAL.sub("\ufffd", str(text)))


def junit(report: Report) -> str:
    suites: dict[str, list[Verdict]] = {}
    for verdict in report.verdicts:
        suites.setdefault(verdict.operation, []).append(verdict)
    counts = report.outcomes()
    left_out = sum(report.skipped.values())
    took = max(0, report.ended_ns - report.started_ns) / 1e9
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines.append(
        f'<testsuites name="{_text("deetune replay " + report.recording)}"'
        f' tests="{len(report.verdicts) + left_out}"'
        f' failures="{counts[Outcome.DIFFERENT]}" errors="{counts[Outcome.FAILED]}"'
        f' skipped="{counts[Outcome.NOT_JUDGED] + left_out}" time="{took:.3f}">'
    )
    for operation, verdicts in suites.items():
        lines += _suite(operation, verdicts)
    for cause, count in report.skipped.items():
        name = _text(f"not sent: {cause}")
        totals = f'tests="{count}" failures="0" errors="0" skipped="{count}"'
        lines.append(f'  <testsuite name="{name}" {totals} time="0">')
        for number in range(1, count + 1):
            lines += (
                f'    <testcase classname="{name}" name="{number}" time="0">',
                f'      <skipped message="{_text(cause)}"/>',
                "    </testcase>",
            )
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _suite(operation: str, verdicts: list[Verdict]) -> list[str]:
    def count(outcome: Outcome) -> int:
        return sum(one.outcome is outcome for one in verdicts)

    took = sum(one.answer.duration_ns for one in verdicts) / 1e9
    begin = (
        f'  <testsuite name="{_text(operation)}" tests="{len(verdicts)}"'
        f' failures="{count(Outcome.DIFFERENT)}" errors="{count(Outcome.FAILED)}"'
        f' skipped="{count(Outcome.NOT_JUDGED)}" time="{took:.6f}">'
    )
    return [
        begin,
        *(line for verdict in verdicts for line in _case(verdict)),
        "  </testsuite>",
    ]


def _case(verdict: Verdict) -> list[str]:
    name = f"{asked(verdict.exchange)} [{verdict.exchange.id}]"
    took = verdict.answer.duration_ns / 1e9
    begin = (
        f'    <testcase classname="{_text(verdict.operation)}" name="{_text(name)}"'
        f' time="{took:.6f}"'
    )
    if verdict.outcome is Outcome.SAME:
        return [begin + "/>"]
    if verdict.outcome is Outcome.NOT_JUDGED:
        inner = f'<skipped message="{_text(verdict.why_not_judged)}"/>'
    else:
        tag = "error" if verdict.outcome is Outcome.FAILED else "failure"
        says = [
            f"{one.place} ({one.kind}): {short(one.expected)} -> {short(one.actual)}"
            for one in verdict.findings
        ]
        first = says[0] if says else str(verdict.outcome)
        inner = (
            f'<{tag} message="{_text(first)}" type="{verdict.outcome}">'
            f"{_text(chr(10).join(says))}</{tag}>"
        )
    return [begin + ">", f"      {inner}", "    </testcase>"]
