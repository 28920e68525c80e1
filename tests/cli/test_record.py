# SPDX-License-Identifier: Apache-2.0
"""`deetune record` as a user runs it: what it writes, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from tests.process import wait_until
from tests.programs import Nginx

from deetune_otel.archive.reading import read
from deetune_otel.cli import main
from deetune_otel.recording.model import HttpResponse
from deetune_otel.recording.pcapng import Packet, Statistics, read_pcapng

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASK: Final = """
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for i in range(int(sys.argv[2])):
    c.request("GET", f"/orders/{i}", headers={"Authorization": "Bearer hunter2hunter2"})
    c.getresponse().read()
c.close()
"""


def ask(port: int, count: int) -> None:
    subprocess.run(
        [sys.executable, "-c", ASK, str(port), str(count)], check=True, timeout=60
    )


@contextmanager
def recording(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`deetune record`, as soon as it records."""
    log = folder / "said"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "deetune_otel", "record", *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):
        try:
            wait_until(
                lambda: (
                    "Ctrl-C ends it" in log.read_text() or process.poll() is not None
                ),
                "it records",
                timeout_s=60,
            )
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.kill()


@pytest.mark.kernel
def test_a_recording_from_begin_to_end(tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx:
        words = ["--port", str(nginx.port), "--max-exchanges", "20", "-o", "a.pcapng"]
        with recording(tmp_path, *words) as process:
            ask(nginx.port, 20)
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "20 of 20 exchanges in a.pcapng" in said
    assert "ended by exchanges" in said
    assert "redacted: header 20" in said
    assert "deetune replay a.pcapng --target HOST:PORT" in said
    for name in ("a.pcapng", "a.pcapng.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    data = (tmp_path / "a.pcapng").read_bytes()
    assert b"hunter2" not in data
    with (tmp_path / "a.pcapng").open("rb") as file:
        blocks = list(read_pcapng(file.read))
    comments = [
        one.comment for one in blocks if isinstance(one, Packet) and one.comment
    ]
    assert sum('operation="GET /orders/{id}"' in one for one in comments) == 20
    (manifest,) = [
        json.loads(one.comment) for one in blocks if isinstance(one, Statistics)
    ]
    assert (manifest["seen"], manifest["captured"]) == (20, 20)


@pytest.mark.kernel
def test_a_signal_ends_it_in_order(tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx:
        words = ["--port", str(nginx.port), "--for", "10m", "-o", "a.pcapng.zst"]
        with recording(tmp_path, *words) as process:
            ask(nginx.port, 5)
            wait_until(
                lambda: (tmp_path / "a.pcapng.zst").stat().st_size > 1000,
                "the exchanges are in the file",
            )
            process.terminate()
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "5 of 5 exchanges in a.pcapng.zst" in said
    assert "ended by interrupted" in said


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("words", "why", "hint"),
    [
        (["--service", "nobody*"], "no process is service nobody*", "nginx"),
        (["--path", "/never"], "of 3 exchanges that were seen", "3 by path"),
    ],
)
def test_a_recording_of_nothing_is_an_error_that_says_why(
    tmp_path: Path, words: list[str], why: str, hint: str
) -> None:
    with Nginx.start(tmp_path) as nginx:
        words += [] if "--service" in words else ["--port", str(nginx.port)]
        with recording(tmp_path, *words, "--for", "10m", "-o", "a.pcapng") as process:
            ask(nginx.port, 3)
            wait_until(
                lambda: (
                    "3 left out" in (tmp_path / "said").read_text()
                    or "--service" in words
                ),
                "they were seen",
            )
            process.terminate()
            process.communicate(timeout=60)
        said = (tmp_path / "said").read_text()
    assert process.returncode == 1
    assert "deetune: error: nothing was recorded" in said
    assert why in said
    assert hint in said.partition("hint: ")[2]


@pytest.mark.kernel
def test_a_rehearsal_writes_nothing(tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx:
        words = ["--port", str(nginx.port), "--max-exchanges", "10", "--dry-run"]
        with recording(tmp_path, *words) as process:
            before = {one.name for one in tmp_path.iterdir()}
            ask(nginx.port, 10)
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "10 of 10 exchanges would be recorded" in said
    assert "nginx  GET /orders/{id}" in said
    assert "redacted: header 10" in said
    assert "Nothing was written." in said
    assert {one.name for one in tmp_path.iterdir()} == before


@pytest.mark.kernel
def test_no_redaction_is_said_loudly(tmp_path: Path) -> None:
    with Nginx.start(tmp_path) as nginx:
        words = ["--port", str(nginx.port), "--max-exchanges", "1", "--no-redaction"]
        with recording(tmp_path, *words, "-o", "a.pcapng") as process:
            ask(nginx.port, 1)
            said, _ = process.communicate(timeout=60)
    assert "NOT REDACTED" in (tmp_path / "said").read_text()
    assert "NOT redacted" in said
    assert b"hunter2hunter2" in (tmp_path / "a.pcapng").read_bytes()
    assert not (tmp_path / "a.pcapng.key").exists()


BIG: Final = """
import http.server
body = b"".join(b"%09d " % n for n in range(1_677_720))
class Big(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Big)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.kernel
def test_bodies_of_sixteen_megabytes_are_whole(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BIG], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            words = ["--port", str(port), "--max-body", "16M", "--max-exchanges", "3"]
            with recording(tmp_path, *words, "-o", "a.pcapng") as process:
                ask(port, 3)
                said, _ = process.communicate(timeout=60)
        finally:
            server.kill()
    assert "3 of 3 exchanges in a.pcapng" in said
    assert "incomplete" not in said
    whole = b"".join(b"%09d " % n for n in range(1_677_720))
    with read(tmp_path / "a.pcapng") as file:
        bodies = [
            one.response.body for one in file if isinstance(one.response, HttpResponse)
        ]
    assert [len(one) for one in bodies] == [len(whole)] * 3
    assert all(one == whole for one in bodies)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sample", "2"], "a share such as 0.1"),
        (["--sample", "0.5", "--sample-by", "cookies"], "cookie:NAME"),
        (["--keep", "3"], "--keep needs --rotate"),
        (["--for", "soon"], "a time such as 30s"),
        (["--max-body", "0"], "a size such as 64k"),
        (["--max-exchanges", "-1"], "a count"),
        (
            ["--redaction", "none.yaml"],
            "cannot read the policy none.yaml: no such file",
        ),
        (["--set", "x"], "no value"),
    ],
)
def test_bad_words_are_said(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_bad_policy_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("headers: {keeps: []}\n")
    assert main(["record", "--redaction", str(policy)]) == 2
    said = capsys.readouterr().err
    assert "keeps" in said
    assert "docs/redaction.md" in said


@pytest.mark.kernel
def test_a_file_that_exists_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pcapng"
    path.write_text("mine")
    assert main(["record", "-o", str(path), "--for", "1s"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine"


@pytest.mark.kernel
def test_a_folder_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none" / "a.pcapng"
    assert main(["record", "-o", str(path), "--for", "1s"]) == 1
    assert "cannot write" in capsys.readouterr().err
