# SPDX-License-Identifier: Apache-2.0
"""What was expected beside what came, line by line.

What redaction replaced in the recording is not shown of the answer either.
"""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from deetune_otel.comparison import bodies
from deetune_otel.comparison.masks import is_masked
from deetune_otel.comparison.messages import body_of
from deetune_otel.comparison.reports.report import clean, shown
from deetune_otel.recording.model import HttpResponse, Message

if TYPE_CHECKING:
    from deetune_otel.comparison.judging import Verdict

__all__ = ["Row", "rows"]

MAX_LINES: Final = 300
CONTEXT: Final = 3
_MAX_DEPTH: Final = 60
Row = tuple[str, str | None, str | None]  # "=", "~" or "…" (lines left out), both sides


def rows(verdict: Verdict) -> list[Row]:
    recorded, message = verdict.exchange.response, verdict.answer.message
    if recorded is None or message is None:
        return []
    one, other = body_of(recorded), body_of(message)
    if one is not None and other is not None and one.form is other.form:
        other = bodies.Body(other.form, _veiled(one.value, other.value, 0))
    elif other is not None and b"redacted-" in getattr(recorded, "body", b""):
        other = bodies.Body(
            bodies.Form.TEXT, "(not shown: the recorded one is redacted)"
        )
    names = {
        finding.place.split()[1]
        for finding in verdict.findings
        if finding.place.startswith("header ")
        and not finding.place.startswith("header set-cookie")
    }
    ours = _head(recorded, names) + _lines(one)
    theirs = _head(message, names) + _lines(other)
    return _beside(ours[:MAX_LINES], theirs[:MAX_LINES])


def _head(message: Message, names: set[str]) -> list[str]:
    if not isinstance(message, HttpResponse):
        return []
    headers = [(n.lower(), value) for n, value in message.headers if n.lower() in names]
    lines = [f"{name}: {value}" for name, value in sorted(headers)]
    return [clean(line) for line in (f"status {message.status}", *lines, "")]


def _lines(body: bodies.Body | None) -> list[str]:
    if body is None:
        return []
    if isinstance(body.value, bytes):
        return [bodies.says(body.value)]
    if body.form is bodies.Form.TEXT:
        lines = body.value.split("\n", MAX_LINES)[:MAX_LINES]
        return [clean(line.rstrip("\r")) for line in lines]
    text = json.dumps(shown(body.value), indent=2, ensure_ascii=False)
    return text.split("\n")


def _veiled(expected: Any, actual: Any, depth: int) -> Any:
    if is_masked(expected, actual):
        return expected
    if depth < _MAX_DEPTH:
        if isinstance(expected, dict) and isinstance(actual, dict):
            return {
                name: _veiled(expected.get(name), inner, depth + 1)
                for name, inner in actual.items()
            }
        if isinstance(expected, list) and isinstance(actual, list):
            pairs = zip_longest(expected[: len(actual)], actual)
            return [_veiled(one, other, depth + 1) for one, other in pairs]
    if isinstance(expected, str) and isinstance(actual, str):
        ours, theirs = expected.split("\n"), actual.split("\n")
        if "redacted-" in expected and len(ours) > 1:
            pairs = zip_longest(ours[: len(theirs)], theirs)
            return "\n".join(o if is_masked(o, t) else t for o, t in pairs)
    return actual


def _beside(ours: list[str], theirs: list[str]) -> list[Row]:
    found: list[Row] = []
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    opcodes = matcher.get_opcodes()
    for number, (tag, begin, end, low, high) in enumerate(opcodes):
        if tag != "equal":
            pairs = zip_longest(ours[begin:end], theirs[low:high])
            found += [("~", one, other) for one, other in pairs]
            continue
        same: list[Row] = [("=", line, line) for line in ours[begin:end]]
        before = CONTEXT if number else 0
        after = CONTEXT if number + 1 < len(opcodes) else 0
        if (left := len(same) - before - after) > 1:
            same[before : len(same) - after] = [("…", f"{left} equal lines", None)]
        found += same
    return found
