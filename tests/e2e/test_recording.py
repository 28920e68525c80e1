# SPDX-License-Identifier: Apache-2.0
"""Record a running service, replay against a second instance, and see what changed in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from tests.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PRODUCTS: Final = 12
VISITS: Final = 3 * PRODUCTS  # each makes one call

# Prices are its own, and what is left it asks another service. The second instance may be told to
# have one other price, one outage, and to ask once more.
SERVICE: Final = """
import http.client, http.server, json, sys, threading, time
stock, changed, broken, curious = map(int, sys.argv[1:])
own = threading.local()

def left(number):
    if not hasattr(own, "stock"):
        own.stock = http.client.HTTPConnection("127.0.0.1", stock)
    for path in ["/stock", "/audit"] if number == curious else ["/stock"]:
        own.stock.request("GET", f"{path}/{number}")
        found = json.loads(own.stock.getresponse().read())
    return found["left"]

class Products(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        number = int(self.path.rpartition("/")[2])
        price = 5 + number + (number == changed)
        answer = {"id": number, "price": price, "at": time.time()}
        if stock:
            answer["left"] = left(number)
        else:
            answer = {"left": 3}
        data = json.dumps(answer).encode()
        self.send_response(503 if number == broken else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Products)
print(server.server_port, flush=True)
server.serve_forever()
"""

CUSTOMER: Final = """
import http.client, sys
for _ in range(3):
    c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    for number in range(int(sys.argv[2])):
        c.request("GET", f"/products/{number}", headers={"X-Api-Key": "hunter2hunter2"})
        c.getresponse().read()
    c.close()
"""


@contextmanager
def service(*, changed: int = -1, broken: int = -1, curious: int = -1) -> Iterator[int]:
    """Its port; it has a stock of its own."""
    with (
        _program("stock", 0, -1, -1, -1) as stock,
        _program("products", stock, changed, broken, curious) as port,
    ):
        yield port


@contextmanager
def _program(name: str, *arguments: int) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OTEL_SERVICE_NAME": name},
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def deetune(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deetune_otel", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of one service, chosen by its name, under its customers' load."""
    folder = tmp_path_factory.mktemp("recorded")
    path, log = folder / "products.pcapng", folder / "said"
    with (
        service() as port,
        log.open("w") as said,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "deetune_otel", "record"),
                *("--service", "products", "--path", "/products/*"),
                *("--max-exchanges", str(2 * VISITS), "-o", str(path)),
            ],
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as recorder,
    ):
        try:
            wait_until(lambda: "Ctrl-C" in log.read_text(), "it records", timeout_s=60)
            subprocess.run(
                [sys.executable, "-c", CUSTOMER, str(port), str(PRODUCTS)],
                check=True,
                timeout=60,
            )
            assert recorder.wait(60) == 0, log.read_text()
        finally:
            recorder.kill()
    total = 2 * VISITS
    assert f"{total} of {total} exchanges" in log.read_text()
    return path


def test_the_file_has_no_secret(recorded: Path) -> None:
    assert b"hunter2" not in recorded.read_bytes()
    done = deetune("recording", "scan", recorded, folder=recorded.parent)
    assert done.returncode == 0, done.stdout


def test_the_same_build_differs_in_nothing(recorded: Path, tmp_path: Path) -> None:
    with service() as port:
        done = deetune(
            "replay", recorded, "--target", f"127.0.0.1:{port}", folder=tmp_path
        )
    assert done.returncode == 0, done.stdout
    assert "36 same, 0 different" in done.stdout
    assert "36 with their calls compared" in done.stdout


def test_one_field_one_status_and_one_call_are_exactly_what_is_reported(
    recorded: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    words = ["--json", str(report), "--report", str(tmp_path / "report.html")]
    with service(changed=4, broken=7, curious=9) as port:
        done = deetune(
            "replay", recorded, "--target", f"127.0.0.1:{port}", *words, folder=tmp_path
        )
    assert done.returncode == 1, done.stdout
    assert "27 same, 9 different" in done.stdout
    document = json.loads(report.read_text())
    places = {
        finding["place"]
        for exchange in document["exchanges"]
        for finding in exchange["findings"]
    }
    assert places == {"$.price", "status", "downstream GET /audit/{id}"}
    assert [one["count"] for one in document["clusters"]] == [3, 3, 3]
    assert document["calls"] == {"compared": VISITS}
    assert "$.price" in (tmp_path / "report.html").read_text()


def test_a_replay_is_not_recorded(recorded: Path, tmp_path: Path) -> None:
    log = tmp_path / "said"
    with (
        service() as port,
        log.open("w") as said,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "deetune_otel", "record"),
                *("--service", "products", "--for", "5s"),
                *("-o", str(tmp_path / "b.pcapng")),
            ],
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as recorder,
    ):
        try:
            wait_until(lambda: "Ctrl-C" in log.read_text(), "it records", timeout_s=60)
            deetune(
                "replay", recorded, "--target", f"127.0.0.1:{port}", folder=tmp_path
            )
            assert recorder.wait(60) == 1
        finally:
            recorder.kill()
    assert "nothing was recorded of 72 exchanges" in log.read_text()
    assert "0 of 72 exchanges" in log.read_text()
    assert "72 not chosen (72 by replay)" in log.read_text()
