# SPDX-License-Identifier: Apache-2.0
"""Reads a process from /proc, and never takes another process for it.

Who: a process is its pid *and* its start time. The kernel side gives `start_boottime`
in ns; /proc/PID/stat gives the same in clock ticks (10 ms), so they must agree to one
tick. /proc shifts it by the reader's time namespace; we shift ours alike.

How: /proc/PID is opened as a directory once and everything is read through that
descriptor. The kernel ties it to that one process: when it has ended the reads fail
(ESRCH), also when its pid lives again. So one comparison of start times, after the
opening, holds for all that is read.

Where: the kernel side gives each process's pid in the root pid namespace and in the
agent's own. One of them is the number in /proc, depending on whose /proc it is; in a
/proc of any third namespace (and for a process outside of ours) nothing is found.

What: of the environment only the two OTEL_* variables are picked out, nothing else
of it is kept. Reads have bounds; what is longer is cut, never refused.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import psutil

from deetune_otel.identity.ports import listening_ports
from deetune_otel.model import NewOwner, Owner

__all__ = ["ProcessFacts", "ProcessReader"]

_PF_KTHREAD: Final = 0x00200000
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# A Java class path can have 100 KB; the kernel allows 128 KB in one argument.
_COMMAND_LINE_BYTES: Final = 256 * 1024
_ENVIRONMENT_BYTES: Final = 1024 * 1024
TOLD_BYTES: Final = 512  # of a command line, by the kernel side (DT_COMMAND_BYTES)
_SMALL_FILE_BYTES: Final = 64 * 1024
_ENDED_STATES: Final = frozenset("ZXx")
# Ended or forbidden; and a stat line that is not what the kernel writes today.
_UNREADABLE: Final = (OSError, ValueError, IndexError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """What /proc says of a process; "" or () where it says nothing or may not be read."""

    pid: int  # in the pid namespace of /proc
    parent_pid: int  # likewise; 0: outside of it
    comm: str
    executable: str = ""  # path, as its own mount namespace has it
    arguments: tuple[str, ...] = ()
    otel_service_name: str = ""
    otel_resource_attributes: str = ""
    cgroup: str = ""  # the text of /proc/PID/cgroup
    working_directory: str = ""
    netns: int = 0
    listening_ports: frozenset[int] = frozenset()


class _Stat:
    """The fields that we use of /proc/PID/stat; the name may hold spaces and `)`."""

    __slots__ = ("comm", "flags", "image", "parent_pid", "start_ticks", "state")

    def __init__(self, text: bytes) -> None:
        left, _, right = text.rpartition(b")")
        fields = right.split()
        self.comm = _text(left.partition(b"(")[2])
        self.state = chr(fields[0][0])
        self.parent_pid = int(fields[1])
        self.flags = int(fields[6])
        self.start_ticks = int(fields[19])
        # startstack, arg_start, env_start: every exec lays them out anew, at random
        self.image = (fields[25], fields[45], fields[47])


class _Directory:
    """An open /proc/PID: reads fail with OSError once that very process has ended."""

    __slots__ = ("_fd", "pid")

    def __init__(self, proc: Path, pid: int) -> None:
        self._fd = os.open(proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.pid = pid

    def close(self) -> None:
        os.close(self._fd)

    def read(self, name: str, limit: int = _SMALL_FILE_BYTES) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            chunks = []
            while limit > 0 and (chunk := os.read(fd, min(limit, _SMALL_FILE_BYTES))):
                chunks.append(chunk)
                limit -= len(chunk)
            return b"".join(chunks)
        finally:
            os.close(fd)

    def read_if_allowed(self, name: str, limit: int = _SMALL_FILE_BYTES) -> bytes:
        try:
            return self.read(name, limit)
        except OSError:
            return b""

    def link_if_allowed(self, name: str) -> str:
        try:
            return _text(os.fsencode(os.readlink(name, dir_fd=self._fd)))
        except OSError:
            return ""

    def stat(self) -> _Stat:
        return _Stat(self.read("stat"))

    def executable_file(self) -> tuple[int, int]:
        """(device, inode) of what runs; (0, 0) when it may not be known."""
        try:
            status = os.stat("exe", dir_fd=self._fd)
        except OSError:
            return (0, 0)
        return (status.st_dev, status.st_ino)

    def netns(self) -> int:
        return _inode(self.link_if_allowed("ns/net"))

    def listening_ports(self) -> frozenset[int]:
        return listening_ports(self._fd)


class ProcessReader:
    """Reads processes through one /proc; keeps nothing of them.

    `proc` is psutil's by default, so that one setting (`psutil.PROCFS_PATH`) is enough
    where the host's /proc is mounted elsewhere.
    """

    def __init__(self, proc: Path | None = None) -> None:
        self._proc = proc or Path(psutil.PROCFS_PATH)
        self._boottime_offset_ns = self._read_boottime_offset_ns()
        self.pids: Final = self._whose_pids()

    def read(self, owner: Owner, *, with_ports: bool = False) -> ProcessFacts | None:
        """The process's facts; None when it has ended, or is not to be seen from here.

        A zombie counts as ended: it has neither executable nor arguments any more.
        `with_ports` is dear (it walks its descriptors): only when it is asked for.
        """
        with self._open(owner) as directory:
            return self._facts(directory, with_ports=with_ports) if directory else None

    def read_parent(self, owner: Owner, *, generation: int = 1) -> ProcessFacts | None:
        """The facts of the parent (2: its parent, ...); None when there is none left.

        The parent's pid means the parent as long as the child still has it.
        """
        with contextlib.ExitStack() as stack:
            child = stack.enter_context(self._open(owner))
            for _ in range(generation):
                if not child:
                    return None
                child = stack.enter_context(self._open_parent(child))
            return self._facts(child, with_ports=False) if child else None

    def fingerprint(self, owner: Owner) -> int | None:
        """A number that differs after an exec or a new title; None when it has ended."""
        with self._open(owner) as directory:
            if not directory:
                return None
            try:
                image = directory.stat().image
                command_line = directory.read("cmdline", _COMMAND_LINE_BYTES)
            except _UNREADABLE:
                return None
            return hash((image, directory.executable_file(), command_line))

    def local_pid(self, owner: Owner) -> int | None:
        """The process's pid in /proc; None when it has ended or is not to be seen."""
        with self._open(owner) as directory:
            return directory.pid if directory else None

    def cgroup(self, owner: Owner) -> str:
        """The text of its cgroup file; "" when it has ended or may not be read."""
        with self._open(owner) as directory:
            return _text(directory.read_if_allowed("cgroup")) if directory else ""

    def glance_at_cgroup(self, owner: Owner) -> str:
        """The same at a quarter of the cost (8 µs): perhaps of a later one with its pid."""
        try:
            with (self._proc / str(self._pid(owner)) / "cgroup").open("rb", 0) as file:
                return _text(file.read(_SMALL_FILE_BYTES) or b"")
        except OSError:
            return ""

    @contextlib.contextmanager
    def _open(self, owner: Owner) -> Iterator[_Directory | None]:
        """The owner's directory if it is the owner's, alive."""
        ticks = self._ticks(owner)
        directory = self._open_pid(self._pid(owner))
        try:
            yield directory if directory and _is(directory, ticks) else None
        finally:
            if directory:
                directory.close()

    @contextlib.contextmanager
    def _open_parent(self, child: _Directory) -> Iterator[_Directory | None]:
        try:
            parent = self._open_pid(child.stat().parent_pid)
        except _UNREADABLE:
            parent = None
        try:
            yield parent if parent and _is_child(child, parent) else None
        finally:
            if parent:
                parent.close()

    def _open_pid(self, pid: int) -> _Directory | None:
        if pid <= 0:
            return None
        try:
            return _Directory(self._proc, pid)
        except OSError:
            return None

    def _facts(self, directory: _Directory, *, with_ports: bool) -> ProcessFacts | None:
        try:
            stat = directory.stat()
            command_line = directory.read("cmdline", _COMMAND_LINE_BYTES)
            if stat.state in _ENDED_STATES:
                return None
            ports = directory.listening_ports() if with_ports else frozenset()
            environment = _environment(
                directory.read_if_allowed("environ", _ENVIRONMENT_BYTES)
            )
            facts = ProcessFacts(
                pid=directory.pid,
                parent_pid=stat.parent_pid,
                comm=stat.comm,
                executable=directory.link_if_allowed("exe"),
                arguments=_arguments(command_line),
                otel_service_name=environment.get(b"OTEL_SERVICE_NAME", ""),
                otel_resource_attributes=environment.get(
                    b"OTEL_RESOURCE_ATTRIBUTES", ""
                ),
                cgroup=_text(directory.read_if_allowed("cgroup")),
                working_directory=directory.link_if_allowed("cwd"),
                netns=directory.netns(),
                listening_ports=ports,
            )
            # Ended while we read: what came late may be empty for that reason.
            ended = directory.stat().state in _ENDED_STATES
        except _UNREADABLE:
            return None
        return None if ended else facts

    def _ticks(self, owner: Owner) -> int:
        return (owner.process.start_ns + self._boottime_offset_ns) // _TICK_NS

    def _pid(self, owner: Owner) -> int:
        """Its number in our /proc; 0: none."""
        match self.pids:
            case "own":
                return owner.local_pid
            case "root":
                return owner.process.pid
        return 0

    def _whose_pids(self) -> Literal["own", "root", "unknown"]:
        """Whose numbers /proc shows: of our pid namespace, or the root's."""
        try:
            status = (self._proc / "self/status").read_bytes()
        except OSError:  # no process of ours is in there
            status = b""
        # Our pids from /proc's namespace inwards: one, when we live in that very one.
        levels = next(
            (line for line in status.splitlines() if line.startswith(b"NSpid:")), b""
        ).split()
        if len(levels) == 2:
            return "own"
        # Kernel threads live in the root's alone, and the first of them is always 2.
        kthreadd = self._open_pid(2)
        if not kthreadd:
            return "unknown"
        try:
            return "root" if kthreadd.stat().flags & _PF_KTHREAD else "unknown"
        except _UNREADABLE:
            return "unknown"
        finally:
            kthreadd.close()

    def _read_boottime_offset_ns(self) -> int:
        """By how much our time namespace shifts the start times that /proc shows."""
        try:
            lines = (self._proc / "self/timens_offsets").read_text().splitlines()
        except OSError:  # a kernel without time namespaces
            return 0
        for line in lines:
            clock, seconds, nanoseconds = line.split()
            if clock == "boottime":
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
        return 0


def _is(directory: _Directory, ticks: int) -> bool:
    """Whether this process started at this tick, give or take one."""
    try:
        return abs(directory.stat().start_ticks - ticks) <= 1
    except _UNREADABLE:
        return False


def _is_child(child: _Directory, parent: _Directory) -> bool:
    """Whether the parent that we opened is the one that the child still has."""
    try:
        parent.stat()
        return child.stat().parent_pid == parent.pid
    except _UNREADABLE:
        return False


def facts_told(told: NewOwner, *, cgroup: str) -> ProcessFacts:
    """What the kernel side saw of a process that had ended before it could be looked at."""
    arguments = _arguments(told.command_line)
    if len(told.command_line) >= TOLD_BYTES:
        arguments = arguments[:-1] or arguments  # the last one is cut
    owner = told.owner
    return ProcessFacts(
        pid=owner.local_pid,
        parent_pid=owner.parent_pid,
        comm=owner.comm,
        executable=told.executable,
        arguments=arguments,
        cgroup=cgroup,
        working_directory=f"/{told.directory}" if told.directory else "",
        netns=owner.netns,
    )


def _arguments(command_line: bytes) -> tuple[str, ...]:
    """The arguments; a title written over them is one, whatever it is filled up with."""
    stripped = command_line.rstrip(b"\0 ")
    return tuple(_text(part) for part in stripped.split(b"\0")) if stripped else ()


def _environment(environ: bytes) -> dict[bytes, str]:
    """The two variables that we look at; the first wins, as getenv has it."""
    picked: dict[bytes, str] = {}
    for entry in environ.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name in {b"OTEL_SERVICE_NAME", b"OTEL_RESOURCE_ATTRIBUTES"}:
            picked.setdefault(name, _text(value))
    return picked


def _inode(link: str) -> int:
    """4026531833 of `net:[4026531833]`; 0 of anything else."""
    number = link.partition("[")[2].rstrip("]")
    return int(number) if number.isdecimal() else 0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
