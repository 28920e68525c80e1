# SPDX-License-Identifier: Apache-2.0
"""Kept exchanges to spans and exemplars."""

from __future__ import annotations

import threading
import time

from tests.factories import edge, exchange, key
from tests.readings import Maps, owner, value

from deetune_otel.agent.process_registry import ProcessRegistry
from deetune_otel.agent.reporting import Sums
from deetune_otel.agent.span_builder import SpanBuilder
from deetune_otel.model import KeptBecause, Operation, Role, Service
from deetune_otel.protocols.routes import Routes
from deetune_otel.signals import red
from deetune_otel.signals.exemplars import Exemplars
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.signals.traces import TraceResolver
from deetune_otel.topology.graph import Graph

HEAD = b"GET /users/17 HTTP/1.1\r\n"


class World:
    """The stage with what it needs, and maps that it may read."""

    def __init__(self, *, hold_ns: int = 0) -> None:
        self.maps = Maps()
        self.names = ProcessRegistry(
            self.maps, service_of=lambda one: Service(name=one.comm), routes=Routes()
        )
        self.sums = Sums(
            accumulators=Accumulators(start_unix_ns=0),
            exemplars=Exemplars(),
            resources=Resources("1"),
            lock=threading.Lock(),
        )
        self.graph = Graph(start_unix_ns=time.time_ns(), host="host", version="1")
        self.tracing = SpanBuilder(
            names=self.names,
            resolver=TraceResolver(is_local=lambda _: False, hold_ns=hold_ns),
            sums=self.sums,
            graph=self.graph,
            trace_url="http://traces/{trace_id}",
        )


def test_a_span_has_its_names_and_unix_time() -> None:
    world = World()
    world.maps.add(owner(1, comm="shop"), edge(Role.SERVER))  # read when they are met
    start_ns = time.monotonic_ns()
    world.tracing.take(
        [exchange(request_head=HEAD, start_ns=start_ns, end_ns=start_ns + 5)]
    )
    [span] = world.tracing.release()
    assert span.name == "GET /users/{id}"
    assert span.resource.attributes["service.name"] == "shop"
    assert span.start_time is not None
    assert abs(span.start_time - time.time_ns()) < 10**9
    assert span.end_time == span.start_time + 5
    assert world.tracing.made == 1


def test_its_series_has_it_as_an_exemplar() -> None:
    world = World()
    world.maps.add(owner(1, comm="shop"), edge(Role.SERVER))
    one = exchange(request_head=HEAD)
    world.tracing.take([one])
    [span] = world.tracing.release()
    named = world.names.named(edge(Role.SERVER))
    series = red.identify(named.service, named.edge, named.operation(one.key), one.key)
    [exemplar] = world.sums.exemplars.of(series, since_unix_ns=0)
    assert span.context is not None
    assert exemplar.span_id == span.context.span_id


def test_exchanges_are_held_until_the_end() -> None:
    world = World(hold_ns=3600 * 10**9)
    world.maps.add(owner(1), edge())
    world.tracing.take([exchange()])
    assert world.tracing.release() == []
    assert len(world.tracing.flush()) == 1


def test_an_edge_that_nobody_knows_is_counted() -> None:
    world = World()
    world.tracing.take([exchange(), exchange(edge_id=5)])
    assert world.tracing.release() == []
    assert world.tracing.without_edge == 2


def test_what_failed_is_shown_on_the_map_with_its_trace() -> None:
    world = World()
    world.maps.add(owner(1, comm="shop"), edge())
    world.graph.meet(edge(), Service(name="shop"), netns=1)
    failed = exchange(request_head=HEAD, key=key(outcome=500), kept=KeptBecause.ERROR)
    world.tracing.take([failed, exchange(request_head=HEAD)])
    spans = world.tracing.release()
    world.graph.add(1, Operation(name="GET"), key(), value(1))
    now_unix_ns = time.time_ns()
    world.graph.end_interval(now_unix_ns)
    [edge_id] = [
        one.id
        for one in world.graph.service_map(window_s=60, now_unix_ns=now_unix_ns).edges
    ]
    details = world.graph.edge_details(edge_id, window_s=60, now_unix_ns=now_unix_ns)
    assert details is not None
    [example] = details.examples
    assert (example.operation, example.result, example.is_error) == (
        "GET /users/{id}",
        "500",
        True,
    )
    trace_ids = {f"{span.context.trace_id:032x}" for span in spans if span.context}
    assert len(spans) == 2
    assert example.trace_id in trace_ids
    assert example.trace_url == f"http://traces/{example.trace_id}"
