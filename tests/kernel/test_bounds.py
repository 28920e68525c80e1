# SPDX-License-Identifier: Apache-2.0
"""Every bound of the kernel side, passed on purpose: what is over it is counted by name.

Other processes of the machine count too, so totals are compared over all owners where a bound is
shared by all.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.messages import OK, get, redis, response
from tests.kernel.observe import BUSY_DEADLINE_S, Call, Calls, Watch, http
from tests.process import free_port, wait_until

from deetune_otel.model import Exchange, KeptBecause, Protocol, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.conftest import Watching

pytestmark = pytest.mark.kernel

OVERFLOW_OF_GET: Final = 2  # DT_SIGNATURE_OVERFLOW_GET
SLOTS: Final = 16  # DT_SLOTS
SPILLED: Final = 8
OPERATIONS: Final = 3
EDGES: Final = 2
PORTS_APART: Final = 8  # DT_OVERFLOW_PORTS
NAMED: Final = 16  # DT_SIGNATURE_HASHES
CAPPED: Final = {
    "operations_per_owner": OPERATIONS,
    "edges_per_owner": EDGES,
    "max_spilled": SPILLED,
}


@pytest.fixture(scope="module")
def capped(module_watching: Watching) -> Iterator[Watch]:
    """A kernel side with small caps that do not disturb each other."""
    with module_watching(**CAPPED) as watch:
        yield watch


@pytest.fixture
def ends(capped: Watch) -> Iterator[Ends]:
    """A new client and a new server, connected."""
    with Actor() as client, Actor() as server:
        listener, address = server.listen()
        here = client.connect(address)
        yield Ends(here, listener.accept())
    capped.wait_for_balance()


def test_more_operations_than_the_cap(capped: Watch, ends: Ends) -> None:
    """The first ones keep their names, and are counted on under them; the rest is one."""
    paths = [f"/{letter}" for letter in "abcdefghij"]
    before = capped.noted("overflow_operations").exchanges
    for _ in range(2):
        for path in paths:
            ends.call(get(path), OK)
    for actor in (ends.client.actor, ends.server.actor):
        counts: dict[int, int] = {}
        for _, key, value in capped.series(actor.pid):
            counts[key.signature] = counts.get(key.signature, 0) + value.count
        assert counts.pop(OVERFLOW_OF_GET) == 2 * (len(paths) - OPERATIONS)
        assert list(counts.values()) == [2] * OPERATIONS
        names = capped.operations(actor.pid)
        assert {names[b"GET " + path.encode()] for path in paths[:OPERATIONS]} == {2}
    over = capped.noted("overflow_operations").exchanges - before
    assert over >= 2 * 2 * (len(paths) - OPERATIONS)


def test_more_edges_than_the_cap(capped: Watch) -> None:
    """All further servers share one edge, which says so."""
    ports = 5
    with Actor() as client, Actor() as server:
        for i in range(ports):
            listener, address = server.listen()
            ends = Ends(client.connect(address), listener.accept())
            for _ in range(i + 1):
                ends.call(get(), OK)
        edges = capped.edges(client.pid)
        assert sorted(edge.overflow for edge in edges) == [False] * EDGES + [True]
        (rest,) = [edge for edge in edges if edge.overflow]
        assert (rest.role, rest.peer_address, rest.server_port) == (Role.CLIENT, "", 0)
        counts = {edge.id: 0 for edge in edges}
        for edge, _, value in capped.series(client.pid):
            counts[edge.id] += value.count
        assert counts[rest.id] == 3 + 4 + 5
        assert sorted(counts.values()) == [1, 2, 12]
        # a server's own ports stay apart: it has few
        shared = [edge for edge in capped.edges(server.pid) if edge.overflow]
        assert len(shared) == ports - EDGES
        assert capped.noted("overflow_edges").exchanges >= 2 * 12
    capped.wait_for_balance()


def test_more_in_flight_than_the_spill_map_holds(capped: Watch, ends: Ends) -> None:
    """What has no place is lost by name; later exchanges are matched right again."""
    asked, ping, pong = 100, redis("PING"), b"+PONG\r\n"
    ends.call(ping, pong)
    before = capped.lost("pipeline").exchanges
    ends.request(ping * asked)
    lost = capped.lost("pipeline").exchanges - before
    assert lost == 2 * (asked - SLOTS) - SPILLED  # both ends share the map
    ends.respond(pong * asked)
    for _ in range(40):
        ends.call(ping, pong)
    call = {role: Call(role, Protocol.REDIS) for role in (Role.CLIENT, Role.SERVER)}
    counted = capped.count(call[Role.CLIENT], ends.client.actor.pid) + capped.count(
        call[Role.SERVER], ends.server.actor.pid
    )
    assert counted == 2 * (1 + asked + 40) - lost
    wrong = b"-WRONGTYPE x\r\n"
    ends.call(ping, wrong)
    for actor, role in (
        (ends.client.actor, Role.CLIENT),
        (ends.server.actor, Role.SERVER),
    ):
        found = capped.calls(actor.pid)
        assert found[Call(role, Protocol.REDIS, 2)] == Calls(1, len(ping), len(wrong))


def test_a_prober_leaves_edges_for_others(watching: Watching) -> None:
    """What it calls beyond its share is still its own, by role and protocol; nobody else loses."""
    shared, ports = 64, 60
    with watching(max_edges=shared) as watch:
        with Actor() as prober, Actor() as server:
            call_each(prober, server, ports)
            edges = watch.edges(prober.pid)
            named = [edge for edge in edges if not edge.overflow]
            assert 1 <= len(named) <= shared // 4
            assert [edge.role for edge in edges if edge.overflow] == [Role.CLIENT]
            for actor, role in ((prober, Role.CLIENT), (server, Role.SERVER)):
                assert watch.count(http(role), actor.pid) == ports
            for _ in range(4):
                with Actor() as client, Actor() as other:
                    call_each(client, other, 1)
                    assert [
                        edge.overflow for edge in watch.edges(client.pid, other.pid)
                    ] == [False, False]
            ended = watch.owners({prober.pid, server.pid})
        watch.kernel.forget_owners(ended)
        with Actor() as client, Actor() as server:
            call_each(client, server, ports)
            again = [edge for edge in watch.edges(client.pid) if not edge.overflow]
            assert (
                len(again) >= len(named) - 4 * 2
            )  # those four pairs still have theirs
        assert not any(key.edge_id == 0 for key in watch.kernel.read_series())


def test_overflow_edges_of_a_server_are_few(watching: Watching) -> None:
    """However many ports it listens on, so that their own number is a bound as well."""
    with (
        watching(edges_per_owner=0) as watch,
        Actor() as client,
        Actor() as server,
    ):
        call_each(client, server, PORTS_APART + 4)
        edges = watch.edges(server.pid)
        assert all(edge.overflow for edge in edges)
        assert [edge.server_port for edge in edges].count(0) == 1
        assert len(edges) == PORTS_APART + 1
        assert watch.count(http(Role.SERVER), server.pid) == PORTS_APART + 4


def test_more_series_than_a_process_may_have(watching: Watching) -> None:
    """Operations are counted together, then outcomes: never without the edge and the protocol."""
    refused, statuses = 30, range(200, 260)
    with watching(max_series=64) as watch:
        with Actor() as prober, Actor() as client, Actor() as server:
            for _ in range(refused):
                nobody = ("127.0.0.1", free_port())
                assert prober.call("connect_error", nobody) == errno.ECONNREFUSED
            call = Call(Role.CLIENT, Protocol.CONNECT, errno.ECONNREFUSED)
            assert watch.count(call, prober.pid) == refused
            listener, address = server.listen()
            ends = Ends(client.connect(address), listener.accept())
            for status in statuses:
                ends.call(get(), response(b"", status))
            for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
                found = {
                    call.outcome: calls.number
                    for call, calls in watch.calls(actor.pid).items()
                    if (call.role, call.protocol) == (role, Protocol.HTTP)
                }
                assert sum(found.values()) == len(statuses)
                assert found[0] > 30  # of statuses that have no series of their own
                assert all(found[status] == 1 for status in found.keys() - {0})
            over = watch.noted("overflow_series").exchanges
            assert over >= 2 * 30
            with Actor() as late, Actor() as other:
                call_each(late, other, 1)
                for actor in (late, other):
                    ((_, key, value),) = watch.series(actor.pid)
                    assert (key.outcome, value.count) == (200, 1)
                    assert key.signature >= NAMED

        def all_is_there() -> bool:
            total = sum(one.count for one in watch.kernel.read_series().values())
            return total == watch.kernel.read_ledger().counted.exchanges

        wait_until(
            all_is_there,
            "the series hold what the ledger counted",
            timeout_s=BUSY_DEADLINE_S,
        )
        assert not any(key.edge_id == 0 for key in watch.kernel.read_series())


def call_each(client: Actor, server: Actor, ports: int) -> None:
    """One request to each of so many ports of the server's."""
    for _ in range(ports):
        listener, address = server.listen()
        Ends(client.connect(address), listener.accept()).call(get(), OK)


def test_a_ring_that_nobody_reads(watching: Watching) -> None:
    """Counts are exact all the same, and each span that is missing is counted."""
    asked = 60
    with watching(ring_bytes=4096, spans_per_second=100_000) as watch:
        with Actor() as client, Actor() as server:
            listener, address = server.listen()
            ends = Ends(client.connect(address), listener.accept())
            for i in range(asked):
                ends.call(get(f"/{chr(97 + i % 26)}"), OK)
            watch.expect_both(
                client.pid,
                server.pid,
                {
                    (Protocol.HTTP, 200): Calls(
                        asked, asked * 31, asked * len(OK), 0, 180
                    )
                },
            )
            assert watch.noted("spans_ring_full").exchanges > 0
            # names come by a ring of their own: no flood of spans keeps them out
            assert watch.noted("samples_ring_full").exchanges == 0
            watch.records()
            named = watch.operations(server.pid) | watch.operations(client.pid)
            assert len(named) == 26

        def all_is_there() -> bool:
            # Both numbers are of the whole machine, and of the whole life of this ring.
            spans = sum(isinstance(one, Exchange) for one in watch.records())
            ledger = watch.kernel.read_ledger()
            without = ledger.noted["spans_ring_full"].exchanges
            without += ledger.noted["spans_budget"].exchanges
            return spans + without == ledger.counted.exchanges

        wait_until(
            all_is_there,
            "each exchange has its span or its reason",
            timeout_s=BUSY_DEADLINE_S,
        )


def test_the_span_budget(watching: Watching) -> None:
    """Errors have room in a busy second; the others are the same at both ends."""
    with watching(spans_per_second=8) as watch:
        with Actor() as client, Actor() as server:
            listener, address = server.listen()
            ends = Ends(client.connect(address), listener.accept())
            for _ in range(60):
                ends.call(get("/often"), OK)
            ends.call(get("/broken"), response(b"", 500))
            for actor in (client, server):
                spans = watch.exchanges(actor.pid)
                # three quarters of the budget for the hash, in each second that it took
                by_hash = [one for one in spans if one.kept is KeptBecause.HASH]
                assert 6 <= len(by_hash) <= 24
                (broken,) = [one for one in spans if one.kept is KeptBecause.ERROR]
                assert broken.key.outcome == 500
            assert watch.count(http(Role.SERVER), server.pid) == 60

            # a share of all: chosen by what both ends know
            for actor in (client, server):
                (owner,) = watch.owners({actor.pid})
                watch.kernel.set_span_limit(owner, per_second=10_000, keep_fraction=0.5)
            before = {
                actor: len(watch.exchanges(actor.pid)) for actor in (client, server)
            }
            for _ in range(200):
                ends.call(get("/often"), OK)
            wires = [
                {one.wire for one in watch.exchanges(actor.pid)[before[actor] :]}
                for actor in (client, server)
            ]
            assert wires[0] == wires[1]
            assert 60 < len(wires[0]) < 140

        def all_is_there() -> bool:
            spans = sum(isinstance(one, Exchange) for one in watch.records())
            ledger = watch.kernel.read_ledger()
            over = ledger.noted["spans_budget"].exchanges
            return spans + over == ledger.counted.exchanges

        wait_until(
            all_is_there,
            "each exchange has its span or its reason",
            timeout_s=BUSY_DEADLINE_S,
        )


def test_more_processes_than_numbers(watching: Watching) -> None:
    """Those that come late are counted together, as other processes."""
    with watching(max_owners=1) as watch, Actor() as client, Actor() as server:
        listener, address = server.listen()
        ends = Ends(client.connect(address), listener.accept())
        for _ in range(3):
            ends.call(get(), OK)
        edges = watch.kernel.read_edges()
        nobodys = {edge.id for edge in edges.values() if edge.owner_id == 0}
        counted = sum(
            value.count
            for key, value in watch.kernel.read_series().items()
            if key.edge_id in nobodys
        )
        assert counted + watch.count(http(Role.CLIENT), client.pid) >= 6
