# SPDX-License-Identifier: Apache-2.0
"""One reading of the kernel's counts: what was added is named, summed, and put into the graph.

At the same time owners that ended are let go, with their last values counted, and the span
limits follow the rates.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from deetune_otel.agent.deltas import Deltas, JoinDeltas, TrafficDeltas
from deetune_otel.agent.process_registry import Named, no_edge
from deetune_otel.agent.span_limits import span_limits
from deetune_otel.signals.red import OVERFLOW_SERVICE
from deetune_otel.signals.resource import service_key, without_process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from deetune_otel.agent.joining import Joining
    from deetune_otel.agent.process_registry import ProcessRegistry
    from deetune_otel.agent.reaper import Reaper
    from deetune_otel.agent.reporting import Sums
    from deetune_otel.agent.span_limits import SpanLimiter
    from deetune_otel.identity.resolver import Resolver
    from deetune_otel.kernel import Kernel
    from deetune_otel.model import Edge, Owner, SeriesKey, SeriesValue, Service
    from deetune_otel.signals.resource import ServiceKey
    from deetune_otel.topology.graph import Graph

__all__ = ["CountReader"]

# Idle connections are looked for among all descriptors of all processes: 0.1 µs each.
IDLE_EVERY_S: Final = 10.0

_log = logging.getLogger(__name__)


class CountReader:
    """Belongs to one caller at a time, but for `sums`, which have their own lock."""

    def __init__(  # noqa: PLR0913 - what it feeds, each by its name
        self,
        kernel: Kernel,
        *,
        names: ProcessRegistry,
        sums: Sums,
        graph: Graph,
        joining: Joining,
        identity: Resolver,
        reaper: Reaper,
        steering: SpanLimiter,
        hear: Callable[[], None],
    ) -> None:
        """`hear` takes at once what the kernel side has told until now."""
        self._kernel = kernel
        self._hear = hear
        self._names = names
        self._sums = sums
        self._graph = graph
        self._joining = joining
        self._identity = identity
        self._reaper = reaper
        self._steering = steering
        self._deltas = Deltas()
        self._traffic = TrafficDeltas()
        self._joins = JoinDeltas()
        self._met: dict[int, Service] = {}  # edges that the graph knows, and as whose
        self._read_at_s = time.monotonic()
        self._idle_at_s = self._read_at_s  # the kernel has looked when it was opened

    @property
    def series(self) -> int:
        """In the kernel's map, as of the last reading."""
        return len(self._deltas)

    @property
    def unnamed(self) -> int:
        """Series that wait for the name of their operation."""
        return self._deltas.held

    def read(self, *, spans_per_second: int, is_last: bool = False) -> int:
        """When it was, in Unix ns. With `is_last` nothing is held back for a name to come."""
        now_unix_ns, now_s = time.time_ns(), time.monotonic()
        if now_s - self._idle_at_s >= IDLE_EVERY_S and not is_last:
            self._idle_at_s = now_s
            self._kernel.own_idle()
        series = self._kernel.read_series()
        traffic = self._kernel.read_traffic()
        self._names.refresh()
        if not all(map(self._identity.knows, self._names.owners())):
            self._hear()  # who they are, if they have ended
        edges = {edge.id: edge for edge in self._names.edges()}
        named = {edge_id: self._names.named(edge) for edge_id, edge in edges.items()}
        self._meet(named)

        def is_named(key: SeriesKey) -> bool:
            of = named.get(key.edge_id)
            return is_last or not key.edge_id or (of is not None and of.is_named(key))

        deltas = self._deltas.take(series, is_named=is_named)
        owners = {owner.id: owner for owner in self._names.owners()}
        counts = self._count(deltas, named, owners)
        for edge_id, carried in self._traffic.take(traffic):
            if edge_id in named:
                self._graph.add_traffic(edge_id, carried)
        for join in self._joins.take(self._names.joins()):
            if join.client_edge_id in named and join.server_edge_id in named:
                self._graph.join(*join)
        self._joining.read()
        self._steer(counts, spans_per_second, now_s - self._read_at_s)
        self._let_go(counts, edges.values(), now_s)
        self._graph.end_interval(now_unix_ns)
        self._read_at_s = now_s
        with self._sums.lock:
            self._sums.accumulators.end_interval(now_unix_ns)
        return now_unix_ns

    def _meet(self, named: Mapping[int, Named]) -> None:
        """Tell the graph of edges that are new, or whose process is called otherwise by now."""
        renamed = []
        for edge_id, of in named.items():
            before = self._met.get(edge_id)
            if before == of.service:
                continue
            if before is not None:
                renamed.append(before)
            self._met[edge_id] = of.service
            self._graph.meet(of.edge, of.service, netns=of.netns)
        if renamed:
            self._forget_names(
                renamed, {service_key(of.service) for of in named.values()}
            )

    def _forget_names(
        self, renamed: Iterable[Service], still: AbstractSet[ServiceKey]
    ) -> None:
        """Nobody is called so any more: these sums end, once every reader had the last ones."""
        with self._sums.lock:
            for service in renamed:
                if service_key(service) not in still:
                    self._sums.accumulators.forget(service)

    def _count(
        self,
        deltas: Iterable[tuple[SeriesKey, SeriesValue]],
        named: Mapping[int, Named],
        owners: Mapping[int, Owner],
    ) -> Counter[int]:
        """Exchanges by owner id."""
        counts: Counter[int] = Counter()
        with self._sums.lock:
            for key, delta in deltas:
                of = named.get(key.edge_id) or Named(
                    OVERFLOW_SERVICE, no_edge(key.overflow_role), 0, {}
                )
                operation, service = of.operation(key), of.service
                owner = owners.get(of.edge.owner_id)
                if owner is not None and self._reaper.was_short(owner):
                    service = without_process(service)
                self._sums.accumulators.add(service, of.edge, operation, key, delta)
                self._graph.add(of.edge.id, operation, key, delta)
                counts[of.edge.owner_id] += delta.count
        return counts

    def _steer(
        self, counts: Counter[int], spans_per_second: int, elapsed_s: float
    ) -> None:
        if spans_per_second:
            self._steering.limit(
                span_limits(
                    counts,
                    {
                        owner.id: self._identity.service(owner)
                        for owner in self._names.owners()
                    },
                    per_second=spans_per_second,
                    elapsed_s=elapsed_s,
                )
            )

    def _let_go(
        self, counts: Counter[int], edges: Iterable[Edge], now_s: float
    ) -> None:
        """Forget who ended: user space first, for the kernel gives the number to others."""
        owners = {owner.id: owner for owner in self._names.owners()}
        busy = {owner_id for owner_id, count in counts.items() if count}
        gone = self._reaper.due(owners.values(), busy=busy, now_s=now_s)
        if not gone:
            return
        named = {
            edge.id: self._names.named(edge) for edge in edges if edge.owner_id in gone
        }
        services = {id_: self._identity.service(owners[id_]) for id_ in owners}
        self._names.forget(gone)
        self._steering.forget(gone)
        last = self._kernel.forget_owners(gone)
        self._count(self._deltas.take_last(last, named.keys()), named, owners)
        self._reaper.forget(gone)
        self._joining.forget(gone)
        self._graph.forget(named.keys())
        for edge_id in named:
            self._met.pop(edge_id, None)
        self._forget_services([owners[id_] for id_ in gone], services)
        _log.debug("forgot %d processes that ended", len(gone))

    def _forget_services(
        self, gone: Collection[Owner], services: Mapping[int, Service]
    ) -> None:
        with self._sums.lock:
            for owner in gone:
                self._identity.forget(owner)
                service = services[owner.id]
                self._sums.accumulators.forget(service)
                shared = without_process(service)
                if shared.instance_id:  # a container's, which may have ended with it
                    self._sums.accumulators.forget(shared)
                self._graph.forget_service(service)
        gone_ids = {owner.id for owner in gone}
        self._names.keep_routes(
            service for id_, service in services.items() if id_ not in gone_ids
        )
