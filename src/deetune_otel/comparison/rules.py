# SPDX-License-Identifier: Apache-2.0
"""What does not count when answers are compared: the user's file, as values.

Rules of all operations come first; those of an operation are added to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

from deetune_otel.comparison import values
from deetune_otel.config.document import DocumentError, read

__all__ = ["IGNORED_HEADERS", "JudgeRules", "RulesError", "from_document", "from_text"]

# They differ at every run or every hop, or say again what the body says.
IGNORED_HEADERS: Final = (
    "age",
    "alt-svc",
    "cf-ray",
    "connection",
    "content-length",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "server",
    "server-timing",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "via",
    "x-amzn-*",
    "x-b3-*",
    "x-correlation-id",
    "x-envoy-*",
    "x-process-time",
    "x-request-id",
    "x-response-time",
    "x-runtime",
    "x-trace-id",
)


class RulesError(ValueError):
    """The file holds no rules; `path` is where: `bodies.ignore[2]`. `line` 0: not known."""

    def __init__(self, path: str, message: str, line: int = 0) -> None:
        where = f"line {line}: " if line else ""
        super().__init__(where + (f"{path}: {message}" if path else message))
        self.path = path
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRules:
    """The fields' paths in a file are in `_FIELDS`."""

    ignored_headers: tuple[str, ...] = ()  # patterns, beside IGNORED_HEADERS
    compared_headers: tuple[str, ...] = ()  # of those, which count nevertheless
    bodies: values.Rules = field(default_factory=values.Rules)
    is_skipped: bool = False
    operations: tuple[tuple[str, JudgeRules], ...] = ()  # pattern, what it adds

    def of(self, operation: str) -> JudgeRules:
        """The rules of one operation."""
        return _of(_Same(self), operation) if self.operations else self

    def why_header(self, name: str) -> str | None:
        """Why a header does not count; None: it does."""
        for pattern in self.ignored_headers:
            if fnmatchcase(name, pattern):
                return f"ignored: {pattern}"
        if any(fnmatchcase(name, one) for one in self.compared_headers):
            return None
        for pattern in IGNORED_HEADERS:
            if fnmatchcase(name, pattern):
                return "differs by nature"
        return None


class _Same:
    """Rules hold mappings: they are told apart by what they are, not by their content."""

    def __init__(self, rules: JudgeRules) -> None:
        self.rules = rules

    def __hash__(self) -> int:
        return id(self.rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.rules is self.rules


@lru_cache(maxsize=1024)
def _of(same: _Same, operation: str) -> JudgeRules:
    found = replace(same.rules, operations=())
    for pattern, added in same.rules.operations:
        if fnmatchcase(operation, pattern):
            found = _sum(found, added)
    return found


def _sum(one: JudgeRules, other: JudgeRules) -> JudgeRules:
    return JudgeRules(
        ignored_headers=one.ignored_headers + other.ignored_headers,
        compared_headers=one.compared_headers + other.compared_headers,
        is_skipped=one.is_skipped or other.is_skipped,
        bodies=values.Rules(
            ignored=one.bodies.ignored + other.bodies.ignored,
            tolerances={**one.bodies.tolerances, **other.bodies.tolerances},
            sets=one.bodies.sets + other.bodies.sets,
            keys={**one.bodies.keys, **other.bodies.keys},
            exact=one.bodies.exact + other.bodies.exact,
            is_noise_ignored=one.bodies.is_noise_ignored
            and other.bodies.is_noise_ignored,
        ),
    )


def _texts(value: object, path: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RulesError(path, "expected a list")
    for index, one in enumerate(value):
        if not isinstance(one, str) or not one:
            raise RulesError(f"{path}[{index}]", f"expected a text, got {one!r}")
    return tuple(value)


def _names(value: object, path: str) -> tuple[str, ...]:
    return tuple(one.lower() for one in _texts(value, path))


def _checked(pattern: object, path: str) -> str:
    if not isinstance(pattern, str):
        raise RulesError(path, f"expected a path such as $.a[*].b, got {pattern!r}")
    try:
        values.compare(None, None, values.Rules(ignored=(pattern,)))
    except ValueError as error:
        raise RulesError(path, str(error)) from None
    return pattern


def _paths(value: object, path: str) -> tuple[str, ...]:
    texts = _texts(value, path)
    return tuple(_checked(one, f"{path}[{at}]") for at, one in enumerate(texts))


def _mapping(value: object, path: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RulesError(path, "expected names and values")
    return value


def _tolerances(value: object, path: str) -> dict[str, float]:
    found = {}
    for name, one in _mapping(value, path).items():
        at = f"{path}.{name}"
        is_number = isinstance(one, int | float) and not isinstance(one, bool)
        if not is_number or not math.isfinite(one) or one < 0:
            raise RulesError(at, f"expected a number from 0 on, got {one!r}")
        found[_checked(name, at)] = float(one)
    return found


def _keys(value: object, path: str) -> dict[str, str]:
    found = {}
    for name, one in _mapping(value, path).items():
        at = f"{path}.{name}"
        if not isinstance(one, str) or not one:
            raise RulesError(at, f"expected the name of a field, got {one!r}")
        found[_checked(name, at)] = one
    return found


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise RulesError(path, f"expected true or false, got {value!r}")
    return value


# Where a field stands in a file, and how it is read.
_FIELDS: Final[Mapping[str, tuple[str, Callable[[object, str], Any]]]] = {
    "skip": ("is_skipped", _flag),
    "headers.ignore": ("ignored_headers", _names),
    "headers.compare": ("compared_headers", _names),
    "bodies.ignore": ("bodies.ignored", _paths),
    "bodies.exact": ("bodies.exact", _paths),
    "bodies.tolerances": ("bodies.tolerances", _tolerances),
    "bodies.sets": ("bodies.sets", _paths),
    "bodies.keys": ("bodies.keys", _keys),
    "bodies.noise": ("bodies.is_noise_ignored", _flag),
}


def from_document(document: object) -> JudgeRules:
    """Rules from a file's values (None: an empty file). Raises RulesError."""
    given = dict(_mapping(document, ""))
    of_operations = _mapping(given.pop("operations", None), "operations")
    operations = tuple(
        (str(name), _section(value, f"operations.{name}"))
        for name, value in of_operations.items()
    )
    return replace(_section(given, ""), operations=operations)


def _section(document: object, above: str) -> JudgeRules:
    mine: dict[str, Any] = {}
    bodies: dict[str, Any] = {}
    for name, value in _mapping(document, above).items():
        entries = {name: value}
        if name in {"headers", "bodies"}:
            inside = _mapping(value, f"{above}.{name}" if above else name)
            entries = {f"{name}.{inner}": one for inner, one in inside.items()}
        for key, one in entries.items():
            path = f"{above}.{key}" if above else str(key)
            if key not in _FIELDS:
                there = ", ".join(_FIELDS)
                raise RulesError(path, f"no such setting; there are {there}")
            target, parse = _FIELDS[key]
            holder = bodies if target.startswith("bodies.") else mine
            holder[target.removeprefix("bodies.")] = parse(one, path)
    return JudgeRules(**mine, bodies=values.Rules(**bodies))


def from_text(text: str) -> JudgeRules:
    """Rules from a file's text. Raises RulesError, with the line where it is known."""
    try:
        document = read(text)
    except DocumentError as error:
        raise RulesError("", error.message, error.line) from None
    try:
        return from_document(document.value)
    except RulesError as error:
        line = document.lines.get(error.path, 0)
        raise RulesError(error.path, error.message, line) from None
