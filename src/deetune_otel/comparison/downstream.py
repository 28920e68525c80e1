# SPDX-License-Identifier: Apache-2.0
"""The calls that a service made while it answered: then, and now.

Their order does not count: services make them at the same time. Ids that were made anew
are noise here as they are in answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from deetune_otel.comparison import bodies, values
from deetune_otel.comparison.findings import Finding, operation_of
from deetune_otel.comparison.headers import value_of
from deetune_otel.comparison.messages import plain
from deetune_otel.comparison.rules import JudgeRules
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    RecordedExchange,
    RedisCommand,
)

__all__ = ["compare_calls"]

# Of one operation; beyond, calls are paired in their order.
MAX_MATCHED: Final = 30


def compare_calls(
    expected: Sequence[RecordedExchange],
    actual: Sequence[RecordedExchange],
    rules: JudgeRules | None = None,
) -> list[Finding]:
    """What one server exchange called, when it was recorded and when it was replayed."""
    rules = rules or JudgeRules()
    then, now = _by_operation(expected), _by_operation(actual)
    findings: list[Finding] = []
    for operation in dict.fromkeys([*then, *now]):
        mine = rules.of(operation)
        if not mine.is_skipped:
            calls = then.get(operation, []), now.get(operation, [])
            findings += _of_one(f"downstream {operation}", *calls, mine)
    return findings


def _by_operation(
    calls: Sequence[RecordedExchange],
) -> dict[str, list[RecordedExchange]]:
    found: dict[str, list[RecordedExchange]] = {}
    for call in calls:
        found.setdefault(operation_of(call), []).append(call)
    return found


def _of_one(
    place: str,
    then: list[RecordedExchange],
    now: list[RecordedExchange],
    rules: JudgeRules,
) -> list[Finding]:
    if not then:
        return [Finding(place, "added", None, _calls(now))]
    if not now:
        return [Finding(place, "missing", _calls(then), None)]
    findings = []
    if len(then) != len(now):
        findings.append(Finding(f"{place} calls", "changed", len(then), len(now)))
    for changed in _paired(then, now, rules):
        findings += [
            Finding(f"{place} {one.place}", "changed", one.expected, one.actual)
            for one in changed
        ]
    return findings


def _calls(calls: list[RecordedExchange]) -> str:
    return "1 call" if len(calls) == 1 else f"{len(calls)} calls"


def _paired(
    then: list[RecordedExchange], now: list[RecordedExchange], rules: JudgeRules
) -> list[list[Finding]]:
    """What differs in each pair; those that are most alike are pairs."""
    if max(len(then), len(now)) > MAX_MATCHED:
        pairs = zip(then, now, strict=False)
        return [_changes(one, other, rules) for one, other in pairs]
    candidates = [
        (len(found), abs(at - to), at, to, found)
        for at, one in enumerate(then)
        for to, other in enumerate(now)
        for found in [_changes(one, other, rules)]
    ]
    mine: set[int] = set()
    its: set[int] = set()
    result = []
    for _, _, at, to, found in sorted(candidates, key=lambda one: one[:4]):
        if at not in mine and to not in its:
            mine.add(at)
            its.add(to)
            result.append(found)
    return result


def _changes(
    one: RecordedExchange, other: RecordedExchange, rules: JudgeRules
) -> list[Finding]:
    """What differs in two calls; nothing is said of what is not whole."""
    if one.incomplete or other.incomplete:
        return []
    ours, theirs = one.request, other.request
    if isinstance(ours, HttpRequest) and isinstance(theirs, HttpRequest):
        findings = _asked(ours, theirs, rules)
    elif isinstance(ours, RedisCommand) and isinstance(theirs, RedisCommand):
        sent = plain(ours.arguments), plain(theirs.arguments)
        compared = values.differences(*sent, rules.bodies)
        findings = [_named("arguments", found) for found in compared]
    else:
        findings = []
    statuses = [
        call.response.status
        for call in (one, other)
        if isinstance(call.response, HttpResponse)
    ]
    if len(statuses) == 2 and statuses[0] != statuses[1]:
        findings.append(Finding("status", values.Kind.VALUE, *statuses))
    return findings


def _named(name: str, found: values.Difference) -> Finding:
    return Finding(name + found.path[1:], found.kind, found.expected, found.actual)


def _asked(one: HttpRequest, other: HttpRequest, rules: JudgeRules) -> list[Finding]:
    noise = values.Rules(is_noise_ignored=rules.bodies.is_noise_ignored)
    compared = values.differences(_target(one), _target(other), noise)
    findings = [_named("target", found) for found in compared]
    if one.method != other.method:
        what = values.Kind.VALUE, one.method, other.method
        findings.append(Finding("method", *what))
    body = bodies.compare(_body(one), _body(other), rules.bodies)
    return findings + [
        found._replace(place=f"request {found.place}") for found in body.findings
    ]


def _target(request: HttpRequest) -> dict[str, object]:
    """Without the host: the test instance has its own."""
    rest = request.target
    if "://" in rest.partition("?")[0]:
        rest = "/" + rest.partition("://")[2].partition("/")[2]
    path, _, query = rest.partition("?")
    asked: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        asked.setdefault(name, []).append(value)
    return {"path": path.split("/")[1:], "query": asked}


def _body(request: HttpRequest) -> bodies.Body:
    kind = value_of(request.headers, "content-type")
    return bodies.read(
        request.body, kind, value_of(request.headers, "content-encoding")
    )
