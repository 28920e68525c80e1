# SPDX-License-Identifier: Apache-2.0
"""Values that a recorded answer introduced and a later request used: ids, cookies, CSRF tokens.

Where the test instance gives another value at the same place of the same answer, later requests
carry that one. Pure. Only whole values are replaced, and only those that no request had before an
answer gave them: a wrong one is worse than none. Redacted values are tokens that are equal where
the values were, so they are found as any others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from deetune_otel.recording.model import (
    Headers,
    HttpRequest,
    HttpResponse,
    Message,
    RecordedExchange,
)

__all__ = ["Carrier", "Links", "learn"]

# Of one message: a list of a thousand objects is data, not what the next request needs.
MOST_VALUES: Final = 1_000
MOST_BODY: Final = 1 << 20
# Of a recording: about a hundred bytes each.
MOST_KNOWN: Final = 1_000_000
SHORTEST: Final = 6  # characters; shorter ones are words and small numbers
_ID_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:id|key|token|uuid|number|no)|.*(?:Id|ID|Key|Token)"
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Of an answer: they say nothing that a request gives back.
_PLAIN_HEADERS: Final = frozenset(
    [
        "content-type",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "date",
        "server",
        "vary",
        "cache-control",
        "expires",
        "last-modified",
        "accept-ranges",
        "set-cookie",
        "location",
    ]
)
_FIELD: Final = re.compile(r"<(?:input|meta)\b[^>]{0,2000}>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(
    r"""\b(name|value|content)\s*=\s*["']([^"'<>]*)["']""", re.IGNORECASE
)

Place = tuple[str | int, ...]


class _Origin(NamedTuple):
    """Where a value came from."""

    exchange_id: str
    place: Place


@dataclass(frozen=True, slots=True)
class Links:
    """`uses`: by exchange, the recorded values in its request and where each came from."""

    uses: Mapping[str, Mapping[str, _Origin]] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()  # exchanges of which answers are looked at


def learn(exchanges: Iterable[RecordedExchange]) -> Links:
    """In any order; an answer can only be used after its end."""
    events: list[tuple[int, RecordedExchange, HttpRequest | HttpResponse]] = []
    for one in exchanges:
        if isinstance(one.request, HttpRequest):
            events.append((one.request_start_ns, one, one.request))
            if isinstance(one.response, HttpResponse):
                events.append((one.response_end_ns, one, one.response))
    events.sort(key=lambda event: event[0])
    learning = _Learning()
    for _, one, message in events:
        if isinstance(message, HttpRequest):
            learning.asked(one, message)
        else:
            learning.answered(one, message)
    return learning.links()


class _Learning:
    """Requests and answers, as time goes on."""

    def __init__(self) -> None:
        self._own: set[str] = set()  # values that a request brought itself
        self._given: dict[str, _Origin] = {}
        self._uses: dict[str, dict[str, _Origin]] = {}

    def asked(self, exchange: RecordedExchange, request: HttpRequest) -> None:
        for value in set(_asked(request)):
            if origin := self._given.get(value):
                self._uses.setdefault(exchange.id, {})[value] = origin
            elif len(self._own) < MOST_KNOWN:
                self._own.add(value)

    def answered(self, exchange: RecordedExchange, response: HttpResponse) -> None:
        request = exchange.request
        is_write = isinstance(request, HttpRequest) and request.method not in _READS
        for place, value in _given(response).items():
            if (
                value not in self._own
                and len(self._given) < MOST_KNOWN
                and _is_distinctive(value, place, is_write=is_write)
            ):
                self._given[value] = _Origin(exchange.id, place)

    def links(self) -> Links:
        origins = (one for used in self._uses.values() for one in used.values())
        return Links(self._uses, frozenset(one.exchange_id for one in origins))


class Carrier:
    """Of one replay. `carried` counts values that were replaced, `missing` those that the test
    instance did not give; `aliases` are its values for the recorded ones.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._answers: dict[str, dict[Place, str]] = {}
        self.carried = 0
        self.missing = 0
        self.aliases: dict[str, str] = {}

    def request(self, exchange: RecordedExchange, request: HttpRequest) -> HttpRequest:
        """With the test instance's values; the same one when there are none."""
        new: dict[str, str] = {}
        for value, origin in self._links.uses.get(exchange.id, {}).items():
            answer = self._answers.get(origin.exchange_id, {})
            live = answer.get(origin.place)
            if live is None:
                self.missing += 1
            elif live != value and value not in answer.values():
                new[value] = live
        if not new:
            return request
        self.aliases |= new
        changed = _Replacing(new)
        result = changed.request(request)
        self.carried += changed.count
        return result

    def answered(self, exchange: RecordedExchange, answer: Message | None) -> None:
        if exchange.id in self._links.sources and isinstance(answer, HttpResponse):
            self._answers[exchange.id] = _given(answer)


def _is_distinctive(value: str, place: Place, *, is_write: bool) -> bool:
    """Whether finding it again means that it is the same thing."""
    name = place[-1] if isinstance(place[-1], str) else ""
    if _TIME.fullmatch(value):
        return False
    if place[0] in ("cookie", "form"):
        return bool(value)
    if value.isdigit() and len(value) < SHORTEST:
        # What was just made has a new number, and its next use is no chance.
        return is_write and (place[0] == "location" or bool(_ID_NAME.fullmatch(name)))
    return len(value) >= SHORTEST and any(c.isdigit() or not c.isalpha() for c in value)


# What an answer gives


def _given(response: HttpResponse) -> dict[Place, str]:
    found: dict[Place, str] = {}
    for name, value in response.headers:
        key = name.lower()
        if key == "set-cookie":
            cookie, _, text = value.partition(";")[0].partition("=")
            found["cookie", cookie.strip()] = text.strip()
        elif key == "location":
            segments = value.partition("?")[0].split("/")
            found |= {
                ("location", len(segments) - at): unquote(one)
                for at, one in enumerate(segments)
            }
        elif key not in _PLAIN_HEADERS:
            found["header", key] = value
    kind = _header(response.headers, "content-type")
    if _is_plain(response) and "json" in kind:
        found |= dict(_scalars(_parsed(response.body)))
    elif _is_plain(response) and "html" in kind:
        found |= _fields(response.body.decode("utf-8", "replace"))
    return found


def _fields(page: str) -> dict[Place, str]:
    found: dict[Place, str] = {}
    for tag in _FIELD.findall(page)[:MOST_VALUES]:
        attributes = {name.lower(): value for name, value in _ATTRIBUTE.findall(tag)}
        value = attributes.get("value", attributes.get("content", ""))
        if attributes.get("name") and value:
            found["form", attributes["name"]] = value
    return found


def _scalars(document: Any) -> Iterator[tuple[Place, str]]:
    """Texts and whole numbers with their places; never recurses."""
    left: list[tuple[Place, Any]] = [(("json",), document)]
    count = 0
    while left and count < MOST_VALUES:
        place, value = left.pop()
        match value:
            case dict():
                left += [((*place, key), one) for key, one in value.items()]
            case list():
                left += [((*place, at), one) for at, one in enumerate(value)]
            case str() | int() if not isinstance(value, bool):
                count += 1
                yield place, value if isinstance(value, str) else _number(value)


def _number(value: int) -> str:
    return str(value) if value.bit_length() < 128 else ""


# What a request has


def _asked(request: HttpRequest) -> Iterator[str]:
    """Every value that `_Replacing` would replace."""
    seen = _Seeing()
    seen.request(request)
    yield from seen.values


class _Walk:
    """Goes through the values of a request; `value` says what each becomes."""

    def value(self, text: str) -> str:
        raise NotImplementedError

    def request(self, request: HttpRequest) -> HttpRequest:
        path, mark, query = request.target.partition("?")
        target = "/".join(self._segment(one) for one in path.split("/"))
        if query:
            target += f"?{self._form(query)}"
        elif mark:
            target += mark
        headers: Headers = tuple(
            (name, self._header(name.lower(), value)) for name, value in request.headers
        )
        body = self._body(request)
        if body != request.body and not request.is_chunked:
            headers = tuple(
                (name, str(len(body)) if name.lower() == "content-length" else value)
                for name, value in headers
            )
        return replace(request, target=target, headers=headers, body=body)

    def _segment(self, segment: str) -> str:
        plain = unquote(segment)
        changed = self.value(plain)
        return segment if changed == plain else quote(changed, safe="")

    def _form(self, text: str) -> str:
        pairs = parse_qsl(text, keep_blank_values=True)[:MOST_VALUES]
        changed = [(name, self.value(value)) for name, value in pairs]
        return text if changed == pairs else urlencode(changed)

    def _header(self, name: str, value: str) -> str:
        if name in ("host", "content-length", "content-type", "user-agent"):
            return value
        if name == "cookie":
            return ";".join(map(self._cookie, value.split(";")))
        scheme, space, rest = value.partition(" ")
        if name == "authorization" and rest:
            return f"{scheme}{space}{self.value(rest)}"
        return self.value(value)

    def _cookie(self, cookie: str) -> str:
        name, equals, value = cookie.partition("=")
        return f"{name}{equals}{self.value(value)}"

    def _body(self, request: HttpRequest) -> bytes:
        kind = _header(request.headers, "content-type")
        if not _is_plain(request) or not request.body:
            return request.body
        if "x-www-form-urlencoded" in kind:
            text = request.body.decode("latin-1")
            return self._form(text).encode("latin-1", "replace")
        if "json" not in kind:
            return request.body
        document = _parsed(request.body)
        if not self._replaced(document):
            return request.body
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def _replaced(self, document: Any) -> bool:
        """In place; whether anything was."""
        left, is_changed, count = [document], False, 0
        while left and count < MOST_VALUES:
            box = left.pop()
            items: Iterable[tuple[Any, Any]] = ()
            if isinstance(box, dict):
                items = list(box.items())
            elif isinstance(box, list):
                items = list(enumerate(box))
            for key, one in items:
                count += 1
                if isinstance(one, dict | list):
                    left.append(one)
                elif isinstance(one, str | int) and not isinstance(one, bool):
                    text = one if isinstance(one, str) else _number(one)
                    changed = self.value(text)
                    if changed != text:
                        is_number = isinstance(one, int) and changed.isdecimal()
                        box[key] = int(changed) if is_number else changed
                        is_changed = True
        return is_changed


class _Seeing(_Walk):
    def __init__(self) -> None:
        self.values: list[str] = []

    def value(self, text: str) -> str:
        if text:
            self.values.append(text)
        return text


class _Replacing(_Walk):
    def __init__(self, new: Mapping[str, str]) -> None:
        self._new = new
        self.count = 0

    def value(self, text: str) -> str:
        changed = self._new.get(text)
        if changed is None:
            return text
        self.count += 1
        return changed


def _header(headers: Headers, name: str) -> str:
    return next((v.lower() for k, v in headers if k.lower() == name), "")


def _is_plain(message: HttpRequest | HttpResponse) -> bool:
    """Whether its body can be looked into."""
    coding = _header(message.headers, "content-encoding")
    return (
        coding in ("", "identity")
        and not message.missing
        and len(message.body) <= MOST_BODY
    )


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
