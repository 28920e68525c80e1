# SPDX-License-Identifier: Apache-2.0
"""The far side of tests/kernel/actor.py: a process that does socket calls as it is told.

Reads (method, arguments) from standard input and writes (failed, result) to standard output, both
pickled. Pipes are no sockets: being told leaves no trace in what is counted.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 20


class Sockets:
    """Sockets by number. A result of bytes comes back as bytes, of a large read as a length."""

    def __init__(self) -> None:
        self.known: dict[int, socket.socket] = {}
        self.calls: ctypes.CDLL | None = None

    def _add(self, one: socket.socket) -> int:
        one.settimeout(TIMEOUT_S)
        if one.family != socket.AF_UNIX and one.type == socket.SOCK_STREAM:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = max(self.known, default=0) + 1
        self.known[number] = one
        return number

    def enter(self, netns: str) -> None:
        """Lives in this network namespace from now on."""
        with open(netns, "rb") as file:  # noqa: PTH123
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")

    def tcp_info(self, number: int) -> tuple[int, int]:
        """What TCP itself says: the smoothed RTT in µs, segments sent again."""
        info = self.known[number].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        numbers = struct.unpack_from("=8x24I", info)
        return numbers[15], numbers[23]

    def listen(self, address: Any, protocol: int = 0) -> tuple[int, Any]:
        family = _family(address)
        one = socket.socket(family, proto=protocol)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if family != socket.AF_UNIX:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)
        one.listen(64)
        one.settimeout(TIMEOUT_S)
        return self._add(one), one.getsockname()

    def accept(self, number: int) -> int:
        return self._add(self.known[number].accept()[0])

    def connect(self, address: Any, protocol: int = 0) -> int:
        one = socket.socket(_family(address), proto=protocol)
        one.settimeout(TIMEOUT_S)
        one.connect(address)
        return self._add(one)

    def connect_error(self, address: Any) -> int:
        with socket.socket(_family(address)) as one:
            one.settimeout(TIMEOUT_S)
            return one.connect_ex(address)

    def connect_again(self, address: Any, times: int) -> list[int]:
        """One socket tries it so many times."""
        with socket.socket(_family(address)) as one:
            one.settimeout(TIMEOUT_S)
            return [one.connect_ex(address) for _ in range(times)]

    def pair(self) -> tuple[int, int]:
        left, right = socket.socketpair()
        return self._add(left), self._add(right)

    def datagram(self, address: Any) -> int:
        one = socket.socket(_family(address), socket.SOCK_DGRAM)
        one.connect(address)
        return self._add(one)

    def datagram_server(self, address: Any) -> tuple[int, Any]:
        one = socket.socket(_family(address), socket.SOCK_DGRAM)
        one.bind(address)
        return self._add(one), one.getsockname()

    def send_to(self, number: int, data: bytes, address: Any) -> int:
        return self.known[number].sendto(data, address)

    def recv_from(self, number: int) -> tuple[bytes, Any]:
        return self.known[number].recvfrom(65536)

    def echo(self, number: int, times: int) -> int:
        """Answers so many datagrams with what they hold."""
        for _ in range(times):
            data, sender = self.known[number].recvfrom(65536)
            self.known[number].sendto(data, sender)
        return times

    def send(self, number: int, data: bytes, piece: int = 0) -> int:
        """All of it, in writes of so many bytes."""
        one = self.known[number]
        for at in range(0, len(data), piece or max(len(data), 1)):
            one.sendall(data[at : at + piece] if piece else data)
        return len(data)

    def send_repeated(self, number: int, byte: bytes, count: int) -> int:
        block = byte * min(max(count, 1), 1 << 16)
        for at in range(0, count, len(block)):
            self.known[number].sendall(block[: count - at])
        return count

    def recv(self, number: int, count: int = 65536, flags: int = 0) -> bytes:
        return self.known[number].recv(count, flags)

    def recv_exactly(self, number: int, count: int, piece: int = 0) -> bytes:
        """So many bytes, in reads of at most `piece`."""
        got = bytearray()
        while len(got) < count:
            want = count - len(got)
            data = self.known[number].recv(min(want, piece) if piece else want)
            if not data:
                break
            got += data
        return bytes(got)

    def discard(self, number: int, count: int) -> int:
        """Reads so many bytes and gives how many came."""
        left, block = count, bytearray(1 << 16)
        while left:
            n = self.known[number].recv_into(block, min(left, len(block)))
            if not n:
                break
            left -= n
        return count - left

    def recv_to_end(self, number: int) -> bytes:
        got = bytearray()
        while data := self.known[number].recv(65536):
            got += data
        return bytes(got)

    def writev(self, number: int, pieces: list[bytes]) -> int:
        return os.writev(self._blocking(number), pieces)

    def readv(self, number: int, sizes: list[int]) -> bytes:
        buffers = [bytearray(size) for size in sizes]
        n = os.readv(self._blocking(number), buffers)
        return b"".join(buffers)[:n]

    def write(self, number: int, data: bytes) -> int:
        return os.write(self._blocking(number), data)

    def read(self, number: int, count: int) -> bytes:
        return os.read(self._blocking(number), count)

    def sendmsg(self, number: int, pieces: list[bytes]) -> int:
        return self.known[number].sendmsg(pieces)

    def recvmsg(self, number: int, sizes: list[int]) -> bytes:
        buffers = [bytearray(size) for size in sizes]
        n, *_ = self.known[number].recvmsg_into(buffers)
        return b"".join(buffers)[:n]

    def sendfile(self, number: int, path: str, count: int) -> int:
        """Nothing of it is ever in this process's memory."""
        sent = 0
        self._blocking(number)
        with open(path, "rb") as file:  # noqa: PTH123
            while sent < count:
                sent += os.sendfile(
                    self.known[number].fileno(), file.fileno(), sent, count - sent
                )
        return sent

    def splice_to(self, number: int, path: str, count: int) -> int:
        """From a file through a pipe into the socket."""
        out, into = os.pipe()
        sent = 0
        self._blocking(number)
        with open(path, "rb") as file:  # noqa: PTH123
            while sent < count:
                n = os.splice(file.fileno(), into, min(count - sent, 65536))
                while n:
                    moved = os.splice(out, self.known[number].fileno(), n)
                    n -= moved
                    sent += moved
        os.close(out)
        os.close(into)
        return sent

    def splice_from(self, number: int, count: int) -> int:
        """From the socket through a pipe into nothing."""
        out, into = os.pipe()
        got = 0
        self._blocking(number)
        with open("/dev/null", "wb") as nothing:  # noqa: PTH123
            while got < count:
                n = os.splice(
                    self.known[number].fileno(), into, min(count - got, 65536)
                )
                if not n:
                    break
                got += n
                while n:
                    n -= os.splice(out, nothing.fileno(), n)
        os.close(out)
        os.close(into)
        return got

    def send_nonblocking(self, number: int, data: bytes) -> list[int]:
        """One write after another until all is out; gives what each one took."""
        one = self.known[number]
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        one.setblocking(False)  # noqa: FBT003
        taken = []
        view = memoryview(data)
        while view:
            try:
                n = one.send(view)
            except BlockingIOError:
                continue
            taken.append(n)
            view = view[n:]
        one.settimeout(TIMEOUT_S)
        return taken

    def load(self, path: str) -> None:
        """The library of system calls that Python has no name for (syscalls.c)."""
        self.calls = ctypes.CDLL(path, use_errno=True)

    def native_send(self, number: int, how: str, data: bytes, parts: int = 1) -> int:
        return self._native(
            number, how, ctypes.create_string_buffer(data), len(data), parts
        )

    def native_recv(self, number: int, how: str, count: int, parts: int = 1) -> bytes:
        buffer = ctypes.create_string_buffer(count)
        n = self._native(number, how, buffer, count, parts)
        return buffer.raw[:n]

    def native_discard(self, number: int, how: str, count: int) -> int:
        """Receives so much into nowhere (MSG_TRUNC)."""
        return self._native(number, how, None, count, 1)

    def _native(
        self, number: int, how: str, buffer: Any, count: int, parts: int
    ) -> int:
        assert self.calls is not None
        function = self.calls[how]
        function.restype = ctypes.c_long
        function.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
        ]
        n: int = function(self._blocking(number), buffer, count, parts)
        if n < 0:
            raise OSError(-n, os.strerror(-n))
        return n

    def _blocking(self, number: int) -> int:
        self.known[number].settimeout(None)
        return self.known[number].fileno()

    def send_in_thread(self, number: int, data: bytes) -> int:
        """A thread of its own does the write; gives the thread's id."""
        tids: list[int] = []

        def run() -> None:
            self.known[number].sendall(data)
            tids.append(threading.get_native_id())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return tids[0]

    def shutdown(self, number: int) -> None:
        self.known[number].shutdown(socket.SHUT_WR)

    def close(self, number: int) -> None:
        self.known.pop(number).close()

    def reset(self, number: int) -> None:
        """Ends it with RST instead of FIN."""
        one = self.known.pop(number)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.close()

    def forget(self, number: int) -> None:
        """This process's descriptor alone: another one may hold the socket."""
        os.close(self.known.pop(number).detach())

    def send_descriptor(self, channel: int, number: int) -> None:
        socket.send_fds(self.known[channel], [b"!"], [self.known[number].fileno()])

    def recv_descriptor(self, channel: int) -> int:
        _, descriptors, _, _ = socket.recv_fds(self.known[channel], 1, 1)
        return self._add(socket.socket(fileno=descriptors[0]))

    def in_fork(
        self, steps: list[tuple[str, tuple[Any, ...]]]
    ) -> tuple[int, list[Any]]:
        """A child of this process does the steps and ends; its pid and their results."""
        out, into = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(
                into, pickle.dumps([getattr(self, name)(*args) for name, args in steps])
            )
            os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as said:
            results = pickle.load(said)
        os.waitpid(pid, 0)
        return pid, results

    def in_fork_as(
        self, pid: int, steps: list[tuple[str, tuple[Any, ...]]]
    ) -> tuple[int, list[Any]]:
        """The same in a child that gets this pid, if nobody has it."""
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:  # noqa: PTH123
            last.write(str(pid - 1))
        return self.in_fork(steps)


def _family(address: Any) -> socket.AddressFamily:
    if isinstance(address, (str, bytes)):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sockets = Sockets()
    told, said = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            name, args = pickle.load(told)
        except EOFError:
            return
        method: Callable[..., Any] = getattr(sockets, name)
        try:
            answer = (False, method(*args))
        except OSError as error:
            answer = (True, error)
        pickle.dump(answer, said)
        said.flush()


if __name__ == "__main__":
    main()
