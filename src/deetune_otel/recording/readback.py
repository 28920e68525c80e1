# SPDX-License-Identifier: Apache-2.0
"""A message as a file holds it, decoded again: what does not read back is not written."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from deetune_otel.recording.codecs import CODECS, RAW
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.model import (
    Message,
    Missing,
    RawMessage,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)

if TYPE_CHECKING:
    from deetune_otel.recording.codecs.contract import Codec, Decoder

__all__ = ["decoded", "why_not_written"]


def decoded(decoder: Decoder, parts: list[bytes | Missing]) -> Message:
    """The one message that these parts are. Raises CodecError."""
    found = []
    for part in parts:
        if isinstance(part, Missing):
            found += decoder.skip(part.bytes, part.because)
        else:
            found += decoder.feed(part)
    found += decoder.end()
    if len(found) != 1:
        raise CodecError(f"{len(found)} messages where one was written")
    return found[0].message


def why_not_written(exchange: RecordedExchange) -> str:
    """ "" where it reads back; else what is wrong with it."""
    is_raw = isinstance(exchange.request, RawMessage)
    codec = RAW if is_raw else CODECS.get(exchange.protocol)
    if codec is None:
        return f"{exchange.protocol} has no codec: only raw bytes can be written"
    try:
        _check(codec, exchange)
    except (CodecError, TypeError, ValueError, RecursionError) as error:
        return str(error)
    return ""


def _check(codec: Codec, exchange: RecordedExchange) -> None:
    if codec is RAW:
        codec.encode(exchange.request)
        if exchange.response is not None:
            codec.encode(exchange.response)
        return
    again = decoded(codec.requests(), codec.encode(exchange.request))
    _compare(exchange.request, again)
    if exchange.response is not None:
        asked = deque([exchange.request])
        again = decoded(codec.responses(asked), codec.encode(exchange.response))
        _compare(exchange.response, again)


def _compare(one: Message, again: Message) -> None:
    is_same = True
    match one, again:
        case RedisCommand(), RedisCommand():
            is_same = one.arguments == again.arguments
        case RedisReply(), RedisReply():
            is_same = one.value == again.value
    if not is_same:
        raise CodecError("it reads back as another message")
