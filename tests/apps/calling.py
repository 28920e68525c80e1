# SPDX-License-Identifier: Apache-2.0
"""Services that call another one for every request, each built in a way of its own.

    python calling.py STYLE UPSTREAM_PORT

GET /r/ID makes calls of GET /u/ID/..., so who made a call for which request stands in its bytes.
What a service does by itself asks for /u/-/... . It says its port on standard output. `upstream`
is what is called: it answers after up to three milliseconds, each of its connections in a thread.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import select
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

BODY = b"ok\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + BODY
BY_ITSELF = "/u/-/by-itself"
EVERY_S = 0.003

style, upstream_port = sys.argv[1], int(sys.argv[2])
own = threading.local()


def call(path: str, timeout: float | None = None) -> None:
    """On a connection of this thread; it waits for the answer."""
    if not hasattr(own, "upstream"):
        own.upstream = HTTPConnection("127.0.0.1", upstream_port, timeout=timeout)
    own.upstream.request("GET", path)
    own.upstream.getresponse().read()


def listening() -> socket.socket:
    one = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(one.getsockname()[1], flush=True)  # noqa: T201 - a test waits for it
    return one


def read_request(one: socket.socket) -> str:
    """Its number; "" at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = one.recv(4096)
        if not more:
            return ""
        head += more
    return number_in(head)


def number_in(head: bytes) -> str:
    return head.split(b" ", 2)[1].rpartition(b"/")[2].decode()


# ---- a thread for each connection ----------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pool: ThreadPoolExecutor | None = None

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        number = number_in(self.requestline.encode())
        self.work(number)
        self.wfile.write(ANSWER)

    def work(self, number: str) -> None:
        call(f"/u/{number}/1", self.timeout)
        call(f"/u/{number}/2", self.timeout)
        if self.pool is not None:
            list(self.pool.map(call, [f"/u/{number}/pool{n}" for n in (1, 2)]))

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is for what goes wrong."""


class Upstream(Handler):
    def work(self, number: str) -> None:
        del number
        time.sleep(random.random() * EVERY_S)


class Impatient(Handler):
    timeout = (
        20.0  # of the socket: its reads do not block, and it polls the one descriptor
    )


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def threads(handler: type[Handler], server: type[HTTPServer] = Server) -> None:
    one = server(("127.0.0.1", 0), handler)
    print(one.server_port, flush=True)  # noqa: T201 - a test waits for it
    one.serve_forever()


def with_pool() -> None:
    Handler.pool = ThreadPoolExecutor(4)
    threads(Handler)


def with_background() -> None:
    def work() -> None:
        while True:
            time.sleep(EVERY_S)
            call(BY_ITSELF)

    threading.Thread(target=work, daemon=True).start()
    threads(Handler)


# ---- workers -------------------------------------------------------------------------------


def serve(one: socket.socket) -> None:
    """All requests of a connection."""
    with one:
        while number := read_request(one):
            call(f"/u/{number}/1")
            call(f"/u/{number}/2")
            one.sendall(ANSWER)


def forked() -> None:
    """Each worker waits for its listening socket and a pipe, as some that fork do."""
    listener = listening()
    read_end, _ = os.pipe()
    for _ in range(3):
        if os.fork() == 0:
            break
    else:
        while True:
            os.wait()
    listener.setblocking(False)  # noqa: FBT003
    while True:
        select.select([listener.fileno(), read_end], [], [], 1.0)
        try:
            one, _ = listener.accept()
        except BlockingIOError:
            continue  # another worker was faster
        one.setblocking(True)  # noqa: FBT003
        serve(one)


def pooled() -> None:
    """One thread accepts, others serve the connections that it hands on."""
    listener = listening()
    connections: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()

    def work() -> None:
        while True:
            serve(connections.get())

    for _ in range(16):
        threading.Thread(target=work, daemon=True).start()
    while True:
        connections.put(listener.accept()[0])


def dispatching() -> None:
    """One thread reads requests and hands them on, and does something of its own after each."""
    listener = listening()
    requests: queue.SimpleQueue[tuple[socket.socket, str]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            one, number = requests.get()
            call(f"/u/{number}/1")
            one.sendall(ANSWER)
            one.close()

    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    while True:
        one = listener.accept()[0]
        requests.put((one, read_request(one)))
        call(BY_ITSELF)


def keeping() -> None:
    """One thread leaves an answer half written, and serves another request meanwhile."""
    listener = listening()
    while True:
        first, _ = listener.accept()
        number = read_request(first)
        call(f"/u/{number}/1")
        first.sendall(ANSWER[:-1])
        second, _ = listener.accept()
        with first, second:
            other = read_request(second)
            call(f"/u/{other}/2")
            second.sendall(ANSWER)
            first.sendall(ANSWER[-1:])


# ---- event loops ---------------------------------------------------------------------------


class Connection:
    """To the upstream, in an event loop."""

    def __init__(self) -> None:
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, path: str) -> None:
        if self._ends is None:
            self._ends = await asyncio.open_connection("127.0.0.1", upstream_port)
        reader, writer = self._ends
        writer.write(f"GET {path} HTTP/1.1\r\nHost: u\r\n\r\n".encode())
        while (await reader.readline()).strip():
            pass
        await reader.readexactly(len(BODY))


async def looping(*, blocks: bool) -> None:
    """`blocks`: its handlers wait for what they call themselves, and hold up the loop."""

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        ones = [Connection() for _ in range(2)]
        try:
            while True:
                number = number_in(await reader.readuntil(b"\r\n\r\n"))
                if blocks:
                    call(f"/u/{number}/1")
                else:
                    await ones[0].call(f"/u/{number}/1")
                    await asyncio.gather(
                        *(one.call(f"/u/{number}/both") for one in ones)
                    )
                writer.write(ANSWER)
        except asyncio.IncompleteReadError:
            writer.close()

    async def work() -> None:
        one = Connection()
        while True:
            await asyncio.sleep(EVERY_S)
            await one.call(BY_ITSELF)

    server = await asyncio.start_server(handle, sock=listening())
    background = asyncio.create_task(work())
    async with server:
        await background


def loop(kind: type[selectors.BaseSelector], *, blocks: bool = False) -> None:
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(kind())
    ) as runner:
        runner.run(looping(blocks=blocks))


def in_a_thread() -> None:
    """An event loop beside threads that serve each a connection."""
    threading.Thread(target=loop, args=(selectors.EpollSelector,), daemon=True).start()
    threads(Handler)


def selecting() -> None:
    """As old servers: sockets that block, read when select says so, and a timer."""
    listener = listening()
    clients: dict[socket.socket, bytes] = {}
    waiting: dict[socket.socket, socket.socket | None] = {}  # upstream: for whom
    idle: list[socket.socket] = []
    due_s = time.monotonic()

    def ask(path: str, client: socket.socket | None) -> None:
        one = (
            idle.pop()
            if idle
            else socket.create_connection(("127.0.0.1", upstream_port))
        )
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: u\r\n\r\n".encode())
        waiting[one] = client

    while True:
        ready, _, _ = select.select([listener, *clients, *waiting], [], [], EVERY_S)
        for one in ready:
            if one is listener:
                clients[listener.accept()[0]] = b""
            elif one in waiting:
                one.recv(4096)
                client = waiting.pop(one)
                idle.append(one)
                if client is not None:
                    client.sendall(ANSWER)
            elif number := read_request(one):
                ask(f"/u/{number}/1", one)
            else:
                del clients[one]
                one.close()
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + EVERY_S
            ask(BY_ITSELF, None)


# ---- threads that are none: each waits by itself, one of them runs at a time ----------------

Waits = Generator[tuple[socket.socket, int] | float, None, None]


class Green:
    """Sockets are registered only while somebody waits for them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: deque[Waits] = deque()
        self._waiting: dict[int, Waits] = {}
        self._timers: list[tuple[float, Waits]] = []

    def spawn(self, one: Waits) -> None:
        self._ready.append(one)

    def run(self) -> None:
        while True:
            while self._ready:
                self._step(self._ready.popleft())
            for fd, _ in self._epoll.poll(EVERY_S / 3):
                self._epoll.unregister(fd)
                self._ready.append(self._waiting.pop(fd))
            now_s = time.monotonic()
            self._ready.extend(one for due_s, one in self._timers if due_s <= now_s)
            self._timers = [timer for timer in self._timers if timer[0] > now_s]

    def _step(self, one: Waits) -> None:
        try:
            waits = next(one)
        except StopIteration:
            return
        if isinstance(waits, float):
            self._timers.append((time.monotonic() + waits, one))
            return
        on, events = waits
        self._waiting[on.fileno()] = one
        self._epoll.register(on.fileno(), events)


def receive(
    one: socket.socket, end: bytes
) -> Generator[tuple[socket.socket, int], None, bytes]:
    """As one that blocks: tries, and waits where there is nothing; b"" at the end."""
    got = b""
    while not got.endswith(end):
        try:
            more = one.recv(4096)
        except BlockingIOError:
            yield one, select.EPOLLIN
            continue
        if not more:
            return b""
        got += more
    return got


def connected() -> socket.socket:
    one = socket.create_connection(("127.0.0.1", upstream_port))
    one.setblocking(False)  # noqa: FBT003
    return one


def ask(
    one: socket.socket, path: str
) -> Generator[tuple[socket.socket, int], None, None]:
    one.sendall(f"GET {path} HTTP/1.1\r\nHost: u\r\n\r\n".encode())
    yield from receive(one, BODY)


def handle(one: socket.socket) -> Waits:
    upstream = connected()
    with one, upstream:
        while head := (yield from receive(one, b"\r\n\r\n")):
            yield from ask(upstream, f"/u/{number_in(head)}/1")
            yield from ask(upstream, f"/u/{number_in(head)}/2")
            one.sendall(ANSWER)


def accept(hub: Green, listener: socket.socket) -> Waits:
    while True:
        try:
            one, _ = listener.accept()
        except BlockingIOError:
            yield listener, select.EPOLLIN
            continue
        one.setblocking(False)  # noqa: FBT003
        hub.spawn(handle(one))


def work_greenly() -> Waits:
    upstream = connected()
    while True:
        yield EVERY_S
        yield from ask(upstream, BY_ITSELF)


def green() -> None:
    hub = Green()
    listener = listening()
    listener.setblocking(False)  # noqa: FBT003
    hub.spawn(accept(hub, listener))
    hub.spawn(work_greenly())
    hub.run()


STYLES: dict[str, Callable[[], None]] = {
    "upstream": lambda: threads(Upstream),
    "threads": lambda: threads(Handler),
    "one at a time": lambda: threads(Handler, HTTPServer),
    "threads with timeouts": lambda: threads(Impatient),
    "threads and a pool": with_pool,
    "threads and background": with_background,
    "forked workers": forked,
    "pooled workers": pooled,
    "a thread that hands on": dispatching,
    "a thread with two": keeping,
    "a loop in a thread": in_a_thread,
    "epoll loop": lambda: loop(selectors.EpollSelector),
    "select loop": lambda: loop(selectors.SelectSelector),
    "poll loop": lambda: loop(selectors.PollSelector),
    "loop that blocks": lambda: loop(selectors.SelectSelector, blocks=True),
    "select server": selecting,
    "green threads": green,
}

if __name__ == "__main__":
    STYLES[style]()
