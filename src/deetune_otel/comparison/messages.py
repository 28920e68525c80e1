# SPDX-License-Identifier: Apache-2.0
"""Two answers of any protocol, held against each other."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from deetune_otel.comparison import bodies, headers, values
from deetune_otel.comparison.findings import Finding, Found
from deetune_otel.recording.model import HttpResponse, Message, RawMessage, RedisReply

if TYPE_CHECKING:
    from deetune_otel.comparison.rules import JudgeRules

__all__ = ["body_of", "compare", "plain"]

MAX_DEPTH: Final = 128  # of arrays in a reply


def compare(expected: Message, actual: Message, rules: JudgeRules) -> Found:
    """`rules`: those of the operation."""
    found = Found([], [])
    if type(expected) is not type(actual):
        names = type(expected).__name__, type(actual).__name__
        found.add(Finding("protocol", values.Kind.TYPE, *names))
    elif isinstance(expected, HttpResponse) and isinstance(actual, HttpResponse):
        _http(expected, actual, rules, found)
    elif (one := body_of(expected)) and (other := body_of(actual)):
        _extend(found, bodies.compare(one, other, rules.bodies))
    return found


def _extend(found: Found, more: Found) -> None:
    found.findings.extend(more.findings)
    found.ignored.extend(more.ignored)


def _http(
    expected: HttpResponse, actual: HttpResponse, rules: JudgeRules, found: Found
) -> None:
    if expected.status != actual.status:
        one, other = expected.status, actual.status
        found.add(Finding("status", values.Kind.VALUE, one, other))
        if one // 100 != other // 100:  # the page of an error has nothing in common
            what = Finding("body", values.Kind.VALUE, "of that status", "of another")
            found.add(what, "the status differs")
            return
    _extend(found, headers.compare(expected.headers, actual.headers, rules))
    mine, its = body_of(expected), body_of(actual)
    if mine is not None and its is not None:
        _extend(found, bodies.compare(mine, its, rules.bodies))


def body_of(message: Message) -> bodies.Body | None:
    """What a message says, to be compared or shown."""
    match message:
        case RedisReply(value=value):
            return bodies.Body(bodies.Form.JSON, plain(value))
        case RawMessage(data=data):
            return bodies.Body(bodies.Form.BINARY, data)
        case HttpResponse(body=body, headers=names):
            kind = headers.value_of(names, "content-type")
            coding = headers.value_of(names, "content-encoding")
            return bodies.read(body, kind, coding)
    return None


def plain(value: object, depth: int = 0) -> Any:  # noqa: PLR0911 -- one a type
    """A reply's value as JSON has it. Bytes are text, or what is said of them."""
    if depth > MAX_DEPTH:
        return f"deeper than {MAX_DEPTH} levels"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return bodies.says(value)
    if is_dataclass(value):
        named = {one.name: getattr(value, one.name) for one in fields(value)}
        return {type(value).__name__: plain(named, depth + 1)}
    if hasattr(value, "_asdict"):
        return {type(value).__name__: plain(value._asdict(), depth + 1)}
    if isinstance(value, dict):
        return {
            str(plain(name, depth + 1)): plain(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, set | frozenset):
        return sorted((plain(one, depth + 1) for one in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1) for one in value]
    return repr(value)
