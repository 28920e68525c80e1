# SPDX-License-Identifier: Apache-2.0
"""Two answers of any protocol, held against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from deetune_otel.comparison import bodies, headers, values
from deetune_otel.comparison.findings import Finding, Found
from deetune_otel.recording.codecs import redis
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
    if expected.missing:
        what = Finding("body", values.Kind.VALUE, "not recorded as a whole", "there")
        found.add(what, "the recorded body is not known")
        return
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


def plain(  # noqa: C901, PLR0911 -- one case a type
    value: object, depth: int = 0
) -> Any:
    """A reply's value as JSON has it. Bytes are text, or what is said of them."""
    if depth > MAX_DEPTH:
        return f"deeper than {MAX_DEPTH} levels"
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return _text(value)
        case redis.Nil():
            return None
        case redis.Simple(text=text):
            return text
        case redis.Error(text=text):
            return {"error": text}
        case redis.Double(text=text):
            return _double(text)
        case redis.BigNumber(digits=digits):
            return digits
        case redis.Verbatim(data=data):
            return _text(data)
        case redis.Aggregate(kind="map", items=items) if len(items) % 2 == 0:
            pairs = zip(items[::2], items[1::2], strict=True)
            return {_name(one): plain(other, depth + 1) for one, other in pairs}
        case redis.Aggregate(kind="set", items=items):  # in no order
            return sorted((plain(one, depth + 1) for one in items), key=repr)
        case redis.Aggregate(items=items) | (list() | tuple() as items):
            return [plain(one, depth + 1) for one in items]
    return repr(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return bodies.says(data)


def _double(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _name(value: object) -> str:
    name = plain(value)
    return name if isinstance(name, str) else repr(name)
