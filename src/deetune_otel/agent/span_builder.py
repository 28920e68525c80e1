# SPDX-License-Identifier: Apache-2.0
"""Kept exchanges become spans: named, given their place in a trace, offered as exemplars.

Those that failed or were slow are shown on the map, too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deetune_otel.model import KeptBecause
from deetune_otel.protocols import PROTOCOLS
from deetune_otel.signals import red, spans
from deetune_otel.topology.model import Example

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.sdk.trace import ReadableSpan

    from deetune_otel.agent.process_registry import ProcessRegistry
    from deetune_otel.agent.reporting import Sums
    from deetune_otel.model import Exchange, Operation, Role
    from deetune_otel.signals.traces import Resolved, SpanIds, TraceResolver
    from deetune_otel.topology.graph import Graph

__all__ = ["SpanBuilder"]


class SpanBuilder:
    """Belongs to one thread; `sums` have their own lock."""

    def __init__(
        self,
        *,
        names: ProcessRegistry,
        resolver: TraceResolver,
        sums: Sums,
        graph: Graph,
        trace_url: str = "",
    ) -> None:
        """`trace_url` has `{trace_id}` in it; "" where a trace cannot be opened."""
        self._names = names
        self._resolver = resolver
        self._sums = sums
        self._graph = graph
        self._trace_url = trace_url
        self.made = 0
        self.without_edge = 0  # exchanges of an edge that is not known: no span

    @property
    def released_early(self) -> int:
        return self._resolver.released_early

    @property
    def ambiguous_causes(self) -> int:
        return self._resolver.ambiguous_causes

    def take(self, exchanges: Iterable[Exchange]) -> None:
        """Hold them until their calls are known."""
        now_ns = time.monotonic_ns()
        is_fresh = False
        for exchange in exchanges:
            edge = self._names.edge(exchange.edge_id)
            if edge is None and not is_fresh:
                self._names.refresh()
                is_fresh = True
                edge = self._names.edge(exchange.edge_id)
            if edge is None:
                self.without_edge += 1
                continue
            self._names.learn_from(
                exchange.owner_id,
                exchange.key.protocol,
                exchange.key.signature,
                exchange.request_head,
            )
            self._resolver.add(exchange, edge, now_ns=now_ns)

    def release(self) -> list[ReadableSpan]:
        """The spans of those held long enough."""
        return self._spans(self._resolver.release(time.monotonic_ns()))

    def flush(self) -> list[ReadableSpan]:
        """The spans of all that are held, at the end."""
        return self._spans(self._resolver.flush())

    def _spans(self, resolved: list[Resolved]) -> list[ReadableSpan]:
        if not resolved:
            return []
        offset_ns = time.time_ns() - time.monotonic_ns()
        made = [self._span(one, offset_ns) for one in resolved]
        self.made += len(made)
        return made

    def _span(self, resolved: Resolved, offset_ns: int) -> ReadableSpan:
        exchange, edge, ids = resolved
        named = self._names.named(edge)
        operation = named.operation(exchange.key)
        peer = self._names.peer(edge)
        if exchange.kept is not KeptBecause.HASH:
            self._graph.add_example(
                edge.id, self._example(exchange, edge.role, operation, ids, offset_ns)
            )
        with self._sums.lock:
            self._sums.exemplars.offer(
                red.identify(named.service, edge, operation, exchange.key),
                duration_ns=exchange.end_ns - exchange.start_ns,
                end_unix_ns=exchange.end_ns + offset_ns,
                trace_id=ids.trace_id,
                span_id=ids.span_id,
            )
            resource = self._sums.resources.of(named.service)
        return spans.build(
            exchange,
            edge,
            operation,
            ids=ids,
            resource=resource,
            scope=self._sums.resources.scope,
            wall_clock_offset_ns=offset_ns,
            peer_service=peer,
        )

    def _example(
        self,
        exchange: Exchange,
        role: Role,
        operation: Operation,
        ids: SpanIds,
        offset_ns: int,
    ) -> Example:
        outcome = PROTOCOLS[exchange.key.protocol].outcome(exchange.key, role)
        trace_id = f"{ids.trace_id:032x}"
        return Example(
            trace_id=trace_id,
            span_id=f"{ids.span_id:016x}",
            time_unix_ns=exchange.end_ns + offset_ns,
            duration_s=(exchange.end_ns - exchange.start_ns) / 1e9,
            operation=operation.name,
            role=role.value,
            result=outcome.error_type or "",
            is_error=outcome.is_failure,
            trace_url=self._trace_url.replace("{trace_id}", trace_id),
        )
