# SPDX-License-Identifier: Apache-2.0
"""Sends requests in pipelines and waits for every response: nothing is cut at the end.

    python pipelined.py PORT PIPELINES DEPTH

Every pipeline is DEPTH requests in one write; the responses to all of them are read before the
next. Ends with 0 when all were 200.
"""

from __future__ import annotations

import socket
import sys

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
STATUS = b"HTTP/1.1 200 OK\r\n"
END = b"\r\n\r\nok\n"  # of the head, and the whole body


def main() -> None:
    port, pipelines, depth = map(int, sys.argv[1:4])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for _ in range(pipelines):
            connection.sendall(REQUEST * depth)
            got = b""
            while got.count(END) < depth:
                more = connection.recv(1 << 16)
                if not more:
                    sys.exit("the server closed the connection")
                got += more
            if got.count(STATUS) != depth or not got.endswith(END):
                sys.exit(f"not what was asked for: {got[:200]!r}")


if __name__ == "__main__":
    main()
