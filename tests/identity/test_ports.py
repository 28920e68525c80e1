# SPDX-License-Identifier: Apache-2.0
"""Real sockets that listen: here, in another network namespace, and inherited."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from tests.identity.owners import owner_of, started

from deetune_otel.identity.process import ProcessReader

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSHARED: Final = ("unshare", "--net")
# Says which ports it listens on: IPv4, IPv6, and one that listened before its exec.
SERVER: Final = """
import json, os, socket, sys
inherited = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
four, six = socket.socket(), socket.socket(socket.AF_INET6)
four.bind(("0.0.0.0", 0)), six.bind(("::", 0))
four.listen(), six.listen()
bound = socket.socket()
bound.bind(("0.0.0.0", 0))  # does not listen
ports = [one.getsockname()[1] for one in (four, six, *inherited)]
busy = [os.dup(0) for _ in range(1000)]
print(json.dumps(ports), flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["ours", "another"])
def prefix(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """The words that put a program into that network namespace."""
    if request.param == "ours":
        yield ()
        return
    may = shutil.which("unshare") is not None and not (
        subprocess.run([*UNSHARED, "true"], check=False, capture_output=True).returncode
    )
    if not may:
        why = "may not make network namespaces"
        if os.environ.get("DEETUNE_REQUIRE_KERNEL") == "1":
            pytest.fail(why)
        pytest.skip(why)
    yield UNSHARED


def ports_of(pid: int) -> frozenset[int]:
    facts = ProcessReader().read(owner_of(pid), with_ports=True)
    assert facts is not None
    return facts.listening_ports


def test_those_that_listen_and_no_others(prefix: tuple[str, ...]) -> None:
    with started([*prefix, sys.executable, "-c", SERVER]) as child:
        assert child.stdout is not None
        listening = set(json.loads(child.stdout.readline()))
        assert len(listening) == 2
        assert ports_of(child.pid) == listening


def test_an_inherited_one_counts(prefix: tuple[str, ...]) -> None:
    """From us: into another namespace too, as an init system hands it to a service."""
    with socket.create_server(("127.0.0.1", 0)) as ours:
        fd = ours.fileno()
        command = [*prefix, sys.executable, "-c", SERVER, str(fd)]
        with subprocess.Popen(
            command,
            pass_fds=[fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            try:
                assert child.stdout is not None
                listening = set(json.loads(child.stdout.readline()))
                assert ours.getsockname()[1] in listening
                assert ports_of(child.pid) == listening
            finally:
                child.kill()


def test_connections_are_not_ports() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            port = client.getsockname()[1]
            seen = ports_of(os.getpid())
            assert server.getsockname()[1] in seen
    assert port not in seen


def test_a_port_that_is_closed_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in ports_of(os.getpid())
    assert port not in ports_of(os.getpid())


def test_of_others_nothing_is_told() -> None:
    """As nobody, of a process of root's: its descriptors may not be read."""
    if os.getuid() != 0:
        pytest.skip("needs root to become nobody")
    code = (
        f"import os, sys; sys.path[:0] = {sys.path!r}\n"
        "from deetune_otel.identity.ports import listening_ports\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "fd = os.open(f'/proc/{sys.argv[1]}', os.O_RDONLY)\n"
        "print(sorted(listening_ports(fd)))"
    )
    with started([sys.executable, "-c", SERVER]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        command = [sys.executable, "-c", code, str(child.pid)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    assert answer.strip() == b"[]"
