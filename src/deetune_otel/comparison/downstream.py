# SPDX-License-Identifier: Apache-2.0
"""The calls that a service made while it answered: then, and now.

Their order does not count: services make them at the same time. Ids that were made anew
are noise here as they are in answers. How often one is made may vary by itself (a cache has it, or
has it not): what varied inside the recording does not count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from deetune_otel.comparison import bodies, values
from deetune_otel.comparison.findings import Finding, Found, operation_of
from deetune_otel.comparison.headers import value_of
from deetune_otel.comparison.messages import plain
from deetune_otel.comparison.rules import JudgeRules
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    RecordedExchange,
    RedisCommand,
)

__all__ = ["CallCounts", "calls_by_cause", "compare_calls", "learn_calls"]

# Of one operation; beyond, calls are paired in their order.
MAX_MATCHED: Final = 30
# Of Redis: what a pool says on a new connection. When it opens one is its own affair.
_SET_UP: Final = frozenset({"AUTH", "CLIENT", "HELLO", "PING", "READONLY", "SELECT"})


# How often an operation calls another one: all counts that were recorded.
CallCounts: TypeAlias = "Mapping[tuple[str, str], frozenset[int]]"


def calls_by_cause(
    exchanges: Iterable[RecordedExchange],
) -> dict[str, list[RecordedExchange]]:
    """By the id of the exchange during which they were made."""
    found: dict[str, list[RecordedExchange]] = {}
    for one in exchanges:
        if one.cause:
            found.setdefault(one.cause, []).append(one)
    return found


def learn_calls(
    exchanges: Iterable[RecordedExchange],
    calls: Mapping[str, Sequence[RecordedExchange]],
) -> CallCounts:
    """Of the exchanges of which all calls are known; only what varied among those that
    ended alike.
    """
    made: dict[tuple[str, object], list[Counter[str]]] = {}
    for one in exchanges:
        mine = calls.get(one.id, ())
        if one.calls == len(mine):
            status = (
                one.response.status if isinstance(one.response, HttpResponse) else 0
            )
            counts = Counter(operation_of(call) for call in mine)
            made.setdefault((operation_of(one), status), []).append(counts)
    varied: dict[tuple[str, str], frozenset[int]] = {}
    for (operation, _), several in made.items():
        for call in set().union(*several):
            counts_seen = frozenset(one[call] for one in several)
            if len(counts_seen) > 1:
                key = operation, call
                varied[key] = varied.get(key, frozenset()) | counts_seen
    return varied


def compare_calls(
    expected: Sequence[RecordedExchange],
    actual: Sequence[RecordedExchange],
    rules: JudgeRules | None = None,
    *,
    counts: Mapping[str, frozenset[int]] | None = None,
) -> Found:
    """What one server exchange called, when it was recorded and when it was replayed.

    `counts`: how often each call was made when this operation was recorded, where that varied.
    """
    rules = rules or JudgeRules()
    then, now = _by_operation(expected), _by_operation(actual)
    found = Found([], [])
    for operation in dict.fromkeys([*then, *now]):
        mine = rules.of(operation)
        if mine.is_skipped:
            continue
        calls = then.get(operation, []), now.get(operation, [])
        usual = (counts or {}).get(operation, frozenset())
        first = (*calls[0], *calls[1])[0]
        is_set_up = isinstance(first.request, RedisCommand) and operation in _SET_UP
        if len(calls[0]) != len(calls[1]):
            finding = _count(f"downstream {operation}", *calls)
            reason = "sets up a connection" if is_set_up else None
            if len(calls[1]) in usual:
                reason = _as_often(usual)
            found.add(finding, reason)
        for changed in _paired(*calls, mine):
            for one in changed:
                found.add(
                    one._replace(
                        place=f"downstream {operation} {one.place}", kind="changed"
                    )
                )
    return found


def _as_often(usual: frozenset[int]) -> str:
    times = " or ".join(map(str, sorted(usual)))
    return f"learned: made {times} times when it was recorded"


def _count(
    place: str, then: list[RecordedExchange], now: list[RecordedExchange]
) -> Finding:
    if not then:
        return Finding(place, "added", None, _calls(now))
    if not now:
        return Finding(place, "missing", _calls(then), None)
    return Finding(f"{place} calls", "changed", len(then), len(now))


def _by_operation(
    calls: Sequence[RecordedExchange],
) -> dict[str, list[RecordedExchange]]:
    found: dict[str, list[RecordedExchange]] = {}
    for call in calls:
        found.setdefault(operation_of(call), []).append(call)
    return found


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
        sent = _arguments(ours), _arguments(theirs)
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


def _arguments(command: RedisCommand) -> object:
    """JSON in an argument by its structure."""
    found = plain(command.arguments)
    if not isinstance(found, list):
        return found
    return [_structure(one) for one in found]


def _structure(argument: object) -> object:
    if not isinstance(argument, str) or argument[:1] not in ("{", "["):
        return argument
    try:
        return json.loads(argument)
    except (ValueError, RecursionError):
        return argument


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
