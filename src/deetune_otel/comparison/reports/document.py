# SPDX-License-Identifier: Apache-2.0
"""The report for programs: values that JSON can hold. Equal exchanges are only counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from deetune_otel.comparison.judging import Outcome, Verdict
from deetune_otel.comparison.reports.report import Report, asked, shown

if TYPE_CHECKING:
    from deetune_otel.comparison.clusters import Cluster

__all__ = ["document"]

VERSION: Final = 1


def document(report: Report) -> dict[str, Any]:
    """The report; `exchanges` has all that are not the same."""
    return {
        "version": VERSION,
        "recording": shown(report.recording),
        "target": shown(report.target),
        "started_ns": report.started_ns,
        "ended_ns": report.ended_ns,
        "sent": report.sent,
        "outcomes": {str(name): count for name, count in report.outcomes().items()},
        "skipped": dict(report.skipped),
        "calls": dict(report.calls),
        "not_judged": report.not_judged(),
        "operations": {
            shown(name): {str(outcome): count for outcome, count in counts.items()}
            for name, counts in report.operations().items()
        },
        "clusters": [_cluster(one) for one in report.clusters],
        "exchanges": [
            _exchange(one) for one in report.verdicts if one.outcome is not Outcome.SAME
        ],
        "ignored": [shown(one._asdict()) for one in report.ignored()],
    }


def _cluster(cluster: Cluster) -> dict[str, Any]:
    return {
        "says": shown(cluster.say()),
        "operation": shown(cluster.operation),
        "place": shown(cluster.place),
        "kind": str(cluster.kind),
        "count": cluster.count,
        "exchanges": cluster.exchanges,
        "examples": [shown(one._asdict()) for one in cluster.examples],
    }


def _exchange(verdict: Verdict) -> dict[str, Any]:
    exchange = verdict.exchange
    return {
        "id": exchange.id,
        "trace_id": exchange.trace_id,
        "service": shown(exchange.service),
        "operation": shown(verdict.operation),
        "request": asked(exchange),
        "outcome": str(verdict.outcome),
        "why_not_judged": shown(verdict.why_not_judged),
        "recorded_ns": exchange.duration_ns,
        "replayed_ns": verdict.answer.duration_ns,
        "findings": [
            shown({**one._asdict(), "kind": str(one.kind)}) for one in verdict.findings
        ],
    }
