# SPDX-License-Identifier: Apache-2.0
"""What a request uses, and the same request with other values: whole ones, wherever they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from deetune_otel.recording.model import Headers, HttpRequest, Message
from deetune_otel.replay.given import (
    LONGEST,
    MOST_VALUES,
    header,
    is_readable,
    items,
    text_of,
)

__all__ = [
    "SHORTEST",
    "Replacing",
    "Seeing",
    "collection",
    "cookies_of",
    "is_small",
    "key_of",
    "noun",
]

SHORTEST: Final = 6  # characters; shorter ones are words and small numbers
_NOUN: Final = re.compile(r"(?:x-)?(.*?)[_-]?(?:id|no|number|key)?", re.IGNORECASE)
_ENVELOPES: Final = frozenset(
    ["data", "result", "item", "object", "payload", "attributes", "response"]
)
_COOKIE_SAFE: Final = "!#$&'()*+-./:<=>?@[]^_`{|}~"  # RFC 6265, 4.1.1, without %
_PLAIN_REQUEST: Final = frozenset(
    ["host", "content-length", "content-type", "user-agent", "traceparent"]
)


def is_small(text: str) -> bool:
    return text.isdecimal() and len(text) < SHORTEST


def noun(name: str) -> str:
    """What a field or a collection is about: `orders`, `order_id`, `orderId`: order."""
    found = _NOUN.fullmatch(name)
    word = (found[1] if found else name).lower()
    return "" if word in _ENVELOPES else word.removesuffix("s")


def collection(path: str) -> str:
    """/orders/17/lines: line."""
    names = (one for one in reversed(path.split("/")) if one and not one.isdecimal())
    return noun(next(names, ""))


def key_of(text: str, what: str = "") -> str:
    """Under which a value is known; `what` tells small numbers apart."""
    return f"{what}\0{text}" if is_small(text) else text


class _Walk:
    """Goes through the values of a request; `value` says what each becomes."""

    _about = ""  # what the request is about: `id` in it is one of these

    def value(self, text: str, what: str = "") -> str:
        """`what`: of a small number."""
        raise NotImplementedError

    def cookie(self, name: str, raw: str) -> str | None:  # noqa: ARG002
        """None: it is not sent."""
        self.value(unquote(raw))
        return raw

    def request(self, request: Message) -> HttpRequest:
        assert isinstance(request, HttpRequest)  # noqa: S101 -- who calls has looked
        path, mark, query = request.target.partition("?")
        self._about = collection(path)
        target = self._path(path) + mark + self._form(query)
        lines = ((k, self._header(k.lower(), v)) for k, v in request.headers)
        headers: Headers = tuple((k, v) for k, v in lines if v is not None)
        body = self._body(request)
        if body != request.body and not request.is_chunked:
            headers = tuple(
                (name, str(len(body)) if name.lower() == "content-length" else value)
                for name, value in headers
            )
        return replace(request, target=target, headers=headers, body=body)

    def _named(self, name: str, text: str) -> str:
        """A small number is only what it is called: order 17 is not product 17."""
        return self.value(text, noun(name) or self._about)

    def _path(self, path: str) -> str:
        before, segments = "", []
        for segment in path.split("/"):
            plain = unquote(segment)
            changed = self._named(before, plain)
            segments.append(segment if changed == plain else quote(changed, safe=""))
            before = plain
        return "/".join(segments)

    def _form(self, text: str) -> str:
        """Only what is replaced is written anew."""
        parts = text.split("&", MOST_VALUES)
        for at, part in enumerate(parts[:MOST_VALUES]):
            name, equals, raw = part.partition("=")
            plain = unquote_plus(raw)
            changed = self._named(unquote_plus(name), plain)
            if changed != plain:
                parts[at] = name + equals + quote_plus(changed)
        return "&".join(parts)

    def _header(self, name: str, value: str) -> str | None:
        if name in _PLAIN_REQUEST:
            return value
        if name == "cookie":
            pairs = ((pair, *_cookie(pair)) for pair in value.split(";"))
            kept = [
                pair if changed == raw else f" {key}={changed}"
                for pair, key, raw in pairs
                if (changed := self.cookie(key, raw)) is not None
            ]
            return ";".join(kept).lstrip() if kept else None
        scheme, space, rest = value.partition(" ")
        if name in ("authorization", "proxy-authorization") and rest:
            return scheme + space + self._written(rest)
        return self._written(value, noun(name))

    def _written(self, text: str, what: str = "") -> str:
        changed = self.value(text, what)
        return text if changed == text else changed.encode().decode("latin-1")

    def _body(self, request: HttpRequest) -> bytes:
        kind = header(request.headers, "content-type")
        if not request.body or not is_readable(request):
            return request.body
        if "x-www-form-urlencoded" in kind:
            text = request.body.decode("utf-8", "surrogateescape")
            return self._form(text).encode("utf-8", "surrogateescape")
        document = _writable(request.body) if "json" in kind else None
        if not self._replaced(document):
            return request.body
        return _dumped(document) or request.body

    def _replaced(self, document: Any) -> bool:
        """In place; whether anything was."""
        left, is_changed = [document], False
        while left:
            box = left.pop()
            for key, one in list(items(box)):
                text = text_of(one)
                if isinstance(one, dict | list):
                    left.append(one)
                elif text is not None:
                    changed = self._named(str(key), text)
                    if changed != text:
                        box[key], is_changed = _like(one, changed), True
        return is_changed


class Seeing(_Walk):
    def __init__(self) -> None:
        self.values: set[str] = set()

    def value(self, text: str, what: str = "") -> str:
        if text and len(text) <= LONGEST:
            self.values.add(key_of(text, what))
        return text


class Replacing(_Walk):
    def __init__(
        self, new: Mapping[str, str], cookies: Mapping[tuple[str, str], str]
    ) -> None:
        self._new = new
        self._cookies = cookies  # by name and recorded value, as they are to be sent
        self.count = 0

    def value(self, text: str, what: str = "") -> str:
        changed = self._new.get(key_of(text, what), text)
        self.count += changed != text
        return changed

    def cookie(self, name: str, raw: str) -> str | None:
        plain = unquote(raw)
        live = self._cookies.get((name, plain))
        if live is None:
            changed = self.value(plain)
            return raw if changed == plain else quote(changed, safe=_COOKIE_SAFE)
        self.count += 1
        return live or None


def _like(old: object, changed: str) -> str | int:
    """A number stays one, where the text is that of a number."""
    is_number = isinstance(old, int) and changed.isascii() and changed.isdecimal()
    return int(changed) if is_number and str(int(changed)) == changed else changed


def cookies_of(request: Message) -> Iterator[tuple[tuple[str, str], str]]:
    """Name and plain value, and the value as sent."""
    lines = request.headers if isinstance(request, HttpRequest) else ()
    for field, line in lines:
        if field.lower() == "cookie":
            for pair in line.split(";", MOST_VALUES)[:MOST_VALUES]:
                name, raw = _cookie(pair)
                yield (name, unquote(raw)), raw


def _writable(body: bytes) -> Any:
    """None, too, where writing it would change more than what is replaced."""
    try:
        return json.loads(
            body.decode(), parse_float=_exact, object_pairs_hook=_without_doubles
        )
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _exact(text: str) -> float:
    if Decimal(repr(float(text))) != Decimal(text):
        raise ValueError("more digits than a float has")
    return float(text)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name that comes twice")
    return found


def _dumped(document: Any) -> bytes:
    """b"" where it is too deep."""
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair can only be written as \ud800
        return json.dumps(document, separators=(",", ":")).encode()
    except RecursionError:
        return b""


def _cookie(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return name.strip(), value.strip()
