# SPDX-License-Identifier: Apache-2.0
"""One request over a real socket."""

from __future__ import annotations

import http.client

__all__ = ["Answer", "ask"]


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    """`Accept_Encoding` stands for Accept-Encoding."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, headers=named)
        return Answer(connection.getresponse())
    finally:
        connection.close()
