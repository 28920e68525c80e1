# SPDX-License-Identifier: Apache-2.0
"""One program of the demo: found, started, waited for, stopped.

`setpriv` starts each: it gives up root where a server refuses to run as root, and asks
the kernel to end the program when we end, whatever ended us. Each has a process group
of its own, so that a Ctrl-C in the terminal reaches only us and all ends in order.

    DemoError
    ├── NotInstalledError  a program or a Python package is not installed
    └── ProgramError       it ended or did not answer; with the last lines of its log
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "DemoError",
    "NotInstalledError",
    "Program",
    "ProgramError",
    "find",
    "hand_over",
    "run",
    "running",
]

READY_S: Final = 20.0  # a cold PostgreSQL on a busy two-core machine takes 3
STOP_S: Final = 8.0
POLL_S: Final = 0.05
LOG_LINES: Final = 15
UNPRIVILEGED_USER: Final = "nobody"


class DemoError(Exception):
    """The demo cannot go on; the message says what to do."""


class NotInstalledError(DemoError):
    def __init__(self, name: str, *, install: str) -> None:
        super().__init__(f"{name} is not installed; install it with: {install}")


class ProgramError(DemoError):
    def __init__(self, program: Program, what: str) -> None:
        super().__init__(f"{program.name} {what}; its log ends with:\n{program.tail()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run and how to tell that it is ready."""

    name: str
    command: Sequence[str]
    folder: Path  # its working directory; its log is beside it
    ready: Callable[[], bool] = lambda: True
    environment: Mapping[str, str] = field(default_factory=dict)
    unprivileged: bool = False
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (nothing)"


def find(name: str, *, package: str, folders: Sequence[Path] = ()) -> str:
    """The path of an installed program; NotInstalledError names the Debian package."""
    places = os.pathsep.join(
        [*map(str, folders), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    )
    found = shutil.which(name, path=places)
    if found is None:
        raise NotInstalledError(name, install=f"apt-get install {package}")
    return found


def hand_over(path: Path) -> None:
    """Gives a path to the user that unprivileged programs run as."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        os.chown(path, user.pw_uid, user.pw_gid)


def run(program: Program) -> None:
    """Runs a program that ends by itself; ProgramError when it does not end well."""
    process = _start(program)
    try:
        process.wait(READY_S)
    except subprocess.TimeoutExpired:
        raise ProgramError(program, f"did not end within {READY_S:g} s") from None
    finally:
        stop(program, process)
    if process.returncode != 0:
        raise ProgramError(program, _ending(process.returncode))


@contextmanager
def running(program: Program) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ready, until the block is left."""
    process = _start(program)
    try:
        _wait_ready(program, process)
        yield process
    finally:
        stop(program, process)


def stop(program: Program, process: subprocess.Popen[bytes]) -> None:
    """Asks it to end, and ends its whole group when it does not."""
    process.send_signal(program.stop_signal)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start(program: Program) -> subprocess.Popen[bytes]:
    program.folder.mkdir(exist_ok=True)
    if program.unprivileged:
        hand_over(program.folder)
    with program.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 (our own command)
            [*_bonds(program), *program.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=program.folder,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **program.environment},
            process_group=0,
        )


def _bonds(program: Program) -> list[str]:
    """The start of the command: what the program may do, and that it ends with us."""
    bonds = [find("setpriv", package="util-linux")]
    bonds += ["--pdeathsig", program.stop_signal.name]
    if program.unprivileged and os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        bonds += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid)]
        bonds += ["--clear-groups"]
    return bonds


def _wait_ready(program: Program, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        if process.poll() is not None:
            raise ProgramError(program, _ending(process.returncode))
        with suppress(OSError):
            if program.ready():
                return
        if time.monotonic() > deadline:
            raise ProgramError(program, f"was not ready within {READY_S:g} s")
        time.sleep(POLL_S)


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
