# SPDX-License-Identifier: Apache-2.0
"""What TCP itself says of an edge, and which edges are the two ends of one connection."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.messages import OK, get
from tests.netlink.lan import Lan
from tests.process import free_port, wait_for_equal

from deetune_otel.model import (
    DURATION_BOUNDS_S,
    RTT_BOUNDS_S,
    Edge,
    Link,
    Role,
    Traffic,
    Transport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.conftest import Watching
    from tests.kernel.observe import Watch
    from tests.netlink.lan import Host

pytestmark = pytest.mark.kernel

CONNECTIONS: Final = 5


class Lives(NamedTuple):
    """An edge's connections."""

    opened: int
    closed: int
    sent_bytes: int
    received_bytes: int


def test_connections_and_bytes_are_exact(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = [connect() for _ in range(CONNECTIONS)]
    for one in ends:
        one.call(get(), OK)
    _expect_lives(
        watch, client, server, opened=5, closed=0, calls=CONNECTIONS, body=b""
    )
    for one in ends[:2]:
        one.close()
    ends[2].call(get(), OK)
    _expect_lives(watch, client, server, opened=5, closed=2, calls=6, body=b"")
    body = b"x" * 1_000_000
    ends[3].request(body, 100_000)
    _expect_lives(watch, client, server, opened=5, closed=2, calls=6, body=body)
    for one in ends[2:]:
        one.close()
    _expect_lives(watch, client, server, opened=5, closed=5, calls=6, body=body)


def test_a_client_says_how_long_connecting_took(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = [connect() for _ in range(CONNECTIONS)]
    for one in ends:
        one.call(get(), OK)
    _, ours = _edge(watch, client)
    assert sum(ours.connect_buckets) == CONNECTIONS
    assert 0 < ours.connect_sum_ns < CONNECTIONS * 10**9
    _, theirs = _edge(watch, server)
    assert (sum(theirs.connect_buckets), theirs.connect_sum_ns) == (0, 0)


def test_a_failed_connect_opens_nothing(watch: Watch, client: Actor) -> None:
    assert client.call("connect_error", ("127.0.0.1", free_port())) != 0
    assert [
        (found.opened, found.closed, sum(found.connect_buckets))
        for _, found in watch.traffic(client.pid)
    ] in ([], [(0, 0, 0)])


def test_the_round_trip_time_is_tcps_own(
    watch: Watch, client: Actor, connect: Callable[..., Ends]
) -> None:
    """Each reading takes one sample of each open connection."""
    ends = connect()
    ends.call(get(), OK)
    _, before = _edge(watch, client)
    _, after = _edge(watch, client)
    rtt_us, _ = ends.client.call("tcp_info")
    assert after.rtt_sum_ns - before.rtt_sum_ns == rtt_us * 1000
    bucket = sum(bound * 1_000_000 < rtt_us for bound in RTT_BOUNDS_S)
    added = [
        now - then
        for now, then in zip(after.rtt_buckets, before.rtt_buckets, strict=True)
    ]
    assert added == [int(i == bucket) for i in range(len(RTT_BOUNDS_S) + 1)]


def test_connections_are_joined(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = [connect() for _ in range(CONNECTIONS)]
    for one in ends:
        one.call(get(), OK)
        one.close()
    _expect_join(watch, client, server, CONNECTIONS)


def test_a_connection_without_a_word_is_joined(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """Whose its ends are is found by their descriptors."""
    connect()
    watch.kernel.own_idle()
    _expect_join(watch, client, server, 1)


def test_connections_over_ipv6_and_to_many_servers_are_joined(
    watch: Watch, client: Actor, actors: Callable[[], Actor]
) -> None:
    servers = [actors() for _ in range(3)]
    for number, server in enumerate(servers, 1):
        listener, address = server.listen(("::1", 0))
        for _ in range(number):
            ends = Ends(client.connect(address), listener.accept())
            ends.call(get(), OK)
    for number, server in enumerate(servers, 1):
        _expect_join(watch, client, server, number)


def test_both_ends_in_one_process_are_joined(watch: Watch, client: Actor) -> None:
    listener, address = client.listen()
    ends = Ends(client.connect(address), listener.accept())
    ends.call(get(), OK)
    _expect_join(watch, client, client, 1)


def test_unix_connections_are_joined(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    tmp_path: Path,
) -> None:
    ends = [connect(str(tmp_path / "socket")) for _ in range(CONNECTIONS)]
    for one in ends:
        one.call(get(), OK)
        one.call(get(), OK)
    _expect_join(watch, client, server, CONNECTIONS)
    edge, ours = _edge(watch, client)
    assert (edge.transport, ours.opened) == (Transport.UNIX, CONNECTIONS)
    assert ours.sent_bytes == 2 * CONNECTIONS * len(get())
    assert (sum(ours.rtt_buckets), ours.retransmits) == (0, 0)


def test_connections_older_than_the_agent_are_joined(watching: Watching) -> None:
    with Actor() as client, Actor() as server:
        listener, address = server.listen()
        ends = Ends(client.connect(address), listener.accept())
        ends.call(get(), OK)
        with watching() as watch:
            ends.call(get(), OK)
            _expect_join(watch, client, server, 1)
            for actor in (client, server):
                _, found = _edge(watch, actor)
                assert (found.opened, found.closed) == (1, 0)
                assert sum(found.connect_buckets) == 0  # nobody saw it connect
            client.kill()
            server.kill()


def test_a_connection_that_is_handed_on_is_joined_with_who_has_it(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """The join that was made before is taken back: one connection, one join."""
    ends = connect()
    ends.call(get(), OK)
    ends.client.send(get())
    child, _ = server.call(
        "in_fork",
        [
            ("recv_exactly", (ends.server.number, len(get()))),
            ("send", (ends.server.number, OK)),
        ],
    )
    ends.client.take(OK)
    assert _joined(watch, client.pid, server.pid) == 0
    assert _joined(watch, client.pid, child) == 1


# Hosts


class Site(NamedTuple):
    """A client and a server, and what is between them."""

    client: Actor
    server: Actor
    client_host: Host
    server_host: Host
    router: Host


@pytest.fixture
def site(watch: Watch) -> Iterator[Site]:
    """client - router - server, each a host; the router forwards."""
    del watch
    with Lan() as lan, ExitStack() as stack:
        left, router, right = (lan.host(name) for name in ("left", "router", "right"))
        lan.cable(left, router, 1)
        lan.cable(router, right, 2)
        left.route("default", "10.77.1.2")
        right.route("default", "10.77.2.1")
        router.forwards()
        client, server = (stack.enter_context(Actor()) for _ in range(2))
        client.call("enter", f"/run/netns/{left.name}")
        server.call("enter", f"/run/netns/{right.name}")
        yield Site(client, server, left, right, router)


def test_connections_are_joined_through_translation_of_both_addresses(
    watch: Watch, site: Site
) -> None:
    site.router.nft(
        "table ip nat {\n"
        "chain pre { type nat hook prerouting priority -100;"
        " ip daddr 10.77.1.2 tcp dport 80 dnat to 10.77.2.2:8000; }\n"
        "chain post { type nat hook postrouting priority 100; masquerade; }\n}\n"
    )
    listener, _ = site.server.listen(("10.77.2.2", 8000))
    for _ in range(CONNECTIONS):
        ends = Ends(site.client.connect(("10.77.1.2", 80)), listener.accept())
        ends.call(get(), OK)
        ends.close()
    _expect_join(watch, site.client, site.server, CONNECTIONS)
    ours, _ = _edge(watch, site.client)
    theirs, _ = _edge(watch, site.server)
    assert (ours.peer_address, ours.server_port) == ("10.77.1.2", 80)
    assert (theirs.local_address, theirs.server_port) == ("10.77.2.2", 8000)
    assert theirs.peer_address == "10.77.2.1"


def test_segments_sent_again_are_as_many_as_tcp_says(watch: Watch, site: Site) -> None:
    site.router.nft(
        "table ip loss { chain forward { type filter hook forward priority 0;"
        " ip saddr 10.77.2.2 ip length > 1000 numgen inc mod 20 == 7 drop; }\n}\n"
    )
    ends = _connected(site)
    body = b"y" * 400_000
    ends.request(get())
    sending = ends.server.start("send", body)
    ends.client.take(body)
    sending()
    _, sent_again = ends.server.call("tcp_info")
    assert sent_again > 0
    _, theirs = _edge(watch, site.server)
    assert (theirs.retransmits, theirs.sent_bytes) == (sent_again, len(body))
    _, ours = _edge(watch, site.client)
    assert (ours.retransmits, ours.received_bytes) == (0, len(body))


def test_a_connect_whose_first_segment_is_lost_took_a_second(
    watch: Watch, site: Site
) -> None:
    site.router.nft(
        "table ip loss { chain forward { type filter hook forward priority 0;"
        " ip saddr 10.77.1.1 tcp flags syn numgen inc mod 2 == 0 drop; }\n}\n"
    )
    ends = _connected(site)
    ends.call(get(), OK)
    _, ours = _edge(watch, site.client)
    bucket = sum(bound < 1.01 for bound in DURATION_BOUNDS_S)
    assert ours.connect_buckets[bucket] == sum(ours.connect_buckets) == 1
    assert 10**9 <= ours.connect_sum_ns < 25 * 10**8
    assert ours.retransmits == 1


def test_an_end_that_is_not_observed_leaves_a_link(
    watching: Watching, site: Site
) -> None:
    """Only the client's namespace: the pair is what another agent would know it by."""
    netns = Path(f"/proc/{site.client_host.pid}/ns/net").stat().st_ino
    with watching(netns=netns) as watch:
        ends = _connected(site)
        ends.call(get(), OK)
        assert watch.edges(site.server.pid) == []
        edge, _ = _edge(watch, site.client)
        (link,) = _links(watch, edge.id)
        assert (link.client_edge_id, link.server_edge_id) == (edge.id, 0)
        assert link.peer_port == 8000
        assert all(link.pair)
        with watching() as everywhere:  # finds the same connection, and the same pair
            ends.call(get(), OK)
            theirs, _ = _edge(everywhere, site.server)
            (found,) = _links(everywhere, theirs.id)
            assert found.pair == link.pair
        site.client.kill()
        site.server.kill()


def test_other_namespaces_can_be_left_out(watching: Watching, site: Site) -> None:
    own = Path("/proc/self/ns/net").stat().st_ino
    with watching(netns=own) as watch, Actor() as client, Actor() as server:
        ends = _connected(site)
        ends.call(get(), OK)
        listener, address = server.listen()
        near = Ends(client.connect(address), listener.accept())
        near.call(get(), OK)
        assert watch.edges(site.client.pid, site.server.pid) == []
        _expect_join(watch, client, server, 1)


# Datagrams


def test_datagrams_of_a_socket_with_many_peers(
    watch: Watch, client: Actor, actors: Callable[[], Actor]
) -> None:
    """Sent with an address each; what a server received belongs to no peer in particular."""
    servers = [actors() for _ in range(2)]
    here, _ = client.call("datagram_server", ("127.0.0.1", 0))
    ports = []
    for number, server in enumerate(servers, 1):
        there, address = server.call("datagram_server", ("127.0.0.1", 0))
        ports.append(address[1])
        echoed = server.start("echo", there, number)
        for _ in range(number):
            client.call("send_to", here, b"z" * 700, address)
            assert client.call("recv", here) == b"z" * 700
        assert echoed() == number
    sent = {
        (edge.role, edge.transport, edge.server_port): (
            found.sent_bytes,
            found.received_bytes,
        )
        for edge, found in watch.traffic(client.pid)
    }
    assert sent == {
        (Role.CLIENT, Transport.UDP, port): (700 * number, 700 * number)
        for number, port in enumerate(ports, 1)
    }
    for number, server in enumerate(servers, 1):
        found = [carried for _, carried in watch.traffic(server.pid)]
        assert sum(one.sent_bytes for one in found) == 700 * number
        assert sum(one.received_bytes for one in found) == 700 * number


def _connected(site: Site) -> Ends:
    listener, address = site.server.listen(("10.77.2.2", 8000))
    return Ends(site.client.connect(address), listener.accept())


def _edge(watch: Watch, actor: Actor) -> tuple[Edge, Traffic]:
    """A process's only edge."""
    (found,) = watch.traffic(actor.pid)
    return found


def _expect_lives(
    watch: Watch,
    client: Actor,
    server: Actor,
    *,
    opened: int,
    closed: int,
    calls: int,
    body: bytes,
) -> None:
    """Both ends' counts mirror each other; a close is seen a moment after it was made."""
    requests, responses = calls * len(get()) + len(body), calls * len(OK)

    def lives() -> list[Lives]:
        return [
            Lives(one.opened, one.closed, one.sent_bytes, one.received_bytes)
            for _, one in (_edge(watch, client), _edge(watch, server))
        ]

    wait_for_equal(
        lives,
        [
            Lives(opened, closed, requests, responses),
            Lives(opened, closed, responses, requests),
        ],
        "the connections of both ends",
    )


def _joined(watch: Watch, client_pid: int, server_pid: int) -> int:
    clients = {edge.id for edge in watch.edges(client_pid)}
    servers = {edge.id for edge in watch.edges(server_pid)}
    return sum(
        join.connections
        for join in watch.kernel.read_joins()
        if join.client_edge_id in clients and join.server_edge_id in servers
    )


def _expect_join(watch: Watch, client: Actor, server: Actor, number: int) -> None:
    assert _joined(watch, client.pid, server.pid) == number


def _links(watch: Watch, edge_id: int) -> list[Link]:
    return [
        link
        for link in watch.kernel.read_links()
        if edge_id in (link.client_edge_id, link.server_edge_id)
    ]
