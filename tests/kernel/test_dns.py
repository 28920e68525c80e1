# SPDX-License-Identifier: Apache-2.0
"""DNS over UDP with a real server (dnsmasq): every look-up counted, every answer handed on."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from tests.kernel.messages import dns_question
from tests.kernel.observe import Call, Calls
from tests.netlink.lan import Lan
from tests.process import Child, free_port
from tests.programs import program

from deetune_otel.model import (
    DnsAnswer,
    KeptBecause,
    Protocol,
    Role,
    Transport,
)
from deetune_otel.protocols.dns import answers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.kernel.actor import Actor
    from tests.kernel.observe import Watch

pytestmark = pytest.mark.kernel

A: Final = 1
AAAA: Final = 28
NO_ERROR, NO_SUCH_NAME, REFUSED = 0, 3, 5
ADDRESS: Final = "192.0.2.7"
LOOKUPS: Final = 7
# Asks the C library, as programs do, in a mount namespace with a resolv.conf of its own.
ASKING: Final = """\
import signal, socket, sys
for name in sys.argv[1:]:
    print(socket.getaddrinfo(name, 80, socket.AF_INET)[0][4][0], flush=True)
signal.pause()
"""


class Resolver(NamedTuple):
    pid: int
    port: int


@pytest.fixture
def resolver(watch: Watch, tmp_path: Path) -> Iterator[Resolver]:
    del watch
    port = free_port()
    with _dnsmasq(tmp_path, port) as child:
        yield Resolver(child.pid, port)


def ask(client: Actor, number: int, message: bytes) -> bytes:
    client.call("send", number, message)
    answer: bytes = client.call("recv", number)
    assert answer[:2] == message[:2]
    return answer


def test_each_lookup_is_counted_by_its_outcome(
    watch: Watch, client: Actor, resolver: Resolver
) -> None:
    here = client.call("datagram", ("127.0.0.1", resolver.port))
    expected: dict[int, Calls] = {}
    for code, name, times in (
        (NO_ERROR, "web.shop.test", LOOKUPS),
        (NO_SUCH_NAME, "web.gone.test", 3),
        (REFUSED, "example.org", 2),
    ):
        sent = received = 0
        for _ in range(times):
            message = dns_question(name)
            answer = ask(client, here, message)
            assert answer[3] & 15 == code
            sent, received = sent + len(message), received + len(answer)
        expected[code] = Calls(times, sent, received)
    for pid, role in ((client.pid, Role.CLIENT), (resolver.pid, Role.SERVER)):
        watch.expect(
            pid,
            {Call(role, Protocol.DNS, code): calls for code, calls in expected.items()},
        )
    kept = {one.key.outcome: one.kept for one in watch.exchanges(client.pid)}
    assert kept == {
        NO_ERROR: KeptBecause.HASH,
        NO_SUCH_NAME: KeptBecause.HASH,  # that is an answer
        REFUSED: KeptBecause.ERROR,
    }
    (edge,) = watch.edges(client.pid)
    assert (edge.transport, edge.peer_address, edge.server_port) == (
        Transport.UDP,
        "127.0.0.1",
        resolver.port,
    )


def test_operations_are_names_and_types(
    watch: Watch, client: Actor, resolver: Resolver
) -> None:
    here = client.call("datagram", ("127.0.0.1", resolver.port))
    for name, kind in (
        ("a.shop.test", A),
        ("A.Shop.TEST", A),  # the same name
        ("a.shop.test", AAAA),
        ("b.shop.test", A),
    ):
        ask(client, here, dns_question(name, kind))
    counts: Counter[int] = Counter()
    for _, key, value in watch.series(client.pid):
        counts[key.signature] += value.count
    assert sorted(counts.values()) == [1, 1, 2]


def test_answers_are_handed_on(watch: Watch, client: Actor, resolver: Resolver) -> None:
    """To the client's owner, once a second for a name; errors carry no addresses."""
    here = client.call("datagram", ("127.0.0.1", resolver.port))
    for name in ("one.shop.test", "two.shop.test", "no.gone.test", "one.shop.test"):
        ask(client, here, dns_question(name))
    told = _answers(watch, client.pid)
    assert len(told) in {2, 3}  # "one" again only if a second went by
    found = [answers(one.message) for one in told]
    assert {one.name for one in found if one} == {"one.shop.test", "two.shop.test"}
    for one in found:
        assert one is not None
        assert [answer.address for answer in one.addresses] == [ADDRESS]
    assert not _answers(watch, resolver.pid)


def test_questions_in_flight_at_once_meet_their_own_answers(
    watch: Watch, client: Actor, resolver: Resolver
) -> None:
    """By the message's number, in whatever order they come."""
    here = client.call("datagram", ("127.0.0.1", resolver.port))
    messages = [dns_question(f"n{i}.shop.test", number=i) for i in range(LOOKUPS)]
    for message in messages:
        client.call("send", here, message)
    got = [client.call("recv", here) for _ in messages]
    assert {one[:2] for one in got} == {one[:2] for one in messages}
    watch.expect(
        client.pid,
        {
            Call(Role.CLIENT, Protocol.DNS, NO_ERROR): Calls(
                LOOKUPS, sum(map(len, messages)), sum(map(len, got))
            )
        },
    )


def test_a_question_that_is_asked_again_is_one_look_up(
    watch: Watch, client: Actor, server: Actor
) -> None:
    """The server takes the first one and says nothing; nothing has failed."""
    there, address = server.call("datagram_server", ("127.0.0.1", 0))
    here = client.call("datagram", address)
    message = dns_question("slow.shop.test", number=1)
    client.call("send", here, message)
    assert server.call("recv", there) == message
    client.call("send", here, message)
    answer = message[:2] + b"\x84\x03" + message[4:]
    got, sender = server.call("recv_from", there)
    assert got == message
    server.call("send_to", there, answer, sender)
    assert client.call("recv", here) == answer
    watch.expect(
        client.pid,
        {
            Call(Role.CLIENT, Protocol.DNS, NO_SUCH_NAME): Calls(
                1, 2 * len(message), len(answer)
            ),
        },
    )


@pytest.mark.parametrize("port", [137, 5353, 5355])
def test_what_has_the_form_of_dns_and_is_something_else_is_no_lookup(
    watch: Watch, client: Actor, server: Actor, port: int
) -> None:
    """NetBIOS, multicast DNS, LLMNR."""
    there, address = server.call("datagram_server", ("127.0.0.1", port))
    here = client.call("datagram", address)
    message = dns_question("web.shop.test")
    client.call("send", here, message)
    assert server.call("recv", there) == message
    assert watch.calls(client.pid, server.pid) == {}


def test_what_only_looks_like_dns_is_no_lookup(
    watch: Watch, client: Actor, server: Actor
) -> None:
    there, address = server.call("datagram_server", ("127.0.0.1", 0))
    here = client.call("datagram", address)
    whole = dns_question("web.shop.test")
    for message in (
        whole[:-3],  # cut off within its question
        whole[:4] + b"\0\2" + whole[6:],  # two questions
        b"\0" * 32,
        random.Random(7).randbytes(64),
    ):
        client.call("send", here, message)
        server.call("recv", there)
    assert watch.calls(client.pid, server.pid) == {}


def test_the_c_librarys_lookups(watch: Watch, tmp_path: Path) -> None:
    """getaddrinfo, on a host that has the name servers' addresses itself."""
    resolv = Path("/etc/resolv.conf")
    text = resolv.read_text() if resolv.exists() else ""
    servers = {"127.0.0.1", *re.findall(r"^nameserver\s+([\d.]+)", text, re.MULTILINE)}
    names = ["web.shop.test", "db.shop.test", "web.shop.test"]
    with Lan() as lan:
        host = lan.host("asking")
        for address in servers - {"127.0.0.1"}:
            host.ip("addr", "add", f"{address}/32", "dev", "lo")
        asking = [sys.executable, "-S", "-E", "-c", ASKING, *names]
        with (
            _dnsmasq(tmp_path, 53, *host.enter, addresses=servers),
            Child([*host.enter, *asking], log=tmp_path / "asking.log") as child,
        ):
            child.wait_ready(
                lambda: child.log_text().split() == [ADDRESS] * 3, "the addresses"
            )
            rows = watch.calls(child.pid)
            assert {call: row.number for call, row in rows.items()} == {
                Call(Role.CLIENT, Protocol.DNS, NO_ERROR): len(names)
            }
            found = [answers(one.message) for one in _answers(watch, child.pid)]
            assert {one.name for one in found if one} == set(names)


def _dnsmasq(
    folder: Path, port: int, *enter: str, addresses: Collection[str] = ("127.0.0.1",)
) -> Child:
    """It knows *.shop.test, has nothing of *.gone.test, and refuses the rest."""
    child = Child(
        [
            *enter,
            *(program("dnsmasq", "dnsmasq-base"), "--keep-in-foreground"),
            *("--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"),
            *(f"--listen-address={','.join(addresses)}", "--bind-interfaces"),
            f"--port={port}",
            *(f"--address=/shop.test/{ADDRESS}", "--local=/gone.test/"),
            *("--cache-size=0", "--log-facility=-", f"--pid-file={folder}/pid"),
        ],
        log=folder / "dnsmasq.log",
    )
    child.wait_ready(lambda: "started" in child.log_text(), "dnsmasq")
    return child


def _answers(watch: Watch, pid: int) -> list[DnsAnswer]:
    owners = watch.owners({pid})
    return [
        record
        for record in watch.records()
        if isinstance(record, DnsAnswer) and record.owner_id in owners
    ]
