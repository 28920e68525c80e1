# SPDX-License-Identifier: Apache-2.0
"""GoReplay's files (https://github.com/buger/goreplay/wiki): HTTP messages between three monkeys.

A record is a line `1 ID TIME` (a request; 2: its response, 3: what a replay got, which is passed
over) and the message as sent. Requests wait for their responses; of the oldest ones nobody
knows more after some time.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import http
from deetune_otel.recording.codecs.contract import CodecError, Decoder
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    Message,
    RecordedExchange,
)

__all__ = ["from_gor"]

SEPARATOR: Final = "\n🐵🙈🙉\n".encode()
# Of one record; GoReplay keeps 5 MB of a message by default.
MAX_RECORD: Final = 64 * 1024 * 1024
MAX_WAITING: Final = 10_000
_HEAD: Final = re.compile(
    rb"([123]) ([0-9a-fA-F]{1,64}) (\d{1,19})(?: (-?\d{1,19}))?\n"
)


class _Record(NamedTuple):
    kind: bytes
    id: bytes
    at_ns: int
    message: bytes


class _Asked(NamedTuple):
    at_ns: int
    request: Message


def from_gor(chunks: Iterable[bytes]) -> Iterator[RecordedExchange]:
    """In the order of their responses. Raises BadInput."""
    waiting: OrderedDict[bytes, _Asked] = OrderedDict()
    for record in _records(chunks):
        if record.kind == b"1":
            request = _message(http.requests(), record)
            waiting[record.id] = _Asked(record.at_ns, request)
            while len(waiting) > MAX_WAITING:
                old, asked = waiting.popitem(last=False)
                yield _exchange(old, asked, None, 0)
        elif record.kind == b"2" and record.id in waiting:
            asked = waiting.pop(record.id)
            decoder = http.responses(deque([asked.request]))
            response = _message(decoder, record)
            yield _exchange(record.id, asked, response, record.at_ns)
    for old, asked in waiting.items():
        yield _exchange(old, asked, None, 0)


def _records(chunks: Iterable[bytes]) -> Iterator[_Record]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(SEPARATOR)
        for one in whole:
            yield _record(one)
        if len(rest) > MAX_RECORD:
            raise BadInput(f"a record of more than {MAX_RECORD:,} bytes")
    if rest.strip():
        yield _record(rest)


def _record(data: bytes) -> _Record:
    head = _HEAD.match(data)
    if head is None:
        raise BadInput("a record without GoReplay's first line")
    kind, identity, at_ns, _ = head.groups()
    return _Record(kind, identity, int(at_ns), data[head.end() :])


def _message(decoder: Decoder, record: _Record) -> Message:
    try:
        found = [*decoder.feed(record.message), *decoder.end()]
    except CodecError as error:
        raise BadInput(f"record {record.id.decode()}: {error}") from None
    if len(found) != 1:
        raise BadInput(f"record {record.id.decode()}: no whole message")
    return found[0].message


def _exchange(
    identity: bytes, asked: _Asked, response: Message | None, at_ns: int
) -> RecordedExchange:
    text = identity.decode().lower()
    nowhere = Endpoint("", 0)
    return RecordedExchange(
        id=text[:16].rjust(16, "0"),
        connection=Connection(
            id=text[-16:].rjust(16, "0"),
            protocol=Protocol.HTTP,
            client=nowhere,
            server=nowhere,
        ),
        request=asked.request,
        response=response,
        request_start_ns=asked.at_ns,
        request_end_ns=asked.at_ns,
        response_start_ns=at_ns,
        response_end_ns=at_ns,
        incomplete=() if response is not None else ("unanswered",),
    )
