# SPDX-License-Identifier: Apache-2.0
"""Real connections, translated by a real kernel, between hosts that are namespaces."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from tests.netlink.lan import Host, Lan

from deetune_otel.netlink.conntrack import MAX_FOUND, TCP, UDP, Conntrack, Flow

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

ROOT: Final = Path(__file__).parents[2]
CONNECTIONS: Final = 6
PORT: Final = 8080

# What each family calls things.
VIRTUAL: Final = {socket.AF_INET: "10.96.0.1", socket.AF_INET6: "fd00:96::1"}
NET: Final = {socket.AF_INET: "10.77.{}.{}", socket.AF_INET6: "fd00:77:{}::{}"}
FAMILIES: Final = [socket.AF_INET, socket.AF_INET6]
PROTOCOLS: Final = [TCP, UDP]
WORDS: Final = {TCP: "tcp", UDP: "udp"}

SERVICES: Final = """
table inet services {{
	chain to {{
		type nat hook {hook} priority -100;
		ip daddr 10.96.0.1 meta l4proto {{ tcp, udp }} th dport 80 \
dnat ip to numgen inc mod 2 map {{ 0 : 10.77.2.2, 1 : 10.77.3.2 }} : 8080
		ip6 daddr fd00:96::1 meta l4proto {{ tcp, udp }} th dport 80 \
dnat ip6 to numgen inc mod 2 map {{ 0 : fd00:77:2::2, 1 : fd00:77:3::2 }} : 8080
	}}
}}
"""
MASQUERADE: Final = """
table inet out {
	chain from {
		type nat hook postrouting priority srcnat;
		ip saddr 10.77.1.0/24 masquerade
		ip6 saddr fd00:77:1::/64 masquerade
	}
}
"""


class Site(NamedTuple):
    """A client, the router that it sends everything to, and two servers behind it."""

    lan: Lan
    client: Host
    router: Host
    servers: tuple[Host, Host]

    def conntrack(self) -> Conntrack:
        return Conntrack(pids_in=self.lan.pids_in)


class Connection(NamedTuple):
    """The same one, as each end has it: from client to server."""

    at_client: Flow
    at_server: Flow
    server: Host


@pytest.fixture
def site() -> Iterator[Site]:
    with Lan() as lan:
        client, router = lan.host("client"), lan.host("router")
        servers = (lan.host("one"), lan.host("two"))
        for net, host in enumerate((client, *servers), 1):
            lan.cable(router, host, net)
            host.route("default", f"10.77.{net}.1")
            host.route("default", f"fd00:77:{net}::1")
        router.forwards()
        yield Site(lan, client, router, servers)


@pytest.fixture
def connections(
    site: Site, family: socket.AddressFamily, protocol: int
) -> Iterator[Connections]:
    with Connections(site, family, protocol) as made:
        yield made


def local(of: socket.socket) -> tuple[str, int]:
    address, port, *_ = of.getsockname()
    return address, port


class Connections(ExitStack):
    """Makes connections, and keeps them open to its end."""

    def __init__(self, site: Site, family: socket.AddressFamily, protocol: int) -> None:
        super().__init__()
        self._site, self._family, self._protocol = site, family, protocol
        self._kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
        self._listening: dict[Host, socket.socket] = {}
        for net, host in enumerate(site.servers, 2):
            listening = host.do(self._socket)
            listening.bind((NET[family].format(net, 2), PORT))
            if protocol == TCP:
                listening.listen()
            listening.settimeout(0)
            self._listening[host] = listening

    def make(self, address: str, port: int) -> Connection:
        here = self._site.client.do(self._socket)
        here.connect((address, port))
        here.send(b"hello")
        host, there, bound = self._accepted()
        return Connection(
            Flow(self._protocol, *local(here), address, port),
            Flow(self._protocol, *there, *bound),
            host,
        )

    def _socket(self) -> socket.socket:
        made = self.enter_context(socket.socket(self._family, self._kind))
        made.settimeout(5)
        return made

    def _accepted(self) -> tuple[Host, tuple[str, int], tuple[str, int]]:
        for _ in range(500):
            for host, listening in self._listening.items():
                listening.settimeout(0.01)
                try:
                    if self._protocol == UDP:
                        _, peer = listening.recvfrom(100)
                        listening.sendto(b"answer", peer)
                        bound = local(listening)
                    else:
                        accepted, peer = listening.accept()
                        bound = local(self.enter_context(accepted))
                except TimeoutError:
                    continue
                return host, (peer[0], peer[1]), bound
        raise AssertionError("no connection came")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_router_translates_both_ways(
    site: Site, connections: Connections, family: socket.AddressFamily, protocol: int
) -> None:
    """A virtual address in front of two servers, which see the router as their client."""
    del protocol
    site.router.nft(SERVICES.format(hook="prerouting") + MASQUERADE)
    client_address = NET[family].format(1, 2)
    reached: set[Host] = set()
    with closing(site.router.do(site.conntrack)) as conntrack:
        for _ in range(CONNECTIONS):
            made = connections.make(VIRTUAL[family], 80)
            reached.add(made.server)
            assert made.at_client.source == client_address
            assert made.at_server.source != client_address
            seen = conntrack.translated(made.at_client, netns=site.client.netns)
            assert seen == made.at_server
            sent = conntrack.origin(made.at_server, netns=made.server.netns)
            assert sent == made.at_client
    assert reached == set(site.servers)
    assert conntrack.counts == {"asked": 4 * CONNECTIONS, "found": 2 * CONNECTIONS}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("hook", ["prerouting", "output"])
def test_all_destinations_without_a_port(
    site: Site,
    connections: Connections,
    family: socket.AddressFamily,
    protocol: int,
    hook: str,
) -> None:
    host = site.router if hook == "prerouting" else site.client
    host.nft(SERVICES.format(hook=hook))
    made = [connections.make(VIRTUAL[family], 80) for _ in range(CONNECTIONS)]
    connections.make(NET[family].format(2, 2), PORT)
    any_port = made[0].at_client._replace(source_port=0)
    servers = {(NET[family].format(net, 2), PORT) for net in (2, 3)}
    with closing(site.router.do(site.conntrack)) as conntrack:
        for flow, expected in (
            (any_port, servers),
            (any_port._replace(source=""), servers),
            (any_port._replace(source=NET[family].format(1, 9)), set()),
            (any_port._replace(destination_port=81), set()),
            (any_port._replace(destination=NET[family].format(2, 2)), set()),
            (any_port._replace(protocol=TCP + UDP - protocol), set()),
        ):
            found = conntrack.destinations(flow, netns=site.client.netns)
            assert {
                (one.destination, one.destination_port) for one in found
            } == expected
            assert len(found) == len(expected)


@pytest.mark.parametrize(("family", "protocol"), [(socket.AF_INET, UDP)])
def test_a_long_list_is_not_read_to_its_end(
    site: Site, connections: Connections
) -> None:
    site.router.nft(SERVICES.format(hook="prerouting"))
    made = [connections.make("10.96.0.1", 80) for _ in range(MAX_FOUND + 20)]
    netns = site.router.netns
    with closing(site.conntrack()) as conntrack:
        for one in made[:3]:
            assert len(conntrack.destinations(one.at_client, netns=netns)) == 2
            assert conntrack.translated(one.at_client, netns=netns) == one.at_server
    assert not conntrack.counts["unreadable"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_translates_for_itself(
    site: Site, connections: Connections, family: socket.AddressFamily, protocol: int
) -> None:
    """As kube-proxy does in the host's namespace; each connection has a backend of its own."""
    del protocol
    site.client.nft(SERVICES.format(hook="output"))
    with closing(site.conntrack()) as conntrack:
        for _ in range(CONNECTIONS):
            made = connections.make(VIRTUAL[family], 80)
            seen = conntrack.translated(made.at_client, netns=site.client.netns)
            assert seen == made.at_server
            # nothing is between the two but their addresses
            netns = made.server.netns
            assert conntrack.origin(made.at_server, netns=netns) is None
            assert conntrack.origin(made.at_server, netns=0) is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", [TCP])
def test_one_translation_after_another(
    site: Site, connections: Connections, family: socket.AddressFamily, protocol: int
) -> None:
    """The client's own namespace, then the host's on what that gave."""
    del protocol
    site.client.nft(
        """table inet first { chain to { type nat hook output priority -100;
        ip daddr 10.95.0.1 tcp dport 443 dnat ip to 10.96.0.1:80
        ip6 daddr fd00:95::1 tcp dport 443 dnat ip6 to [fd00:96::1]:80
        }
        }"""
    )
    site.router.nft(SERVICES.format(hook="prerouting") + MASQUERADE)
    first = VIRTUAL[family].replace("96", "95", 1)
    with closing(site.router.do(site.conntrack)) as conntrack:
        made = connections.make(first, 443)
        seen = conntrack.translated(made.at_client, netns=site.client.netns)
        assert seen == made.at_server
        sent = conntrack.origin(made.at_server, netns=made.server.netns)
        assert sent is not None
        assert sent.source == made.at_client.source


@pytest.mark.parametrize(("family", "protocol"), [(socket.AF_INET, TCP)])
def test_asking_starts_no_tracking(site: Site, connections: Connections) -> None:
    with closing(site.conntrack()) as conntrack:
        made = connections.make("10.77.2.2", PORT)
        assert made.at_client == made.at_server
        for _ in range(2):
            netns = site.client.netns
            assert conntrack.translated(made.at_client, netns=netns) is None
            connections.make("10.77.2.2", PORT)
    assert site.client.tracked() == site.router.tracked() == 0
    assert conntrack.counts["asked"] == 4
    assert conntrack.counts["found"] == 0


@pytest.mark.parametrize(("family", "protocol"), [(socket.AF_INET, TCP)])
def test_what_is_tracked_without_translation(
    site: Site, connections: Connections
) -> None:
    site.router.nft(MASQUERADE.replace("10.77.1", "10.77.9"))
    made = connections.make("10.77.3.2", PORT)
    with closing(site.router.do(site.conntrack)) as conntrack:
        netns = site.client.netns
        assert conntrack.translated(made.at_client, netns=netns) is None
        assert conntrack.origin(made.at_server, netns=made.server.netns) is None
    assert conntrack.counts["found"] == 2


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing's own is the same each time


def test_sockets_are_bounded_and_let_go_of(site: Site) -> None:
    flow = Flow(TCP, "10.77.1.2", 1, "10.77.2.2", 2)
    hosts = (site.client, site.router, *site.servers)
    before = open_descriptors()
    conntrack = Conntrack(pids_in=site.lan.pids_in, max_sockets=2)
    for host in hosts * 2:
        assert conntrack.translated(flow, netns=host.netns) is None
        assert open_descriptors() <= before + 1 + 2
    assert open_descriptors() == before + 1 + 2
    conntrack.rest()
    assert open_descriptors() == before + 1
    conntrack.close()
    assert open_descriptors() == before


def test_a_namespace_that_is_gone_is_said_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flow = Flow(TCP, "10.77.1.2", 1, "10.77.2.2", 2)
    with closing(Conntrack(pids_in=lambda _: [])) as conntrack:
        for netns in (site.client.netns, site.router.netns):
            for _ in range(3):
                assert conntrack.translated(flow, netns=netns) is None
        assert conntrack.counts["ended"] == 2
        conntrack.rest()
        conntrack.translated(flow, netns=site.client.netns)
        assert conntrack.counts["ended"] == 3
    assert caplog.records == []  # that processes end is no news


def test_a_pid_of_another_namespace_leads_nowhere(site: Site) -> None:
    flow = Flow(TCP, "10.77.1.2", 1, "10.77.2.2", 2)
    others = [host.pid for host in site.servers]
    with closing(Conntrack(pids_in=lambda _: others)) as conntrack:
        assert conntrack.translated(flow, netns=site.client.netns) is None
        assert conntrack.counts["ended"] == 1
        assert conntrack.translated(flow, netns=site.servers[0].netns) is None
        assert conntrack.counts["ended"] == 1


WITHOUT_RIGHTS: Final = """
import os, sys
sys.path[:0] = {path!r}
from deetune_otel.netlink.conntrack import TCP, Conntrack, Flow
os.setgroups([]); os.setgid(65534); os.setuid(65534)
conntrack = Conntrack(pids_in=lambda _: [{pid}])
flow = Flow(TCP, "10.77.1.2", 1, "10.77.2.2", 2)
for _ in range(2):
    assert conntrack.translated(flow, netns={netns}) is None
    assert conntrack.origin(flow, netns=0) is None
print(*conntrack.counts.items())
"""


def test_without_rights_nothing_is_known(site: Site) -> None:
    code = WITHOUT_RIGHTS.format(
        path=sys.path, pid=site.client.pid, netns=site.client.netns
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "('not_permitted', 4)" in done.stdout
    assert done.stderr.count("translated addresses stay as they are") == 2
