# SPDX-License-Identifier: Apache-2.0
"""Where two JSON-like values differ.

Nothing here recurses: a body is input, and may be as deep as its sender likes. Numbers
are numbers, as in JSON: 1 and 1.0 are the same. What a rule or known noise excuses is
still listed, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from deetune_otel.comparison.masks import REDACTED, is_masked
from deetune_otel.comparison.noise import noise

__all__ = [
    "Compared",
    "Difference",
    "Ignored",
    "Kind",
    "Rules",
    "compare",
    "differences",
]


class Kind(StrEnum):
    """How two values differ."""

    MISSING = "missing"
    EXTRA = "extra"
    TYPE = "type"
    VALUE = "value"
    ORDER = "order"  # the same elements, in another order


class Difference(NamedTuple):
    """One place where they differ. A value that is not there is None."""

    path: str  # $.items[0].price; the index is that of `expected`, where it has one
    kind: Kind
    expected: Any
    actual: Any


class Ignored(NamedTuple):
    """A difference that does not count."""

    difference: Difference
    reason: str


class Compared(NamedTuple):
    """All that differs."""

    found: list[Difference]
    ignored: list[Ignored]

    def add(self, difference: Difference, reason: str | None) -> None:
        if reason is None:
            self.found.append(difference)
        else:
            self.ignored.append(Ignored(difference, reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What does not count. In a path `*` is any one step, `**` any number of them.

    Of an array compared as a set, equal elements are matched first, the others in their
    order: where elements have a name, a key finds the right partner.
    """

    ignored: tuple[str, ...] = ()
    tolerances: Mapping[str, float] = field(default_factory=dict)  # absolute
    sets: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)  # path of an array: field
    exact: tuple[str, ...] = ()  # no noise is assumed there
    is_noise_ignored: bool = True


MAX_SHOWN: Final = 256  # of a name in a path: each difference below it has its own copy
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP: Final = re.compile(
    r"\.?(?P<any>\*\*)|\.(?P<one>\*)|\[(?P<each>\*)\]|\[(?P<index>[0-9]{1,9})\]"
    r"|\['(?P<quoted>(?:[^'\\]|\\.)*)'\]|\.(?P<name>[^.\[\]*']+)",
    re.DOTALL,
)
_ONE: Final = object()
_ANY: Final = object()
_Path = tuple[Any, str | int] | None  # the parent's path, and the last step
_State = frozenset[tuple[int, int]]  # rule, steps of its pattern that matched


def _steps(pattern: str) -> list[object]:
    steps: list[object] = []
    at = 1
    if not pattern.startswith("$"):
        raise ValueError(f"{pattern!r}: a path begins with $")
    while at < len(pattern):
        if (found := _STEP.match(pattern, at)) is None:
            raise ValueError(f"{pattern!r}: not a path, from {pattern[at:]!r}")
        at = found.end()
        text = found[found.lastgroup or 0]
        match found.lastgroup:
            case "any":
                steps.append(_ANY)
            case "one" | "each":
                steps.append(_ONE)
            case "index":
                steps.append(int(text))
            case "quoted":
                steps.append(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL))
            case _:
                steps.append(text)
    return steps


def _text(path: _Path) -> str:
    parts: list[str] = []
    while path is not None:
        path, step = path
        if isinstance(step, str) and len(step) > MAX_SHOWN:
            step = f"{step[:MAX_SHOWN]}…"
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _NAME.fullmatch(step):
            parts.append(f".{step}")
        else:
            parts.append("['" + re.sub(r"(['\\])", r"\\\1", step) + "']")
    return "$" + "".join(reversed(parts))


class _Patterns:
    """All patterns of the rules, followed at once, one step at a time."""

    def __init__(self, rules: Rules) -> None:
        named: list[tuple[str, str, Any]] = [("ignored", p, p) for p in rules.ignored]
        named += [("near", p, (p, t)) for p, t in rules.tolerances.items()]
        named += [("set", p, p) for p in rules.sets]
        named += [("key", p, k) for p, k in rules.keys.items()]
        named += [("exact", p, p) for p in rules.exact]
        self.is_noise_ignored = rules.is_noise_ignored
        self._effects = [(kind, value) for kind, _, value in named]
        self._steps = [_steps(pattern) for _, pattern, _ in named]
        self.start = self._closed((rule, 0) for rule in range(len(named)))

    def _closed(self, state: Iterable[tuple[int, int]]) -> _State:
        closed = set()
        for rule, position in state:
            at, steps = position, self._steps[rule]
            closed.add((rule, at))
            while at < len(steps) and steps[at] is _ANY:
                at += 1
                closed.add((rule, at))
        return frozenset(closed)

    def after(self, state: _State, step: str | int) -> _State:
        if not state:
            return state
        following = []
        for rule, at in state:
            if at == len(self._steps[rule]):
                continue
            wanted = self._steps[rule][at]
            if wanted is _ANY:
                following.append((rule, at))
            elif wanted is _ONE or wanted == step:
                following.append((rule, at + 1))
        return self._closed(following)

    def effect(self, state: _State, kind: str) -> Any:
        for rule, at in sorted(state):
            if at == len(self._steps[rule]) and self._effects[rule][0] == kind:
                return self._effects[rule][1]
        return None


def _type(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    for name, kinds in (
        ("number", (int, float)),
        ("string", (str,)),
        ("array", (list, tuple)),
        ("object", (dict,)),
    ):
        if isinstance(value, kinds):
            return name
    return type(value).__name__


class _Classes:
    """A number for each value, the same for equal ones: containers are read once."""

    def __init__(self, *roots: object) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._of: dict[int, int] = {}  # by id(): the roots keep them alive
        todo = [(root, False) for root in roots]
        while todo:
            value, is_ready = todo.pop()
            if not isinstance(value, dict | list | tuple) or id(value) in self._of:
                continue
            if not is_ready:
                todo.append((value, True))
                children = value.values() if isinstance(value, dict) else value
                todo.extend((child, False) for child in children)
                continue
            shape: Hashable
            if isinstance(value, dict):
                shape = frozenset((name, self[child]) for name, child in value.items())
            else:
                shape = tuple(self[child] for child in value)
            self._of[id(value)] = self._number((_type(value), shape))

    def _number(self, shape: Hashable) -> int:
        return self._numbers.setdefault(shape, len(self._numbers))

    def __getitem__(self, value: Any) -> int:
        if isinstance(value, dict | list | tuple):
            return self._of[id(value)]
        is_nan = isinstance(value, float) and value != value  # noqa: PLR0124
        return self._number((_type(value), "NaN" if is_nan else value))


_ABSENT: Final = object()
_Pair = tuple[str | int, Any, Any]


def _by_key(
    expected: list[Any], actual: list[Any], key: str, classes: _Classes
) -> Iterator[_Pair]:
    def name(element: object) -> int | None:
        if isinstance(element, dict) and key in element:
            return classes[element[key]]
        return None

    waiting: dict[int | None, list[int]] = {}
    for at in reversed(range(len(actual))):
        waiting.setdefault(name(actual[at]), []).append(at)
    for at, element in enumerate(expected):
        partners = waiting.get(name(element))
        yield at, element, actual[partners.pop()] if partners else _ABSENT
    for at in sorted(at for left in waiting.values() for at in left):
        yield at, _ABSENT, actual[at]


def _as_set(
    expected: list[Any], actual: list[Any], classes: _Classes
) -> Iterator[_Pair]:
    def without(values: list[Any], others: list[Any]) -> list[int]:
        there = Counter(classes[other] for other in others)
        left = []
        for at, value in enumerate(values):
            there[classes[value]] -= 1
            if there[classes[value]] < 0:
                left.append(at)
        return left

    ours, theirs = without(expected, actual), without(actual, expected)
    for mine, its in zip(ours, theirs, strict=False):
        yield mine, expected[mine], actual[its]
    for mine in ours[len(theirs) :]:
        yield mine, expected[mine], _ABSENT
    for its in theirs[len(ours) :]:
        yield its, _ABSENT, actual[its]


def _in_order(expected: list[Any], actual: list[Any]) -> Iterator[_Pair]:
    for at in range(max(len(expected), len(actual))):
        yield (
            at,
            expected[at] if at < len(expected) else _ABSENT,
            actual[at] if at < len(actual) else _ABSENT,
        )


def _is_near(expected: float, actual: float, tolerance: float) -> bool:
    try:
        return abs(expected - actual) <= tolerance
    except OverflowError:  # an integer that no float can hold
        return False


def _kind(one: Any, other: Any) -> Kind | None:
    """How they differ, or None: only what is in them may."""
    if one is _ABSENT:
        return Kind.EXTRA
    if other is _ABSENT:
        return Kind.MISSING
    if (kind := _type(one)) != _type(other):
        return Kind.TYPE
    return None if kind in {"object", "array"} else Kind.VALUE


def _pairs(
    one: Any,
    other: Any,
    patterns: _Patterns,
    state: _State,
    classes: _Classes,
) -> Iterable[_Pair] | None:
    """What is to be compared in two containers; None: only its order differs."""
    if isinstance(one, dict):
        names = dict.fromkeys([*one, *other])
        return [(n, one.get(n, _ABSENT), other.get(n, _ABSENT)) for n in names]
    if (key := patterns.effect(state, "key")) is not None:
        return _by_key(one, other, key, classes)
    if patterns.effect(state, "set"):
        return _as_set(one, other, classes)
    if Counter(classes[v] for v in one) == Counter(classes[v] for v in other):
        return None
    return _in_order(one, other)


def _excuse(one: Any, other: Any, patterns: _Patterns, state: _State) -> str | None:
    """Why two values that differ may do so."""
    near = patterns.effect(state, "near")
    if near and _type(one) == "number" and _is_near(one, other, near[1]):
        return f"within {near[1]:g}: {near[0]}"
    if not patterns.is_noise_ignored or patterns.effect(state, "exact"):
        return None
    sort = noise(one, other)
    return f"noise: {sort}" if sort else None


def compare(expected: object, actual: object, rules: Rules | None = None) -> Compared:
    """All that differs, in the order of `expected`; ValueError: a pattern is not one."""
    patterns, classes = _Patterns(rules or Rules()), _Classes(expected, actual)
    result = Compared([], [])
    todo: list[tuple[_Path, _State, str | None, Any, Any]] = [
        (None, patterns.start, None, expected, actual)
    ]
    while todo:
        path, state, reason, one, other = todo.pop()
        if reason is None and (pattern := patterns.effect(state, "ignored")):
            reason = f"ignored: {pattern}"
        if (kind := _kind(one, other)) is None or kind is Kind.VALUE:
            if classes[one] == classes[other]:
                continue
            if kind is Kind.VALUE:
                reason = reason or _excuse(one, other, patterns, state)
            elif (pairs := _pairs(one, other, patterns, state, classes)) is not None:
                children = [
                    ((path, step), patterns.after(state, step), reason, mine, its)
                    for step, mine, its in pairs
                ]
                todo.extend(reversed(children))
                continue
        if is_masked(one, other) and other is not _ABSENT:
            reason = REDACTED
        result.add(
            Difference(
                _text(path),
                kind or Kind.ORDER,
                None if one is _ABSENT else one,
                None if other is _ABSENT else other,
            ),
            reason,
        )
    return result


def differences(
    expected: object, actual: object, rules: Rules | None = None
) -> list[Difference]:
    """What differs and counts."""
    return compare(expected, actual, rules).found
