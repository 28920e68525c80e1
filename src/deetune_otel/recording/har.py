# SPDX-License-Identifier: Apache-2.0
"""HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/): for browsers and load tools.

Written as a stream, with what HAR has no place for in fields of our own (`_exchange`, `_traceId`,
`_spanId`, `_service`, `_protocol`, `_incomplete`, and `_rawBody` where a body is no text). Only
HTTP has a place in it. Reading takes anybody's; whatever is wrong raises BadInput.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from deetune_otel.model import Protocol
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    Headers,
    HttpRequest,
    HttpResponse,
    Process,
    RecordedExchange,
)

__all__ = ["from_har", "to_har"]

MAX_ENTRIES: Final = 10_000_000
_PORTS: Final = {"http": 80, "https": 443}
_FRACTION: Final = re.compile(r"\.(\d+)")


# Writing


def to_har(exchanges: Iterable[RecordedExchange], *, creator: str) -> Iterator[str]:
    """Parts of one document; what is not HTTP is passed over."""
    name, _, version = creator.partition(" ")
    head = {"version": "1.2", "creator": {"name": name, "version": version or "0"}}
    yield '{"log":' + json.dumps(head)[:-1] + ',"entries":['
    comma = ""
    for one in exchanges:
        if isinstance(one.request, HttpRequest):
            response = one.response if isinstance(one.response, HttpResponse) else None
            entry = _entry(one, one.request, response)
            yield comma + "\n" + json.dumps(entry, ensure_ascii=False)
            comma = ","
    yield "\n]}}\n"


def _entry(
    one: RecordedExchange, request: HttpRequest, response: HttpResponse | None
) -> dict[str, Any]:
    url = _url(one, request)
    sent = (one.request_end_ns - one.request_start_ns) / 1e6
    waited = max(0, one.response_start_ns - one.request_end_ns) / 1e6
    received = max(0, one.response_end_ns - one.response_start_ns) / 1e6
    c = one.connection
    return {
        "startedDateTime": _date(one.request_start_ns),
        "time": sent + waited + received,
        "request": {
            "method": request.method,
            "url": url,
            "httpVersion": f"HTTP/{request.version}",
            "cookies": [],
            "headers": _named(request.headers),
            "queryString": _named(
                parse_qsl(urlsplit(url).query, keep_blank_values=True)
            ),
            **_post_data(request),
            "headersSize": -1,
            "bodySize": len(request.body),
        },
        "response": _response(response),
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


def _response(response: HttpResponse | None) -> dict[str, Any]:
    """HAR has no entry without one: its status is 0 then, as browsers write it."""
    if response is None:
        response = HttpResponse(status=0)
    content: dict[str, Any] = {
        "size": len(response.body),
        "mimeType": _header(response.headers, "content-type"),
    }
    if response.body:
        content |= _text(response.body)
    return {
        "status": response.status,
        "statusText": response.reason,
        "httpVersion": f"HTTP/{response.version}",
        "cookies": [],
        "headers": _named(response.headers),
        "content": content,
        "redirectURL": _header(response.headers, "location"),
        "headersSize": -1,
        "bodySize": len(response.body),
    }


def _post_data(request: HttpRequest) -> dict[str, Any]:
    if not request.body:
        return {}
    mime = _header(request.headers, "content-type")
    return {"postData": {"mimeType": mime, **_text(request.body)}}


def _text(data: bytes) -> dict[str, Any]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        encoded = b64encode(data).decode("ascii")
        return {"text": encoded, "encoding": "base64", "_rawBody": encoded}


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


# Reading


def from_har(document: object) -> Iterator[RecordedExchange]:
    """Raises BadInput, with the number of the entry."""
    log = _object(_object(document, "the document").get("log"), "log")
    entries = log.get("entries")
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise BadInput("log.entries: no list of entries")
    for number, entry in enumerate(entries):
        name = f"log.entries[{number}]"
        yield _exchange(_object(entry, name), number, name)


def _exchange(entry: dict[str, Any], number: int, name: str) -> RecordedExchange:
    asked = _object(entry.get("request"), f"{name}.request")
    answered = _object(entry.get("response"), f"{name}.response")
    url = _text_of(asked, "url", name)
    try:
        parts = urlsplit(url)
        server = Endpoint(
            parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        )
    except ValueError:
        raise BadInput(f"{name}.request.url: no URL") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = HttpRequest(
        method=_text_of(asked, "method", name),
        target=target,
        **_rest(asked, asked.get("postData"), name),
    )
    start_ns = _started(entry, name)
    times = _object(entry.get("timings", {}), f"{name}.timings")
    sent, waited, received = (
        _nanos(times.get(key, 0)) for key in ("send", "wait", "receive")
    )
    status = answered.get("status")
    if (
        not isinstance(status, int)
        or isinstance(status, bool)
        or not 0 <= status < 1000
    ):
        raise BadInput(f"{name}.response.status: no status")
    response = HttpResponse(
        status=status,
        reason=_text_of(answered, "statusText", name),
        has_no_body=request.method == "HEAD" or status in (204, 304),
        **_rest(answered, answered.get("content"), name),
    )
    has_answer = status > 0
    incomplete = entry.get("_incomplete", [] if has_answer else ["unanswered"])
    if not isinstance(incomplete, list):
        raise BadInput(f"{name}._incomplete: no list")
    service = entry.get("_service")
    return RecordedExchange(
        id=_id(entry.get("_exchange"), number),
        connection=Connection(
            id=_id(entry.get("connection"), number),
            protocol=Protocol.HTTP,
            client=Endpoint("", 0),
            server=server,
            server_process=Process(service)
            if isinstance(service, str) and service
            else None,
        ),
        request=request,
        response=response if has_answer else None,
        request_start_ns=start_ns,
        request_end_ns=start_ns + sent,
        response_start_ns=start_ns + sent + waited if has_answer else 0,
        response_end_ns=start_ns + sent + waited + received if has_answer else 0,
        trace_id=_optional(entry, "_traceId"),
        span_id=_optional(entry, "_spanId"),
        operation=_optional(entry, "_operation"),
        incomplete=tuple(map(str, incomplete)),
    )


def _rest(message: dict[str, Any], content: object, name: str) -> dict[str, Any]:
    """Version, headers and body. Browsers decode bodies: then the encoding is gone."""
    version = _optional(message, "httpVersion").upper().removeprefix("HTTP/")
    headers = []
    for one in message.get("headers") or []:
        field = _object(one, f"{name}.headers")
        headers.append((_text_of(field, "name", name), _text_of(field, "value", name)))
    body = b"" if content is None else _body(_object(content, f"{name}.content"), name)
    is_raw = isinstance(content, dict) and "_rawBody" in content
    left_out = {":method", ":path", ":authority", ":scheme", ":status"}
    if body and not is_raw:
        left_out |= {"content-encoding", "content-length", "transfer-encoding"}
    kept = [one for one in headers if one[0].lower() not in left_out]
    if body and not is_raw:
        kept.append(("Content-Length", str(len(body))))
    return {
        "version": version if version in ("1.0", "1.1") else "1.1",
        "headers": tuple(kept),
        "body": body,
    }


def _body(content: dict[str, Any], name: str) -> bytes:
    text = content.get("text", "")
    if not isinstance(text, str):
        raise BadInput(f"{name}.text: no text")
    if content.get("encoding") != "base64":
        return text.encode(errors="surrogatepass")
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(f"{name}.text: no base64") from None


def _started(entry: dict[str, Any], name: str) -> int:
    nanos = entry.get("_startedNanos")
    if isinstance(nanos, int) and 0 <= nanos < 1 << 63:
        return nanos
    text = _text_of(entry, "startedDateTime", name)
    fraction = _FRACTION.search(text)
    try:
        whole = datetime.fromisoformat(_FRACTION.sub("", text))
        seconds = int(whole.timestamp())
    except (ValueError, OverflowError, OSError):
        raise BadInput(f"{name}.startedDateTime: no date") from None
    if seconds < 0:
        raise BadInput(f"{name}.startedDateTime: before 1970")
    digits = (fraction[1] if fraction else "")[:9].ljust(9, "0")
    return seconds * 1_000_000_000 + int(digits)


def _nanos(milliseconds: object) -> int:
    """-1 where it does not apply."""
    if isinstance(milliseconds, int | float) and 0 < milliseconds < 1e12:
        return round(milliseconds * 1e6)
    return 0


def _object(found: object, name: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BadInput(f"{name}: no object")
    return found


def _text_of(found: dict[str, Any], key: str, name: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise BadInput(f"{name}.{key}: no text")
    return value


def _optional(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _id(found: object, number: int) -> str:
    if isinstance(found, str) and re.fullmatch(r"[0-9a-f]{16}", found):
        return found
    return f"{number:016x}"
