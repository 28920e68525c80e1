# SPDX-License-Identifier: Apache-2.0
"""GoReplay's files (https://github.com/buger/goreplay/wiki): HTTP messages between three monkeys.

A record is a line `1 ID TIME` (a request; 2: its response, 3: what a replay got, which is passed
over) and the message as sent. Requests wait for their responses; of the oldest ones nobody
knows more after some time.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import http
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    Message,
    MissingBecause,
    RecordedExchange,
)
from deetune_otel.recording.records import records

__all__ = ["from_gor"]

SEPARATOR: Final = "\n🐵🙈🙉\n".encode()
# Of one record; GoReplay keeps 5 MB of a message by default.
MAX_RECORD: Final = 64 * 1024 * 1024
MAX_WAITING: Final = 10_000
MAX_TIME_NS: Final = (1 << 62) - 1
ID_DIGITS: Final = 16
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


def from_gor(
    chunks: Iterable[bytes], passed: Counter[str]
) -> Iterator[RecordedExchange]:
    """In the order of their responses. `passed` counts records that cannot be read, in words."""
    waiting: OrderedDict[bytes, _Asked] = OrderedDict()
    for data in records(chunks, SEPARATOR, max_bytes=MAX_RECORD):
        record = _record(data, passed)
        if record is None:
            continue
        if record.kind == b"1":
            request = _message(http.requests(), record, passed)
            if request is None:
                continue
            if (again := waiting.pop(record.id, None)) is not None:
                yield _exchange(record.id, again, None, 0)
            waiting[record.id] = _Asked(record.at_ns, request)
            while len(waiting) > MAX_WAITING:
                old, asked = waiting.popitem(last=False)
                yield _exchange(old, asked, None, 0)
        elif record.kind == b"2" and record.id in waiting:
            asked = waiting.pop(record.id)
            decoder = http.responses(deque([asked.request]))
            response = _message(decoder, record, passed)
            yield _exchange(record.id, asked, response, record.at_ns)
    for old, asked in waiting.items():
        yield _exchange(old, asked, None, 0)


def _record(data: bytes | None, passed: Counter[str]) -> _Record | None:
    if data is None:
        passed[f"records of more than {MAX_RECORD:,} bytes"] += 1
        return None
    head = _HEAD.match(data)
    if head is None:
        if data.strip():
            passed["records without GoReplay's first line"] += 1
        return None
    kind, identity, at_ns, _ = head.groups()
    return _Record(kind, identity, min(int(at_ns), MAX_TIME_NS), data[head.end() :])


def _message(
    decoder: http.Requests | http.Responses, record: _Record, passed: Counter[str]
) -> Message | None:
    """What was cut off of a body is missing; a head must be there."""
    try:
        found = decoder.feed(record.message)
        if gap := decoder.body_bytes_to_come:
            found += decoder.skip(gap, MissingBecause.LOST)
        found += decoder.end()
    except CodecError as error:
        passed[f"records that hold no HTTP message: {error}"] += 1
        return None
    if len(found) != 1:
        what = "more than one" if found else "no whole"
        passed[f"records with {what} HTTP message"] += 1
        return None
    return found[0].message


def _exchange(
    identity: bytes, asked: _Asked, response: Message | None, at_ns: int
) -> RecordedExchange:
    """Without a response, and with a time of it: there was one that cannot be read."""
    nowhere = Endpoint("", 0)
    gaps = (*asked.request.missing, *(response.missing if response else ()))
    marks = [str(one.because) for one in gaps]
    if response is None:
        marks.append(MissingBecause.LOST.value if at_ns else "unanswered")
    own_id = _id(identity.decode().lower())
    return RecordedExchange(
        id=own_id,
        connection=Connection(
            id=own_id,
            protocol=Protocol.HTTP,
            client=nowhere,
            server=nowhere,
        ),
        request=asked.request,
        response=response,
        request_start_ns=asked.at_ns,
        request_end_ns=asked.at_ns,
        response_start_ns=at_ns if response else 0,
        response_end_ns=at_ns if response else 0,
        incomplete=tuple(dict.fromkeys(marks)),
    )


def _id(text: str) -> str:
    if len(text) <= ID_DIGITS:
        return text.rjust(ID_DIGITS, "0")
    return blake2b(text.encode(), digest_size=ID_DIGITS // 2).hexdigest()
