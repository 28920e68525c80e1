# SPDX-License-Identifier: Apache-2.0
"""Both ends of one encrypted connection that is kept: what is said is nobody's to read.

    python sealed.py serve CERTIFICATE KEY
    python sealed.py ask AUTHORITY PORT TIMES

`serve` says its port on standard output and answers each message with one of twice its length.
`ask` sends messages of another length each and ends when it has all answers.
"""

from __future__ import annotations

import socket
import ssl
import sys

SHORTEST = 100


def serve(certificate: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)  # noqa: T201 - a test waits for it
    one, _ = listener.accept()
    with context.wrap_socket(one, server_side=True) as end:
        while message := end.recv(1 << 14):
            end.sendall(message * 2)


def ask(authority: str, port: int, times: int) -> None:
    context = ssl.create_default_context(cafile=authority)
    one = socket.create_connection(("127.0.0.1", port))
    with context.wrap_socket(one, server_hostname="localhost") as end:
        for number in range(times):
            message = b"x" * (SHORTEST + number)
            end.sendall(message)
            left = 2 * len(message)
            while left:
                left -= len(end.recv(1 << 14))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", certificate, key]:
            serve(certificate, key)
        case ["ask", authority, port, times]:
            ask(authority, int(port), int(times))
