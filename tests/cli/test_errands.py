# SPDX-License-Identifier: Apache-2.0
"""A running agent records when it is told to, and keeps a flight recorder: real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.process import Child, free_port, wait_until

from deetune_otel.archive.reading import read
from deetune_otel.cli import main
from deetune_otel.recording.model import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

SERVICE: Final = """
import http.server, os, sys
class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(503 if self.path == "/fails" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""
ASK: Final = """
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for path in sys.argv[2:]:
    c.request("GET", path, headers={"Authorization": "Bearer hunter2hunter2"})
    c.getresponse().read()
c.close()
"""


class Agent(Child):
    """`deetune run` with a control socket."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.socket = folder / "control.sock"
        words = [f"recording.socket={self.socket}", "web.enabled=false", *settings]
        flags = [word for one in words for word in ("--set", one)]
        super().__init__(
            [sys.executable, "-m", "deetune_otel", "run", *flags],
            log=folder / "agent.log",
        )
        self.wait_ready(self.socket.exists, "the agent listens")


@contextmanager
def service(folder: Path) -> Iterator[int]:
    port = free_port()
    child = Child(
        [sys.executable, "-c", SERVICE, str(port)], log=folder / "service.log"
    )
    try:
        wait_until(lambda: _asked(port, "/"), "the service answers")
        yield port
    finally:
        child.stop()


def _asked(port: int, *paths: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(port), *paths],
        check=False,
        timeout=60,
        capture_output=True,
    )
    return done.returncode == 0


def recorder(agent: Agent, folder: Path, *words: str) -> subprocess.Popen[str]:
    """`deetune record --attach`, as soon as the agent records."""
    log = folder / "said"
    with log.open("w") as said:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "deetune_otel", "record"),
                *("--attach", str(agent.socket), *words),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    wait_until(
        lambda: "Ctrl-C ends it" in log.read_text() or process.poll() is not None,
        "it records",
        timeout_s=60,
    )
    assert process.poll() is None, log.read_text()
    return process


def flights(folder: Path) -> list[Path]:
    return sorted(folder.glob("flight-*.pcapng"))


def test_the_running_agent_records(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    try:
        with service(tmp_path) as port:
            words = ["--port", str(port), "--max-exchanges", "3", "-o", "a.pcapng"]
            process = recorder(agent, tmp_path, *words)
            assert _asked(port, "/1", "/2", "/3")
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            assert "3 of 3 exchanges in a.pcapng" in said
            assert b"hunter2" not in (tmp_path / "a.pcapng").read_bytes()

            # Ctrl-C at the command ends it at the agent, in order.
            words = ["--port", str(port), "--for", "10m", "-o", "b.pcapng"]
            process = recorder(agent, tmp_path, *words)
            assert _asked(port, "/1")
            path = tmp_path / "b.pcapng"
            wait_until(lambda: path.stat().st_size > 500, "it is in the file")
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            assert "1 of 1 exchanges in b.pcapng" in said
            assert "ended by interrupted" in said
    finally:
        agent.stop()


def test_what_cannot_be_done_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = Agent(tmp_path)
    attach = ["record", "--attach", str(agent.socket)]
    try:
        (tmp_path / "mine.pcapng").write_text("mine")
        assert main([*attach, "-o", str(tmp_path / "mine.pcapng")]) == 2
        assert "exists already" in capsys.readouterr().err
        assert main([*attach, "--flight"]) == 1
        assert "recording.flight turns it on" in capsys.readouterr().err
        assert main([*attach, "--set", "web.port=1"]) == 2
        assert "takes no settings" in capsys.readouterr().err
        process = recorder(agent, tmp_path, "--for", "10m", "-o", "a.pcapng")
        assert main([*attach, "-o", str(tmp_path / "b.pcapng")]) == 1
        assert "recording already" in capsys.readouterr().err
        # Its command is killed: the recording ends, and the file is whole.
        process.kill()
        process.communicate(timeout=60)
        wait_until(
            lambda: (
                main([*attach, "-o", str(tmp_path / "c.pcapng"), "--for", "1s"]) == 1
                and "nothing was recorded" in capsys.readouterr().err
            ),
            "the agent has ended the other one",
            timeout_s=60,
        )
    finally:
        agent.stop()
    assert main(attach) == 3
    assert "no agent listens" in capsys.readouterr().err
    assert main(["record", "--flight"]) == 2


def test_an_error_writes_the_last_minutes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "flights"
    agent = Agent(
        tmp_path,
        "recording.flight=true",
        f"recording.flight_folder={folder}",
        "recording.flight_after_s=0",
    )
    try:
        with service(tmp_path) as port:
            log = tmp_path / "agent.log"
            assert _asked(port, "/before")
            assert flights(folder) == []
            assert _asked(port, "/1", "/2", "/fails")
            wait_until(lambda: len(flights(folder)) == 1, "it is written", timeout_s=60)
            wait_until(lambda: "exchanges are in" in log.read_text(), "it is said")
            with read(flights(folder)[0]) as file:
                answers = [one.response for one in file]
            statuses = [a.status for a in answers if isinstance(a, HttpResponse)]
            assert statuses[-3:] == [200, 200, 503]
            assert b"hunter2" not in flights(folder)[0].read_bytes()
            assert folder.stat().st_mode & 0o777 == 0o700

            # Another error within the pause writes no other file; a signal and a command do.
            assert _asked(port, "/fails")
            agent.signal(signal.SIGUSR1)
            wait_until(lambda: len(flights(folder)) == 2, "the signal has one written")
            wait_until(lambda: "SIGUSR1" in log.read_text(), "it is said")
            capsys.readouterr()
            assert main(["record", "--attach", str(agent.socket), "--flight"]) == 0
            path = Path(capsys.readouterr().out.strip())
            assert flights(folder)[2] == path
            with read(path) as file:
                assert len(list(file)) >= 4

            # While another recording is made it rests, and it goes on afterwards.
            words = ["--port", str(port), "--max-exchanges", "1", "-o", "a.pcapng"]
            process = recorder(agent, tmp_path, *words)
            assert _asked(port, "/mine")
            said, _ = process.communicate(timeout=60)
            assert "1 of 1 exchanges" in said
            capsys.readouterr()
            assert main(["record", "--attach", str(agent.socket), "--flight"]) == 0
    finally:
        agent.stop()


def test_a_folder_that_cannot_be_written_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    where = f"recording.flight_folder={tmp_path / 'file' / 'flights'}"
    words = ["--set", "recording.flight=true", "--set", where]
    assert main(["run", *words]) == 2
    assert "recording.flight_folder" in capsys.readouterr().err
