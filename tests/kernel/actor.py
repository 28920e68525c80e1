# SPDX-License-Identifier: Apache-2.0
"""Processes that do socket calls one at a time, as a test tells them.

The agent never observes its own process, so all traffic comes from these. A call has returned
when the test goes on: what is read, and in which pieces, is the test's own choice.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["Actor", "Ends", "Socket"]

PROGRAM: Final = Path(__file__).parent / "programs" / "sockets.py"
Address = tuple[str, int] | str
Step = tuple[str, tuple[Any, ...]]


class Actor:
    """One process of programs/sockets.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, method: str, *args: object) -> Callable[[], Any]:
        """Tells it to do something; what is returned waits for the result."""
        told, said = self._process.stdin, self._process.stdout
        assert told is not None
        assert said is not None
        pickle.dump((method, args), told)
        told.flush()

        def result() -> Any:
            failed, value = pickle.load(said)
            if failed:
                raise value
            return value

        return result

    def call(self, method: str, *args: object) -> Any:
        return self.start(method, *args)()

    def listen(
        self, address: Address = ("127.0.0.1", 0), *, protocol: int = 0
    ) -> tuple[Socket, Address]:
        """A listening socket and its address; IPv6 takes IPv4 too. Protocol 0: the usual one."""
        number, bound = self.call("listen", address, protocol)
        return Socket(self, number), bound if isinstance(bound, str) else tuple(
            bound[:2]
        ) if isinstance(bound, tuple) else bound

    def connect(self, address: Address, *, protocol: int = 0) -> Socket:
        return Socket(self, self.call("connect", address, protocol))

    def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Socket:
    """One of an actor's sockets; the methods are those of programs/sockets.py."""

    def __init__(self, actor: Actor, number: int) -> None:
        self.actor: Final = actor
        self.number: Final = number

    def start(self, method: str, *args: object) -> Callable[[], Any]:
        return self.actor.start(method, self.number, *args)

    def call(self, method: str, *args: object) -> Any:
        return self.actor.call(method, self.number, *args)

    def accept(self) -> Socket:
        return Socket(self.actor, self.call("accept"))

    def send(self, data: bytes, piece: int = 0) -> int:
        """All of it, in writes of `piece` bytes."""
        sent: int = self.call("send", data, piece)
        return sent

    def recv(self, count: int = 65536) -> bytes:
        """What one read gives."""
        data: bytes = self.call("recv", count)
        return data

    def take(self, expected: bytes, piece: int = 0) -> None:
        """Reads just these bytes, in reads of at most `piece`."""
        data: bytes = self.call("recv_exactly", len(expected), piece)
        assert data == expected

    def close(self) -> None:
        self.call("close")


class Ends(NamedTuple):
    """Both ends of one connection."""

    client: Socket
    server: Socket

    def request(self, data: bytes, piece: int = 0) -> None:
        """From the client to the server."""
        self.client.send(data, piece)
        self.server.take(data)

    def respond(self, data: bytes, piece: int = 0) -> None:
        """From the server to the client."""
        self.server.send(data, piece)
        self.client.take(data)

    def call(self, request: bytes, response: bytes) -> None:
        """One after the other."""
        self.request(request)
        self.respond(response)

    def split(self, request: Sequence[bytes], response: Sequence[bytes]) -> None:
        """The same, each part written and read for itself."""
        for part in request:
            self.request(part)
        for part in response:
            self.respond(part)

    def ways(self, request: bytes, answer: bytes) -> list[tuple[Socket, Socket, bytes]]:
        """Who sends what to whom, for tests that do it in ways of their own."""
        return [
            (self.client, self.server, request),
            (self.server, self.client, answer),
        ]

    def close(self) -> None:
        self.client.close()
        self.server.close()
