# SPDX-License-Identifier: Apache-2.0
"""The running agent's Unix socket: a request and what is said about it, a line of JSON each.

Only its owner may use it: mode 0600, and the kernel says who is at the other end. Who goes away,
or sends a second line, wants what it asked for to end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final, Self

__all__ = ["ControlClient", "ControlError", "ControlServer", "Conversation"]

# A command line, at the most.
MOST_BYTES: Final = 256 * 1024
# For a line from the other end, and for it to take one of ours.
PATIENCE_S: Final = 10.0
# When the agent ends, whoever takes no line in this time is not waited for.
LAST_PATIENCE_S: Final = 1.0
LOOK_S: Final = 0.1
# Requests at a time: a recording, and people who look.
MAX_REQUESTS: Final = 16
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid

_log = logging.getLogger(__name__)


class ControlError(Exception):
    """In one line; `hint` says what a person can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class _Lines:
    """JSON objects over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = b""
        self._sending_since_s = float("inf")
        end.settimeout(PATIENCE_S)

    def send(self, **message: Any) -> None:
        """Raises OSError."""
        self._sending_since_s = time.monotonic()
        try:
            self._end.sendall(json.dumps(message).encode() + b"\n")
        finally:
            self._sending_since_s = float("inf")

    def cut(self, *, sending_s: float = 0.0) -> None:
        """Wakes the thread that waits for the other end; or only if it sends for so long."""
        if not sending_s or time.monotonic() - self._sending_since_s > sending_s:
            with contextlib.suppress(OSError):
                self._end.shutdown(socket.SHUT_RDWR)

    def receive(self, timeout_s: float | None) -> dict[str, Any] | None:
        """None when nothing comes in this time. Raises EOFError, OSError and ValueError."""
        began_s = time.monotonic()
        while b"\n" not in self._buffer:
            if not select.select([self._end], [], [], timeout_s)[0]:
                return None
            if self._buffer and time.monotonic() - began_s > PATIENCE_S:
                raise TimeoutError("the line does not end")
            data = self._end.recv(64 * 1024)
            if not data:
                raise EOFError
            self._buffer += data
            if len(self._buffer) > MOST_BYTES:
                raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _object(line)


class Conversation:
    """The agent's side of one request."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._is_over = False
        self._is_deaf = False

    def send(self, **message: Any) -> None:
        """Nothing happens when the other one has gone, or reads nothing: `wait` says so."""
        if self._is_deaf:
            return
        try:
            self._lines.send(**message)
        except OSError:
            self._is_over = self._is_deaf = True

    def wait(self, seconds: float) -> bool:
        """Whether the other one wants an end, within the time at the latest."""
        if not self._is_over:
            try:
                self._is_over = self._lines.receive(seconds) is not None
            except (EOFError, OSError, ValueError):
                self._is_over = True
        return self._is_over


class ControlServer:
    """From `start` to `close`; each request is answered in a thread of its own."""

    def __init__(
        self, path: Path, answer: Callable[[dict[str, Any], Conversation], None]
    ) -> None:
        self._path = path
        self._answer = answer
        self._stopping = Event()
        self._lock = Lock()
        self._open: dict[_Lines, bool] = {}  # whether it has asked
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Raises ControlError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._clear()
            self._socket.bind(str(self._path))
            self._path.chmod(0o600)  # nobody connects before the next line
            self._socket.listen(4 * MAX_REQUESTS)
        except OSError as error:
            self._socket.close()
            reason = (error.strerror or str(error)).lower()
            raise ControlError(
                f"cannot listen on {self._path}: {reason}",
                hint="recording.socket names another one, null none",
            ) from None
        except ControlError:
            self._socket.close()
            raise
        self._inode = self._path.stat().st_ino
        self._socket.settimeout(0.5)
        self._accepting = Thread(target=self._accept, name="control")
        self._accepting.start()

    def close(self) -> None:
        """Ends what was asked for, and waits for it."""
        self._stopping.set()
        self._accepting.join()
        while any(thread.is_alive() for thread in self._threads):
            with self._lock:
                for lines, has_asked in self._open.items():
                    lines.cut(sending_s=LAST_PATIENCE_S if has_asked else 0.0)
            self._threads[-1].join(LOOK_S)
        self._socket.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def _clear(self) -> None:
        """Removes the socket of an agent that was killed, and nothing else."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ControlError(
                f"{self._path} is not a socket",
                hint="recording.socket names another path",
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
        raise ControlError(
            f"another agent listens on {self._path}",
            hint="recording.socket names another path, null none",
        )

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                end, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                _log.warning("the control socket takes no more requests: %s", error)
                return
            self._threads = [one for one in self._threads if one.is_alive()]
            if len(self._threads) >= MAX_REQUESTS:
                with end:
                    Conversation(_Lines(end)).send(
                        error=f"{MAX_REQUESTS} requests are under way already"
                    )
                continue
            thread = Thread(target=self._serve, args=(end,), name="control request")
            self._threads.append(thread)
            thread.start()

    def _serve(self, end: socket.socket) -> None:
        lines = _Lines(end)
        with self._lock:
            self._open[lines] = False
        try:
            self._hear(end, lines)
        finally:
            with self._lock:
                del self._open[lines]
            end.close()

    def _hear(self, end: socket.socket, lines: _Lines) -> None:
        try:
            uid = _uid_of(end)
            if uid not in (0, os.geteuid()):
                lines.send(error=f"the agent belongs to another user than {uid}")
                return
            request = lines.receive(PATIENCE_S)
        except (EOFError, OSError):
            return
        except ValueError as error:
            Conversation(lines).send(error=f"request not understood: {error}")
            return
        if request is not None:
            with self._lock:
                self._open[lines] = True
            self._answered(request, Conversation(lines))

    def _answered(self, request: dict[str, Any], conversation: Conversation) -> None:
        try:
            self._answer(request, conversation)
        except Exception as error:  # noqa: BLE001 -- the agent goes on
            _log.exception("a request failed")
            conversation.send(
                error=f"the agent failed: {type(error).__name__}: {error}"
            )


class ControlClient:
    """Asks the running agent. Raises ControlError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lines = _Lines(self._socket)

    def __enter__(self) -> Self:
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            raise _not_there(self._path, error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, **request: Any) -> None:
        try:
            self._lines.send(**request)
        except OSError as error:
            raise ControlError(f"the agent has gone: {error}") from None

    def end(self) -> None:
        """What was asked for shall end; its last words come yet."""
        with contextlib.suppress(OSError):
            self._lines.send(end=True)

    def hear(self, timeout_s: float) -> dict[str, Any] | None:
        """What the agent says; None when it says nothing in this time."""
        try:
            return self._lines.receive(timeout_s)
        except (EOFError, OSError, ValueError):
            raise ControlError(
                "the agent has ended", hint="what it had written is in the file"
            ) from None


def _object(line: bytes) -> dict[str, Any]:
    """Raises ValueError, for a person to read."""
    try:
        message = json.loads(line, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ValueError("it is not a JSON object")
    return message


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _not_there(path: Path, error: OSError) -> ControlError:
    if isinstance(error, PermissionError):
        return ControlError(
            f"{path} belongs to another user",
            hint="run this as the user whose agent it is",
        )
    reason = (error.strerror or str(error)).lower()
    return ControlError(
        f"no agent listens on {path}: {reason}",
        hint="`deetune run` starts one; without --attach the command has its own",
    )


def _uid_of(end: socket.socket) -> int:
    size = _CREDENTIALS.size
    data = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid
