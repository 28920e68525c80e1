# SPDX-License-Identifier: Apache-2.0
"""Ids and parents for spans, without a word between the two ends of a call.

Both ends know a request's wire identity, so both can compute the ids of both spans:

    client span id = H(wire, client)    server span id = H(wire, server), child of the client's

The trace of a call is, first match: the one in its request's header; the trace of the server
exchange that caused it, when the far end can learn that (it is on this host, or there is none);
else H(wire), with a link to the cause. Causes lead upwards from call to call, so the trace of a
whole tree is that of its first call.

Some wires are known at one end alone (UDP, failed connects, Unix sockets that are older than the
agent): nothing at another end is named by them, so such a server span has no client span for its
parent, and such a client span follows its cause. Where requests are told apart by turns alone the
ends may cut them differently (a client that asks again before it has read the answer): on this
host a client span is such a server span's parent only if it was seen.

Children finish, and arrive, before their parents. Exchanges are therefore held for a short time
(so that both ends of a call are known when its trace is decided), and causes can be read from the
kernel for parents that take longer. What was decided for a wire stays decided: both ends of a
call on this host always carry the same trace id. A wrong parent is worse than none: an ambiguous
cause is counted and links nothing.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from cachetools import LRUCache

from deetune_otel.model import Cause, Edge, Exchange, Protocol, Role, Transport, Wire
from deetune_otel.protocols import tracecontext

if TYPE_CHECKING:
    from collections.abc import Callable

    from deetune_otel.protocols.tracecontext import TraceContext

__all__ = [
    "ParentMethod",
    "RemoteParents",
    "Resolved",
    "SpanIds",
    "TraceResolver",
    "span_id",
]

# Long enough for both ends of a call and the poll between them; parents that take longer are
# found through the kernel's causes.
HOLD_NS: Final = 10**9
# 100 spans a second each of 100 services.
MAX_HELD: Final = 10_000
# A held exchange touches its own call and its cause's; the rest is for parents still running.
MAX_CALLS: Final = 40_000
# Calls deep. Real trees end far earlier; broken identities could make a circle.
_MAX_DEPTH: Final = 64

_WIRE: Final = struct.Struct(">IIQ")
_LOCAL: Final = struct.Struct(">IIIIIQQ")


class ParentMethod(StrEnum):
    """How a span's parent was found: attribute `deetune.parent.method`."""

    HEADER = "header"
    WIRE = "wire"
    THREAD = "thread"


class RemoteParents(StrEnum):
    """The parent of a server span whose client is on another host and sent a trace header.

    HEADER: the span that the header names. Always an ancestor, whether or not an agent runs at
    the client; where one does, its client span is a sibling instead of the parent.
    WIRE: the client span that an agent at the client reports. Right where every host runs an
    agent; elsewhere that span never arrives and the parent dangles.
    Without a header it is always the wire's: nothing else is known.
    """

    HEADER = "header"
    WIRE = "wire"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanIds:
    """A span's place in its trace; ids are never 0."""

    trace_id: int
    span_id: int
    parent_span_id: int | None = None
    parent_method: ParentMethod | None = None
    links: tuple[tuple[int, int], ...] = ()  # (trace id, span id)


class Resolved(NamedTuple):
    exchange: Exchange
    edge: Edge
    ids: SpanIds


class _Held(NamedTuple):
    due_ns: int
    exchange: Exchange
    edge: Edge


@dataclass(slots=True)
class _Call:
    """What is known of one call on this host, from either of its ends."""

    client_seen: bool = False
    server_seen: bool = False
    cause_read: bool = False
    cause: Cause | None = None
    header: TraceContext | None = None
    trace_id: int | None = None  # once decided


class TraceResolver:
    """Holds exchanges until their calls are known, then gives them ids.

    `is_local` says whether an address is one of this host's (loopback need not be asked for);
    `read_cause` asks the kernel why a client request was made. Times are the caller's own clock.
    """

    def __init__(  # noqa: PLR0913 - two questions to the world and the bounds
        self,
        *,
        is_local: Callable[[str], bool],
        read_cause: Callable[[Wire], Cause | None] | None = None,
        remote_parents: RemoteParents = RemoteParents.HEADER,
        hold_ns: int = HOLD_NS,
        max_held: int = MAX_HELD,
        max_calls: int = MAX_CALLS,
    ) -> None:
        self._is_local = is_local
        self._read_cause = read_cause
        self._remote_parents = remote_parents
        self._hold_ns = hold_ns
        self._max_held = max_held
        self._held: deque[_Held] = deque()
        self._calls: LRUCache[Wire, _Call] = LRUCache(max_calls)
        self.ambiguous_causes = 0  # client exchanges with more than one possible cause
        self.released_early = 0  # exchanges that the bound pushed out before their time

    def add(self, exchange: Exchange, edge: Edge, *, now_ns: int) -> None:
        """Take one exchange; `release` gives it back."""
        self._learn(exchange, edge)
        self._held.append(_Held(now_ns + self._hold_ns, exchange, edge))

    def release(self, now_ns: int) -> list[Resolved]:
        """Those held long enough, and the oldest of those over the bound."""
        released = []
        while self._held:
            is_due = self._held[0].due_ns <= now_ns
            if not is_due:
                if len(self._held) <= self._max_held:
                    break
                self.released_early += 1
            released.append(self._resolve(self._held.popleft()))
        return released

    def flush(self) -> list[Resolved]:
        """All that are held, at the end."""
        released = [self._resolve(held) for held in self._held]
        self._held.clear()
        return released

    def trace_id(self, wire: Wire, trace_header: bytes, *, inherits: bool) -> int:
        """The trace of a call of which there may be no span; 0 where its wire is not known.

        `inherits`: its far end is on this host, too, and can learn the trace of its cause.
        """
        if not _is_known(wire):
            return 0
        call = self._call(wire)
        call.header = call.header or tracecontext.parse(trace_header)
        return self._trace_id(wire, inherits=inherits)

    def _learn(self, exchange: Exchange, edge: Edge) -> None:
        is_client = edge.role is Role.CLIENT
        if is_client and exchange.cause_ambiguous:
            self.ambiguous_causes += 1
        if not _is_known(exchange.wire):
            return
        call = self._call(exchange.wire)
        call.header = call.header or tracecontext.parse(exchange.trace_header)
        call.server_seen |= edge.role is Role.SERVER
        if is_client:
            call.client_seen = True
            call.cause = _cause(exchange)

    def _resolve(self, held: _Held) -> Resolved:
        _, exchange, edge = held
        ids = (
            self._server_ids(exchange, edge)
            if edge.role is Role.SERVER
            else self._client_ids(exchange, edge)
        )
        return Resolved(exchange, edge, ids)

    def _server_ids(self, exchange: Exchange, edge: Edge) -> SpanIds:
        own_id = _own_span_id(exchange, edge.role)
        if not _is_known(exchange.wire):
            header = tracecontext.parse(exchange.trace_header)
            trace_id = (
                header.trace_id if header else _hash(16, b"trace", _local(exchange))
            )
            return _with_header_parent(trace_id, own_id, header)
        trace_id = self._trace_id(exchange.wire)
        call = self._call(exchange.wire)
        header_is_parent = (
            self._remote_parents is RemoteParents.HEADER
            and call.header is not None
            and call.header.span_id is not None
        )
        if exchange.is_alone or (
            not call.client_seen
            and (header_is_parent or self._client_would_be_seen(exchange))
        ):
            return _with_header_parent(trace_id, own_id, call.header)
        return SpanIds(
            trace_id=trace_id,
            span_id=own_id,
            parent_span_id=span_id(exchange.wire, Role.CLIENT),
            parent_method=ParentMethod.WIRE,
        )

    def _client_ids(self, exchange: Exchange, edge: Edge) -> SpanIds:
        own_id = _own_span_id(exchange, edge.role)
        header = tracecontext.parse(exchange.trace_header)
        cause = _cause(exchange)
        cause_trace_id = self._cause_trace_id(cause) if cause else None
        if _is_known(exchange.wire):
            trace_id = self._trace_id(
                exchange.wire, inherits=self._far_end_is_here(exchange)
            )
        elif header is not None:
            trace_id = header.trace_id
        else:  # no far end can name this call, so none can disagree
            trace_id = cause_trace_id or _hash(16, b"trace", _local(exchange))
        if cause is None or cause_trace_id != trace_id:
            ids = _with_header_parent(trace_id, own_id, header)
            if cause is None or cause_trace_id is None:
                return ids
            link = (cause_trace_id, span_id(cause.wire, Role.SERVER))
            return SpanIds(
                trace_id=ids.trace_id,
                span_id=ids.span_id,
                parent_span_id=ids.parent_span_id,
                parent_method=ids.parent_method,
                links=(link,),
            )
        if _names_span_between(header, cause):
            return _with_header_parent(trace_id, own_id, header)
        return SpanIds(
            trace_id=trace_id,
            span_id=own_id,
            parent_span_id=span_id(cause.wire, Role.SERVER),
            parent_method=ParentMethod.THREAD,
        )

    def _client_would_be_seen(self, exchange: Exchange) -> bool:
        """Whether a server's turn has no client's turn, as that one was not seen here."""
        return exchange.key.protocol is Protocol.UNKNOWN and self._is_here(exchange)

    def _far_end_is_here(self, exchange: Exchange) -> bool:
        return (
            self._call(exchange.wire).server_seen
            or exchange.is_alone  # nobody there can name this call
            or self._is_here(exchange)
        )

    def _is_here(self, exchange: Exchange) -> bool:
        """Whether the peer is on this host."""
        return (
            exchange.transport is Transport.UNIX
            or _is_loopback(exchange.peer_address)
            or self._is_local(exchange.peer_address)
        )

    def _cause_trace_id(self, cause: Cause) -> int:
        call = self._call(cause.wire)
        call.header = call.header or tracecontext.parse(cause.trace_header)
        return self._trace_id(cause.wire)

    def _trace_id(self, wire: Wire, *, inherits: bool = True) -> int:
        """Decide the trace of a call, and with it of the calls above it. Never undecided."""
        undecided = []
        while True:
            call = self._call(wire)
            if call.trace_id is not None:
                trace_id = call.trace_id
                break
            undecided.append(call)
            if call.header is not None:
                trace_id = call.header.trace_id
                break
            cause = self._cause_of_call(wire, call) if inherits else None
            if cause is None or len(undecided) > _MAX_DEPTH:
                trace_id = _hash(16, b"trace", _WIRE.pack(*wire))
                break
            wire, inherits = cause.wire, True  # its server exchange was on this host
            above = self._call(wire)
            above.header = above.header or tracecontext.parse(cause.trace_header)
        for call in undecided:
            call.trace_id = trace_id
        return trace_id

    def _cause_of_call(self, wire: Wire, call: _Call) -> Cause | None:
        """The client's own word where it was seen; else what the kernel noted at the send."""
        if not (call.client_seen or call.cause_read) and self._read_cause is not None:
            call.cause_read = True
            cause = self._read_cause(wire)
            call.cause = cause if cause is not None and _is_known(cause.wire) else None
        return call.cause

    def _call(self, wire: Wire) -> _Call:
        call = self._calls.get(wire)
        if call is None:
            call = self._calls[wire] = _Call()
        return call


def span_id(wire: Wire, role: Role) -> int:
    """The id of a call's client or server span, the same on every host."""
    return _hash(8, role.value.encode(), _WIRE.pack(*wire))


def _own_span_id(exchange: Exchange, role: Role) -> int:
    if _is_known(exchange.wire):
        return span_id(exchange.wire, role)
    return _hash(8, role.value.encode(), _local(exchange))


def _with_header_parent(
    trace_id: int, own_id: int, header: TraceContext | None
) -> SpanIds:
    """A child of the header's span if that is in this trace, else a root."""
    if header is None or header.span_id is None or header.trace_id != trace_id:
        return SpanIds(trace_id=trace_id, span_id=own_id)
    return SpanIds(
        trace_id=trace_id,
        span_id=own_id,
        parent_span_id=header.span_id,
        parent_method=ParentMethod.HEADER,
    )


def _names_span_between(header: TraceContext | None, cause: Cause) -> bool:
    """Whether the program made a span of its own between the cause and this request.

    A proxy that passes the header on unchanged did not.
    """
    if header is None or header.span_id is None:
        return False
    received = tracecontext.parse(cause.trace_header)
    return received is None or received.span_id != header.span_id


def _cause(exchange: Exchange) -> Cause | None:
    cause = exchange.cause
    if cause is None or exchange.cause_ambiguous or not _is_known(cause.wire):
        return None
    return cause


def _is_known(wire: Wire) -> bool:
    """An offset of 0 is that of a connection's first request."""
    return bool(wire.client_seq and wire.server_seq)


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return ip.is_loopback


def _local(exchange: Exchange) -> bytes:
    """What names an exchange on this host alone: for connections without a wire identity."""
    return _LOCAL.pack(
        exchange.owner_id,
        exchange.tid,
        exchange.edge_id,
        exchange.wire.client_seq,
        exchange.wire.server_seq,
        exchange.wire.offset,
        exchange.start_ns,
    )


def _hash(size: int, kind: bytes, data: bytes) -> int:
    """The same on every host and in every version; 0 is no valid id."""
    digest = blake2b(data, digest_size=size, person=b"deetune." + kind).digest()
    return int.from_bytes(digest, "big") or 1
