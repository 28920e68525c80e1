# SPDX-License-Identifier: Apache-2.0
"""Real programs as children of a test: readiness, death and output are always visible.

A child is ready when its own check says so and its process still lives, because another
program may answer at an address. Each child leads a process group, so that stopping one
ends its workers as well.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pprint import pformat
from typing import TYPE_CHECKING, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "Child",
    "ChildDied",
    "answers",
    "free_port",
    "wait_for_equal",
    "wait_until",
]

LOG_TAIL_BYTES: Final = 4096

T = TypeVar("T")

_PORTS: Final = range(18_000, 32_000)
# None twice: who asks for several before they are bound gets several.
_ports = itertools.cycle(random.SystemRandom().sample(_PORTS, len(_PORTS)))


class ChildDied(AssertionError):  # noqa: N818 - reads as what happened
    """A child ended when it should have lived; the message ends with its last output."""


def free_port() -> int:
    """Give a TCP port on loopback that nothing uses.

    It lies below the ephemeral range, so no outgoing connection can take it before the
    program that it is for binds it.
    """
    for port in itertools.islice(_ports, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port in {_PORTS}")


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts TCP connections there."""
    with suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def wait_until(
    condition: Callable[[], T],
    what: str,
    *,
    timeout_s: float = 20,
    every_s: float = 0.05,
) -> T:
    """Return the condition's first true value; AssertionError after `timeout_s`.

    An OSError of the condition counts as "not yet", and the last value or error is in the
    message.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        last: object
        try:
            value = condition()
            if value:
                return value
            last = value
        except OSError as error:
            last = error
        if time.monotonic() > deadline:
            message = f"not within {timeout_s:g} s: {what}; last seen: {last!r}"
            raise AssertionError(message)
        time.sleep(every_s)


def wait_for_equal(
    read: Callable[[], T], expected: T, what: str, *, timeout_s: float = 20
) -> None:
    """Wait until a reading is as expected; the AssertionError shows both."""
    last = None

    def equal() -> bool:
        nonlocal last
        last = read()
        return last == expected

    try:
        wait_until(equal, what, timeout_s=timeout_s)
    except AssertionError as error:
        message = f"{error}\nexpected: {pformat(expected)}\n     got: {pformat(last)}"
        raise AssertionError(message) from None


class Child:
    """A program started by a test. Subclasses add how to start it and what to ask it."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv: Final = [str(part) for part in argv]
        self.log: Final = log
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    @property
    def name(self) -> str:
        return self.argv[0].rpartition("/")[2]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def check_alive(self) -> None:
        """ChildDied, with the end of its output, when it does not run any more."""
        if self.returncode is not None:
            tail = self.log_text()[-LOG_TAIL_BYTES:]
            raise ChildDied(f"{self.name} ended with {self.returncode}:\n{tail}")

    def wait_ready(
        self, ready: Callable[[], T], what: str, *, timeout_s: float = 20
    ) -> T:
        """Wait for a condition while this child lives; kills it when that fails."""

        def alive_and_ready() -> T:
            self.check_alive()
            value = ready()
            self.check_alive()
            return value

        try:
            return wait_until(alive_and_ready, what, timeout_s=timeout_s)
        except AssertionError as error:
            self.kill()
            if not isinstance(error, ChildDied):
                error.add_note(self.log_text()[-LOG_TAIL_BYTES:])
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and give the exit status; AssertionError after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            tail = self.log_text()[-LOG_TAIL_BYTES:]
            message = f"{self.name} still runs after {timeout_s:g} s:\n{tail}"
            raise AssertionError(message) from None

    def stop(self, timeout_s: float = 10) -> int:
        """End it with SIGTERM and give the exit status; AssertionError if it stays."""
        if self.returncode is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and what it started with SIGKILL, if any of it still runs."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def respawn(self) -> None:
        """Start the same program again after its end; the log goes on."""
        assert self.returncode is not None, f"{self!r} still runs"
        self._process = self._spawn()

    def freeze(self) -> None:
        """Stop it in its tracks: its sockets accept and buffer, and it never answers."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<{self.name} pid {self.pid}>"
