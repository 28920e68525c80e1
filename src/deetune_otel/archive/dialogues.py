# SPDX-License-Identifier: Apache-2.0
"""The bytes of connections → exchanges.

In a file of ours the comments say where an exchange begins, how many bytes it has and what the
bytes do not say. In any other capture the first bytes of the client say which protocol it is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.archive.capture import Arrival, Closed, Flow
from deetune_otel.model import Protocol
from deetune_otel.recording.assembly import Assembler
from deetune_otel.recording.codecs import CODECS
from deetune_otel.recording.codecs.contract import CodecError
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.facts import Extent, Facts, facts_in
from deetune_otel.recording.model import (
    Connection,
    Message,
    Missing,
    MissingBecause,
    Piece,
    RawMessage,
    RecordedExchange,
    Turn,
)
from deetune_otel.recording.readback import decoded
from deetune_otel.recording.segments import MAX_GAP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deetune_otel.recording.codecs.contract import Decoder

__all__ = ["Dialogues"]

# Of one connection, between two exchanges that are whole; what is beyond is missing.
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
# A method that is known, or a line of any other one that ends in the version.
_HTTP: Final = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT) [^ \r\n]"
    rb"|[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^\r\n]+ HTTP/1\.[0-9]\r?\n"
)
_RESP: Final = re.compile(rb"\*[1-9]\d{0,6}\r\n\$")


class Dialogues:
    """Fed arrivals; `problems` counts what could not be read, in words."""

    def __init__(self) -> None:
        self.problems: Counter[str] = Counter()
        self.unreadable_connections = 0
        self.begun_before = 0  # connections whose beginning is not in the capture
        self._of: dict[int, _Ours | _Plain] = {}

    def feed(self, event: Arrival | Closed) -> Iterator[RecordedExchange]:
        flow = event.flow
        if isinstance(event, Closed):
            dialogue = self._of.pop(flow.number, None)
            if dialogue is not None:
                yield from dialogue.end()
                self.unreadable_connections += dialogue.is_unreadable
            return
        dialogue = self._of.get(flow.number)
        if dialogue is None:
            is_ours = event.comment.startswith("exchange=")
            dialogue = _Ours(flow, self.problems) if is_ours else _Plain(flow)
            self.begun_before += not (is_ours or flow.is_certain)
            self._of[flow.number] = dialogue
        yield from dialogue.feed(event)


class _Sent:
    """One message's bytes as far as they came."""

    def __init__(self, extent: Extent) -> None:
        self.extent = extent
        self.parts: list[bytes | Missing] = []
        self.at = 0  # in sequence numbers
        self.has_lost = False
        self._gaps = {gap.at: gap for gap in extent.gaps}
        self._starts = sorted(self._gaps)

    @property
    def is_whole(self) -> bool:
        return self.at >= self.extent.sequence

    def add(self, data: bytes) -> None:
        if self.at + len(data) > MAX_MESSAGE_BYTES:
            self.skip(len(data))
            return
        self.parts.append(data)
        self.at += len(data)

    def skip(self, count: int) -> None:
        """Says why, where the file does."""
        end = self.at + count
        while self.at < end:
            gap = self._gaps.get(self.at)
            if gap is not None:
                self.parts.append(Missing(0, gap.bytes, gap.because))
                self.at += max(1, min(gap.bytes, MAX_GAP))
                continue
            following = bisect_right(self._starts, self.at)
            until = min([*self._starts[following : following + 1], end])
            self.parts.append(Missing(0, until - self.at, MissingBecause.LOST))
            self.at = until
            self.has_lost = True

    def message(self, decoder: Decoder | None) -> Message:
        """Raises CodecError. No decoder: raw."""
        if not self.is_whole:
            self.skip(self.extent.sequence - self.at)
        return _raw(self.parts) if decoder is None else decoded(decoder, self.parts)


class _Ours:
    """One connection of a file of ours."""

    is_unreadable = False

    def __init__(self, flow: Flow, problems: Counter[str]) -> None:
        self._flow = flow
        self._problems = problems
        self._facts: Facts | None = None
        self._request = self._response = _Sent(Extent())

    def feed(self, arrival: Arrival) -> Iterator[RecordedExchange]:
        piece = arrival.piece
        if piece.from_client and arrival.comment:
            try:
                facts = facts_in(arrival.comment)
            except BadInput:
                self._problems["exchanges whose comment is broken"] += 1
                yield from self.end()
                return
            if facts is not None:
                yield from self.end()
                self._facts = facts
                self._request = _Sent(facts.request)
                self._response = _Sent(facts.response or Extent())
        if self._facts is None:
            self._problems["packets outside of any exchange"] += bool(piece.data)
            return
        sent = self._request if piece.from_client else self._response
        if piece.data:
            sent.add(piece.data)
        else:
            sent.skip(min(piece.missing, max(0, sent.extent.sequence - sent.at)))
        if self._request.is_whole and self._response.is_whole:
            yield from self.end()

    def end(self) -> Iterator[RecordedExchange]:
        facts, self._facts = self._facts, None
        if facts is None:
            return
        codec = None if facts.is_raw else CODECS.get(facts.protocol)
        if codec is None and not facts.is_raw:
            self._problems[f"exchanges of {facts.protocol}, which has no codec"] += 1
            return
        incomplete = facts.incomplete
        try:
            request = self._request.message(codec.requests() if codec else None)
        except CodecError:
            self._problems["requests that cannot be read"] += 1
            return
        response = None
        if facts.response is not None:
            asked = deque([request])
            try:
                response = self._response.message(
                    codec.responses(asked) if codec else None
                )
            except CodecError:
                self._problems["responses that cannot be read"] += 1
                incomplete = (*incomplete, MissingBecause.LOST.value)
        if self._request.has_lost or self._response.has_lost:
            incomplete = tuple(dict.fromkeys((*incomplete, MissingBecause.LOST.value)))
        yield _exchange(
            facts,
            self._flow,
            _sized(request, facts.request),
            response and _sized(response, facts.response),
            incomplete,
        )


class _Open(NamedTuple):
    """Raw bytes of both directions until the client speaks again."""

    offset: int
    request: list[bytes | Missing]
    response: list[bytes | Missing]
    request_ns: list[int]
    response_ns: list[int]


class _Plain:
    """One connection of a capture by anybody."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._has_data = False
        self._protocol: Protocol | None = None
        self._assembler: Assembler | None = None
        self._is_turned = False  # the client is the other end
        self._next = [0, 0]  # offsets, of the server's and of the client's direction
        self._since = 0  # bytes since an exchange was whole
        self._open: _Open | None = None

    @property
    def is_unreadable(self) -> bool:
        return self._has_data and self._assembler is None

    def feed(self, arrival: Arrival) -> Iterator[RecordedExchange]:
        piece = arrival.piece
        if not piece.data and not piece.missing:
            return
        self._has_data = True
        if self._assembler is None:
            yield from self._recognise(piece)
        if self._is_turned:
            piece = piece._replace(from_client=not piece.from_client)
        size = len(piece.data) or piece.missing
        self._next[piece.from_client] = piece.offset + size
        if self._assembler is None:
            yield from self._raw(piece)
        else:
            self._since += size
            if piece.data and self._since > MAX_MESSAGE_BYTES:
                piece = piece._replace(
                    data=b"", missing=size, because=MissingBecause.LIMIT
                )
            is_start = not self._assembler.is_in_step and _protocol(piece) is not None
            turns = self._assembler.feed(
                piece._replace(
                    is_start=is_start and piece.from_client,
                    other_offset=self._next[False],
                )
            )
            if turns or not self._assembler.is_in_step:
                self._since = 0
            yield from map(self._exchange, turns)

    def end(self) -> Iterator[RecordedExchange]:
        if self._assembler is not None:
            yield from map(self._exchange, self._assembler.end())
        if self._open is not None:
            yield self._raw_exchange(self._open)

    def _recognise(self, piece: Piece) -> Iterator[RecordedExchange]:
        """What came before a request that is known stays raw."""
        flow = self._flow
        protocol = _protocol(piece)
        if protocol is Protocol.REDIS and not piece.from_client:
            protocol = None  # an array as a reply looks the same
        if protocol is None or not (piece.from_client or not flow.is_certain):
            return
        if self._open is not None:
            yield self._raw_exchange(self._open)
            self._open = None
        self._is_turned = not piece.from_client
        if self._is_turned:
            self._next.reverse()
        self._protocol = protocol
        self._since = 0
        self._assembler = Assembler(CODECS[protocol])

    def _raw(self, piece: Piece) -> Iterator[RecordedExchange]:
        if self._open is None or (piece.from_client and self._open.response):
            if self._open is not None:
                yield self._raw_exchange(self._open)
            self._since = 0
            self._open = _Open(self._next[True], [], [], [], [])
        self._since += len(piece.data)
        is_over = self._since > MAX_MESSAGE_BYTES
        parts = self._open.request if piece.from_client else self._open.response
        times = self._open.request_ns if piece.from_client else self._open.response_ns
        if piece.data and not is_over:
            parts.append(piece.data)
        else:
            because = MissingBecause.LIMIT if is_over else piece.because
            parts.append(Missing(0, len(piece.data) or piece.missing, because))
        times[1:] = [piece.at_ns]
        if len(times) == 1:
            times.append(piece.at_ns)

    def _raw_exchange(self, found: _Open) -> RecordedExchange:
        request, response = _raw(found.request), _raw(found.response)
        asked = found.request_ns or found.response_ns
        answered = found.response_ns or [0, 0]
        gaps = (*request.missing, *response.missing)
        return self._exchange(
            Turn(
                request,
                response if found.response else None,
                found.offset,
                0,
                asked[0],
                asked[-1],
                answered[0],
                answered[-1],
                tuple(dict.fromkeys(one.because for one in gaps)),
            )
        )

    def _exchange(self, turn: Turn) -> RecordedExchange:
        flow = self._flow
        ends = (flow.server, flow.client) if self._is_turned else flow[1:3]
        connection = Connection(
            id=_digest(*ends, flow.number, flow.started_ns),
            protocol=self._protocol or Protocol.UNKNOWN,
            client=ends[0],
            server=ends[1],
        )
        return RecordedExchange(
            id=_digest(connection.id, turn.request_offset),
            connection=connection,
            request=turn.request,
            response=turn.response,
            request_start_ns=turn.request_start_ns,
            request_end_ns=turn.request_end_ns,
            response_start_ns=turn.response_start_ns,
            response_end_ns=turn.response_end_ns,
            incomplete=tuple(map(str, turn.incomplete)),
        )


def _exchange(
    facts: Facts,
    flow: Flow,
    request: Message,
    response: Message | None,
    incomplete: tuple[str, ...],
) -> RecordedExchange:
    return RecordedExchange(
        id=facts.id,
        connection=Connection(
            id=facts.connection_id,
            protocol=facts.protocol,
            transport=facts.transport,
            client=facts.client or flow.client,
            server=facts.server or flow.server,
            client_process=facts.client_process,
            server_process=facts.server_process,
            peer_service=facts.peer_service,
        ),
        request=request,
        response=response,
        request_start_ns=facts.times_ns[0],
        request_end_ns=facts.times_ns[1],
        response_start_ns=facts.times_ns[2],
        response_end_ns=facts.times_ns[3],
        trace_id=facts.trace_id,
        span_id=facts.span_id,
        operation=facts.operation,
        cause=facts.cause,
        cause_method=facts.cause_method,
        calls=facts.calls,
        incomplete=incomplete,
        redactions=facts.redactions,
    )


def _raw(parts: list[bytes | Missing]) -> RawMessage:
    data: list[bytes] = []
    missing: list[Missing] = []
    at = 0
    for part in parts:
        if isinstance(part, Missing):
            missing.append(part._replace(at=at))
            at += part.bytes
        else:
            data.append(part)
            at += len(part)
    return RawMessage(data=b"".join(data), missing=tuple(missing))


def _sized(message: Message, extent: Extent | None) -> Message:
    """With as many bytes as it had when it was sent, where redaction changed that."""
    if extent is None or extent.wire_bytes is None or isinstance(message, RawMessage):
        return message
    return replace(message, wire_bytes=extent.wire_bytes)


def _protocol(piece: Piece) -> Protocol | None:
    """Which one has requests that begin like this."""
    if _HTTP.match(piece.data):
        return Protocol.HTTP
    if Protocol.REDIS in CODECS and _RESP.match(piece.data):
        return Protocol.REDIS
    return None


def _digest(*values: object) -> str:
    return blake2b(repr(values).encode(), digest_size=8).hexdigest()
