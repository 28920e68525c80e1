# SPDX-License-Identifier: Apache-2.0
"""A program that makes exactly the calls it is told to, and counts who called whom.

Run by path, alone: `python -I player.py`, its name in OTEL_SERVICE_NAME. It reads a line of JSON
from standard input for each thing to do and writes one to standard output when it is done: pipes
are no sockets, being told leaves no trace in what is counted.

Every call says who calls and every answer who answered, so both ends count by name, whatever the
addresses on the way were. A proxy says so too, by `X-Lab-Server` and `X-Lab-Caller` of its own.
"""

from __future__ import annotations

import array
import json
import os
import random
import signal
import socket
import struct
import sys
import threading
import traceback
from collections import Counter
from typing import Any

NAME = os.environ.get("OTEL_SERVICE_NAME", "")
TIMEOUT_S = 20
MAX_CALLS = 20_000  # of one command: a load stays bounded
RST_ON_CLOSE = struct.pack("ii", 1, 0)

HTTP = "http"
REDIS = "redis"
ECHO = "udp"
DNS = "dns"


def frame(protocol: str, path: str, *, close: bool) -> bytes:
    """The bytes of one request."""
    if protocol == REDIS:
        return b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(NAME), NAME.encode())
    ending = "Connection: close\r\n" if close else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: lab\r\nX-Lab-Caller: {NAME}\r\n{ending}\r\n"
    ).encode()


class Stream:
    """Whole messages out of a stream socket."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self._read = bytearray()

    def take(self, count: int) -> bytes:
        while len(self._read) < count:
            self._fill()
        data = bytes(self._read[:count])
        del self._read[:count]
        return data

    def until(self, end: bytes) -> bytes:
        while (at := self._read.find(end)) < 0:
            self._fill()
        return self.take(at + len(end))

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self._read += data

    def http_request(self) -> tuple[str, str, bool]:
        """The path, who calls, and whether it is the last one."""
        head = self.until(b"\r\n\r\n").decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        names = {key.lower(): value for key, value in fields.items()}
        last = names.get("connection", "").lower() == "close" or "1.0" in head[0]
        return head[0].split()[1], names.get("x-lab-caller", "?"), last

    def http_response(self) -> tuple[int, str]:
        """The status, and who answered."""
        head = self.until(b"\r\n\r\n").decode().split("\r\n")
        server, length = "?", 0
        for line in head[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == "x-lab-server":
                server = value
            elif key.lower() == "content-length":
                length = int(value)
        self.take(length)
        return int(head[0].split()[1]), server

    def redis_words(self) -> list[str]:
        """A command's words."""
        count = int(self.until(b"\r\n")[1:])
        return [self.redis_bulk() for _ in range(count)]

    def redis_bulk(self) -> str:
        length = int(self.until(b"\r\n")[1:])
        return self.take(length + 2)[:-2].decode()


class Player:
    """What it was told to open, and what it counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._called: Counter[tuple[str, str]] = Counter()
        self._served: Counter[tuple[str, str]] = Counter()
        # (role, own address, the other's), of a client without its port
        self._ends: Counter[tuple[str, str, str]] = Counter()
        self._listeners: dict[str, socket.socket] = {}
        self._streams: dict[int, Stream] = {}
        self._workers: list[int] = []

    # Serving

    def serve(self, protocol: str, address: Any, *, shared: bool = False) -> str:
        """Answer whoever comes; gives where it listens. `shared`: others may listen there too."""
        one = listening(address, shared=shared)
        self._listeners[shown(one.getsockname())] = one
        self._spawn(self._accept, one, protocol)
        return shown(one.getsockname())

    def serve_udp(self, address: Any) -> str:
        """Answer datagrams with our name."""
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(tuple(address))
        self._listeners[shown(one.getsockname())] = one
        self._spawn(self._answer_datagrams, one)
        return shown(one.getsockname())

    def prefork(self, address: Any, workers: int) -> list[int]:
        """Listen, and let children accept from the inherited socket; gives their pids."""
        one = listening(address)
        self._listeners[shown(one.getsockname())] = one
        pids = []
        for _ in range(workers):
            pid = os.fork()
            if not pid:
                os.close(0)  # nobody tells a worker anything
                while True:
                    self._serve_stream(one.accept()[0], HTTP)
            pids.append(pid)
        self._workers += pids
        return pids

    def end_workers(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def take_passed(self, path: str) -> None:
        """Serve connections whose descriptors come over a Unix socket."""
        one = listening(path)
        self._spawn(self._accept_passed, one)

    def pass_on(self, address: Any, path: str) -> str:
        """Accept connections and hand each to who listens at `path`, never reading one."""
        one = listening(address)
        self._spawn(self._hand_over, one, path)
        return shown(one.getsockname())

    def stop(self, address: str) -> None:
        """Stop listening there. What was accepted is served on."""
        one = self._listeners.pop(address)
        # A close alone leaves the thread in accept, and so the port taken.
        one.shutdown(socket.SHUT_RDWR)
        one.close()

    # Calling

    def call(
        self,
        protocol: str,
        address: Any,
        count: int,
        *,
        keep: bool = True,
        path: str = "/",
        local_port: int = 0,
        abort: bool = False,
        half_close: bool = False,
        server: str = "",
    ) -> dict[str, int]:
        """Make calls, one after the other, over one connection or one for each.

        Gives the answers by who answered. `abort`: close by a reset, which leaves no TIME_WAIT;
        `half_close`: nothing more will be sent, said before the answer is read; `server`: who
        answers, where its answers do not say it (a real Redis).
        """
        check(count)
        answered: Counter[str] = Counter()
        for _ in range(1 if keep else count):
            stream = self._connect(address, local_port, abort=abort)
            calls = count if keep else 1
            for at in range(calls):
                last = not keep or (half_close and at == calls - 1)
                said = self._ask(stream, protocol, path, close=last, half=half_close)
                self._count(self._called, server or said, protocol)
                answered[server or said] += 1
            stream.socket.close()
        return dict(answered)

    def open(self, address: Any) -> int:
        """Connect and do nothing; gives the connection's number."""
        stream = self._connect(address, 0, abort=False)
        number = stream.socket.fileno()
        self._streams[number] = stream
        return number

    def call_on(self, number: int, protocol: str, count: int) -> dict[str, int]:
        """Make calls over a connection that is open."""
        check(count)
        answered: Counter[str] = Counter()
        for _ in range(count):
            said = self._ask(self._streams[number], protocol, "/", close=False)
            self._count(self._called, said, protocol)
            answered[said] += 1
        return dict(answered)

    def close(self, number: int) -> None:
        self._streams.pop(number).socket.close()

    def refused(self, address: Any, count: int) -> None:
        """Try to connect where nobody listens."""
        check(count)
        for _ in range(count):
            with socket.socket() as one:
                one.settimeout(TIMEOUT_S)
                failed = one.connect_ex(tuple(address))
                if not failed:
                    raise AssertionError(f"somebody listens at {address}")

    def datagrams(self, address: Any, count: int, *, connected: bool = True) -> int:
        """Send datagrams from one socket, each after the answer to the last one."""
        check(count)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(TIMEOUT_S)
            if connected:
                one.connect(tuple(address))
                self._note("client", one)
            for _ in range(count):
                if connected:
                    one.send(NAME.encode())
                else:
                    one.sendto(NAME.encode(), tuple(address))
                self._count(self._called, one.recv(512).decode(), ECHO)
        return count

    def resolve(self, server: str, address: Any, name: str, count: int) -> list[str]:
        """Ask a name server that we call `server` for A records, one socket a question."""
        check(count)
        found: list[str] = []
        for _ in range(count):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.settimeout(TIMEOUT_S)
                one.connect(tuple(address))
                self._note("client", one)
                one.send(question(name))
                found = answers(one.recv(512))
                self._count(self._called, server, DNS)
        return found

    # Telling

    def report(self) -> dict[str, Any]:
        """Give what was counted, both addresses of connections, and where we listen."""
        with self._lock:
            return {
                "called": [[*key, n] for key, n in sorted(self._called.items())],
                "served": [[*key, n] for key, n in sorted(self._served.items())],
                "ends": [[*end, n] for end, n in sorted(self._ends.items())],
                "listens": sorted(self._listeners),
            }

    # Inside

    def _connect(self, address: Any, local_port: int, *, abort: bool) -> Stream:
        one = socket.socket(family(address))
        one.settimeout(TIMEOUT_S)
        if abort:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        if local_port:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("", local_port))
        one.connect(address if isinstance(address, str) else tuple(address))
        if one.family == socket.AF_INET:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._note("client", one)
        return Stream(one)

    def _ask(
        self,
        stream: Stream,
        protocol: str,
        path: str,
        *,
        close: bool,
        half: bool = False,
    ) -> str:
        """Who answered."""
        stream.socket.sendall(frame(protocol, path, close=close))
        if half and close:
            stream.socket.shutdown(socket.SHUT_WR)
        return stream.redis_bulk() if protocol == REDIS else stream.http_response()[1]

    def _accept(self, listener: socket.socket, protocol: str) -> None:
        while True:
            try:
                one = listener.accept()[0]
            except OSError:
                return  # `stop`
            self._note("server", one)
            self._spawn(self._serve_stream, one, protocol)

    def _serve_stream(self, one: socket.socket, protocol: str) -> None:
        stream = Stream(one)
        with one:
            try:
                while not self._answer(stream, protocol):
                    pass
            except (EOFError, ConnectionError):
                pass

    def _answer(self, stream: Stream, protocol: str) -> bool:
        """One answer; whether it was the last one."""
        last = False
        if protocol == REDIS:
            caller = stream.redis_words()[-1]
            stream.socket.sendall(b"$%d\r\n%s\r\n" % (len(NAME), NAME.encode()))
        else:
            path, caller, last = stream.http_request()
            status = "500 Internal Server Error" if path == "/fail" else "200 OK"
            ending = "Connection: close\r\n" if last else ""
            stream.socket.sendall(
                (
                    f"HTTP/1.1 {status}\r\nContent-Length: 3\r\n"
                    f"X-Lab-Server: {NAME}\r\n{ending}\r\nok\n"
                ).encode()
            )
        self._count(self._served, caller, protocol)
        return last

    def _answer_datagrams(self, one: socket.socket) -> None:
        while True:
            caller, address = one.recvfrom(512)
            one.sendto(NAME.encode(), address)
            self._count(self._served, caller.decode(), ECHO)

    def _accept_passed(self, listener: socket.socket) -> None:
        passer = listener.accept()[0]
        size = array.array("i").itemsize
        while True:
            data, extra, _, _ = passer.recvmsg(1, socket.CMSG_SPACE(size))
            if not data:
                return
            number = array.array("i", extra[0][2][:size])[0]
            one = socket.socket(fileno=number)
            self._spawn(self._serve_stream, one, HTTP)

    def _hand_over(self, listener: socket.socket, path: str) -> None:
        taker = socket.socket(socket.AF_UNIX)
        taker.connect(path)
        while True:
            one = listener.accept()[0]
            rights = array.array("i", [one.fileno()])
            taker.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            one.close()

    def _note(self, role: str, one: socket.socket) -> None:
        if one.family == socket.AF_INET:
            own, other = one.getsockname(), one.getpeername()
            if role == "client":
                key = (role, own[0], shown(other))
            else:
                key = (role, shown(own), other[0])
            with self._lock:
                self._ends[key] += 1

    def _count(
        self, counter: Counter[tuple[str, str]], other: str, protocol: str
    ) -> None:
        with self._lock:
            counter[other, protocol] += 1

    def _spawn(self, work: Any, *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()


def listening(address: Any, *, shared: bool = False) -> socket.socket:
    one = socket.socket(family(address))
    if shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(address if isinstance(address, str) else tuple(address))
    one.listen(512)
    return one


def family(address: Any) -> socket.AddressFamily:
    return socket.AF_UNIX if isinstance(address, str) else socket.AF_INET


def shown(address: Any) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def check(count: int) -> None:
    if count > MAX_CALLS:
        raise ValueError(f"{count} calls are too many for one command")


def question(name: str) -> bytes:
    """A DNS message that asks for A records."""
    labels = b"".join(
        bytes([len(part)]) + part.encode() for part in name.rstrip(".").split(".")
    )
    head = struct.pack("!6H", random.randrange(1 << 16), 0x0100, 1, 0, 0, 0)
    return head + labels + b"\0" + struct.pack("!2H", 1, 1)


def answers(message: bytes) -> list[str]:
    """The addresses of a response whose names are all compressed, as every server's are."""
    count = struct.unpack_from("!H", message, 6)[0]
    at = message.index(b"\0", 12) + 5
    found = []
    for _ in range(count):
        kind, _, _, length = struct.unpack_from("!2HIH", message, at + 2)
        if kind == 1:
            found.append(socket.inet_ntoa(message[at + 12 : at + 12 + length]))
        at += 12 + length
    return found


def main() -> None:
    player = Player()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            method = getattr(player, command.pop("do"))
            said = {"result": method(**command)}
        except Exception:  # noqa: BLE001 - who told us wants to know
            said = {"error": traceback.format_exc()}
        print(json.dumps(said), flush=True)
    player.end_workers()


if __name__ == "__main__":
    main()
