# SPDX-License-Identifier: Apache-2.0
"""Entries of a HAR 1.2 file (http://www.softwareishard.com/blog/har-12-spec/) → exchanges.

Ours, and what browsers, proxies and load tools write. They decode bodies, speak HTTP/2, and leave
out what they no longer have: what comes from here is an HTTP/1.1 that means the same, and says
what is missing. Whatever is wrong raises BadInput with the entry and the field.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Final
from urllib.parse import quote, urlsplit

from deetune_otel.model import Protocol
from deetune_otel.recording import har_bodies
from deetune_otel.recording.har_fields import Fields
from deetune_otel.recording.har_passing import why_passed
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    Headers,
    HttpRequest,
    HttpResponse,
    Process,
    RecordedExchange,
)
from deetune_otel.recording.wire import as_latin1, fault

__all__ = ["from_har"]

_PORTS: Final = {"http": 80, "https": 443}
_CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate", "zstd", "identity"})
_FRACTION: Final = re.compile(r"\.(\d+)")
_ID: Final = re.compile(r"[0-9a-f]{16}")
# What a URL may hold besides letters and digits, "%" of what is encoded already included.
_URL_CHARACTERS: Final = "!#$%&'()*+,/:;=?@[]~\\^`{|}\"<>"


def from_har(
    entries: Iterable[object], passed: Counter[str]
) -> Iterator[RecordedExchange]:
    """`passed` counts the entries that are no exchange, in words."""
    for number, found in enumerate(entries):
        entry = Fields(found, f"log.entries[{number}]")
        if why := why_passed(entry.found):
            passed[f"entries {why}"] += 1
            continue
        one = _exchange(entry, number)
        why = fault(one.request) if isinstance(one.request, HttpRequest) else ""
        if not why and isinstance(one.response, HttpResponse):
            why = fault(one.response)
        if why:
            passed[f"entries that cannot have been on a wire: {why}"] += 1
            continue
        yield one


def _exchange(entry: Fields, number: int) -> RecordedExchange:
    asked, answered = entry.inner("request"), entry.inner("response")
    url = asked.text("url")
    start_ns = _started(entry)
    times = entry.inner("timings", is_needed=False)
    sent, waited, received = (
        _nanos(times.get(key)) for key in ("send", "wait", "receive")
    )
    request, server = _request(asked, url)
    response = _response(answered, request.method)
    if response is not None and _value(response.headers, "content-encoding") == "":
        request = replace(request, headers=_asking_plainly(request.headers))
    service = entry.get("_service")
    marks = entry.texts("_incomplete")
    if response is None and not marks:
        marks = ("unanswered",)
    identity = _digest(number, start_ns, request.method, url)
    has_answer = response is not None
    return RecordedExchange(
        id=_id(entry.get("_exchange")) or identity,
        connection=Connection(
            id=_id(entry.get("connection")) or identity,
            protocol=Protocol.HTTP,
            client=Endpoint("", 0),
            server=server,
            server_process=Process(service)
            if isinstance(service, str) and service
            else None,
        ),
        request=request,
        response=response,
        request_start_ns=start_ns,
        request_end_ns=start_ns + sent,
        response_start_ns=start_ns + sent + waited if has_answer else 0,
        response_end_ns=start_ns + sent + waited + received if has_answer else 0,
        trace_id=entry.optional("_traceId"),
        span_id=entry.optional("_spanId"),
        operation=entry.optional("_operation"),
        incomplete=marks,
    )


def _request(asked: Fields, url: str) -> tuple[HttpRequest, Endpoint]:
    try:
        parts = urlsplit(url)
        port = parts.port
        server = Endpoint(parts.hostname or "", port or _PORTS.get(parts.scheme, 0))
    except ValueError:
        raise asked.bad("url", "no URL") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = _headers(asked)
    host = _value(headers, "host") or _value(headers, ":authority")
    headers = tuple(
        one
        for one in headers
        if not one[0].startswith(":") and one[0].lower() != "host"
    )
    host = host or parts.netloc.rpartition("@")[2]
    if host:
        headers = (("Host", host), *headers)
    request = HttpRequest(
        method=asked.text("method"),
        target=quote(target, safe=_URL_CHARACTERS, errors="replace"),
        version=_version(asked),
        headers=_with_cookies(headers, asked),
    )
    return har_bodies.with_request_body(request, asked), server


def _response(answered: Fields, method: str) -> HttpResponse | None:
    status = answered.get("status")
    if type(status) is not int or not (status == 0 or 100 <= status < 1000):
        raise answered.bad("status", "no status")
    if status == 0:
        return None
    response = HttpResponse(
        status=status,
        reason=" ".join(as_latin1(answered.optional("statusText")).split()),
        version=_version(answered),
        headers=tuple(one for one in _headers(answered) if not one[0].startswith(":")),
        has_no_body=method == "HEAD" or status in (204, 304),
    )
    # Chrome writes several Set-Cookie as one, with line ends between.
    headers = tuple(
        (name, line.strip())
        for name, value in response.headers
        for line in (value.split("\n") if name.lower() == "set-cookie" else [value])
    )
    return har_bodies.with_response_body(replace(response, headers=headers), answered)


def _headers(message: Fields) -> Headers:
    found = []
    for field in message.inners("headers"):
        name, value = field.text("name"), as_latin1(field.text("value"))
        found.append((name.strip(" \t"), value.strip(" \t")))
    return tuple(found)


def _with_cookies(headers: Headers, asked: Fields) -> Headers:
    """As one header: HTTP/2 may have several, and some tools list them apart alone."""
    cookies = [value for name, value in headers if name.lower() == "cookie"]
    if not cookies:
        cookies = [
            as_latin1(f"{one.text('name')}={one.text('value')}")
            for one in asked.inners("cookies")
        ]
    if not cookies:
        return headers
    others = tuple(one for one in headers if one[0].lower() != "cookie")
    return (*others, ("Cookie", "; ".join(cookies)))


def _asking_plainly(headers: Headers) -> Headers:
    """Without the codings that nobody here can undo (br): an answer in them cannot be compared
    with a text that the browser decoded."""
    found = []
    for name, value in headers:
        if name.lower() == "accept-encoding":
            codings = [one.strip() for one in value.split(",")]
            kept = [
                one
                for one in codings
                if one.partition(";")[0].strip().lower() in _CODINGS
            ]
            if kept != codings:
                found.append((name, ", ".join(kept) or "identity"))
                continue
        found.append((name, value))
    return tuple(found)


def _version(message: Fields) -> str:
    version = message.optional("httpVersion").upper().removeprefix("HTTP/")
    return version if version in ("1.0", "1.1") else "1.1"


def _value(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


def _started(entry: Fields) -> int:
    nanos = entry.get("_startedNanos")
    if type(nanos) is int and 0 <= nanos < 1 << 62:
        return nanos
    text = entry.text("startedDateTime")
    fraction = _FRACTION.search(text)
    try:
        seconds = int(datetime.fromisoformat(_FRACTION.sub("", text)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise entry.bad("startedDateTime", "no date") from None
    if not 0 <= seconds < 1 << 32:
        raise entry.bad("startedDateTime", "not between 1970 and 2106")
    digits = (fraction[1] if fraction else "")[:9].ljust(9, "0")
    try:
        return seconds * 1_000_000_000 + int(digits)
    except ValueError:
        raise entry.bad("startedDateTime", "no date") from None


def _nanos(milliseconds: object) -> int:
    """-1 where it does not apply."""
    if isinstance(milliseconds, int | float) and 0 < milliseconds < 1e12:
        return round(milliseconds * 1e6)
    return 0


def _id(found: object) -> str:
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def _digest(*values: object) -> str:
    return blake2b(repr(values).encode(), digest_size=8).hexdigest()
