# SPDX-License-Identifier: Apache-2.0
"""What the lab plays: each scenario builds its hosts, lets its programs call, and is scored.

A scenario is a function that fills a lab; the sentence of its docstring stands in the table. The
numbers of calls are all different and mostly prime, so that calls on a wrong edge show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lab.net import Host
from lab.stage import Lab

__all__ = ["SCENARIOS", "Scenario", "title"]

Scenario = Callable[[Lab], None]


def one_host(lab: Lab) -> None:
    """One host: HTTP, Redis over TCP and a Unix socket, DNS, UDP; nginx passes on."""
    host = _hosts(lab, "box")[0]
    shop, stock, front = (lab.player(host, one) for one in ("shop", "stock", "front"))
    beacon = lab.player(host, "beacon")
    lab.redis(host, "cache", 6379)
    path = f"{lab.folder}/sessions.sock"
    lab.redis(host, "sessions", path=path)
    lab.dnsmasq(host, "resolver", {"stock.lab.test": host.address})
    web = shop.serve("http", 8080)
    where = stock.serve("http", 8081)
    beacon.do("serve_udp", address=(host.address, 8125))
    lab.nginx(host, "edge", 80, behind=[f"{host.address}:8080"])
    lab.agent(host)
    front.call("http", (host.address, 80), 53)
    front.call("http", (host.address, 80), 11, keep=False)
    front.call("http", web, 7, keep=False)
    shop.call("http", where, 31)
    shop.call("http", where, 5, keep=False, path="/fail")
    shop.call("redis", (host.address, 6379), 101, server="cache")
    shop.call("redis", path, 43, server="sessions")
    stock.call("redis", (host.address, 6379), 13, keep=False, server="cache")
    stock.do(
        "resolve",
        server="resolver",
        address=(host.address, 53),
        name="stock.lab.test",
        count=17,
    )
    shop.do("datagrams", address=(host.address, 8125), count=19)


def two_hosts(lab: Lab) -> None:
    """Two hosts, an agent on each."""
    left, right = _hosts(lab, "left", "right")
    _play_between(lab, left, right)


def nat(lab: Lab) -> None:
    """Two hosts and a router between them that masquerades."""
    left, right = _behind_a_router(lab)
    _play_between(lab, left, right)


def virtual_address(lab: Lab) -> None:
    """A virtual address, translated to three backends on the caller's host, as kube-proxy does."""
    caller, one, two = _hosts(lab, "caller", "one", "two")
    lab.net.rules(caller, _balancing("10.96.0.10", 80, _backends(one, two), "output"))
    lab.net.route(caller, to="10.96.0.0/16", via=one.address)
    _play_balanced(lab, caller, one, two, ("10.96.0.10", 80))


def balancer(lab: Lab) -> None:
    """A balancer that translates addresses, between the caller's host and three backends."""
    caller, one, two = _behind_a_balancer(lab)
    _play_balanced(lab, caller, one, two, ("10.96.0.10", 80))


def proxy(lab: Lab) -> None:
    """A proxy in the middle (HAProxy): a node of its own, not a bridge."""
    caller, middle, back = _hosts(lab, "caller", "middle", "back")
    web, batch = lab.player(caller, "web"), lab.player(caller, "batch")
    blue, green = lab.player(back, "blue"), lab.player(back, "green")
    behind = [
        f"{one.serve('http', port)[0]}:{port}"
        for one, port in ((blue, 8080), (green, 8081))
    ]
    lab.haproxy(middle, "haproxy", 80, behind=behind)
    for host in (caller, middle, back):
        lab.agent(host)
    web.call("http", (middle.address, 80), 61)
    web.call("http", (middle.address, 80), 23, keep=False)
    batch.call("http", (middle.address, 80), 29)
    # past the proxy
    batch.call("http", (back.address, 8081), 7)


def containers(lab: Lab) -> None:
    """Containers: three namespaces behind one host's bridge, a published port, one agent for all."""
    host, outside = _hosts(lab, "host", "outside")
    lab.net.link(
        host,
        "link add inner type bridge forward_delay 0",
        "addr add 172.20.0.1/24 dev inner",
        "link set inner up",
    )
    lab.net.forward(host)
    app, api, store = (
        lab.net.inner(host, name, address=f"172.20.0.{n}", gateway="172.20.0.1")
        for n, name in enumerate(("c-app", "c-api", "c-store"), start=11)
    )
    lab.net.rules(host, _published(host, 8080, api.address))
    web, shop = lab.player(app, "web"), lab.player(api, "shop")
    lab.redis(store, "cache", 6379)
    visitor, local = lab.player(outside, "visitor"), lab.player(host, "local")
    inner = shop.serve("http", 8080)
    lab.agent(host, sees_all=True)
    web.call("http", inner, 41)
    web.call("http", (host.address, 8080), 3, keep=False)
    shop.call("redis", (store.address, 6379), 59, server="cache")
    local.call("http", (host.address, 8080), 13)
    visitor.call("http", (host.address, 8080), 17)
    visitor.call("http", (host.address, 8080), 5, keep=False)


def same_addresses(lab: Lab) -> None:
    """Two networks with the same addresses and ports, one agent for both."""
    for network in ("red", "green"):
        lab.net.network(network, "10.61.0.0/24")
    sides = [
        (
            lab.net.host(f"{color}1", **{color: 11}),
            lab.net.host(f"{color}2", **{color: 12}),
        )
        for color in ("red", "green")
    ]
    plays = []
    for (near, far), color in zip(sides, ("red", "green"), strict=True):
        web, shop = lab.player(near, f"{color}-web"), lab.player(far, f"{color}-shop")
        plays.append((web, shop.serve("http", 8080)))
    lab.agent(sides[0][0], sees_all=True)
    for (web, where), count in zip(plays, (31, 17), strict=True):
        web.call("http", where, count)
        web.call("http", where, count - 8, keep=False)


def client_alone(lab: Lab) -> None:
    """No agent on the servers' host: they are addresses, or the names that DNS gave them."""
    left, right = _hosts(lab, "left", "right")
    web, shop = lab.player(left, "web"), lab.player(right, "shop")
    named, cache = lab.player(right, "named"), lab.player(right, "cache")
    shop.serve("http", 8080)
    named.serve("http", 8081)
    cache.serve("redis", 6379)
    lab.dnsmasq(left, "resolver", {"named.lab.test": right.address})
    address = right.address
    lab.unobserved("named", server="named.lab.test:8081")
    lab.agent(left)
    # Before the name is known: an address. The same process later calls it by its name.
    lab.unobserved("shop", server=f"{address}:8080")
    lab.unobserved("cache", server=f"{address}:6379")
    web.call("http", (address, 8080), 37)
    web.call("redis", (address, 6379), 11)
    other = lab.player(left, "other")
    found = other.do(
        "resolve",
        server="resolver",
        address=(left.address, 53),
        name="named.lab.test",
        count=1,
    )
    other.call("http", (found[0], 8081), 23, keep=False)


def server_alone(lab: Lab) -> None:
    """No agent on the callers' host: they are their addresses."""
    left, right = _hosts(lab, "left", "right")
    web, shop = lab.player(left, "web"), lab.player(right, "shop")
    where = shop.serve("http", 8080)
    lab.unobserved("web", client=left.address)
    lab.agent(right)
    web.call("http", where, 43)
    web.call("http", where, 13, keep=False)


def older_than_the_agent(lab: Lab) -> None:
    """Connections older than the agents: what is called over them from then on counts."""
    left, right = _hosts(lab, "left", "right")
    web, batch = lab.player(left, "web"), lab.player(left, "batch")
    shop, cache = lab.player(right, "shop"), lab.player(right, "cache")
    number = web.do("open", address=shop.serve("http", 8080))
    other = batch.do("open", address=cache.serve("redis", 6379))
    lab.agent(left)
    lab.agent(right)
    web.do("call_on", number=number, protocol="http", count=47)
    batch.do("call_on", number=other, protocol="redis", count=19)


def idle(lab: Lab) -> None:
    """Connections over which nothing is said, made before and after the agents came."""
    left, right = _hosts(lab, "left", "right")
    web, batch, shop = (
        lab.player(host, name)
        for host, name in ((left, "web"), (left, "batch"), (right, "shop"))
    )
    where = shop.serve("http", 8080)
    web.do("open", address=where)
    lab.agent(left)
    lab.agent(right)
    batch.do("open", address=where)
    lab.silent("web", "shop")
    lab.silent("batch", "shop")


SCENARIOS: Final[dict[str, Scenario]] = {
    one.__name__: one
    for one in (
        one_host,
        two_hosts,
        nat,
        virtual_address,
        balancer,
        proxy,
        containers,
        same_addresses,
        client_alone,
        server_alone,
        older_than_the_agent,
        idle,
    )
}


def title(scenario: Scenario) -> str:
    """The first sentence of what is said of it, without its full stop."""
    return (scenario.__doc__ or "").strip().partition("\n")[0].rstrip(".")


# Hosts


def _hosts(lab: Lab, *names: str) -> list[Host]:
    """Hosts in one network."""
    lab.net.network("office", "10.61.0.0/24")
    return [lab.net.host(name, office=n) for n, name in enumerate(names, start=11)]


def _behind_a_router(lab: Lab) -> tuple[Host, Host]:
    """Two hosts in networks of their own; what comes from the left one is masqueraded."""
    lab.net.network("inside", "10.61.1.0/24")
    lab.net.network("outside", "10.61.2.0/24")
    left, right = lab.net.host("left", inside=11), lab.net.host("right", outside=12)
    router = lab.net.host("router", inside=1, outside=1)
    lab.net.forward(router)
    lab.net.route(left, to="10.61.2.0/24", via="10.61.1.1")
    lab.net.rules(
        router,
        """
        table ip lab {
            chain after {
                type nat hook postrouting priority 100;
                oifname "outside" masquerade
            }
        }
        """,
    )
    return left, right


def _behind_a_balancer(lab: Lab) -> tuple[Host, Host, Host]:
    lab.net.network("front", "10.61.1.0/24")
    lab.net.network("back", "10.61.2.0/24")
    caller = lab.net.host("caller", front=11)
    one, two = lab.net.host("one", back=11), lab.net.host("two", back=12)
    balancer = lab.net.host("balancer", front=1, back=1)
    lab.net.forward(balancer)
    for network in ("10.96.0.0/16", "10.61.2.0/24"):
        lab.net.route(caller, to=network, via="10.61.1.1")
    for host in (one, two):
        lab.net.route(host, to="10.61.1.0/24", via="10.61.2.1")
    backends = _backends(one, two)
    lab.net.rules(balancer, _balancing("10.96.0.10", 80, backends, "prerouting"))
    return caller, one, two


def _backends(one: Host, two: Host) -> list[str]:
    return [f"{one.address} . 8080", f"{one.address} . 8081", f"{two.address} . 8080"]


def _balancing(address: str, port: int, backends: list[str], hook: str) -> str:
    """Every connection to the address goes to the next backend."""
    chosen = ", ".join(f"{n} : {backend}" for n, backend in enumerate(backends))
    return f"""
        table ip lab {{
            chain before {{
                type nat hook {hook} priority -100;
                ip daddr {address} tcp dport {port} dnat ip to numgen inc mod {len(backends)} map {{ {chosen} }}
            }}
        }}
        """


def _published(host: Host, port: int, to: str) -> str:
    """A container's port, published as container runtimes do it."""
    translated = f"ip daddr {host.address} tcp dport {port} dnat to {to}:{port}"
    return f"""
        table ip lab {{
            chain before {{
                type nat hook prerouting priority -100;
                {translated}
            }}
            chain own {{
                type nat hook output priority -100;
                {translated}
            }}
            chain after {{
                type nat hook postrouting priority 100;
                ip saddr 172.20.0.0/24 oifname != "inner" masquerade
                ip saddr 172.20.0.0/24 ip daddr 172.20.0.0/24 ct status dnat masquerade
            }}
        }}
        """


# Plays


def _play_between(lab: Lab, left: Host, right: Host) -> None:
    """Two programs on each side, real and ours; short and kept connections, DNS and UDP."""
    web, batch = lab.player(left, "web"), lab.player(left, "batch")
    shop, stock = lab.player(right, "shop"), lab.player(right, "stock")
    beacon = lab.player(right, "beacon")
    lab.redis(right, "cache", 6379)
    lab.nginx(right, "static", 80)
    lab.dnsmasq(right, "resolver", {"shop.lab.test": right.address})
    at_shop, at_stock = shop.serve("http", 8080), stock.serve("http", 8081)
    beacon.do("serve_udp", address=(right.address, 8125))
    lab.agent(left)
    lab.agent(right)
    web.call("http", at_shop, 37)
    web.call("http", at_shop, 19, keep=False)
    web.call("http", (right.address, 80), 29)
    batch.call("http", at_shop, 11, keep=False)
    batch.call("redis", (right.address, 6379), 71, server="cache")
    batch.call("http", at_stock, 5, keep=False, path="/fail")
    shop.call("http", at_stock, 23)
    shop.call("redis", (right.address, 6379), 47, keep=False, server="cache")
    web.do(
        "resolve",
        server="resolver",
        address=(right.address, 53),
        name="shop.lab.test",
        count=13,
    )
    batch.do("datagrams", address=(right.address, 8125), count=17)


def _play_balanced(
    lab: Lab, caller: Host, one: Host, two: Host, virtual: tuple[str, int]
) -> None:
    web, batch = lab.player(caller, "web"), lab.player(caller, "batch")
    servers = [
        (lab.player(host, name), port)
        for host, name, port in (
            (one, "red", 8080),
            (one, "green", 8081),
            (two, "blue", 8080),
        )
    ]
    for server, port in servers:
        server.serve("http", port)
    for host in (caller, one, two):
        lab.agent(host)
    web.call("http", virtual, 31, keep=False)
    for count in (17, 13, 11, 7):
        web.call("http", virtual, count)
    batch.call("http", virtual, 10, keep=False)
    # one backend by its own address too
    batch.call("http", (two.address, 8080), 23)
