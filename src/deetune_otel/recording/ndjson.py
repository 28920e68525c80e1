# SPDX-License-Identifier: Apache-2.0
"""An exchange as one line of JSON, and back: for jq, DuckDB and what people write themselves.

Names are OpenTelemetry's semantic conventions where they have one; `request` and `response` hold
the messages as they were, so that reading gives an equal exchange. Bytes are text where they are
UTF-8, else `{"base64": …}`. Whatever is wrong raises BadInput with the name of the field.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final, TypeVar

from deetune_otel.model import Protocol, Transport
from deetune_otel.recording.codecs import http, redis
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.documents import parsed
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.gaps import read_gaps, written_gaps
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    Headers,
    HttpRequest,
    HttpResponse,
    Message,
    Missing,
    MissingBecause,
    Process,
    RawMessage,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.recording.selection import path_of
from deetune_otel.recording.wire import as_latin1, fault

__all__ = ["from_line", "to_line"]

MAX_DEPTH: Final = 32  # of a Redis reply, as its codec reads
_NO_BODY: Final = (204, 304)
_T = TypeVar("_T")
_Http = TypeVar("_Http", HttpRequest, HttpResponse)


# Writing


def to_line(exchange: RecordedExchange) -> str:
    """Without its line end."""
    c = exchange.connection
    end = c.server_process or c.client_process
    document: dict[str, Any] = {
        "exchange": exchange.id,
        "trace_id": exchange.trace_id,
        "span_id": exchange.span_id,
        "service.name": end.service if end else "",
        "service.peer.name": c.peer_service,
        "operation": exchange.operation,
        "network.protocol.name": c.protocol.value,
        "network.transport": c.transport.value,
        "client.address": c.client.address,
        "client.port": c.client.port,
        "server.address": c.server.address,
        "server.port": c.server.port,
        **_known(exchange.request, exchange.response),
        "start_time_unix_nano": exchange.request_start_ns,
        "request_end_time_unix_nano": exchange.request_end_ns,
        "response_start_time_unix_nano": exchange.response_start_ns,
        "end_time_unix_nano": exchange.response_end_ns,
        "duration_ns": exchange.duration_ns,
        "connection": c.id,
        "client.process": _process(c.client_process),
        "server.process": _process(c.server_process),
        "cause": exchange.cause,
        "cause_method": exchange.cause_method,
        "calls": exchange.calls,
        "incomplete": list(exchange.incomplete),
        "redactions": list(exchange.redactions),
        "request": _message(exchange.request),
        "response": None if exchange.response is None else _message(exchange.response),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _known(request: Message, response: Message | None) -> dict[str, Any]:
    """What the conventions have a name for; to ask for, not to read back."""
    found: dict[str, Any] = {}
    if isinstance(request, HttpRequest):
        path = path_of(request.target)
        found = {
            "http.request.method": request.method,
            "url.path": path,
            "url.query": request.target.partition("?")[2],
        }
    elif isinstance(request, RedisCommand):
        name = request.arguments[0] if request.arguments else b""
        found = {
            "db.system.name": "redis",
            "db.operation.name": name.decode("latin-1").upper(),
        }
    if isinstance(response, HttpResponse):
        found["http.response.status_code"] = response.status
    elif isinstance(response, RedisReply) and isinstance(response.value, redis.Error):
        found["error.type"] = response.value.text.partition(" ")[0]
    return found


def _process(process: Process | None) -> dict[str, Any] | None:
    return None if process is None else process._asdict()


def _message(message: Message) -> dict[str, Any]:
    gaps = written_gaps(message.missing)
    match message:
        case HttpRequest():
            head = {"type": "http request", "method": message.method}
            head["target"] = message.target
            return {**head, **_http(message), "missing": gaps}
        case HttpResponse():
            return {
                "type": "http response",
                "status": message.status,
                "reason": message.reason,
                "has_no_body": message.has_no_body,
                "ends_with_connection": message.ends_with_connection,
                **_http(message),
                "missing": gaps,
            }
        case RedisCommand():
            return {
                "type": "redis command",
                "arguments": [_bytes(one) for one in message.arguments],
                "is_inline": message.is_inline,
                "wire_bytes": message.wire_bytes,
                "missing": gaps,
            }
        case RedisReply():
            return {
                "type": "redis reply",
                "value": _value(message.value),
                "wire_bytes": message.wire_bytes,
                "missing": gaps,
            }
    return {"type": "raw", "data": _bytes(message.data), "missing": gaps}


def _http(message: HttpRequest | HttpResponse) -> dict[str, Any]:
    return {
        "version": message.version,
        "headers": [list(one) for one in message.headers],
        "body": _bytes(message.body),
        "trailers": [list(one) for one in message.trailers],
        "is_chunked": message.is_chunked,
        "wire_bytes": message.wire_bytes,
    }


def _bytes(data: bytes) -> object:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode("ascii")}


def _value(value: object) -> object:  # noqa: PLR0911 -- a type each
    match value:
        case bytes():
            return _bytes(value)
        case bool() | int():
            return value
        case redis.Simple(text):
            return {"simple": text}
        case redis.Error(text, is_bulk):
            return {"error": text, "is_bulk": is_bulk}
        case redis.Double(text):
            return {"double": text}
        case redis.BigNumber(digits):
            return {"big_number": digits}
        case redis.Verbatim(kind, data):
            return {"verbatim": kind, "data": _bytes(data)}
        case redis.Nil(kind):
            return {"nil": kind}
        case redis.Aggregate(kind, items):
            return {kind: [_value(one) for one in items]}
    raise TypeError(f"no value of Redis: {type(value).__name__}")


# Reading


class _Fields:
    """An object of the line; every answer is of the type that was asked for."""

    def __init__(self, found: object, name: str) -> None:
        if not isinstance(found, dict):
            raise BadInput(f"{name}: no object")
        self._found: dict[str, Any] = found
        self._name = name

    def get(self, key: str) -> Any:
        return self._found.get(key)

    def is_there(self, key: str) -> bool:
        return self._found.get(key) is not None

    def text(self, key: str) -> str:
        found = self._of(key, str, "")
        if not _is_text(found):
            raise self.bad(key)
        return found

    def flag(self, key: str) -> bool:
        return self._of(key, bool, default=False)

    def number(self, key: str) -> int:
        found = self._of(key, int, 0)
        if isinstance(found, bool) or not 0 <= found < 1 << 63:
            raise self.bad(key)
        return found

    def each(self, key: str) -> list[Any]:
        return self._of(key, list, [])

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.each(key)
        if not all(isinstance(one, str) and _is_text(one) for one in found):
            raise self.bad(key)
        return tuple(found)

    def data(self, key: str) -> bytes:
        return _read_bytes(self.get(key), f"{self._name}.{key}")

    def one_of(self, key: str, kind: Callable[[str], _T]) -> _T:
        try:
            return kind(self.text(key))
        except ValueError:
            raise self.bad(key) from None

    def missing(self) -> tuple[Missing, ...]:
        try:
            return read_gaps(self.get("missing"))
        except BadInput as error:
            raise BadInput(f"{self._name}.{error}") from None

    def sound(self, message: _Http) -> _Http:
        """An HTTP message that can have been on a wire."""
        if why := fault(message):
            raise BadInput(f"{self._name}: {why}")
        return message

    def bad(self, key: str) -> BadInput:
        return BadInput(f"{self._name}.{key}: not as it should be")

    def _of(self, key: str, kind: type[_T], default: _T) -> _T:
        found = self._found.get(key, default)
        if not isinstance(found, kind):
            raise self.bad(key)
        return found


def from_line(line: str) -> RecordedExchange:
    """Raises BadInput."""
    data = line.encode(errors="surrogatepass")
    found = _Fields(parsed(data), "exchange")
    if not found.is_there("request"):
        raise BadInput("exchange.request: missing")
    request = _read_message(found.get("request"), "request")
    response = None
    if found.is_there("response"):
        response = _read_message(found.get("response"), "response")
        if isinstance(request, HttpRequest) and isinstance(response, HttpResponse):
            response = _without_body(response, request.method)
    identity = found.text("exchange") or blake2b(data, digest_size=8).hexdigest()
    return RecordedExchange(
        id=identity,
        connection=Connection(
            id=found.text("connection") or identity,
            protocol=found.one_of("network.protocol.name", Protocol),
            transport=found.one_of("network.transport", Transport),
            client=_endpoint(found, "client"),
            server=_endpoint(found, "server"),
            client_process=_read_process(found.get("client.process"), "client.process"),
            server_process=_read_process(found.get("server.process"), "server.process"),
            peer_service=found.text("service.peer.name"),
        ),
        request=request,
        response=response,
        request_start_ns=found.number("start_time_unix_nano"),
        request_end_ns=found.number("request_end_time_unix_nano"),
        response_start_ns=found.number("response_start_time_unix_nano"),
        response_end_ns=found.number("end_time_unix_nano"),
        trace_id=found.text("trace_id"),
        span_id=found.text("span_id"),
        operation=found.text("operation"),
        cause=found.text("cause"),
        cause_method=found.text("cause_method"),
        calls=found.number("calls") if found.is_there("calls") else None,
        incomplete=found.texts("incomplete"),
        redactions=found.texts("redactions"),
    )


def _endpoint(found: _Fields, end: str) -> Endpoint:
    return Endpoint(found.text(f"{end}.address"), found.number(f"{end}.port"))


def _read_process(found: object, name: str) -> Process | None:
    if found is None:
        return None
    fields = _Fields(found, name)
    return Process(
        service=fields.text("service"),
        service_namespace=fields.text("service_namespace"),
        pid=fields.number("pid"),
        command=fields.text("command"),
        container_id=fields.text("container_id"),
    )


def _read_message(found: object, name: str) -> Message:
    fields = _Fields(found, name)
    read = _MESSAGES.get(fields.text("type"))
    if read is None:
        raise fields.bad("type")
    return read(fields)


def _request(fields: _Fields) -> Message:
    headers = _headers(fields, "headers")
    request = fields.sound(
        HttpRequest(
            method=fields.text("method"),
            target=as_latin1(fields.text("target")),
            version=fields.text("version") or "1.1",
            headers=headers,
            body=fields.data("body"),
            trailers=_headers(fields, "trailers"),
            missing=fields.missing(),
            wire_bytes=fields.number("wire_bytes"),
        )
    )
    return _framed(request)


def _response(fields: _Fields) -> Message:
    status = fields.number("status")
    response = fields.sound(
        HttpResponse(
            status=status,
            reason=as_latin1(fields.text("reason")),
            version=fields.text("version") or "1.1",
            headers=_headers(fields, "headers"),
            body=fields.data("body"),
            trailers=_headers(fields, "trailers"),
            has_no_body=fields.flag("has_no_body") or status in _NO_BODY,
            missing=fields.missing(),
            wire_bytes=fields.number("wire_bytes"),
        )
    )
    if response.has_no_body:
        return replace(response, body=b"", missing=())
    is_open = fields.flag("ends_with_connection")
    return _framed(replace(response, ends_with_connection=is_open))


def _framed(message: _Http) -> _Http:
    """As its headers say; what they announce, and is not there, is missing."""
    try:
        is_chunked = http.is_chunked(message.headers)
        length = None if is_chunked else http.length_of(message.headers)
    except CodecError:  # its headers say no length: it is as it was recorded
        return message
    if is_chunked:
        is_open = getattr(message, "ends_with_connection", False)
        return replace(message, is_chunked=not is_open)
    if length is None:
        return message
    if isinstance(message, HttpResponse):
        message = replace(message, ends_with_connection=False)
    size = len(message.body) + sum(one.bytes for one in message.missing)
    if length <= size:
        return message
    gap = Missing(size, length - size, MissingBecause.ABSENT)
    return replace(message, missing=(*message.missing, gap))


def _without_body(response: HttpResponse, method: str) -> HttpResponse:
    """What answers HEAD has none, whatever its length says."""
    if method != "HEAD" or response.has_no_body:
        return response
    return replace(response, has_no_body=True, is_chunked=False, body=b"", missing=())


def _command(fields: _Fields) -> Message:
    arguments = fields.each("arguments")
    if not arguments:
        raise fields.bad("arguments")
    return RedisCommand(
        arguments=tuple(_read_bytes(one, "arguments") for one in arguments),
        is_inline=fields.flag("is_inline"),
        missing=fields.missing(),
        wire_bytes=fields.number("wire_bytes"),
    )


def _reply(fields: _Fields) -> Message:
    return RedisReply(
        value=_read_value(fields.get("value"), 0),
        missing=fields.missing(),
        wire_bytes=fields.number("wire_bytes"),
    )


def _raw(fields: _Fields) -> Message:
    return RawMessage(data=fields.data("data"), missing=fields.missing())


_MESSAGES: Final[Mapping[str, Callable[[_Fields], Message]]] = {
    "http request": _request,
    "http response": _response,
    "redis command": _command,
    "redis reply": _reply,
    "raw": _raw,
}


def _headers(fields: _Fields, key: str) -> Headers:
    found = []
    for one in fields.each(key):
        match one:
            case [str() as name, str() as value]:
                found.append((name, as_latin1(value)))
            case _:
                raise fields.bad(key)
    return tuple(found)


def _is_text(text: str) -> bool:
    """Not with half a character."""
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)


def _read_bytes(found: object, name: str) -> bytes:
    match found:
        case str():
            try:
                return found.encode()
            except UnicodeEncodeError:
                raise BadInput(f"{name}: half a character") from None
        case {"base64": str() as text}:
            try:
                return b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise BadInput(f"{name}: no base64") from None
    raise BadInput(f"{name}: neither text nor base64")


def _read_value(found: Any, depth: int) -> object:  # noqa: PLR0911 -- a type each
    if depth > MAX_DEPTH:
        raise BadInput("value: too deep")
    match found:
        case bool() | int():
            return found
        case str() | {"base64": _}:
            return _read_bytes(found, "value")
        case {"error": str() as text}:
            return redis.Error(text, is_bulk=found.get("is_bulk") is True)
        case {"verbatim": str() as kind, "data": data}:
            return redis.Verbatim(kind, _read_bytes(data, "value"))
        case {"nil": "bulk" | "array" | "null" as kind}:
            return redis.Nil(kind)
        case dict() if len(found) == 1:
            ((kind, inner),) = found.items()
            if kind in _TEXTS and isinstance(inner, str):
                return _TEXTS[kind](inner)
            if kind in _AGGREGATES and isinstance(inner, list):
                items = tuple(_read_value(one, depth + 1) for one in inner)
                return redis.Aggregate(kind, items)
    raise BadInput("value: no value of Redis")


_TEXTS: Final[Mapping[str, Callable[[str], object]]] = {
    "simple": redis.Simple,
    "double": redis.Double,
    "big_number": redis.BigNumber,
}
_AGGREGATES: Final = frozenset({"array", "set", "map"})
