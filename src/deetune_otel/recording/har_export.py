# SPDX-License-Identifier: Apache-2.0
"""Exchanges → a HAR 1.2 document (http://www.softwareishard.com/blog/har-12-spec/).

Written as a stream, for browsers and load tools: bodies are decoded, as the format wants them.
What it has no place for is in fields of our own: `_exchange`, `_traceId`, `_spanId`, `_service`,
`_protocol`, `_incomplete`, `_missing` where bytes of a body are, and `_rawBody`, the body as it
was sent, where the text is not. Only HTTP has a place in it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from deetune_otel.recording.codecs import http
from deetune_otel.recording.gaps import written_gaps
from deetune_otel.recording.model import (
    Headers,
    HttpRequest,
    HttpResponse,
    RecordedExchange,
)

__all__ = ["Decode", "to_har"]

# A body and its content encoding → the plain body; None where it cannot be had.
Decode = Callable[[bytes, str], bytes | None]


def to_har(
    exchanges: Iterable[RecordedExchange], *, creator: str, decode: Decode
) -> Iterator[str]:
    """Parts of one document; what is not HTTP is passed over."""
    name, _, version = creator.partition(" ")
    head = {"version": "1.2", "creator": {"name": name, "version": version or "0"}}
    yield '{"log":' + json.dumps(head)[:-1] + ',"entries":['
    comma = ""
    for one in exchanges:
        if isinstance(one.request, HttpRequest):
            response = one.response if isinstance(one.response, HttpResponse) else None
            entry = _entry(one, one.request, response, decode)
            yield comma + "\n" + json.dumps(entry, ensure_ascii=False)
            comma = ","
    yield "\n]}}\n"


def _entry(
    one: RecordedExchange,
    request: HttpRequest,
    response: HttpResponse | None,
    decode: Decode,
) -> dict[str, Any]:
    sent = max(0, one.request_end_ns - one.request_start_ns) / 1e6
    waited = max(0, one.response_start_ns - one.request_end_ns) / 1e6
    received = max(0, one.response_end_ns - one.response_start_ns) / 1e6
    c = one.connection
    return {
        "startedDateTime": _date(one.request_start_ns),
        "time": sent + waited + received,
        "request": {
            "method": request.method,
            "url": _url(one, request),
            "httpVersion": f"HTTP/{request.version}",
            "cookies": _sent_cookies(request.headers),
            "headers": _named(request.headers),
            "queryString": _query(request.target),
            **_post_data(request, decode),
            "headersSize": _head_size(request),
            "bodySize": _sent_size(request),
        },
        "response": _response(response, decode),
        "cache": {},
        "timings": {"send": sent, "wait": waited, "receive": received},
        "connection": c.id,
        "_exchange": one.id,
        "_startedNanos": one.request_start_ns,
        "_traceId": one.trace_id,
        "_spanId": one.span_id,
        "_service": one.service,
        "_protocol": c.protocol.value,
        "_operation": one.operation,
        "_incomplete": list(one.incomplete),
    }


def _response(response: HttpResponse | None, decode: Decode) -> dict[str, Any]:
    """HAR has no entry without one: its status is 0 then, as browsers write it."""
    if response is None:
        response = HttpResponse(status=0)
    sent = _sent_size(response)
    body = _content(response, decode)
    content = {
        "size": body.pop("size"),
        "mimeType": _header(response.headers, "content-type"),
    }
    if response.body and not response.missing:
        content["compression"] = content["size"] - sent
    return {
        "status": response.status,
        "statusText": response.reason,
        "httpVersion": f"HTTP/{response.version}",
        "cookies": _set_cookies(response.headers),
        "headers": _named(response.headers),
        "content": content | body,
        "redirectURL": _header(response.headers, "location"),
        "headersSize": _head_size(response) if response.status else -1,
        "bodySize": sent,
    }


def _post_data(request: HttpRequest, decode: Decode) -> dict[str, Any]:
    if not request.body and not request.missing:
        return {}
    mime = _header(request.headers, "content-type")
    content = _content(request, decode)
    del content["size"]
    return {"postData": {"mimeType": mime, **content}}


def _content(message: HttpRequest | HttpResponse, decode: Decode) -> dict[str, Any]:
    """The decoded text, or its base64, and how long it is."""
    found: dict[str, Any] = {"size": _sent_size(message)}
    body, coding = message.body, _header(message.headers, "content-encoding")
    if message.missing:
        found["_missing"] = written_gaps(message.missing)
        found["_rawBody"] = _base64(body)
    elif coding and body and (plain := decode(body, coding)) is not None:
        found["size"] = len(plain)
        body = plain
    if not body:
        return found
    try:
        found["text"] = body.decode()
    except UnicodeDecodeError:
        found |= {"text": _base64(body), "encoding": "base64"}
    if body is not message.body or "encoding" in found:
        found["_rawBody"] = _base64(message.body)
    return found


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _sent_size(message: HttpRequest | HttpResponse) -> int:
    """Of the body, without its chunks."""
    return len(message.body) + sum(one.bytes for one in message.missing)


def _head_size(message: HttpRequest | HttpResponse) -> int:
    """-1 where it cannot be said."""
    try:
        return len(http.head(message))
    except UnicodeEncodeError:
        return -1


def _sent_cookies(headers: Headers) -> list[dict[str, Any]]:
    pairs = (
        pair.strip().partition("=")
        for name, value in headers
        if name.lower() == "cookie"
        for pair in value.split(";")
    )
    return [{"name": name, "value": value} for name, equals, value in pairs if equals]


def _set_cookies(headers: Headers) -> list[dict[str, Any]]:
    return [
        _set_cookie(value) for name, value in headers if name.lower() == "set-cookie"
    ]


def _set_cookie(line: str) -> dict[str, Any]:
    first, *attributes = (part.strip() for part in line.split(";"))
    name, _, value = first.partition("=")
    cookie: dict[str, Any] = {"name": name, "value": value}
    for one in attributes:
        key, _, inner = one.partition("=")
        match key.strip().lower():
            case "path" | "domain" as known:
                cookie[known] = inner
            case "secure":
                cookie["secure"] = True
            case "httponly":
                cookie["httpOnly"] = True
            case "samesite":
                cookie["sameSite"] = inner
            case "expires" if date := _expiry(inner):
                cookie["expires"] = date
    return cookie


def _expiry(text: str) -> str:
    try:
        return parsedate_to_datetime(text.replace("-", " ")).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def _query(target: str) -> list[dict[str, str]]:
    query = target.partition("?")[2].partition("#")[0]
    return _named(parse_qsl(query, keep_blank_values=True))


def _named(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _header(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


def _url(one: RecordedExchange, request: HttpRequest) -> str:
    if "://" in request.target.partition("?")[0]:
        return request.target
    server = one.connection.server
    address = f"[{server.address}]" if ":" in server.address else server.address
    host = _header(request.headers, "host") or f"{address or 'unknown'}:{server.port}"
    path = request.target if request.target.startswith("/") else f"/{request.target}"
    return f"http://{host}{path}"


def _date(at_ns: int) -> str:
    seconds, nanos = divmod(at_ns, 1_000_000_000)
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        date = datetime.fromtimestamp(0, UTC)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"
