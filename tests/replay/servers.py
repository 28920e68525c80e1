# SPDX-License-Identifier: Apache-2.0
"""Targets that behave, and targets that do not, on a free port of loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from deetune_otel.replay.options import Target

__all__ = ["Heard", "answering", "listening"]

Heard = list[bytes]


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[Target]:
    """`serve` gets each connection, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(
                    target=guarded, args=(connection,), daemon=True
                ).start()

        def guarded(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield Target("127.0.0.1", server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering(
    answer: Callable[[bytes], bytes] | bytes, *, per_connection: int = 1 << 30
) -> Iterator[tuple[Target, Heard]]:
    """Each request's head is heard, and answered; the connection ends after so many."""
    heard: Heard = []

    def serve(connection: socket.socket) -> None:
        data = b""
        for _ in range(per_connection):
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            heard.append(head)
            connection.sendall(answer if isinstance(answer, bytes) else answer(head))

    with listening(serve) as target:
        yield target, heard
