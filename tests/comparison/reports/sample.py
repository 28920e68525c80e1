# SPDX-License-Identifier: Apache-2.0
"""A report with all that is hostile in it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from deetune_otel.comparison.clusters import cluster
from deetune_otel.comparison.judging import Answer, JudgeRules, Learned, Verdict, judge
from deetune_otel.comparison.reports import Report
from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    RecordedExchange,
)

__all__ = ["ALL", "EVIL", "report", "verdict"]

EVIL = "</script><img src=x onerror=alert(1)>&\x00\x1b\ud800|`@all`"
JSON = (("Content-Type", "application/json"),)


def verdict(
    number: int, expected: object, actual: object, status: int = 200, **more: Any
) -> Verdict:
    exchange = RecordedExchange(
        id=f"{number:016x}",
        connection=Connection(
            id="00000000000000aa",
            protocol=Protocol.HTTP,
            client=Endpoint("10.0.0.1", 40000),
            server=Endpoint("10.0.0.2", 80),
        ),
        request=HttpRequest(method="GET", target=f"/orders/{number}"),
        response=HttpResponse(
            status=200, headers=JSON, body=json.dumps(expected).encode()
        ),
        request_start_ns=0,
        request_end_ns=0,
        operation="GET /orders/{id}",
    )
    message = HttpResponse(
        status=status, headers=JSON, body=json.dumps(actual).encode()
    )
    answer = more.pop("answer", Answer(message, duration_ns=5_000_000))
    return judge(replace(exchange, **more), answer, JudgeRules(), Learned())


def report(*verdicts: Verdict, **more: Any) -> Report:
    return Report(
        verdicts=verdicts,
        clusters=cluster(verdicts),
        recording=more.pop("recording", "orders.pcapng"),
        target="127.0.0.1:8081",
        started_ns=1_790_000_000_000_000_000,
        ended_ns=1_790_000_004_200_000_000,
        sent=len(verdicts),
        **more,
    )


TOKEN = "redacted-" + "0" * 16
ALL = report(
    verdict(1, {"a": 1}, {"a": 1}),
    verdict(2, {"a": 1, "key": TOKEN}, {"a": 2, "key": "LIVE-SECRET"}),
    verdict(3, {EVIL: EVIL}, {EVIL: [EVIL]}),
    verdict(4, {}, {}, 503),
    verdict(5, {}, {}, answer=Answer(None, f"closed {EVIL}")),
    verdict(6, {}, {}, incomplete=("lost",)),
    recording=f"orders {EVIL}",
    skipped={f"write {EVIL}": 2},
)
