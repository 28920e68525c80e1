# SPDX-License-Identifier: Apache-2.0
"""The load generator's counts against a server that counts for itself."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from tests.process import free_port, wait_until

from deetune_otel.demo import servers
from deetune_otel.demo.services.customers import HABITS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Counting(ThreadingHTTPServer):
    """Answers by turns with 200, 404 and 500, and counts what it answered."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answered: Counter[tuple[str, int]] = Counter()
        self.connections = 0
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Counting

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        route = re.sub(r"/\d+", "/{id}", self.path.partition("?")[0])
        with self.server.lock:
            status = (200, 404, 500)[self.server.answered.total() % 3]
            self.server.answered[f"{self.command} {route}", status] += 1
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


@pytest.fixture
def server() -> Iterator[Counting]:
    with Counting() as counting:
        thread = threading.Thread(target=counting.serve_forever)
        thread.start()
        yield counting
        counting.shutdown()
        thread.join()


def visit(url: str, report: Path, until: Any) -> dict[str, Any]:
    script = str(servers.SERVICES / "customers.py")
    with subprocess.Popen(
        [sys.executable, script, url, "--rate", "300", "--report", str(report)],
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"visiting")
            until()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    counts: dict[str, Any] = json.loads(report.read_text())
    return counts


def test_counts_are_exactly_what_the_server_answered(
    server: Counting, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    counts = visit(
        url,
        tmp_path / "report",
        lambda: wait_until(lambda: server.answered.total() > 400, "400 requests"),
    )
    theirs = {
        (one["operation"], one["status"]): one["count"] for one in counts["operations"]
    }
    assert theirs == dict(server.answered)
    assert counts["requests"] == server.answered.total()


def test_half_of_the_requests_have_a_connection_of_their_own(
    server: Counting, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    counts = visit(
        url,
        tmp_path / "report",
        lambda: wait_until(lambda: server.answered.total() > 100, "100 requests"),
    )
    own = (counts["requests"] + 1) // 2
    assert own <= server.connections < counts["requests"]


def test_requests_without_an_answer_are_counted_by_error(tmp_path: Path) -> None:
    report = tmp_path / "report"
    with_nobody = f"http://127.0.0.1:{free_port()}"
    counts = visit(with_nobody, report, lambda: None)
    assert {one["status"] for one in counts["operations"]} <= {0}
    assert all("Error" in one["error"] for one in counts["operations"])


def test_weights_are_shares_of_a_hundred() -> None:
    assert sum(habit.weight for habit in HABITS) == 100
