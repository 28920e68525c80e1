# SPDX-License-Identifier: Apache-2.0
"""What an answer gives that a later request may use: values by the place at which they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote, unquote_plus, urlsplit

from deetune_otel.recording.model import Headers, HttpRequest, HttpResponse, Message

__all__ = [
    "LONGEST",
    "MOST_VALUES",
    "SECRET_NAME",
    "Place",
    "given",
    "header",
    "is_readable",
    "items",
    "parsed",
    "plain",
    "set_cookies",
    "text_of",
]

# Of one message: a list of a thousand objects is data, not what the next request needs.
MOST_VALUES: Final = 1_000
MOST_BODY: Final = 1 << 20
MOST_DEEP: Final = 32  # steps to a value: a place is a tuple of them, and memory
LONGEST: Final = 4_096  # a cookie's bound (RFC 6265, 6.1); longer ones are contents
SECRET_NAME: Final = re.compile(r"csrf|xsrf|token|nonce|session|etag", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_OVER: Final = re.compile(r";\s*max-age\s*=\s*(?:0+|-\d+)\s*(?:;|$)", re.IGNORECASE)
# They say nothing that a request gives back, or nothing that may be another's.
_PLAIN_ANSWER: Final = frozenset(
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
        "traceparent",
    ]
)
_FIELD: Final = re.compile(r"<(input|meta)\b([^<>]{0,2000}+)>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(
    r"""(?<![\w-])(name|type|value|content)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=]+))""",
    re.IGNORECASE,
)

Place = tuple[str | int, ...]


def given(response: Message | None) -> dict[Place, str]:
    if not isinstance(response, HttpResponse):
        return {}
    found = dict(set_cookies(response))
    for name, value in islice(response.headers, MOST_VALUES):
        key = name.lower()
        if key == "location":
            found |= _located(value)
        elif key not in _PLAIN_ANSWER and key != "set-cookie":
            found["header", key] = value
    kind = header(response.headers, "content-type")
    if is_readable(response) and "json" in kind:
        found |= islice(_scalars(parsed(response.body)), MOST_VALUES)
    elif is_readable(response) and "html" in kind:
        found |= _fields(response.body.decode("utf-8", "replace"))
    return {
        place: value
        for place, value in found.items()
        if len(value) <= LONGEST
        and (value or place[0] == "cookie")
        and not _CONTROL.search(value)
    }


def set_cookies(response: HttpResponse) -> Iterator[tuple[Place, str]]:
    """ "" where it is deleted."""
    for name, value in islice(response.headers, MOST_VALUES):
        if name.lower() == "set-cookie":
            pair, semicolon, attributes = value.partition(";")
            cookie, _, text = pair.partition("=")
            is_over = _OVER.search(semicolon + attributes)
            live = "" if is_over else text.strip()
            if len(live) <= LONGEST and not _CONTROL.search(live):
                yield ("cookie", cookie.strip()), live


def _located(url: str) -> dict[Place, str]:
    """Segments from the end, so that another host or prefix changes nothing; parameters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    segments = parts.path.split("/")[-MOST_DEEP:]
    found: dict[Place, str] = {
        ("location", len(segments) - at): unquote(one)
        for at, one in enumerate(segments)
    }
    for pair in parts.query.split("&", MOST_VALUES)[:MOST_VALUES]:
        name, _, value = pair.partition("=")
        found["query", unquote_plus(name)] = unquote_plus(value)
    return found


def _fields(page: str) -> dict[Place, str]:
    """Hidden fields, and what is named like a token: others are what people type."""
    found: dict[Place, str] = {}
    for tag in islice(_FIELD.finditer(page), MOST_VALUES):
        there = {
            one[1].lower(): unescape(one[2] or one[3] or one[4] or "")
            for one in _ATTRIBUTE.finditer(tag[2])
        }
        name, value = there.get("name", ""), there.get("value") or there.get("content")
        is_hidden = there.get("type", "").lower() == "hidden"
        if name and value and (is_hidden or SECRET_NAME.search(name)):
            found["form", name] = value
    return found


def _scalars(document: Any) -> Iterator[tuple[Place, str]]:
    """Texts and whole numbers with their places, in their order; never recurses."""
    left: list[tuple[Place, Iterator[tuple[str | int, Any]]]] = [
        (("json",), items(document))
    ]
    while left:
        place, rest = left[-1]
        for key, one in rest:
            if isinstance(one, dict | list):
                if len(left) < MOST_DEEP:
                    left.append(((*place, key), items(one)))
                    break
            elif (text := text_of(one)) is not None:
                yield (*place, key), text
        else:
            left.pop()


def items(box: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(box, dict):
        return iter(box.items())
    return enumerate(box) if isinstance(box, list) else iter(())


def text_of(value: Any) -> str | None:
    """Of what can be carried. A number of more than 128 bits is nobody's id."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if isinstance(value, int):
        return str(value) if value.bit_length() < 128 else None
    return value


def plain(place: Place, raw: str) -> str:
    """Frameworks percent-encode cookies, and pages send them back decoded."""
    return unquote(raw) if place[0] == "cookie" else raw


def header(headers: Headers, name: str) -> str:
    return next((v.lower() for k, v in headers if k.lower() == name), "")


def is_readable(message: HttpRequest | HttpResponse) -> bool:
    """Whether its body can be looked into."""
    coding = header(message.headers, "content-encoding")
    is_whole = not message.missing and len(message.body) <= MOST_BODY
    return is_whole and coding in ("", "identity")


def parsed(body: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
