# SPDX-License-Identifier: Apache-2.0
"""Ids of real traffic: none twice, and a server's span is the child of the same request's."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.messages import OK, dns_question, get
from tests.process import Child, free_port, wait_until
from tests.programs import APPS

from deetune_otel.demo.program import hand_over, running
from deetune_otel.demo.servers import Postgres
from deetune_otel.model import Protocol, Role, Transport
from deetune_otel.signals.traces import Resolved, TraceResolver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.actor import Address, Socket
    from tests.kernel.conftest import Watching
    from tests.kernel.observe import Watch

    from deetune_otel.model import Exchange, Wire

pytestmark = pytest.mark.kernel

CERTIFICATES: Final = Path(__file__).resolve().parents[1] / "export" / "tls"
QUERIES: Final = 60
READY: Final = b"Z\0\0\0\5I"


def of(watch: Watch, pid: int, role: Role) -> list[Exchange]:
    """In the order in which they began."""
    edges = {edge.id for edge in watch.edges(pid) if edge.role is role}
    found = [one for one in watch.exchanges(pid) if one.edge_id in edges]
    return sorted(found, key=lambda one: one.start_ns)


def both(
    watch: Watch, client: int, server: int, many: int
) -> tuple[list[Exchange], list[Exchange]]:
    """The client's exchanges and the server's, when there are so many of each."""

    def found() -> tuple[list[Exchange], list[Exchange]]:
        return of(watch, client, Role.CLIENT), of(watch, server, Role.SERVER)

    wait_until(lambda: min(map(len, found())) >= many, "all spans")
    return found()


def wires(exchanges: list[Exchange]) -> list[Wire]:
    return [one.wire for one in exchanges]


def resolved(watch: Watch, *pids: int) -> list[Resolved]:
    """Their spans, as the agent makes them; no id is there twice."""
    traces = TraceResolver(is_local=lambda _: False, read_cause=watch.kernel.read_cause)
    edges = {edge.id: edge for edge in watch.edges(*pids)}
    for one in watch.exchanges(*pids):
        traces.add(one, edges[one.edge_id], now_ns=0)
    spans = traces.flush()
    ids = [span.ids.span_id for span in spans]
    assert len(set(ids)) == len(ids) > 0
    return spans


def parents(spans: list[Resolved]) -> list[tuple[Exchange, Exchange | None]]:
    """Each server's exchange, with the client's that is said to be its parent."""
    by_id = {span.ids.span_id: span for span in spans}
    return [
        (span.exchange, by_id[parent].exchange if parent else None)
        for span in spans
        if span.edge.role is Role.SERVER
        for parent in [span.ids.parent_span_id]
    ]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """One that trusts its clients; started before anything is watched."""
    with TemporaryDirectory(prefix="deetune-test-") as base:
        Path(base).chmod(0o755)
        folder = Path(base, "cluster")
        folder.mkdir()
        hand_over(folder)
        made = Postgres.create(folder, free_port())
        (folder / "data" / "pg_hba.conf").write_text(
            "host all all 127.0.0.1/32 trust\nlocal all all trust\n"
        )
        with running(made.program()):
            yield made


def query(end: Socket, message: bytes) -> None:
    end.send(message)
    got = b""
    while not got.endswith(READY):
        got += end.recv()


@pytest.mark.parametrize("over_unix", [False, True], ids=["tcp", "unix"])
def test_queries_of_one_kept_connection(
    watch: Watch, client: Actor, cluster: Postgres, *, over_unix: bool
) -> None:
    path = str(cluster.folder / f".s.PGSQL.{cluster.port}")
    end = client.connect(path if over_unix else ("127.0.0.1", cluster.port))
    hello = struct.pack(">I", 3 << 16) + b"user\0shop\0database\0postgres\0\0"
    query(end, struct.pack(">I", len(hello) + 4) + hello)
    for number in range(QUERIES):
        text = f"SELECT '{'x' * number}'".encode() + b"\0"
        query(end, b"Q" + struct.pack(">I", len(text) + 4) + text)
    lines = Path(cluster.folder / "data" / "postmaster.pid").read_text().split()
    (backend,) = watch.children(int(lines[0]), "postgres")
    asked, answered = both(watch, client.pid, backend, QUERIES + 1)
    assert len(set(wires(asked))) == len(asked) == QUERIES + 1
    assert wires(asked) == wires(answered)
    assert not any(one.is_alone for one in asked + answered)
    for ours, parent in parents(resolved(watch, client.pid, backend)):
        assert parent is not None
        assert (parent.wire, parent.request_bytes) == (ours.wire, ours.request_bytes)


def test_requests_of_one_encrypted_connection(watch: Watch, tmp_path: Path) -> None:
    """Where the two ends cut the first of them otherwise, that one has no parent."""
    program = [sys.executable, str(APPS / "sealed.py")]
    pair = [str(CERTIFICATES / name) for name in ("server.pem", "server.key")]
    with Child([*program, "serve", *pair], log=tmp_path / "log") as server:
        server.wait_ready(lambda: server.log_text().endswith("\n"), "it listens")
        words = ["ask", str(CERTIFICATES / "ca.pem"), server.log_text().strip()]
        with subprocess.Popen([*program, *words, str(QUERIES)]) as client:
            assert client.wait(20) == 0
        server.wait(20)
        asked, answered = both(watch, client.pid, server.pid, QUERIES)
        spans = resolved(watch, client.pid, server.pid)
    assert {one.key.protocol for one in asked + answered} == {Protocol.UNKNOWN}
    assert len(set(wires(asked))) == len(asked)
    assert len(set(wires(answered))) == len(answered)
    found = parents(spans)
    whole = [(ours, parent) for ours, parent in found if parent is not None]
    assert len(whole) >= QUERIES - 1
    assert len(found) - len(whole) <= 2
    by_size = {one.request_bytes: one for one in asked}
    for ours, parent in whole[2:]:  # a message's length is its own
        assert by_size[ours.request_bytes] == parent


# ---- connections that were there before ----------------------------------------------------


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.UNIX])
def test_turns_of_an_older_connection(
    watching: Watching, tmp_path: Path, transport: Transport
) -> None:
    """By TCP both know where they are; by a Unix socket neither knows what the other has read."""
    address: Address = str(tmp_path / "s")
    if transport is Transport.TCP:
        address = ("127.0.0.1", 0)
    with Actor() as client, Actor() as server:
        listener, bound = server.listen(address)
        ends = Ends(client.connect(bound), listener.accept())
        for _ in range(3):
            ends.call(b"\x01" * 10, b"\x02")
        ends.client.send(b"\x01" * 10)  # not read yet
        with watching() as watch:
            ends.server.take(b"\x01" * 10)
            ends.respond(b"\x02")
            for _ in range(QUERIES):
                ends.call(b"\x01" * 10, b"\x02")
            asked, answered = both(watch, client.pid, server.pid, QUERIES)
            spans = resolved(watch, client.pid, server.pid)
    is_unix = transport is Transport.UNIX
    assert {one.is_alone for one in asked + answered} == {is_unix}
    assert len(set(wires(asked))) == len(asked)
    assert len(set(wires(answered))) == len(answered)
    if is_unix:
        assert not set(wires(asked)) & set(wires(answered))
        assert [parent for _, parent in parents(spans)] == [None] * len(answered)
        return
    last = [one.offset for one in wires(asked)[-QUERIES:]]
    assert last == [40 + 10 * number for number in range(QUERIES)]
    assert wires(asked)[-QUERIES:] == wires(answered)[-QUERIES:]


def test_a_unix_connection_that_is_accepted_late(
    watching: Watching, tmp_path: Path
) -> None:
    """Its server's end was nobody's when the older sockets were visited."""
    with Actor() as client, Actor() as server:
        listener, address = server.listen(str(tmp_path / "s"))
        here = client.connect(address)
        here.send(b"\x01" * 10)
        with watching() as watch:
            there = listener.accept()
            there.take(b"\x01" * 10)
            ends = Ends(here, there)
            ends.respond(b"\x02")
            for _ in range(5):
                ends.call(b"\x01" * 10, b"\x02")
            asked, answered = both(watch, client.pid, server.pid, 5)
            spans = resolved(watch, client.pid, server.pid)
    assert all(one.is_alone for one in asked + answered)
    assert not any(parent for _, parent in parents(spans))


# ---- one end alone -------------------------------------------------------------------------


def test_connects_that_fail(watch: Watch, client: Actor) -> None:
    """Of one socket that tries again, and of others."""
    address = ("127.0.0.1", free_port())
    # Every other try only says that the one before failed.
    again = client.call("connect_again", address, 20)
    assert again == [errno.ECONNREFUSED, errno.ECONNABORTED] * 10
    for _ in range(10):
        assert client.call("connect_error", address) == errno.ECONNREFUSED
    found = watch.exchanges(client.pid)
    assert {one.key.protocol for one in found} == {Protocol.CONNECT}
    assert len(found) == len(set(wires(found))) == 20
    assert all(one.is_alone for one in found)
    resolved(watch, client.pid)
    assert all(one.end_ns - one.start_ns < 10**9 for one in found)


def test_lookups_that_are_under_way_at_once(
    watch: Watch, client: Actor, server: Actor
) -> None:
    """As the C library asks for both kinds of address: one after the other, on one socket."""
    there, address = server.call("datagram_server", ("127.0.0.1", 0))
    here = client.call("datagram", address)
    questions = [
        dns_question(f"n{n}.shop.test", kind) for n in range(10) for kind in (1, 28)
    ]
    for question in questions:
        client.call("send", here, question)
    for question in questions:
        message, sender = server.call("recv_from", there)
        assert message == question
        server.call("send_to", there, message[:2] + b"\x81\x80" + message[4:], sender)
    for _ in questions:
        client.call("recv", here)
    found = watch.exchanges(client.pid)
    assert {one.key.protocol for one in found} == {Protocol.DNS}
    assert len(found) == len(set(wires(found))) == len(questions)
    assert all(one.is_alone for one in found)
    resolved(watch, client.pid)


def test_the_wires_of_calls_and_of_all_else_are_never_one(
    watch: Watch, client: Actor, connect: Callable[..., Ends]
) -> None:
    """HTTP, pipelined and not, on connections that are kept and on fresh ones."""
    for _ in range(5):
        ends = connect()
        for _ in range(5):
            ends.call(get(), OK)
        ends.call(get() * 5, OK * 5)
    found = of(watch, client.pid, Role.CLIENT)
    assert len(found) == len(set(wires(found))) == 50
    resolved(watch, client.pid)
