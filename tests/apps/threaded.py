# SPDX-License-Identifier: Apache-2.0
"""`orders`: one thread a connection. Stores in Redis, asks `stock`, answers.

    python threaded.py PORT STOCK_PORT REDIS_PORT

GET /orders/ID is one SET in Redis and one GET /stock/ID; GET /orders/fail is a 500 that calls
nobody; GET /orders/hang says so on standard output and never answers.
"""

from __future__ import annotations

import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.apps.resp import Connection

_, PORT, STOCK_PORT, REDIS_PORT = (0, *map(int, sys.argv[1:4]))


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.redis = Connection(REDIS_PORT)
        self.stock = HTTPConnection("127.0.0.1", STOCK_PORT, timeout=10)

    def finish(self) -> None:
        super().finish()
        self.redis.close()
        self.stock.close()

    def do_GET(self) -> None:
        item = self.path.rpartition("/")[2]
        if item == "fail":
            self.answer(500, b"no\n")
            return
        if item == "hang":
            print("hangs", flush=True)  # noqa: T201 - a test waits for it
            threading.Event().wait()
        self.redis.ask("SET", f"order:{item}", "1")
        self.stock.request("GET", f"/stock/{item}")
        answer = self.stock.getresponse()
        self.answer(answer.status, answer.read())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is for what goes wrong."""


class Server(ThreadingHTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", PORT), Orders).serve_forever()
