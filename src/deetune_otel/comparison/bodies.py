# SPDX-License-Identifier: Apache-2.0
"""Two bodies: JSON and forms by their structure, texts by line, all else by digest.

Nothing raises: what cannot be read as what it says it is is compared as bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from deetune_otel.comparison import values
from deetune_otel.comparison.findings import Finding, Found
from deetune_otel.comparison.masks import REDACTED, is_masked
from deetune_otel.comparison.noise import noise
from deetune_otel.redaction.bodies import media_type
from deetune_otel.redaction.censor import CannotRedact
from deetune_otel.redaction.encodings import decoded

__all__ = ["Body", "Form", "compare", "read", "says"]

# Lines in which equal ones are searched; beyond, they are compared in their order.
MAX_ALIGNED_LINES: Final = 400
_LINES: Final = re.compile(r"\r?\n")
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class Form(StrEnum):
    """What a body is taken for."""

    JSON = "json"
    FORM = "form"
    TEXT = "text"
    BINARY = "binary"


class Body(NamedTuple):
    form: Form
    value: Any  # JSON and forms: the value; texts: str; else bytes


def read(data: bytes, content_type: str = "", content_encoding: str = "") -> Body:
    try:
        data = decoded(data, content_encoding)
    except CannotRedact:
        return Body(Form.BINARY, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Body(Form.BINARY, data)
    kind, _ = media_type(content_type)
    if kind == "application/x-www-form-urlencoded":
        fields: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            fields.setdefault(name, []).append(value)
        return Body(Form.FORM, fields)
    if "json" in kind or text.lstrip()[:1] in {"{", "["}:
        try:
            return Body(Form.JSON, _json(text))
        except (ValueError, RecursionError):
            pass  # it only looked like it
    return Body(Form.BINARY, data) if _BINARY.search(text) else Body(Form.TEXT, text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        lines = [one for one in _LINES.split(text) if one.strip(" \t\x1e")]
        if len(lines) < 2:
            raise
        return [json.loads(one.strip(" \t\x1e")) for one in lines]


def says(data: bytes) -> str:
    """Bytes that nobody would want to read, as a person is told of them."""
    digest = hashlib.sha256(data).hexdigest()
    return f"{len(data)} bytes, SHA-256 {digest[:16]}…"


def compare(expected: Body, actual: Body, rules: values.Rules) -> Found:
    found = Found([], [])
    one, other = expected.value, actual.value
    if expected.form is not actual.form:
        if one or other:
            kinds = values.Kind.TYPE, expected.form.value, actual.form.value
            found.add(Finding("body", *kinds), _ignored_whole(rules))
    elif expected.form is Form.TEXT:
        _texts(one, other, rules, found)
    elif expected.form is Form.BINARY:
        if one != other:
            what = values.Kind.VALUE, says(one), says(other)
            found.add(Finding("body", *what), _ignored_whole(rules))
    else:
        compared = values.compare(one, other, rules)
        for difference in compared.found:
            found.add(Finding(*difference))
        for difference, reason in compared.ignored:
            found.add(Finding(*difference), reason)
    return found


def _ignored_whole(rules: values.Rules) -> str | None:
    whole = next((one for one in rules.ignored if one in {"$", "$.**", "$**"}), None)
    return f"ignored: {whole}" if whole else None


def _texts(expected: str, actual: str, rules: values.Rules, found: Found) -> None:
    if expected == actual:
        return
    ours, theirs = _LINES.split(expected), _LINES.split(actual)
    if ours == theirs:
        finding = Finding("body", values.Kind.VALUE, "its ends of lines", "others")
        found.add(finding, _ignored_whole(rules))
    for number, mine, its in _pairs(ours, theirs):
        if mine == its:
            continue
        kind = values.Kind.VALUE
        if mine is None or its is None:
            kind = values.Kind.EXTRA if mine is None else values.Kind.MISSING
        reason = _ignored_whole(rules)
        if reason is None and mine is not None and its is not None:
            if is_masked(mine, its):
                reason = REDACTED
            elif rules.is_noise_ignored and (sort := noise(mine.strip(), its.strip())):
                reason = f"noise: {sort}"
        found.add(Finding(f"line {number}", kind, mine, its), reason)


def _pairs(
    ours: list[str], theirs: list[str]
) -> list[tuple[int, str | None, str | None]]:
    """Lines side by side, with the number that the first text gives them."""
    blocks = [(0, len(ours), 0, len(theirs))]
    if max(len(ours), len(theirs)) <= MAX_ALIGNED_LINES:
        matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
        blocks = [
            (begin, end, low, high)
            for tag, begin, end, low, high in matcher.get_opcodes()
            if tag != "equal"
        ]
    return [
        (begin + at + 1, mine, its)
        for begin, end, low, high in blocks
        for at, (mine, its) in enumerate(zip_longest(ours[begin:end], theirs[low:high]))
    ]
