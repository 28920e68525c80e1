# SPDX-License-Identifier: Apache-2.0
"""Processes and connections that begin, are handed on, and end, some of them badly."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.kernel.actor import Actor, Ends, Socket
from tests.kernel.messages import OK, get, head, redis, response
from tests.kernel.observe import Call, Calls, Watch, http, unknown
from tests.process import free_port, wait_until

from deetune_otel.model import End, Protocol, Role, Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernel.conftest import Watching

pytestmark = pytest.mark.kernel

HTTP: Final = Protocol.HTTP
PONG: Final = b"+PONG\r\n"


def times(n: int, request: bytes = get(), answer: bytes = OK) -> Calls:
    """What n exchanges count as; the usual answer has three bytes of body."""
    return Calls(n, n * len(request), n * len(answer), 0, 3 * n if answer is OK else 0)


def serve(number: int) -> list[tuple[str, tuple[Any, ...]]]:
    """Steps that answer one request."""
    return [("recv_exactly", (number, len(get()))), ("send", (number, OK))]


def test_the_owner_is_who_does_the_io(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """A child that serves an inherited connection counts for itself."""
    ends = connect()
    ends.call(get(), OK)
    ends.client.send(get())
    child, _ = server.call("in_fork", serve(ends.server.number))
    ends.client.take(OK)
    ends.call(get(), OK)
    watch.expect(client.pid, {http(Role.CLIENT): times(3)})
    watch.expect(server.pid, {http(Role.SERVER): times(2)})
    watch.expect(child, {http(Role.SERVER): times(1)})


def test_children_that_accept(watch: Watch, client: Actor, server: Actor) -> None:
    """Prefork: the parent listens and never speaks."""
    listener, address = server.listen()
    children = []
    for _ in range(3):
        here = client.connect(address)
        here.send(get())
        steps = [("accept", (listener.number,)), *serve(listener.number + 1)]
        children.append(server.call("in_fork", steps)[0])
        here.take(OK)
    watch.expect(client.pid, {http(Role.CLIENT): times(3)})
    assert watch.calls(server.pid) == {}
    for child in children:
        watch.expect(child, {http(Role.SERVER): times(1)})


def test_a_descriptor_handed_to_another_process(
    watch: Watch,
    actors: Callable[[], Actor],
    client: Actor,
    server: Actor,
    connect: Callable[..., Ends],
    tmp_path: Path,
) -> None:
    worker = actors()
    listener, _ = worker.listen(str(tmp_path / "hand"))
    channel = server.connect(str(tmp_path / "hand"))
    other_end = listener.accept()
    ends = connect()
    channel.call("send_descriptor", ends.server.number)
    handed = Socket(worker, other_end.call("recv_descriptor"))
    ends.server.call("forget")
    ends = Ends(ends.client, handed)
    for _ in range(2):
        ends.call(get(), OK)
    watch.expect(client.pid, {http(Role.CLIENT): times(2)})
    assert watch.calls(worker.pid)[http(Role.SERVER)] == times(2)
    assert http(Role.SERVER) not in watch.calls(server.pid)


def test_a_pid_that_comes_again(
    watch: Watch, server: Actor, connect: Callable[..., Ends]
) -> None:
    """Two processes, told apart by when they started."""
    ends = connect()
    ends.client.send(get())
    first, _ = server.call("in_fork", serve(ends.server.number))
    ends.client.take(OK)
    ends.client.send(get("/second"))
    steps = [
        ("recv_exactly", (ends.server.number, len(get("/second")))),
        ("send", (ends.server.number, OK)),
    ]

    def again() -> bool:
        # Others start processes too: until the number falls to this one.
        return bool(server.call("in_fork_as", first, [])[0] == first)

    wait_until(again, f"pid {first} is given again", every_s=0)
    second = 0
    while second != first:
        second, _ = server.call("in_fork_as", first, steps if not second else [])
        if second != first:
            pytest.fail("another process took the pid in between")
    ends.client.take(OK)
    owners = [
        owner
        for owner in watch.kernel.read_owners().values()
        if owner.local_pid == first
    ]
    assert len({owner.process.start_ns for owner in owners}) == 2
    found = watch.kernel.read_series()
    edges = watch.kernel.read_edges()
    requests = sorted(
        value.request_bytes
        for key, value in found.items()
        if key.edge_id and edges[key.edge_id].owner_id in {o.id for o in owners}
    )
    assert requests == sorted([len(get()), len(get("/second"))])


def test_a_service_killed_in_the_middle(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """One exchange at each end, closed; what was answered before stays answered."""
    ends = connect()
    ends.call(get(), OK)
    ends.request(get("/killed"))
    server.kill()
    assert ends.client.recv() == b""
    ends.client.close()
    closed = Calls(1, len(get("/killed")), 0)
    for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
        watch.expect(
            actor.pid, {http(role): times(1), http(role, 0, End.CLOSED): closed}
        )
        (span,) = [
            one for one in watch.exchanges(actor.pid) if one.key.end is End.CLOSED
        ]
        assert span.kept == "error"


def test_a_client_killed_in_the_middle(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """Of ten requests three were answered, and the fourth in part."""
    ends = connect()
    ends.request(get() * 10)
    ends.respond(OK * 3)
    ends.server.send(OK[:-1])
    client.kill()
    wait_until(
        lambda: watch.count(http(Role.CLIENT, 0, End.CLOSED), client.pid) == 7,
        "the client's requests are closed",
        timeout_s=5,
    )
    ends.server.close()
    cut = head("HTTP/1.1 200 Said So", "content-length: 3") + b"ok"
    watch.expect(
        server.pid,
        {
            http(Role.SERVER): times(3),
            http(Role.SERVER, 0, End.CLOSED): times(6, answer=b""),
            http(Role.SERVER, 200, End.CLOSED): Calls(1, len(get()), len(cut), 0, 2),
        },
    )
    watch.expect(
        client.pid,
        {
            http(Role.CLIENT): times(3),
            http(Role.CLIENT, 0, End.CLOSED): times(7, answer=b""),
        },
    )


def test_a_connection_that_nobody_accepted(
    watch: Watch, client: Actor, server: Actor
) -> None:
    listener, address = server.listen()
    here = client.connect(address)
    here.send(get())
    listener.close()
    with pytest.raises(ConnectionResetError):
        here.recv()
    here.close()
    watch.expect(client.pid, {http(Role.CLIENT, 0, End.CLOSED): times(1, answer=b"")})
    assert watch.calls(server.pid) == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connect_refused(watch: Watch, client: Actor, host: str) -> None:
    """An exchange of its own, whose outcome is the error, on the edge to the server."""
    port = free_port()
    for _ in range(2):
        assert client.call("connect_error", (host, port)) == errno.ECONNREFUSED
    call = Call(Role.CLIENT, Protocol.CONNECT, errno.ECONNREFUSED)
    watch.expect(client.pid, {call: Calls(2, 0, 0)})
    (edge,) = watch.edges(client.pid)
    assert (edge.peer_address, edge.server_port) == (host, port)
    spans = watch.exchanges(client.pid)
    assert [span.kept for span in spans] == ["error", "error"]
    assert all(span.start_ns < span.end_ns for span in spans)


def test_connections_without_a_word(
    watch: Watch, client: Actor, connect: Callable[..., Ends]
) -> None:
    """No exchange, and nothing lost."""
    before = watch.kernel.read_ledger().lost["unparsed"]
    for _ in range(3):
        connect().close()
    assert watch.calls(client.pid) == {}
    assert watch.kernel.read_ledger().lost["unparsed"] == before


def test_requests_without_an_answer_are_open(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    """In the ledger until they end: here by an answer."""
    asked = 30

    before = watch.kernel.read_ledger().open
    ends = connect()
    ends.call(get(), OK)
    ends.request(get() * asked)

    def these_are_open() -> bool:
        now = watch.kernel.read_ledger().open
        more = (now.exchanges - before.exchanges, now.bytes - before.bytes)
        return more == (2 * asked, 2 * asked * len(get()))

    wait_until(these_are_open, "the requests are open, at both ends", timeout_s=5)
    watch.wait_for_balance()
    ends.respond(OK * asked)
    watch.expect_both(client.pid, server.pid, {(HTTP, 200): times(asked + 1)})


def test_connections_older_than_the_agent(watching: Watching, tmp_path: Path) -> None:
    """What was under way when it came is left out; from the next request on all is exact."""
    with Actor() as client, Actor() as server:
        listener, address = server.listen()
        path = str(tmp_path / "old")
        unix_listener, _ = server.listen(path)

        def connected(*, unix: bool = False) -> Ends:
            here = client.connect(path if unix else address)
            return Ends(here, (unix_listener if unix else listener).accept())

        idle, in_head, in_capitals, waiting, in_body, in_chunks = (
            connected() for _ in range(6)
        )
        resp, resp_waiting, binary, quiet = (connected() for _ in range(4))
        unix, unix_waiting = connected(unix=True), connected(unix=True)
        body = head("HTTP/1.1 200 OK", "content-length: 2000")
        chunks = head("HTTP/1.1 200 OK", "transfer-encoding: chunked") + b"a\r\n01234"
        for ends in (idle, unix):
            ends.call(get("/before"), OK)
        in_head.request(get()[:20])
        in_capitals.request(b"GET / HTTP/1.1\r\n")
        waiting.request(get("/before"))
        unix_waiting.request(get("/before"))
        in_body.call(get(), body + b"x" * 1000)
        in_chunks.call(get(), chunks)
        resp.call(redis("PING"), PONG)
        resp_waiting.request(redis("PING"))
        binary.request(b"\1\2\3")

        with watching() as watch:
            rests = [
                (in_head, get()[20:], OK),
                (in_capitals, b"HOST: x\r\n\r\n", OK),
                (waiting, b"", OK),
                (unix_waiting, b"", OK),
                (in_body, b"", b"H" * 1000),
                (in_chunks, b"", b"56789\r\n0\r\n\r\n"),
                (resp_waiting, b"", PONG),
                (binary, b"", b"\4"),
            ]
            for ends, request, answer in rests:
                ends.call(request, answer)
            left_out = sum(len(request + answer) for _, request, answer in rests)
            assert watch.calls(client.pid, server.pid) == {}
            older = (idle, in_head, in_capitals, waiting, in_body, in_chunks)
            answers = [OK, response(b"", 404), response(b"", 500)]
            for ends in (*older, quiet, unix, unix_waiting):
                for answer in answers:
                    ends.call(get("/after"), answer)
            for ends in (resp, resp_waiting):
                ends.call(redis("GET", "x"), b"$-1\r\n")
            for _ in range(2):
                binary.call(b"\1\2\3", b"\4")
            n = len(older) + 3
            for actor, role in ((client, Role.CLIENT), (server, Role.SERVER)):
                watch.expect(
                    actor.pid,
                    {
                        http(role, 200): times(n, get("/after")),
                        http(role, 404): times(n, get("/after"), answers[1]),
                        http(role, 500): times(n, get("/after"), answers[2]),
                        Call(role, Protocol.REDIS): Calls(
                            2, 2 * len(redis("GET", "x")), 2 * 5
                        ),
                        unknown(role): Calls(2, 6, 2),
                    },
                )
                edges = watch.edges(actor.pid)
                assert {edge.role for edge in edges} == {role}
            spans = [watch.exchanges(actor.pid) for actor in (client, server)]
            wires = [
                {span.wire for span in several if span.transport is Transport.TCP}
                for several in spans
            ]
            assert wires[0] == wires[1]
            for span in (*spans[0], *spans[1]):
                assert span.is_alone == (span.transport is Transport.UNIX)
            assert watch.lost("midstream").bytes >= 2 * left_out
            client.kill()
            server.kill()
