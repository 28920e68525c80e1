# SPDX-License-Identifier: Apache-2.0
"""Bodies in a HAR file: decoded, as parameters, in part, or left out.

What a browser keeps is what a page sees: the content encoding and the chunks are undone, so their
headers no longer hold. A text that is not there is no empty body where anything says that there
was one: its size, or a header.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import replace
from typing import Final, TypeVar

from deetune_otel.recording.gaps import read_gaps
from deetune_otel.recording.har_fields import Fields
from deetune_otel.recording.har_forms import (
    MULTIPART,
    URLENCODED,
    Parameter,
    multipart,
    plain_text,
    urlencoded,
)
from deetune_otel.recording.model import (
    Headers,
    HttpRequest,
    HttpResponse,
    Missing,
    MissingBecause,
)
from deetune_otel.recording.wire import as_latin1

__all__ = ["with_request_body", "with_response_body"]

_Http = TypeVar("_Http", HttpRequest, HttpResponse)
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_UTF8: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


def with_request_body(request: HttpRequest, asked: Fields) -> HttpRequest:
    headers = request.headers
    length = _length(headers)
    declared = asked.size("bodySize") if length is None else length
    if asked.get("postData") is None:
        return _framed(request, b"", _absent(0, declared or _chunked(headers)))
    data = asked.inner("postData")
    body, is_raw = _body(data)
    if not body and (parameters := _parameters(data)):
        return _with_form(request, parameters, data, declared)
    gap = 0
    if not is_raw:
        if len(body) != declared and _latin1_size(data) == declared:
            body = data.text("text").encode("latin-1")
        if not _value(headers, "content-encoding"):
            gap = declared - len(body)
        elif len(body) != declared:  # it was decoded: nothing else tells
            headers = _without(headers, {"content-encoding"})
        if not declared and not body:
            gap = _chunked(headers)
    gaps = read_gaps(data.get("_missing")) or _absent(len(body), gap)
    return _framed(replace(request, headers=headers), body, gaps)


def _with_form(
    request: HttpRequest, parameters: list[Parameter], data: Fields, declared: int
) -> HttpRequest:
    kind = _value(request.headers, "content-type")
    mime = data.optional("mimeType") or kind
    if mime.lower().startswith(MULTIPART):
        body, kind = multipart(parameters, kind or mime)
    elif mime.lower().startswith("text/plain"):
        body, kind = plain_text(parameters), kind or mime
    else:
        body, kind = urlencoded(parameters, declared), kind or mime or URLENCODED
    headers = _with(request.headers, "Content-Type", as_latin1(kind))
    is_whole = all(one.value is not None for one in parameters)
    gap = 0 if is_whole else max(1, declared - len(body))  # of a file's content
    return _framed(replace(request, headers=headers), body, _absent(len(body), gap))


def with_response_body(response: HttpResponse, answered: Fields) -> HttpResponse:
    if response.has_no_body:
        return response
    headers = response.headers
    content = answered.inner("content", is_needed=False)
    body, is_raw = _body(content)
    gaps = read_gaps(content.get("_missing"))
    if not is_raw and not gaps:
        size = content.size("size")
        if content.get("text") is None and content.get("size") != 0:
            size = size or answered.size("bodySize") or _length(headers) or 0
            size = size or _chunked(headers)
        elif content.get("text") is None:
            size = _length(headers) or 0
        elif not _is_utf8(content, headers):
            size = 0  # in another character set: another length
        gaps = _absent(len(body), size - len(body))
    if not is_raw:
        headers = _without(headers, {"content-encoding"})
    return _framed(replace(response, headers=headers), body, gaps)


def _body(content: Fields) -> tuple[bytes, bool]:
    """And whether it is as it was sent: what we write beside the decoded text."""
    raw = content.get("_rawBody")
    if raw is not None:
        return _from_base64(content, "_rawBody"), True
    if content.get("text") is None:
        return b"", False
    if content.get("encoding") == "base64":
        return _from_base64(content, "text"), False
    return content.text("text").encode(errors="surrogatepass"), False


def _from_base64(content: Fields, key: str) -> bytes:
    try:
        return b64decode(content.text(key), validate=True)
    except (binascii.Error, ValueError):
        raise content.bad(key, "no base64") from None


def _parameters(data: Fields) -> list[Parameter]:
    found = []
    for one in data.inners("params"):
        value = one.get("value")
        is_file = bool(one.optional("fileName"))
        if value is not None or not is_file:
            value = one.text("value") if value is not None else ""
        found.append(
            Parameter(
                one.text("name"),
                value,
                one.optional("fileName"),
                one.optional("contentType"),
            )
        )
    return found


def _latin1_size(data: Fields) -> int:
    """Of text that was bytes, a character each, as some tools write what is no text."""
    text = data.get("text")
    is_bytes = isinstance(text, str) and all(one <= "\xff" for one in text)
    return len(text) if is_bytes and data.get("encoding") is None else -1


def _framed(message: _Http, body: bytes, gaps: tuple[Missing, ...]) -> _Http:
    """With one length, that of the body."""
    size = len(body) + sum(one.bytes for one in gaps)
    had = any(name.lower() in _FRAMING for name, _ in message.headers)
    framed: Headers = _without(message.headers, _FRAMING)
    if size or had:
        framed = (*framed, ("Content-Length", str(size)))
    return replace(message, headers=framed, body=body, missing=gaps)


def _absent(at: int, count: int) -> tuple[Missing, ...]:
    return (Missing(at, count, MissingBecause.ABSENT),) if count > 0 else ()


def _length(headers: Headers) -> int | None:
    value = _value(headers, "content-length")
    is_one = value.isascii() and value.isdigit() and len(value) <= 14
    return int(value) if is_one else None


def _chunked(headers: Headers) -> int:
    """How many bytes there were at least."""
    return int("chunked" in _value(headers, "transfer-encoding").lower())


def _is_utf8(content: Fields, headers: Headers) -> bool:
    kind = _value(headers, "content-type") or content.optional("mimeType")
    charset = kind.lower().partition("charset=")[2].partition(";")[0]
    return charset.strip("\"' ") in _UTF8


def _value(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


def _with(headers: Headers, name: str, value: str) -> Headers:
    return (*_without(headers, {name.lower()}), (name, value))


def _without(headers: Headers, names: frozenset[str] | set[str]) -> Headers:
    return tuple(one for one in headers if one[0].lower() not in names)
