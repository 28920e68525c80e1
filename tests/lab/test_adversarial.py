# SPDX-License-Identifier: Apache-2.0
"""Programs that make it hard to say who called whom. Each test asserts every edge and count.

One host, one agent for all of them; what is on the map beside the test's own services is another
test's.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from lab.net import inside
from lab.stage import Lab
from tests.lab.conftest import (
    LOCAL_REDIS,
    REAL,
    Stage,
    expect_right,
    host_with_agent,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(90)]

CROWD: Final = 1000
MANY: Final = 10_000
MAX_AGENT_BYTES: Final = 160 << 20


def test_who_is_handed_a_connection_owns_its_edge(stage: Stage) -> None:
    """The acceptor never reads: a descriptor goes over a Unix socket to who serves."""
    taker, passer, client = map(stage.player, ("taker", "passer", "client"))
    path = f"{stage.lab.folder}/{stage.name('hand')}"
    taker.do("take_passed", path=path)
    where = passer.do("pass_on", address=stage.address(stage.port()), path=path)
    host, _, port = where.partition(":")
    client.call("http", (host, int(port)), 7)
    client.call("http", (host, int(port)), 5, keep=False)
    stage.lab.silent(passer.service, taker.service)  # the Unix socket
    stage.expect(("client", "taker", {"http": 12}), ("passer", "taker", {}))


def test_workers_with_an_inherited_listener_are_one_service(stage: Stage) -> None:
    shop, web, batch = map(stage.player, ("shop", "web", "batch"))
    where = stage.address(stage.port())
    workers = shop.do("prefork", address=where, workers=3)
    for _ in range(5):
        web.call("http", where, 3)
        batch.call("http", where, 2, keep=False)
    stage.expect(("web", "shop", {"http": 15}), ("batch", "shop", {"http": 10}))
    # by number: where the agent has a pid namespace of its own, theirs are the root's pids
    instances = stage.node("shop")["instances"]
    assert 1 <= len(instances) <= len(workers), "who serves is one, who listened is not"


def test_a_pid_that_is_used_again_is_another_service(
    stage: Stage, compiled: Callable[[str], str]
) -> None:
    shop = stage.player("shop")
    where = shop.serve("http", stage.port())
    prefix = (compiled("with_pid"), str(unused_pid()))
    first = stage.player("first", prefix=prefix)
    first.call("http", where, 3)
    stage.wait_until_met("first")
    first.retire()
    second = stage.player("second", prefix=prefix)
    second.call("http", where, 4)
    stage.expect(("first", "shop", {"http": 3}), ("second", "shop", {"http": 4}))


def test_a_port_that_is_used_again_at_once_is_another_client(stage: Stage) -> None:
    """The same four addresses and ports, one after the other: a reset leaves no TIME_WAIT."""
    shop, first, second = map(stage.player, ("shop", "first", "second"))
    where = shop.serve("http", stage.port())
    port = stage.port()
    first.call("http", where, 3, local_port=port, abort=True)
    second.call("http", where, 5, local_port=port, abort=True)
    first.call("http", where, 2, local_port=port, abort=True)
    stage.expect(("first", "shop", {"http": 5}), ("second", "shop", {"http": 5}))


@pytest.mark.parametrize("pause_s", [0, 2.5])
def test_an_address_that_moves_takes_its_calls_along(
    stage: Stage, pause_s: float
) -> None:
    """The same client's calls belong to who had the address when they were made."""
    old, new, client = map(stage.player, ("old", "new", "client"))
    where = old.serve("http", stage.port())
    client.call("http", where, 11, keep=False)
    client.call("http", where, 4)
    time.sleep(
        pause_s
    )  # more than an interval: the agent has read the first calls, or has not
    old.do("stop", address=f"{where[0]}:{where[1]}")
    new.do("serve", protocol="http", address=where)
    client.call("http", where, 7, keep=False)
    client.call("http", where, 2)
    stage.expect(("client", "old", {"http": 15}), ("client", "new", {"http": 9}))


def test_an_address_that_moves_and_loses_its_first_owner(stage: Stage) -> None:
    old, new, client = map(stage.player, ("old", "new", "client"))
    where = old.serve("http", stage.port())
    client.call("http", where, 11, keep=False)
    stage.wait_until_met("old")
    old.retire()
    new.serve("http", where[1])
    client.call("http", where, 7, keep=False)
    stage.expect(("client", "old", {"http": 11}), ("client", "new", {"http": 7}))


def test_one_address_that_two_services_serve_at_once(stage: Stage) -> None:
    """SO_REUSEPORT: the kernel gives each connection to one of them.

    Neither end tells the calls of two clients to two servers apart: those are divided.
    """
    red, green, client, other = map(stage.player, ("red", "green", "client", "other"))
    where = red.serve("http", stage.port(), shared=True)
    green.serve("http", where[1], shared=True)
    to_red = to_green = 0
    for count in (5, 3, 2, 7, 1, 1, 4, 2):
        said = client.call("http", where, count)
        to_red += said.get(red.service, 0)
        to_green += said.get(green.service, 0)
    assert to_red or to_green
    others = other.call("http", where, 12, keep=False)
    edges = [
        (who, server.rpartition(".")[0].partition(".")[0], n)
        for who, server, n in (
            ("client", red.service, to_red),
            ("client", green.service, to_green),
            ("other", red.service, others.get(red.service, 0)),
            ("other", green.service, others.get(green.service, 0)),
        )
        if n
    ]
    stage.expect_divided(*((who, server, {"http": n}) for who, server, n in edges))


def test_a_connection_that_is_half_closed_still_answers(stage: Stage) -> None:
    shop, client = stage.player("shop"), stage.player("client")
    where = shop.serve("http", stage.port())
    for count in (1, 1, 3):
        client.call("http", where, count, half_close=True)
    stage.expect(("client", "shop", {"http": 5}))


def test_a_service_that_calls_itself_is_one_edge(stage: Stage) -> None:
    shop = stage.player("shop")
    where = shop.serve("http", stage.port())
    shop.call("http", where, 6)
    shop.call("http", where, 3, keep=False)
    stage.expect(("shop", "shop", {"http": 9}))


def test_a_proxy_is_a_node_and_no_bridge(stage: Stage) -> None:
    """nginx, to a TCP and a Unix upstream: nobody behind it is called by its clients."""
    tcp, unix, client = map(stage.player, ("tcp", "unix", "client"))
    port, path = stage.port(), f"{stage.lab.folder}/{stage.name('unix')}"
    tcp.serve("http", port)
    unix.do("serve", protocol="http", address=path)
    upstreams = [f"{stage.host.address}:{port}", f"unix:{path}"]
    front = stage.address(REAL["edge"])
    stage.lab.nginx(stage.host, "edge", front[1], behind=upstreams)
    client.call("http", front, 20)
    client.call("http", front, 5, keep=False)
    truth = stage.lab.truth()
    to_tcp, to_unix = (
        sum(calls["http"] for key, calls in truth.items() if key.server == one.service)
        for one in (tcp, unix)
    )
    assert to_tcp + to_unix == 25
    stage.expect(
        ("client", "edge", {"http": 25}),
        ("edge", "tcp", {"http": to_tcp}),
        ("edge", "unix", {"http": to_unix}),
    )


def test_ten_thousand_short_connections_are_ten_thousand_calls(stage: Stage) -> None:
    client, other = stage.player("client"), stage.player("other")
    where = stage.address(REAL["many"])
    stage.lab.nginx(stage.host, "many", where[1])
    client.call("http", where, MANY, keep=False)
    other.call("http", where, 3, keep=False)
    stage.expect(("client", "many", {"http": MANY}), ("other", "many", {"http": 3}))


def test_unix_sockets_have_edges(stage: Stage) -> None:
    """Redis at a path, and a service of our own; both ends are known."""
    shop, web = stage.player("shop"), stage.player("web")
    path = f"{stage.lab.folder}/{LOCAL_REDIS}"
    own = f"{stage.lab.folder}/{stage.name('own')}"
    stage.lab.redis(stage.host, "local", path=path)
    shop.do("serve", protocol="http", address=own)
    shop.call("redis", path, 13, server="local")
    web.call("redis", path, 8, keep=False, server="local")
    web.call("http", own, 7)
    web.call("http", own, 4, keep=False)
    stage.expect(
        ("shop", "local", {"redis": 13}),
        ("web", "local", {"redis": 8}),
        ("web", "shop", {"http": 11}),
    )


def test_datagrams_and_look_ups_are_edges(stage: Stage) -> None:
    """Connected or not, UDP has a client and a server; DNS has calls too."""
    beacon, one, two = map(stage.player, ("beacon", "one", "two"))
    where = stage.address(stage.port())
    beacon.do("serve_udp", address=where)
    stage.lab.dnsmasq(stage.host, "resolver", {"lab.test": stage.host.address})
    one.do("datagrams", address=where, count=7)
    two.do("datagrams", address=where, count=5, connected=False)
    for who, count in ((one, 11), (two, 3)):
        who.do(
            "resolve",
            server="resolver",
            address=stage.address(REAL["resolver"]),
            name="lab.test",
            count=count,
        )
    stage.expect(
        ("one", "beacon", {}),
        ("two", "beacon", {}),
        ("one", "resolver", {"dns": 11}),
        ("two", "resolver", {"dns": 3}),
    )


def test_a_connection_without_a_word_is_an_edge(stage: Stage) -> None:
    shop, client = stage.player("shop"), stage.player("client")
    client.do("open", address=shop.serve("http", stage.port()))
    stage.lab.silent(client.service, shop.service)
    stage.expect(("client", "shop", {}))


def test_a_connection_that_is_gone_before_anyone_looked_is_an_edge(
    stage: Stage,
) -> None:
    shop, client = stage.player("shop"), stage.player("client")
    where = shop.serve("http", stage.port())
    client.do("close", number=client.do("open", address=where))
    stage.lab.silent(client.service, shop.service)
    stage.expect(("client", "shop", {}))


def test_programs_that_have_ended_keep_their_edge(stage: Stage) -> None:
    shop = stage.player("shop")
    where = shop.serve("http", stage.port())
    for number, name in enumerate(("one", "two", "three"), start=1):
        brief = stage.player(name)
        brief.call("http", where, number)
        stage.wait_until_met(name)
        brief.retire()
    stage.expect(
        ("one", "shop", {"http": 1}),
        ("two", "shop", {"http": 2}),
        ("three", "shop", {"http": 3}),
    )


@pytest.fixture
def alone() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def test_sockets_older_than_the_agent_have_their_edges(alone: Lab) -> None:
    """TCP and Unix; spoken over before the agent came, after it, and never."""
    alone.net.network("office", "10.61.0.0/24")
    host = alone.net.host("box", office=11)
    names = ("shop", "store", "talker", "mute", "local")
    shop, store, talker, mute, local = (alone.player(host, one) for one in names)
    where, path = shop.serve("http", 8080), f"{alone.folder}/store"
    store.do("serve", protocol="redis", address=path)
    number = talker.do("open", address=where)
    mute.do("open", address=where)
    at_path = local.do("open", address=path)
    # What was said before is nobody's business, and may not be guessed at.
    for who, one, how in ((talker, number, "http"), (local, at_path, "redis")):
        who.do("call_on", number=one, protocol=how, count=3)
    alone.count_from_now()
    alone.agent(host)
    talker.do("call_on", number=number, protocol="http", count=5)
    local.do("call_on", number=at_path, protocol="redis", count=4)
    alone.silent("mute", "shop")
    expect_right(alone)


def test_a_thousand_services_at_once(
    alone: Lab, compiled: Callable[[str], str]
) -> None:
    """With the bounds that are set by default; each is an edge with its own count."""
    host, agent = host_with_agent(alone)
    shop = alone.player(host, "shop")
    address, port = shop.serve("http", 8080)
    with subprocess.Popen(
        [*inside(host.namespace), compiled("crowd"), address, str(port), str(CROWD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == b"done\n"
        truth = alone.truth()
        assert len(truth) == CROWD
        expect_right(alone)
        assert alone.status(agent)["cost"]["memory_bytes"] < MAX_AGENT_BYTES
        assert crowd.stdin is not None
        crowd.stdin.close()
        assert crowd.wait(10) == 0
    # They have all ended: what they did stays.
    expect_right(alone)


def unused_pid() -> int:
    return next(
        pid for pid in range(32_000, 1000, -7) if not Path(f"/proc/{pid}").exists()
    )
