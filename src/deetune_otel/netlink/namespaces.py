# SPDX-License-Identifier: Apache-2.0
"""Things made in another network namespace: by a thread that enters it and then ends.

A socket belongs to the namespace that it was made in and may be used from any. It also keeps
that namespace alive, so who asks for one closes it soon. A namespace is reached through one of
its processes and told by its inode number: a pid that is another's by now leads nowhere else.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "NamespaceEndedError",
    "NamespaceError",
    "call_in",
    "current",
    "open_namespace",
]

_T = TypeVar("_T")

_CLONE_NEWNET: Final = 0x40000000
# Entering and making a socket take 0.1 ms; who needs longer is stuck behind a lock of the kernel.
_PATIENCE_S: Final = 1.0
# Processes that may have ended meanwhile; each costs a system call.
_MAX_PIDS: Final = 16
_PROC: Final = Path("/proc")


class NamespaceError(Exception):
    """The namespace cannot be reached or entered; the message says why."""


class NamespaceEndedError(NamespaceError):
    """None of its processes is left: that happens, and nothing can be done."""


def current() -> int:
    """The calling thread's network namespace, by its inode number; 0 when that is not told."""
    try:
        return (_PROC / "thread-self/ns/net").stat().st_ino
    except OSError:
        return 0


def open_namespace(netns: int, pids: Iterable[int]) -> int:
    """A descriptor of the namespace, which one of these processes is in; the caller closes it."""
    why = ""
    for pid, _ in zip(pids, range(_MAX_PIDS), strict=False):
        try:
            fd = os.open(_PROC / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as e:
            why = e.strerror or str(e)
            continue
        if os.fstat(fd).st_ino == netns:
            return fd
        os.close(fd)
    if not why:
        raise NamespaceEndedError(
            f"network namespace {netns}: none of its processes is left"
        )
    raise NamespaceError(f"network namespace {netns}: {why}")


def call_in(fd: int, make: Callable[[], _T]) -> _T:
    """What `make` gives in that namespace. Raises NamespaceError, and what `make` raises."""
    made: list[_T] = []
    failed: list[Exception] = []

    def enter() -> None:
        try:
            _enter(fd)
            made.append(make())
        except Exception as e:  # noqa: BLE001 - raised again by the caller's thread
            failed.append(e)

    thread = Thread(target=enter, name="netns", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    if failed:
        raise failed[0]
    if not made:
        raise NamespaceError(f"no answer from a network namespace in {_PATIENCE_S} s")
    return made[0]


def _enter(fd: int) -> None:
    """For this thread alone. (os.setns came with Python 3.12.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        why = os.strerror(ctypes.get_errno())
        raise NamespaceError(
            f"may not enter another network namespace (needs CAP_SYS_ADMIN): {why}"
        )
