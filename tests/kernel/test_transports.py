# SPDX-License-Identifier: Apache-2.0
"""Which sockets are observed, and by what their two ends are known."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.messages import OK, get
from tests.kernel.observe import Calls, Watch, http, unknown

from deetune_otel.model import End, Protocol, Role, Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernel.conftest import Watching

pytestmark = pytest.mark.kernel

ONCE: Final = Calls(1, len(get()), len(OK), 0, 3)
BOTH: Final = {(Protocol.HTTP, 200): ONCE}


@pytest.mark.parametrize(
    ("listening", "connecting", "address"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "::1"),
        ("::", "127.0.0.1", "127.0.0.1"),  # v4-mapped at the server alone
        ("::", "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_internet(
    watch: Watch,
    client: Actor,
    server: Actor,
    listening: str,
    connecting: str,
    address: str,
) -> None:
    """Both ends name the same server, IPv4 always as IPv4."""
    listener, bound = server.listen((listening, 0))
    port = int(bound[1])
    here = client.connect((connecting, port))
    there = listener.accept()
    here.send(get())
    there.take(get())
    there.send(OK)
    here.take(OK)
    watch.expect_both(client.pid, server.pid, BOTH)
    (calling,), (serving,) = (watch.edges(actor.pid) for actor in (client, server))
    assert (calling.role, serving.role) == (Role.CLIENT, Role.SERVER)
    for edge in (calling, serving):
        assert edge.transport is Transport.TCP
        assert edge.server_port == port
        assert edge.server_address == address
        assert edge.peer_address == edge.local_address == address
        assert not edge.overflow
    (sent,), (taken,) = (watch.exchanges(actor.pid) for actor in (client, server))
    assert sent.wire == taken.wire
    assert (sent.peer_address, sent.peer_port) == (address, port)
    assert (taken.local_address, taken.local_port) == (address, port)
    assert taken.peer_port == sent.local_port


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_unix(
    watch: Watch, client: Actor, server: Actor, tmp_path: Path, *, abstract: bool
) -> None:
    """Known by its path; connections with and without protocol, and their ends."""
    path = str(tmp_path / "s")[-60:]
    address = "\0" + path if abstract else str(tmp_path / "s")
    shown = "@" + path if abstract else address
    listener, _ = server.listen(address)
    for request, answer in ((get(), OK), (b"\1", b"\2"), (get("/never"), b"")):
        here = client.connect(address)
        there = listener.accept()
        here.send(request)
        there.take(request)
        if answer:
            there.send(answer)
            here.take(answer)
            continue
        here.close()
        there.close()
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(
            actor.pid,
            {
                http(role): ONCE,
                http(role, 0, End.CLOSED): Calls(1, len(get("/never")), 0),
                unknown(role): Calls(1, 1, 1),
            },
        )
        (edge,) = watch.edges(actor.pid)
        assert (edge.role, edge.transport) == (role, Transport.UNIX)
        assert edge.server_port == 0
        assert edge.server_address == shown[:63]
    spans = [watch.exchanges(actor.pid) for actor in (client, server)]
    assert [one.wire for one in spans[0]] == [one.wire for one in spans[1]]
    assert {one.peer_address for one in spans[0]} == {shown[:63]}


def test_pairs_without_a_name_are_not_observed(watch: Watch, client: Actor) -> None:
    """They are pipes inside one program."""
    before = watch.noted("not_observed").bytes
    left, right = client.call("pair")
    client.call("send", left, get())
    assert client.call("recv", right) == get()
    assert watch.calls(client.pid) == {}
    assert watch.noted("not_observed").bytes - before >= 2 * len(get())


def test_unix_sockets_can_be_left_out(watching: Watching, tmp_path: Path) -> None:
    """With the setting: nothing of them is counted, and their bytes are noted."""
    with (
        watching(observe_unix=False) as watch,
        Actor() as client,
        Actor() as server,
    ):
        listener, _ = server.listen(str(tmp_path / "s"))
        here = client.connect(str(tmp_path / "s"))
        listener.accept()
        here.send(get())
        assert watch.calls(client.pid, server.pid) == {}
        assert watch.noted("not_observed").bytes >= len(get())


def test_datagrams_are_no_exchanges_but_bytes_of_an_edge(
    watch: Watch, client: Actor, server: Actor
) -> None:
    before = watch.noted("datagrams")
    there, address = server.call("datagram_server", ("127.0.0.1", 0))
    here = client.call("datagram", address)
    client.call("send", here, b"x" * 1000)
    assert server.call("recv", there) == b"x" * 1000
    assert watch.calls(client.pid, server.pid) == {}
    after = watch.noted("datagrams")
    assert after.exchanges - before.exchanges >= 2
    assert after.bytes - before.bytes >= 2000
    sent, received = (watch.traffic(one.pid) for one in (client, server))
    assert [
        (edge.role, edge.server_port, carried.sent_bytes) for edge, carried in sent
    ] == [(Role.CLIENT, address[1], 1000)]
    assert [
        (edge.role, edge.server_port, carried.received_bytes)
        for edge, carried in received
    ] == [(Role.SERVER, address[1], 1000)]


def test_the_agents_own_traffic_is_not_observed(watch: Watch) -> None:
    """This process holds the kernel side: its export is no traffic."""
    before = watch.noted("not_observed").bytes
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()[:2]) as here,
        listener.accept()[0] as there,
    ):
        here.sendall(get())
        assert there.recv(1000) == get()
    assert watch.calls(os.getpid()) == {}
    assert watch.noted("not_observed").bytes - before >= 2 * len(get())


def test_an_edge_for_each_server(watch: Watch, client: Actor, server: Actor) -> None:
    """Of one client to two ports, and to one port by two addresses."""
    edges = set()
    for address in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
        listener, bound = server.listen((address, 0))
        here = client.connect(bound)
        there = listener.accept()
        here.send(get())
        there.take(get())
        edges.add((address, bound[1]))
    client_edges = watch.edges(client.pid)
    assert {(edge.peer_address, edge.server_port) for edge in client_edges} == edges
    assert len(watch.edges(server.pid)) == 3


def test_what_no_protocol_is_known_of(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    ends = connect()
    hello = b"\x16\x03\x01" + bytes(range(256))
    ends.call(hello, b"\x16\x03\x03" + bytes(100))
    ends.respond(bytes(50))
    ends.call(b"\x17\x03\x03" + bytes(20), b"\x17\x03\x03" + bytes(30))
    asked = len(hello) + 23
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(actor.pid, {unknown(role): Calls(2, asked, 103 + 50 + 33)})


def test_the_server_speaks_first(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """As in SMTP: its greeting answers nothing."""
    ends = connect()
    ends.respond(b"220 mail.example ESMTP\r\n")
    ends.call(b"EHLO me\r\n", b"250 hello\r\n")
    ends.call(b"QUIT\r\n", b"221 bye\r\n")
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(actor.pid, {unknown(role): Calls(2, 15, 24 + 11 + 9)})


@pytest.mark.parametrize(
    ("greeting", "request_", "answer"),
    [
        (b"+OK POP3 ready\r\n", b"USER me\r\n", b"+OK\r\n"),
        (b"* OK IMAP4rev1 ready\r\n", b"a1 NOOP\r\n", b"a1 OK\r\n"),
        (b"SSH-2.0-x\r\n", b"SSH-2.0-y\r\n", b"\0\0\1\2"),
        (b"HELLO\r\n", b"GET x\r\n", b"+1\r\n"),
    ],
    ids=["pop3", "imap", "ssh", "hello"],
)
def test_greetings_that_look_like_something_known(
    watch: Watch,
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    greeting: bytes,
    request_: bytes,
    answer: bytes,
) -> None:
    ends = connect()
    ends.respond(greeting)
    ends.call(request_, answer)
    ends.call(request_, answer)
    said = len(greeting) + 2 * len(answer)
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(actor.pid, {unknown(role): Calls(2, 2 * len(request_), said)})


@pytest.mark.parametrize("is_asked_for", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.0.0.7"])
def test_calls_of_our_own_endpoint_are_not_observed_unless_asked_for(
    watching: Watching,
    host: str,
    is_asked_for: bool,  # noqa: FBT001
) -> None:
    """This process is the agent: who calls it calls nothing that is observed, and no byte is blind."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        watching(observe_own=is_asked_for) as watch,
        socket.create_server((host, 0), family=family) as listener,
        Actor() as client,
    ):
        here = client.connect(listener.getsockname())
        own, _ = listener.accept()
        with own:
            here.send(get())
            assert own.recv(4096) == get()
            own.sendall(OK * 1000)
            here.take(OK * 1000)
            here.close()
        calls = watch.calls(client.pid)
        assert bool(calls) is is_asked_for
        assert watch.noted("blind").bytes == 0
        assert watch.noted("unseen_ends").exchanges == 0
