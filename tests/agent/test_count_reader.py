# SPDX-License-Identifier: Apache-2.0
"""A reading becomes sums and a map, and the two say the same."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality
from tests.factories import edge, key
from tests.readings import Maps, owner, value

from deetune_otel.agent import reaper
from deetune_otel.agent.count_reader import CountReader
from deetune_otel.agent.joining import Joining
from deetune_otel.agent.process_registry import ProcessRegistry
from deetune_otel.agent.reaper import Reaper
from deetune_otel.agent.reporting import Sums
from deetune_otel.agent.span_limits import SpanLimiter
from deetune_otel.model import (
    OperationSample,
    Owner,
    Protocol,
    Role,
    SeriesKey,
    Service,
)
from deetune_otel.protocols.routes import Routes
from deetune_otel.signals.exemplars import Exemplars
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.topology.addresses import AddressBook
from deetune_otel.topology.graph import Graph
from deetune_otel.topology.model import NodeDetails


class Identity:
    """Every process is the service of its name."""

    def service(self, one: Owner) -> Service:
        return Service(name=one.comm, instance_id=str(one.process.pid))

    def __init__(self) -> None:
        self.known: set[int] = set()  # owner ids

    def knows(self, one: Owner) -> bool:
        return one.id in self.known

    def forget(self, one: Owner) -> None:
        """Remembers nothing anyway."""


class World:
    """A counting with all that it feeds."""

    def __init__(self) -> None:
        self.maps = Maps()
        self.alive = True
        identity = self.identity = Identity()
        self.heard = 0
        self.names = ProcessRegistry(
            self.maps, service_of=identity.service, routes=Routes()
        )
        self.sums = Sums(
            accumulators=Accumulators(start_unix_ns=0),
            exemplars=Exemplars(),
            resources=Resources("1"),
            lock=threading.Lock(),
        )
        self.graph = Graph(start_unix_ns=time.time_ns(), host="host", version="1")
        self.counting = CountReader(
            cast("Any", self.maps),
            names=self.names,
            sums=self.sums,
            graph=self.graph,
            joining=Joining(kernel=self.maps, graph=self.graph, book=AddressBook()),
            identity=cast("Any", identity),
            reaper=Reaper(lambda _: self.alive),
            steering=SpanLimiter(self.maps),
            hear=self._hear,
        )

    def _hear(self) -> None:
        self.heard += 1
        self.identity.known |= self.maps.owners.keys()

    def read(self, *, is_last: bool = False) -> NodeDetails | None:
        """The shop on the map."""
        now_unix_ns = self.counting.read(spans_per_second=100, is_last=is_last)
        return self.graph.node_details(
            "service:/shop", window_s=3600, now_unix_ns=now_unix_ns
        )

    def counted(self) -> dict[str, int]:
        """By service, as /metrics would have it."""
        collected = self.sums.accumulators.collect(AggregationTemporality.CUMULATIVE)
        return {
            of.service.name: sum(one.value.count for one in of.series)
            for of in collected.services
        }

    def learn(self, signature: int = 99, path: str = "/a") -> None:
        head = f"GET {path} HTTP/1.1\r\n".encode()
        self.names.learn(OperationSample(1, 1, Protocol.HTTP, signature, head))


def server() -> World:
    world = World()
    world.maps.add(owner(1, comm="shop"), edge(Role.SERVER))
    return world


def operations(shop: NodeDetails | None) -> dict[str, int]:
    assert shop is not None
    return {one.name: one.calls.count for one in shop.operations}


def test_who_somebody_is_is_heard_before_it_is_counted() -> None:
    world = World()
    world.maps.add(owner(1), edge())
    world.read()
    assert world.heard == 1
    world.read()
    assert world.heard == 1  # nobody new


def test_sums_and_map_say_the_same() -> None:
    world = server()
    world.read()
    world.learn()
    world.maps.series = {key(): value(3), key(outcome=500): value(2)}
    shop = world.read()
    assert shop is not None
    assert operations(shop) == {"GET /a": 5}
    assert [served.calls.errors for served in shop.node.served] == [2]
    assert world.counted() == {"shop": 5}
    assert world.counting.series == 2


def test_counts_wait_once_for_a_late_name() -> None:
    world = server()
    world.maps.series = {key(): value(3)}
    assert operations(world.read()) == {}
    assert world.counting.unnamed == 1
    world.learn()
    assert operations(world.read()) == {"GET /a": 3}


def test_without_a_name_they_are_counted_under_the_protocols() -> None:
    world = server()
    world.maps.series = {key(): value(3)}
    world.read()
    assert operations(world.read()) == {"HTTP": 3}
    world.learn()
    world.maps.series = {key(): value(4)}
    assert operations(world.read()) == {"HTTP": 3, "GET /a": 1}


def test_the_last_reading_waits_for_nothing() -> None:
    world = server()
    world.maps.series = {key(): value(3)}
    assert operations(world.read(is_last=True)) == {"HTTP": 3}


def test_series_without_an_edge_are_others() -> None:
    world = server()
    full = SeriesKey(0, Protocol.HTTP, 1, 0, key().end, Role.SERVER)
    orphan = key(edge_id=77, signature=0)
    world.maps.series = {full: value(3), orphan: value(4)}
    world.read()
    assert world.counted() == {"other": 3}  # the edge may be in the next reading
    world.read()
    assert world.counted() == {"other": 7}


def test_a_busy_process_gets_its_span_limit() -> None:
    world = server()
    world.maps.series = {key(signature=0): value(10**9)}
    world.read()
    per_second, keep_fraction = world.maps.limits[1]
    assert per_second == 100
    assert 0 < keep_fraction < 1e-2


def test_who_ended_is_let_go_and_leaves_its_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaper, "QUIET_S", 0.0)
    world = server()
    world.maps.series = {key(signature=0): value(3)}
    world.read()
    world.alive = False
    # Not yet named when its process is let go: counted all the same.
    world.maps.series = {key(signature=0): value(3), key(): value(2)}
    world.read()
    assert world.maps.owners == {}
    assert world.maps.series == {}
    assert world.names.owners() == []
    assert world.counting.series == 0
    shop = world.read()
    assert shop is not None
    assert operations(shop) == {"HTTP": 5}
    assert shop.node.instances == ()
    assert world.counted() == {"shop": 5}


def test_a_name_that_nobody_has_any_more_lets_go_of_its_sums() -> None:
    world = server()
    world.maps.series = {key(signature=0): value(3)}
    world.read()
    world.maps.owners = {1: owner(1, comm="renamed")}
    world.maps.series = {key(signature=0): value(5)}
    world.read()
    assert world.counted() == {"shop": 3, "renamed": 2}
    world.sums.accumulators.end_interval(time.time_ns() + 3600 * 10**9)
    assert world.counted() == {"renamed": 2}


def test_processes_that_ended_before_their_first_reading_are_their_service_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand runs of one command: one series, exact, however many readings there are."""
    monkeypatch.setattr(reaper, "QUIET_S", 0.0)
    world = World()
    world.maps.add(owner(1, comm="shop"), edge(Role.SERVER))
    world.maps.series = {key(): value(7)}
    world.read(is_last=True)
    world.alive = False
    for number in range(2, 200):
        world.maps.add(
            owner(number, comm="curl"),
            edge(Role.CLIENT)._replace(id=number, owner_id=number),
        )
        world.maps.series = {key(edge_id=number): value(2)}
        world.read(is_last=True)
    collected = world.sums.accumulators.collect(AggregationTemporality.CUMULATIVE)
    found = {
        (of.service.name, of.service.instance_id): [
            one.value.count for one in of.series
        ]
        for of in collected.services
    }
    assert found["curl", ""] == [2 * 198]
    assert [counts for (name, _), counts in found.items() if name == "shop"] == [[7]]
    assert len(found) == 2
