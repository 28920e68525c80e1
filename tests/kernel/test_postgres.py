# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, which has no header of its own: a rate and a latency by turns, every byte."""

from __future__ import annotations

import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.observe import Calls, Watch, unknown
from tests.process import free_port

from deetune_otel.demo.program import hand_over, running
from deetune_otel.demo.servers import Postgres
from deetune_otel.model import Role, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.actor import Actor, Socket

pytestmark = pytest.mark.kernel

READY: Final = b"Z\0\0\0\5I"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """One that trusts its clients; started before anything is watched."""
    # Not one of pytest's folders: its user is not root, and theirs are root's alone.
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


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def until_ready(end: Socket) -> int:
    """Reads answers until the server waits for the next query; how many bytes."""
    got = b""
    while not got.endswith(READY):
        more = end.recv()
        assert more, got
        got += more
    return len(got)


@pytest.mark.parametrize("over_unix", [False, True], ids=["tcp", "unix"])
def test_queries_are_turns(
    watch: Watch, client: Actor, cluster: Postgres, *, over_unix: bool
) -> None:
    path = str(cluster.folder / f".s.PGSQL.{cluster.port}")
    end = client.connect(path if over_unix else ("127.0.0.1", cluster.port))
    hello = message(
        b"", struct.pack(">I", 3 << 16) + b"user\0shop\0database\0postgres\0\0"
    )
    queries = [hello] + [
        message(b"Q", f"SELECT generate_series(1, {n})\0".encode())
        for n in (1, 5, 2000)
    ]
    received = 0
    for query in queries:
        end.send(query)
        received += until_ready(end)
    totals = Calls(len(queries), sum(map(len, queries)), received)
    watch.expect(client.pid, {unknown(Role.CLIENT): totals})
    (edge,) = watch.edges(client.pid)
    if over_unix:
        assert (edge.transport, edge.peer_address) == (Transport.UNIX, path[:63])
    else:
        assert (edge.peer_address, edge.server_port) == ("127.0.0.1", cluster.port)
    (backend,) = watch.children(_postmaster(cluster), "postgres")
    watch.expect(backend, {unknown(Role.SERVER): totals})


def _postmaster(cluster: Postgres) -> int:
    lines = Path(cluster.folder / "data" / "postmaster.pid").read_text().split()
    return int(lines[0])


def test_an_encrypted_start_that_is_refused(
    watch: Watch, client: Actor, cluster: Postgres
) -> None:
    """One byte of answer, then the server's error: two turns on one connection."""
    end = client.connect(("127.0.0.1", cluster.port))
    ask = struct.pack(">II", 8, 80877103)  # SSLRequest
    end.send(ask)
    assert end.recv() == b"N"
    end.send(message(b"", struct.pack(">I", 9 << 16)))
    refused = 0
    while more := end.recv():
        refused += len(more)
    end.close()
    watch.expect(client.pid, {unknown(Role.CLIENT): Calls(2, 16, 1 + refused)})
