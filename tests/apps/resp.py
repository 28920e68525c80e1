# SPDX-License-Identifier: Apache-2.0
"""The little of Redis's protocol that the test programs speak."""

from __future__ import annotations

import socket
from typing import Final

__all__ = ["Connection", "command"]

HAS_NO_BODY: Final = b"+-:"


def command(*words: str) -> bytes:
    """Encode one command."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        text = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(text), text))
    return b"".join(parts)


class Connection:
    """One blocking connection; replies are given as their text, errors begin with '-'."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._replies = self._socket.makefile("rb")

    def ask(self, *words: str) -> str:
        """Send a command and give its reply; "" for nil."""
        self._socket.sendall(command(*words))
        head = self._replies.readline()
        if not head.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        if head[:1] in HAS_NO_BODY:
            return head.decode().strip()
        length = int(head[1:])
        if length < 0:
            return ""
        return self._replies.read(length + 2)[:length].decode()

    def close(self) -> None:
        self._replies.close()
        self._socket.close()
