# SPDX-License-Identifier: Apache-2.0
"""The kernel's pieces → exchanges with the names of both ends, and the count of both per connection.

Both ends of a connection bring the same bytes under the same pair; the assembler takes what is
new. A connection is remembered until every end that was seen is closed, by its last piece and by
the kernel's count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, NamedTuple, TypeVar
from typing import Protocol as Shape

from cachetools import LRUCache, cached

from deetune_otel.kernel.recording import ConnectionCount, RecordedPiece
from deetune_otel.model import Cause, Pair, Protocol, Role, Transport, Wire
from deetune_otel.recorder.causes import Causes, InHand
from deetune_otel.recording.assembly import Assembler
from deetune_otel.recording.codecs.contract import Codec
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    Message,
    Missing,
    MissingBecause,
    Piece,
    Process,
    RecordedExchange,
    Turn,
)
from deetune_otel.recording.operations import request_head
from deetune_otel.signals.traces import TraceResolver, span_id

__all__ = ["Conversations", "People", "Tally"]

# Headers that name a trace, in the order in which they are believed.
_TRACE_HEADERS: Final = ("traceparent", "b3", "x-b3-traceid", "sw8")
# What the kernel may find a connection to speak instead, when it has seen more of it.
_INSTEAD: Final = {
    Protocol.HTTP: (Protocol.REDIS, Protocol.UNKNOWN),
    Protocol.REDIS: (Protocol.UNKNOWN,),
}
# Who is at the other end is known when that has read something. It is asked so often at most.
MAX_ASKED: Final = 3
# Kept until a connection's first exchange shows what it speaks. The kernel looks at 64 KB of a
# request line; an answer shows it as well.
MAX_HELD_BYTES: Final = 128 << 10
_Http = TypeVar("_Http", HttpRequest, HttpResponse)


class People(Shape):
    """Who owners are: `agent.process_registry.ProcessRegistry` in the agent."""

    def process(self, owner_id: int) -> Process | None: ...
    def operation_name(self, owner_id: int, protocol: Protocol, head: bytes) -> str: ...
    def server_path(self, edge_id: int) -> str: ...
    def service_at(self, pair: Pair, role: Role) -> str: ...


class Tally(NamedTuple):
    """Exchanges of connections that are done with, or of all."""

    seen: int
    given: int  # handed on, the unfinished ones apart
    unfinished: int


@dataclass(slots=True)
class _Conversation:
    """One connection."""

    pair: Pair
    protocol: Protocol
    assembler: Assembler | None  # None: nobody reads this protocol
    connection: Connection
    owners: dict[Role, int] = field(default_factory=dict)
    ended: set[Role] = field(default_factory=set)
    is_over: bool = False
    held: list[Piece] | None = field(default_factory=list)  # None: it is known, or long
    held_bytes: int = 0
    asked: int = 0  # how often for the peer
    answered: int = 0  # turns that the kernel counts, too
    unanswered: int = 0  # the connection ended before the response
    unfinished: int = 0  # the recording did
    # By end: what the kernel counted, and whether it is closed.
    counts: dict[Role, ConnectionCount] = field(default_factory=dict)
    closed_at_reading: int = 0


class Conversations:
    """All connections that are recorded. Belongs to one thread."""

    def __init__(  # noqa: PLR0913 -- what it stands between
        self,
        *,
        codecs: Mapping[Protocol, Codec],
        raw: Codec | None,
        people: People,
        read_cause: Callable[[Wire], Cause | None],
        polls: Callable[[int], bool],
        clock_offset_ns: int,
        body_limit: int,
        sees_all: bool = False,
    ) -> None:
        """`raw` reads what has no codec; None leaves it out. `clock_offset_ns` makes the Unix
        epoch of CLOCK_MONOTONIC. `sees_all`: nothing that a chosen process answers is left out.
        """
        self._codecs = codecs
        self._raw = raw
        self._people = people
        # Asked for the cause, and then for the trace: 36 µs each in the kernel.
        read_cause = cached(LRUCache[Wire, Cause | None](64))(read_cause)
        self._causes = Causes(read_cause, polls=polls, sees_all=sees_all)
        self._served_by: dict[int, set[Pair]] = {}  # connections, by the server's owner
        self._clock_offset_ns = clock_offset_ns
        self._body_limit = body_limit
        self._resolver = TraceResolver(is_local=lambda _: False, read_cause=read_cause)
        self._open: dict[Pair, _Conversation] = {}
        self._reading = 0
        self._done = Tally(0, 0, 0)

    def feed(self, piece: RecordedPiece) -> Iterator[RecordedExchange]:
        one = self._open.get(piece.pair)
        if one is None or not one.connection.id:
            counted = one
            one = self._open[piece.pair] = self._begin(piece)
            if counted is not None:
                one.counts = counted.counts
                one.closed_at_reading = counted.closed_at_reading
        if one.is_over or one.assembler is None:
            return
        if one.owners.get(piece.role) != piece.owner_id:
            self._learn_end(one, piece)
        if one.held is not None and piece.protocol in _INSTEAD.get(one.protocol, ()):
            yield from self._read_again(one, piece.protocol)
            if one.assembler is None:
                return
        if not piece.is_last:
            _hold(one, piece.piece)
            yield from self._given(one, one.assembler.feed(piece.piece))
            return
        # What is missing up to where it ended was lost: nobody may take it for silence.
        for end in _ends(piece.piece):
            yield from self._given(one, one.assembler.feed(end))
        one.ended.add(piece.role)
        if one.ended >= one.owners.keys():
            yield from self._over(one)

    def count(
        self,
        counts: Mapping[tuple[Pair, Role], ConnectionCount],
        *,
        is_chosen: Callable[[int], bool],
    ) -> Iterator[RecordedExchange]:
        """Takes a reading of the kernel's counts, made before the last pieces were fed.

        Connections that were closed by the reading before this one are done with.
        """
        self._reading += 1
        for (pair, role), found in counts.items():
            one = self._open.get(pair)
            if not is_chosen(found.owner_id):
                continue
            if one is None:  # all its pieces were lost, or come yet
                one = self._open[pair] = _unknown(pair)
            one.counts[role] = found
            if all(end.is_closed for end in one.counts.values()):
                one.closed_at_reading = one.closed_at_reading or self._reading
        for pair, one in list(self._open.items()):
            if 0 < one.closed_at_reading < self._reading:
                yield from self._over(one)
                self._done = _sum(self._done, _tally(one))
                self._served_by.get(one.owners.get(Role.SERVER, 0), set()).discard(pair)
                del self._open[pair]

    def end(self) -> None:
        """Nothing more comes: what is open stays unfinished."""
        for one in self._open.values():
            if one.assembler is not None and not one.is_over:
                one.is_over = True
                one.unfinished += len(one.assembler.end())

    def tally(self) -> Tally:
        """Of all connections so far; exact after `end`."""
        total = self._done
        for one in self._open.values():
            total = _sum(total, _tally(one))
        return total

    def _begin(self, piece: RecordedPiece) -> _Conversation:
        return _Conversation(
            pair=piece.pair,
            protocol=piece.protocol,
            assembler=self._assembler(piece.protocol),
            connection=_connection(piece, self._people),
        )

    def _assembler(self, protocol: Protocol) -> Assembler | None:
        codec = self._codecs.get(protocol, self._raw)
        return Assembler(codec) if codec is not None else None

    def _read_again(
        self, one: _Conversation, protocol: Protocol
    ) -> Iterator[RecordedExchange]:
        """It had looked like another protocol, and no exchange of that has come."""
        one.protocol = protocol
        one.connection = replace(one.connection, protocol=protocol)
        one.assembler = self._assembler(protocol)
        for piece in one.held or ():
            if one.assembler is not None:
                yield from self._given(one, one.assembler.feed(piece))

    def _learn_end(self, one: _Conversation, piece: RecordedPiece) -> None:
        one.owners[piece.role] = piece.owner_id
        if piece.role is Role.SERVER:
            self._served_by.setdefault(piece.owner_id, set()).add(piece.pair)
        process = self._people.process(piece.owner_id)
        one.connection = (
            replace(one.connection, server_process=process)
            if piece.role is Role.SERVER
            else replace(one.connection, client_process=process)
        )

    def _learn_peer(self, one: _Conversation) -> None:
        """Of a connection of which one end is recorded."""
        if one.asked >= MAX_ASKED or len(one.owners) != 1:
            return
        (role,) = one.owners
        other = Role.CLIENT if role is Role.SERVER else Role.SERVER
        service = self._people.service_at(one.pair, other)
        one.asked = MAX_ASKED if service else one.asked + 1
        one.connection = replace(one.connection, peer_service=service)

    def _over(self, one: _Conversation) -> Iterator[RecordedExchange]:
        if one.assembler is None or one.is_over:
            return
        one.is_over = True
        turns = one.assembler.end()
        if not one.ended >= one.owners.keys():
            # The last piece was lost: nobody knows whether there was no response.
            lost = (MissingBecause.LOST,)
            turns = [
                turn._replace(incomplete=lost) if turn.response is None else turn
                for turn in turns
            ]
        yield from self._given(one, turns)

    def _given(
        self, one: _Conversation, turns: Iterable[Turn]
    ) -> Iterator[RecordedExchange]:
        for turn in turns:
            one.held = None
            if turn.response is None and turn.incomplete[-1:] == ("closed",):
                one.unanswered += 1
            else:
                one.answered += 1
            yield self._exchange(one, turn)

    def _exchange(self, one: _Conversation, turn: Turn) -> RecordedExchange:
        role = Role.SERVER if Role.SERVER in one.owners else Role.CLIENT
        self._learn_peer(one)
        wire = Wire(one.pair.client_seq, one.pair.server_seq, turn.request_offset)
        request, response = self._cut(turn.request), turn.response
        if response is not None:
            response = self._cut(response)
        incomplete = dict.fromkeys(
            (
                *turn.incomplete,
                *(gap.because for gap in _missing(request)),
                *(gap.because for gap in _missing(response)),
            )
        )
        trace_id = self._resolver.trace_id(
            wire, _trace_header(request), inherits=_is_here(one.connection)
        )
        own_id = f"{span_id(wire, role):016x}"
        cause = method = ""
        if caller := one.owners.get(Role.CLIENT):
            asked = _trace_header(request)
            cause, method = self._causes.find(
                wire,
                caller,
                at_ns=turn.request_start_ns,
                trace_id=trace_id if asked else 0,
                in_hand=lambda: self._in_hand(caller),
            )
        if role is Role.SERVER:
            served = InHand(own_id, trace_id, turn.request_start_ns)
            self._causes.answered(
                one.owners[role],
                served,
                at_ns=turn.response_end_ns or turn.request_end_ns,
            )
        offset = self._clock_offset_ns
        return RecordedExchange(
            id=own_id,
            connection=one.connection,
            request=request,
            response=response,
            request_start_ns=turn.request_start_ns + offset,
            request_end_ns=turn.request_end_ns + offset,
            response_start_ns=turn.response_start_ns + offset if response else 0,
            response_end_ns=turn.response_end_ns + offset if response else 0,
            trace_id=f"{trace_id:032x}",
            span_id=own_id,
            operation=self._people.operation_name(
                one.owners.get(role, 0), one.protocol, request_head(request)
            ),
            cause=cause,
            cause_method=method,
            incomplete=tuple(incomplete),
        )

    def _in_hand(self, owner_id: int) -> Iterator[InHand]:
        """Requests that this process has not answered yet."""
        for pair in self._served_by.get(owner_id, ()):
            one = self._open[pair]
            if one.assembler is None or one.is_over:
                continue
            for turn in one.assembler.open:
                wire = Wire(pair.client_seq, pair.server_seq, turn.request_offset)
                trace_id = self._resolver.trace_id(
                    wire, _trace_header(turn.request), inherits=_is_here(one.connection)
                )
                own_id = f"{span_id(wire, Role.SERVER):016x}"
                yield InHand(own_id, trace_id, turn.request_start_ns)

    def _cut(self, message: Message) -> Message:
        """Exactly at the limit: the kernel copies a little more."""
        if isinstance(message, HttpRequest):
            return _cut(message, self._body_limit)
        if isinstance(message, HttpResponse):
            return _cut(message, self._body_limit)
        return message


def _hold(one: _Conversation, piece: Piece) -> None:
    if one.held is None:
        return
    one.held.append(piece)
    one.held_bytes += len(piece.data)
    if one.held_bytes > MAX_HELD_BYTES:
        one.held = None


def _ends(last: Piece) -> tuple[Piece, Piece]:
    """A last piece has no bytes, and says how many each direction had."""
    return (
        last._replace(is_start=False),
        last._replace(
            is_start=False, from_client=not last.from_client, offset=last.other_offset
        ),
    )


def _cut(message: _Http, limit: int) -> _Http:
    missing = sum(gap.bytes for gap in message.missing)
    size = len(message.body) + missing
    if size <= limit:
        return message
    before = tuple(
        gap._replace(bytes=min(gap.bytes, limit - gap.at))
        for gap in message.missing
        if gap.at < limit
    )
    kept = limit - sum(gap.bytes for gap in before)
    gaps = list(before)
    if gaps and gaps[-1].at + gaps[-1].bytes == limit:
        last = gaps.pop()
        gaps.append(Missing(last.at, size - last.at, last.because))
    else:
        gaps.append(Missing(limit, size - limit, MissingBecause.LIMIT))
    return replace(message, body=message.body[:kept], missing=tuple(gaps))


def _connection(piece: RecordedPiece, people: People) -> Connection:
    local = Endpoint(piece.local_address, piece.local_port)
    peer = Endpoint(piece.peer_address, piece.peer_port)
    if piece.transport is Transport.UNIX:
        local = Endpoint("", 0)
        peer = Endpoint(people.server_path(piece.edge_id), 0)
        if piece.role is Role.SERVER:
            local, peer = peer, local
    is_server = piece.role is Role.SERVER
    return Connection(
        id=_connection_id(piece.pair),
        protocol=piece.protocol,
        transport=piece.transport,
        client=peer if is_server else local,
        server=local if is_server else peer,
    )


def _unknown(pair: Pair) -> _Conversation:
    """A connection of which nothing is known yet but the kernel's count."""
    nowhere = Endpoint("", 0)
    return _Conversation(
        pair=pair,
        protocol=Protocol.UNKNOWN,
        assembler=None,
        connection=Connection(
            id="", protocol=Protocol.UNKNOWN, client=nowhere, server=nowhere
        ),
    )


def _connection_id(pair: Pair) -> str:
    """The same at both ends; a digest, as the pair itself stays here."""
    data = pair.client_seq.to_bytes(8, "big") + pair.server_seq.to_bytes(8, "big")
    return blake2b(data, digest_size=8, person=b"deetune.connect").hexdigest()


def _tally(one: _Conversation) -> Tally:
    counted = max((end.exchanges for end in one.counts.values()), default=0)
    return Tally(
        max(counted, one.answered) + one.unanswered + one.unfinished,
        one.answered + one.unanswered,
        one.unfinished,
    )


def _sum(a: Tally, b: Tally) -> Tally:
    return Tally(a.seen + b.seen, a.given + b.given, a.unfinished + b.unfinished)


def _missing(message: Message | None) -> tuple[Missing, ...]:
    return message.missing if message is not None else ()


def _is_here(connection: Connection) -> bool:
    """Whether the far end can know the trace of the call's cause."""
    if connection.transport is Transport.UNIX:
        return True
    return bool(connection.client_process and connection.server_process)


def _trace_header(request: Message) -> bytes:
    if isinstance(request, HttpRequest):
        values = {name.lower(): value for name, value in reversed(request.headers)}
        for name in _TRACE_HEADERS:
            if name in values:
                return f"{name}: {values[name]}".encode("latin-1", errors="replace")
    return b""
