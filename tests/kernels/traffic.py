# SPDX-License-Identifier: Apache-2.0
"""Known traffic: a client and a server that both know every byte, and say what they did.

    python -m tests.kernels.traffic server FOLDER     (for its Unix sockets)
    python -m tests.kernels.traffic client ADDRESSES REFUSING-PORT

Each is told words on standard input and answers each with a line of JSON. A step has a server
address of its own, so that its edge names it. Request and answer of a number are the same at both
ends, and each end checks what it reads: what both say that they did, they did. Numbers are prime,
so that no two mistakes add up to what is right. Only the standard library is needed.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.kernel.messages import dns_question, get, post, redis, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["AFTER", "OLDER", "REFUSED", "SILENT", "STEPS", "Address", "Step", "Told"]

Address = tuple[str, int] | str
Told = dict[str, dict[str, list[int]]]  # by step and call: number, bytes there and back

TIMES_REFUSED: Final = 5


class Step(NamedTuple):
    """So many calls of one kind to a server address of their own."""

    name: str
    transport: str  # tcp, tcp6, unix, udp
    protocol: str
    calls: int
    per_connection: int = 0  # 0: all on one
    before: int = 0  # of the calls, those that end before the agent starts
    in_flight: bool = False  # the first is sent before the agent starts, answered after
    by_sendfile: bool = False  # an answer's body never is in the server's memory


STEPS: Final = (
    Step("http", "tcp", "http", 211),
    Step("http-ipv6", "tcp6", "http", 53),
    Step("http-unix", "unix", "http", 211),
    Step("connection-a-request", "tcp", "http", 61, per_connection=1),
    Step("connection-a-request-unix", "unix", "http", 31, per_connection=1),
    Step("sendfile", "tcp", "http", 17, by_sendfile=True),
    Step("redis", "tcp", "redis", 101),
    Step("turns", "tcp", "unknown", 43),
    Step("turns-unix", "unix", "unknown", 43),
    Step("dns", "udp", "dns", 37),
)
# Connections that are older than the agent.
OLDER: Final = (
    Step("older", "tcp", "http", 4 + 13, before=4),
    Step("older-unix", "unix", "http", 4 + 13, before=4),
    Step("older-redis", "tcp", "redis", 4 + 13, before=4),
    Step("older-in-flight", "tcp", "http", 1 + 7, in_flight=True),
)
SILENT: Final = Step("dns-unanswered", "udp", "dns", 3)
REFUSED: Final = Step("refused", "tcp", "connect", TIMES_REFUSED)
AFTER: Final = Step("after", "tcp", "http", 7)  # when the agent is detached


def http_call(number: int) -> tuple[bytes, int, bytes]:
    path = f"/item/{number}"
    request = post(b"p" * 7 * number, path) if number % 5 == 4 else get(path)
    status = 404 if number % 3 == 2 else 200
    return request, status, response(b"x" * (number % 50), status)


def redis_call(number: int) -> tuple[bytes, int, bytes]:
    if number % 3 == 2:
        return redis("INCR", "key"), 1, b"-ERR value is not an integer\r\n"
    if number % 3 == 1:
        return redis("GET", "key"), 0, b"$5\r\nvalue\r\n"
    return redis("SET", "key", "value"), 0, b"+OK\r\n"


def unknown_call(number: int) -> tuple[bytes, int, bytes]:
    """A length, a type, and so many bytes: nobody's protocol."""
    words = [
        struct.pack("!IB", 3 * number, kind) + bytes(3 * number) for kind in (1, 2)
    ]
    return words[0], 0, words[1]


def dns_call(number: int) -> tuple[bytes, int, bytes]:
    question = dns_question(f"n{number}.shop.test", number=number)
    code = 3 if number % 4 == 3 else 0
    return question, code, question[:2] + bytes((0x81, 0x80 | code)) + question[4:]


CALLS: Final[dict[str, Callable[[int], tuple[bytes, int, bytes]]]] = {
    "http": http_call,
    "redis": redis_call,
    "unknown": unknown_call,
    "dns": dns_call,
}


class Report:
    """What one end did since the agent began, step by step; threads share it."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._lock = threading.Lock()
        self._numbers: dict[str, dict[str, Counter[str]]] = {}

    def add(
        self, step: Step, outcome: int, request: int, answer: int, end: str = "complete"
    ) -> None:
        name = f"{self._role} {step.protocol} {outcome} {end}"
        with self._lock:
            calls = self._numbers.setdefault(step.name, {})
            calls.setdefault(name, Counter()).update(
                n=1, request=request, answer=answer
            )

    def told(self) -> Told:
        with self._lock:
            return {
                step: {
                    name: [sums["n"], sums["request"], sums["answer"]]
                    for name, sums in calls.items()
                }
                for step, calls in self._numbers.items()
            }


# Every way of sending and receiving that a kernel treats in its own way.


def send(one: socket.socket, data: bytes, number: int) -> None:
    """All of it, in one of four ways."""
    way = number % 4
    if way == 0:
        one.sendall(data)
    elif way == 1:
        assert os.write(one.fileno(), data) == len(data)
    elif way == 2:
        assert one.sendmsg([data[:5], data[5:]]) == len(data)
    else:
        one.sendall(data[:7])
        one.sendall(data[7:])


def send_file(one: socket.socket, data: bytes, body: Path) -> None:
    """A head, and a body of x out of a file."""
    head, _, rest = data.partition(b"\r\n\r\n")
    one.sendall(head + b"\r\n\r\n")
    with body.open("rb") as file:
        assert os.sendfile(one.fileno(), file.fileno(), 0, len(rest)) == len(rest)


def take(one: socket.socket, expected: bytes, number: int) -> None:
    """Just these bytes, in one of four ways."""
    way, got = number % 4, b""
    while len(got) < len(expected):
        left = len(expected) - len(got)
        if way == 0:
            some = one.recv(left)
        elif way == 1:
            some = os.read(one.fileno(), left)
        elif way == 2:
            buffers = [bytearray(min(left, 11)), bytearray(max(left - 11, 0))]
            count, *_ = one.recvmsg_into(buffers)
            some = b"".join(buffers)[:count]
        else:
            seen = one.recv(10, socket.MSG_PEEK)
            some = one.recv(min(left, 17))
            assert some.startswith(seen[:left])
        if not some:
            break
        got += some
    assert got == expected, (got, expected)


def family(transport: str) -> socket.AddressFamily:
    return {
        "tcp6": socket.AF_INET6,
        "unix": socket.AF_UNIX,
    }.get(transport, socket.AF_INET)


def without_delay(one: socket.socket) -> socket.socket:
    if one.family != socket.AF_UNIX:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


class Server:
    """A thread a step."""

    def __init__(self, folder: Path) -> None:
        self._report = Report("server")
        self._go = threading.Event()
        self._folder = folder
        self._body = folder / "body"
        self._body.write_bytes(b"x" * 100)
        self._silent = self._bound(SILENT)
        self.addresses: dict[str, Address] = {SILENT.name: self._silent.getsockname()}
        self._threads = {}
        for step in (*STEPS, *OLDER, AFTER):
            one = self._bound(step)
            self.addresses[step.name] = one.getsockname()
            run = self._answer_datagrams if step.transport == "udp" else self._accept
            thread = threading.Thread(target=run, args=(step, one), daemon=True)
            thread.start()
            self._threads[step.name] = thread

    def before(self) -> None:
        """Nothing to do: the threads answer."""

    def traffic(self) -> Told:
        """All of it has been answered, and all its connections have ended."""
        self._go.set()
        for number in range(SILENT.calls):
            request, _, _ = dns_call(number)
            assert self._silent.recv(1000) == request
            self._report.add(SILENT, 0, len(request), 0, "closed")
        for step in (*STEPS, *OLDER):
            self._threads[step.name].join()
        return self._report.told()

    def after(self) -> None:
        self._threads[AFTER.name].join()

    def _bound(self, step: Step) -> socket.socket:
        kind = socket.SOCK_DGRAM if step.transport == "udp" else socket.SOCK_STREAM
        one = socket.socket(family(step.transport), kind)
        host = "::1" if step.transport == "tcp6" else "127.0.0.1"
        one.bind(
            str(self._folder / step.name) if step.transport == "unix" else (host, 0)
        )
        if kind == socket.SOCK_STREAM:
            one.listen()
        return one

    def _accept(self, step: Step, listener: socket.socket) -> None:
        for first, end in connections(step):
            with without_delay(listener.accept()[0]) as one:
                for number in range(first, end):
                    request, outcome, answer = CALLS[step.protocol](number)
                    take(one, request, number)
                    if step.in_flight and not number:
                        self._go.wait()
                    if step.by_sendfile:
                        send_file(one, answer, self._body)
                    else:
                        send(one, answer, number + 1)
                    if counts(step, number):
                        self._report.add(step, outcome, len(request), len(answer))
                assert not one.recv(1)  # the client closes first

    def _answer_datagrams(self, step: Step, one: socket.socket) -> None:
        for number in range(step.calls):
            request, outcome, answer = CALLS[step.protocol](number)
            got, sender = one.recvfrom(1000)
            assert got == request
            one.sendto(answer, sender)
            self._report.add(step, outcome, len(request), len(answer))


class Client:
    """One step after the other."""

    def __init__(self, addresses: dict[str, Address], refusing: int) -> None:
        self._addresses = addresses
        self._refusing = ("127.0.0.1", refusing)
        self._report = Report("client")
        self._older: dict[str, socket.socket] = {}

    def before(self) -> None:
        """Connections that the agent will find when it starts."""
        for step in OLDER:
            one = self._older[step.name] = self._connect(step)
            for number in range(step.before):
                self._call(step, one, number)
            if step.in_flight:
                send(one, CALLS[step.protocol](0)[0], 0)

    def traffic(self) -> Told:
        self._ask_in_vain()
        for _ in range(REFUSED.calls):
            with socket.socket() as one:
                self._report.add(REFUSED, one.connect_ex(self._refusing), 0, 0)
        for step in OLDER:
            with self._older[step.name] as one:
                if step.in_flight:
                    take(one, CALLS[step.protocol](0)[2], 0)
                for number in range(step.before + step.in_flight, step.calls):
                    self._call(step, one, number)
        for step in STEPS:
            if step.transport == "udp":
                self._ask(step)
            else:
                self._run(step)
        return self._report.told()

    def after(self) -> None:
        self._run(AFTER)

    def _run(self, step: Step) -> None:
        for first, end in connections(step):
            with self._connect(step) as one:
                for number in range(first, end):
                    self._call(step, one, number)

    def _connect(self, step: Step) -> socket.socket:
        one = socket.socket(family(step.transport))
        one.connect(self._addresses[step.name])
        return without_delay(one)

    def _call(self, step: Step, one: socket.socket, number: int) -> None:
        request, outcome, answer = CALLS[step.protocol](number)
        send(one, request, number)
        take(one, answer, number + 1)
        if counts(step, number):
            self._report.add(step, outcome, len(request), len(answer))

    def _ask(self, step: Step) -> None:
        """Every other time by a socket that is connected."""
        address = self._addresses[step.name]
        with udp() as free, udp() as connected:
            connected.connect(address)
            for number in range(step.calls):
                request, outcome, answer = CALLS[step.protocol](number)
                if number % 2:
                    connected.send(request)
                    assert connected.recv(1000) == answer
                else:
                    free.sendto(request, address)
                    assert free.recv(1000) == answer
                self._report.add(step, outcome, len(request), len(answer))

    def _ask_in_vain(self) -> None:
        with udp() as one:
            one.connect(self._addresses[SILENT.name])
            for number in range(SILENT.calls):
                request, _, _ = dns_call(number)
                one.send(request)
                self._report.add(SILENT, 0, len(request), 0, "closed")


def udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def connections(step: Step) -> Iterator[tuple[int, int]]:
    """The numbers of each one's first call and of the next one's."""
    size = step.per_connection or step.calls
    for first in range(0, step.calls, size):
        yield first, min(first + size, step.calls)


def counts(step: Step, number: int) -> bool:
    """Whether the agent can have seen all of this call, and was there."""
    return step != AFTER and number >= step.before + step.in_flight


def main(arguments: list[str]) -> None:
    end: Server | Client
    if arguments[0] == "server":
        end = Server(Path(arguments[1]))
        say(end.addresses)
    else:
        addresses: dict[str, Any] = json.loads(arguments[1])
        end = Client(
            {
                name: one if isinstance(one, str) else (one[0], one[1])
                for name, one in addresses.items()
            },
            int(arguments[2]),
        )
        say({})
    for word in sys.stdin:
        say(getattr(end, word.strip())())


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
