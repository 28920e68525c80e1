# SPDX-License-Identifier: Apache-2.0
"""The control socket: requests and answers, for its owner alone, and nothing else's file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING, Any

import pytest

from deetune_otel.agent.control import (
    MAX_REQUESTS,
    MOST_BYTES,
    ControlClient,
    ControlError,
    ControlServer,
    Conversation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT = """
import os, socket, sys
os.setuid(65534)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except PermissionError:
    sys.exit(7)
"""


@contextmanager
def serving(
    path: Path, answer: Callable[[dict[str, Any], Conversation], None]
) -> Iterator[None]:
    server = ControlServer(path, answer)
    server.start()
    try:
        yield
    finally:
        server.close()
    assert not path.exists()


def echo(request: dict[str, Any], conversation: Conversation) -> None:
    conversation.send(echo=request)
    conversation.send(code=0)


def test_a_request_and_what_is_said_about_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    with serving(path, echo), ControlClient(path) as client:
        client.ask(words=["record", "ä"])
        assert client.hear(10) == {"echo": {"words": ["record", "ä"]}}
        assert client.hear(10) == {"code": 0}
        with pytest.raises(ControlError, match="ended"):
            client.hear(10)


def test_several_are_answered_at_a_time(tmp_path: Path) -> None:
    both = Event()

    def answer(request: dict[str, Any], conversation: Conversation) -> None:
        if request["number"] == 2:
            both.set()
        assert both.wait(10)
        conversation.send(**request)

    path = tmp_path / "c"
    with serving(path, answer), ControlClient(path) as one, ControlClient(path) as two:
        one.ask(number=1)
        two.ask(number=2)
        assert (one.hear(10), two.hear(10)) == ({"number": 1}, {"number": 2})


@pytest.mark.parametrize("goes_away", [False, True])
def test_an_end_is_heard(tmp_path: Path, goes_away: bool) -> None:  # noqa: FBT001
    ended = Event()

    def answer(_: dict[str, Any], conversation: Conversation) -> None:
        assert not conversation.wait(0)
        conversation.send(here=True)
        assert conversation.wait(10)
        assert conversation.wait(0)
        conversation.send(code=1)
        ended.set()

    path = tmp_path / "c"
    with serving(path, answer):
        with ControlClient(path) as client:
            client.ask()
            assert client.hear(10) == {"here": True}
            if not goes_away:
                client.end()
                assert client.hear(10) == {"code": 1}
        assert ended.wait(10)


def test_who_says_nothing_or_reads_nothing_holds_no_agent(tmp_path: Path) -> None:
    """It ends at once, or after a second; who listens hears the last words, however late."""

    def answer(request: dict[str, Any], conversation: Conversation) -> None:
        begun.release()
        if request["is_deaf"]:
            while not conversation.wait(0):
                conversation.send(show="x" * 60_000)
        else:
            assert conversation.wait(10)
        last.set()
        conversation.send(code=0)

    path, last, begun = tmp_path / "c", Event(), Semaphore(0)
    server = ControlServer(path, answer)
    server.start()
    clients = [ControlClient(path) for _ in range(3)]
    with ExitStack() as stack:
        for one in clients:
            stack.enter_context(one)
        deaf, listener, silent = clients
        deaf.ask(is_deaf=True)
        listener.ask(is_deaf=False)
        silent._socket.sendall(b"{")
        assert begun.acquire(timeout=10)
        assert begun.acquire(timeout=10)
        closing = Thread(target=server.close)
        closing.start()
        assert closing.is_alive()
        listener.end()
        assert listener.hear(5) == {"code": 0}
        closing.join(5)
        assert not closing.is_alive()
    assert last.is_set()


def test_requests_at_a_time_are_bounded(tmp_path: Path) -> None:
    def answer(_: dict[str, Any], conversation: Conversation) -> None:
        assert conversation.wait(10)

    path = tmp_path / "c"
    with serving(path, answer), ExitStack() as stack:
        many = [stack.enter_context(ControlClient(path)) for _ in range(MAX_REQUESTS)]
        for one in many:
            one.ask()
        with ControlClient(path) as client:
            client.ask()
            assert client.hear(5) == {
                "error": f"{MAX_REQUESTS} requests are under way already"
            }
        for one in many:
            one.end()


def test_only_its_owner_may_use_it(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with serving(path, echo):
        assert path.stat().st_mode & 0o777 == 0o600
        if os.geteuid() == 0:
            done = subprocess.run([sys.executable, "-c", CONNECT, path], check=False)
            assert done.returncode == 7


def test_the_socket_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(path, echo), ControlClient(path) as client:
        client.ask(a=1)
        assert client.hear(10) == {"echo": {"a": 1}}


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("mine")
    with pytest.raises(ControlError, match="not a socket"):
        ControlServer(path, echo).start()
    assert path.read_text() == "mine"
    path.unlink()
    with serving(path, echo):
        with pytest.raises(ControlError, match="another agent"):
            ControlServer(path, echo).start()
        assert path.exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match="cannot listen") as raised:
        ControlServer(tmp_path / "file" / "c", echo).start()
    assert "recording.socket" in raised.value.hint


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(ControlError, match="no agent listens") as raised,
        ControlClient(tmp_path / "c"),
    ):
        pass
    assert "deetune run" in raised.value.hint


NONSENSE = {
    b"\n": "not JSON",
    b"[]\n": "not a JSON object",
    b"{\n": "not JSON",
    b'{"a": "\xff"}\n': "not JSON",
    b'{"a": NaN}\n': "NaN is not a number in JSON",
    b'{"a": ' + b"9" * 5000 + b"}\n": "not JSON",
    b"[" * 100_000 + b"\n": "nested too deeply",
    b'{"a":' * 20_000 + b"\n": "nested too deeply",
    b"x" * (MOST_BYTES + 9): "longer than 262,144 bytes",
}


@pytest.mark.parametrize(
    ("data", "reason"), NONSENSE.items(), ids=[str(data[:9]) for data in NONSENSE]
)
def test_nonsense_is_refused_and_harms_nobody(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    path = tmp_path / "c"
    with serving(path, echo):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(str(path))
            raw.sendall(data)
            answer = json.loads(raw.makefile().readline())
        assert answer["error"].startswith("request not understood: ")
        assert reason in answer["error"]
        with ControlClient(path) as client:
            client.ask(a=1)
            assert client.hear(10) == {"echo": {"a": 1}}


@pytest.mark.parametrize("data", [b"", b"{"])
def test_who_hangs_up_is_not_answered(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c"
    with serving(path, echo):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(str(path))
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            assert raw.recv(100) == b""
        with ControlClient(path) as client:
            client.ask(a=1)
            assert client.hear(10) == {"echo": {"a": 1}}


def test_an_answer_that_fails_is_said(tmp_path: Path) -> None:
    def answer(_: dict[str, Any], __: Conversation) -> None:
        raise ZeroDivisionError("no")

    path = tmp_path / "c"
    with serving(path, answer), ControlClient(path) as client:
        client.ask()
        assert client.hear(10) == {"error": "the agent failed: ZeroDivisionError: no"}
