# SPDX-License-Identifier: Apache-2.0
"""What visits find: connections whose begin or end no program saw, and those without storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.messages import OK, get
from tests.kernel.observe import Calls, Watch, http
from tests.process import wait_for_equal, wait_until

from deetune_otel.model import LedgerLine, Role

if TYPE_CHECKING:
    from tests.kernel.conftest import Watching

pytestmark = pytest.mark.kernel

CONNECTIONS: Final = 7
IPPROTO_MPTCP: Final = 262


def stop(watch: Watch, *programs: str) -> None:
    """As if the kernel did not run them: it may skip any at any time."""
    for name in programs:
        watch.kernel._attachments[name].close()


def test_ends_that_no_program_saw(watching: Watching) -> None:
    with watching() as watch, Actor() as client, Actor() as server:
        listener, address = server.listen()
        pairs = [
            Ends(client.connect(address), listener.accept()) for _ in range(CONNECTIONS)
        ]
        for ends in pairs:
            ends.call(get(), OK)
        watch.kernel.read_traffic()
        stop(watch, "dt_tcp_destroy")
        for ends in pairs:
            ends.close()

        def unseen() -> int:
            watch.kernel.read_traffic()
            return watch.noted("unseen_ends").exchanges

        # both ends of each
        wait_for_equal(unseen, 2 * CONNECTIONS, "all ends are found out")
        for actor in (client, server):
            counts = [of for _, of in watch.traffic(actor.pid)]
            assert sum(of.opened for of in counts) == CONNECTIONS
            assert sum(of.closed for of in counts) == CONNECTIONS
        assert watch.kernel.read_ledger().open == LedgerLine(0, 0)


def test_places_of_ended_connections_are_not_taken_for_others(
    watching: Watching,
) -> None:
    """Their memory is another's at once: what is read there is that of nobody else."""
    with watching() as watch, Actor() as client, Actor() as server:
        stop(watch, "dt_tcp_destroy")
        listener, address = server.listen()
        for _ in range(50):
            ends = Ends(client.connect(address), listener.accept())
            ends.call(get(), OK)
            ends.close()
        kept = Ends(client.connect(address), listener.accept())
        for _ in range(3):
            kept.call(get(), OK)
        kept.request(get())
        for _ in range(5):
            is_open = watch.kernel.read_ledger().open
            # the request at its client and, read, at its server
            assert is_open == LedgerLine(2, 2 * len(get()))
            watch.kernel.read_traffic()
        kept.respond(OK)
        sent = sum(of.sent_bytes for _, of in watch.traffic(client.pid))
        kept_only = 4 * len(get())
        assert kept_only <= sent <= 54 * len(get())
        watch.expect(client.pid, {http(Role.CLIENT): many(54)})


def test_handshakes_that_no_program_saw(watching: Watching) -> None:
    """The connection is met by its first bytes: its role, its offsets and its end are right."""
    with watching() as watch, Actor() as client, Actor() as server:
        listener, address = server.listen()
        stop(watch, "dt_tcp_state", "dt_tcp_connect")
        ends = Ends(client.connect(address), listener.accept())
        for _ in range(3):
            ends.call(get(), OK)
        watch.expect(client.pid, {http(Role.CLIENT): many(3)})
        watch.expect(server.pid, {http(Role.SERVER): many(3)})
        assert watch.noted("unseen_handshakes").exchanges == 2
        wires = [
            [one.wire for one in watch.exchanges(actor.pid)]
            for actor in (client, server)
        ]
        assert sorted(wires[0]) == sorted(wires[1])
        assert len(set(wires[0])) == 3


def test_a_failed_connect_whose_end_was_not_seen(watching: Watching) -> None:
    with watching() as watch, Actor() as client, Actor() as server:
        listener, address = server.listen()
        listener.close()
        stop(watch, "dt_tcp_state")
        with pytest.raises(ConnectionRefusedError):
            client.connect(address)
        client.kill()
        wait_until(
            lambda: any(
                key.protocol.value == "connect" and value.count == 1
                for _, key, value in watch.series(client.pid)
            ),
            "the connect that failed is counted when its socket ends",
        )


def test_more_connections_than_are_told_apart(watching: Watching) -> None:
    with watching(max_connections=4) as watch, Actor() as client, Actor() as server:
        listener, address = server.listen()
        pairs = [
            Ends(client.connect(address), listener.accept()) for _ in range(CONNECTIONS)
        ]
        for ends in pairs:
            ends.call(get(), OK)
        # other programs' connections may have taken the room of these
        assert watch.noted("overflow_connections").exchanges >= 2 * CONNECTIONS - 4
        watch.expect(client.pid, {http(Role.CLIENT): many(CONNECTIONS)})
        for ends in pairs:
            ends.close()

        def sent() -> int:
            return sum(of.sent_bytes for _, of in watch.traffic(client.pid))

        wait_for_equal(sent, CONNECTIONS * len(get()), "their bytes come at their end")


def test_mptcp_is_counted_and_its_end_is_found(watching: Watching) -> None:
    """Its sockets do not go through tcp_destroy_sock: the sweep finds out that they ended."""
    with watching() as watch, Actor() as client, Actor() as server:
        listener, address = server.listen(protocol=IPPROTO_MPTCP)
        ends = Ends(client.connect(address, protocol=IPPROTO_MPTCP), listener.accept())
        for _ in range(3):
            ends.call(get(), OK)
        watch.expect(client.pid, {http(Role.CLIENT): many(3)})
        watch.expect(server.pid, {http(Role.SERVER): many(3)})
        wires = [one.wire for one in watch.exchanges(client.pid, server.pid)]
        assert len(set(wires)) == 6
        ends.request(get())  # and nobody answers
        assert watch.kernel.read_ledger().open == LedgerLine(2, 2 * len(get()))
        ends.close()

        def still_open() -> LedgerLine:
            watch.kernel.read_series()
            return watch.kernel.read_ledger().open

        wait_for_equal(still_open, LedgerLine(0, 0), "both ends are swept")


def many(n: int) -> Calls:
    return Calls(n, n * len(get()), n * len(OK), 0, 3 * n)
