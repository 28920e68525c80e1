# SPDX-License-Identifier: Apache-2.0
"""Serves or visits, in a network namespace of its own.

    python contained.py serve PORT
    python contained.py visit HOST PORT COUNT
    python contained.py once HOST PORT

`serve` says so when it listens. `visit` makes COUNT requests on one connection, says `COUNT` on standard output, and does it
again at each SIGUSR1. `once` ends as soon as it has its answer.
"""

from __future__ import annotations

import signal
import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is for what goes wrong."""


def ask(connection: HTTPConnection) -> None:
    connection.request("GET", "/stock")
    answer = connection.getresponse()
    if (answer.status, answer.read()) != (200, b"ok\n"):
        raise SystemExit(f"answered with {answer.status}")


def visit(connection: HTTPConnection, count: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    while True:
        for _ in range(count):
            ask(connection)
        print(count, flush=True)  # noqa: T201 - a test waits for it
        signal.sigwait({signal.SIGUSR1})


def main() -> None:
    match sys.argv[1:]:
        case ["serve", port]:
            server = ThreadingHTTPServer(("0.0.0.0", int(port)), Answers)
            print("listens", flush=True)  # noqa: T201 - a test waits for it
            server.serve_forever()
        case ["visit", host, port, count]:
            visit(HTTPConnection(host, int(port), timeout=20), int(count))
        case ["once", host, port]:
            ask(HTTPConnection(host, int(port), timeout=20))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
