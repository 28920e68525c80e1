# SPDX-License-Identifier: Apache-2.0
"""The kernel's code as a process: operations on sockets in, exchanges and ledger lines out.

host.c includes bpf/deetune.bpf.c, so what runs here is what the kernel runs, under the address
and undefined-behaviour sanitizers: what they find ends the process, and HostError shows it.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

from deetune_otel.config.http_path import segment_hash
from deetune_otel.model import End, LedgerLine, Protocol, Role, Transport, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Call",
    "Chunk",
    "Counted",
    "Host",
    "HostError",
    "Limit",
    "Seen",
    "Wait",
    "build",
    "close",
    "end_of_stream",
    "events_enum",
    "io",
    "judge",
    "keep",
    "limit",
    "opened",
    "refused",
    "thread",
    "unseen",
    "waits",
    "watched",
]

LISTENS: Final = 4
PIPE: Final = 5

_HERE: Final = Path(__file__).parent
_BPF: Final = _HERE.parents[1] / "bpf"
_SANITIZERS: Final = (
    "-fsanitize=address,undefined",
    # The machines that run it load words from any address, and the code counts on it.
    "-fno-sanitize=alignment",
    "-fno-sanitize-recover=all",
    "-fno-strict-aliasing",
)
_OPERATION: Final = struct.Struct("<BBBBIIIIIQ")
_STEP_NS: Final = 1000
_NOTHING: Final = LedgerLine(0, 0)


class HostError(Exception):
    """The compiler or the code under test failed; the text says where."""


class Call(IntEnum):
    """How a program reads or writes: enum host_call."""

    PLAIN = 0
    VECTOR = 1
    MESSAGE = 2
    OPAQUE = 3
    UNMAPPED = 4


class Trust(IntFlag):
    """Bits of enum dt_trust; a test compares the two."""

    BLOCKING = 1
    NONBLOCKING = 2
    DISTRUST_NONBLOCKING = 4
    POLLS = 8


class Wait(IntEnum):
    """What a thread sleeps in: enum host_wait."""

    LOCK = 0
    READ = 1
    POLL = 2
    SELECT = 3
    EPOLL = 4


class Limit(IntEnum):
    """What can be made to fill up: enum host_limit."""

    SERIES = 0
    SPILL = 1
    OPERATIONS = 2
    RING = 3
    FLIGHTS = 4
    CONNS = 5
    HASHED = 6
    KEPT = 7  # of 100 exchanges, by hash


class Chunk(NamedTuple):
    """The bytes of one socket operation of a connection."""

    is_request: bool
    data: bytes
    iovecs: tuple[int, ...] = ()  # their lengths; the last one takes the rest
    call: Call = Call.PLAIN
    spare: int = 0  # bytes of the buffer behind the data
    points: int = 0  # the next chunk runs inside this one, on another processor


class Counted(NamedTuple):
    """One exchange as the kernel counted it."""

    protocol: Protocol
    signature: int
    outcome: int
    end: End
    request_bytes: int
    response_bytes: int
    request_body_bytes: int
    response_body_bytes: int
    start_ns: int
    first_byte_ns: int
    end_ns: int
    client_seq: int
    server_seq: int
    offset: int
    is_alone: bool
    role: Role
    cause_found: int
    cause: Wire
    head: bytes
    trace: bytes

    @property
    def wire(self) -> Wire:
        return Wire(self.client_seq, self.server_seq, self.offset)


class Series(NamedTuple):
    protocol: Protocol
    signature: int
    outcome: int
    end: End
    count: int  # type: ignore[assignment]  # the word everyone uses, over tuple.count
    request_bytes: int
    response_bytes: int
    request_body_bytes: int
    response_body_bytes: int


class Named(NamedTuple):
    """What the kernel sends up to have an operation named."""

    protocol: Protocol
    signature: int
    head: bytes


@dataclass(slots=True)
class Seen:
    """All that the maps and the ring hold at the end of a script."""

    exchanges: list[Counted] = field(default_factory=list)
    operations: list[Named] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    overflow: list[Series] = field(default_factory=list)
    ledger: dict[str, LedgerLine] = field(default_factory=dict)
    open: LedgerLine = _NOTHING
    blind: list[tuple[int, int]] = field(default_factory=list)
    # By protocol, role and end: whether each outcome is an error.
    errors: dict[tuple[Protocol, Role, End], list[bool]] = field(default_factory=dict)
    unbalanced: str = ""
    trust: Trust = Trust(0)  # noqa: RUF009 - a number
    unproven: int = 0  # how often user space was asked to look
    spilled: int = 0
    steps: int = 0

    @property
    def lost(self) -> dict[str, LedgerLine]:
        """The lines of the balance that are neither seen nor counted."""
        return {k: v for k, v in self.ledger.items() if k.startswith("lost_")}

    def check(self) -> Self:
        """The ledger balanced after every operation; the spans tell what the series count."""
        assert not self.unbalanced, self.unbalanced
        counted = self.ledger.get("counted", LedgerLine(0, 0))
        told = [*self.series, *self.overflow]
        assert sum(s.count for s in told) == counted.exchanges
        assert sum(s.request_bytes + s.response_bytes for s in told) == counted.bytes
        return self


def events_enum(name: str) -> dict[int, str]:
    """Of events.h, without the prefix and in lower case."""
    text = (_BPF / "include/events.h").read_text(encoding="utf-8")
    block = re.search(rf"enum {name} {{(.*?)}};", text, re.DOTALL)
    assert block, name
    found = re.findall(r"DT_(\w+) = (\d+)", block[1])
    return {int(value): word.lower() for word, value in found}


_LEDGER: Final = events_enum(
    "dt_ledger_line"
)  # the first line of those lost has two names
_ROLES: Final = {
    Role(v.removeprefix("role_")): k for k, v in events_enum("dt_role").items()
}
_TRANSPORTS: Final = {
    Transport(v.removeprefix("transport_")): k
    for k, v in events_enum("dt_transport").items()
}
_PROTOCOLS: Final = {
    k: Protocol(v.removeprefix("protocol_"))
    for k, v in events_enum("dt_protocol").items()
    if not v.endswith("undecided")
}
_ENDS: Final = {
    k: End(v.removeprefix("end_")) for k, v in events_enum("dt_end").items()
}


def _operation(
    code: str,
    sock: int = 0,
    *,
    to: int = 0,
    what: int = 0,
    flags: int = 0,
    size: int = 0,
    spare: int = 0,
    iovecs: Sequence[int] = (),
    points: int = 0,
) -> bytes:
    fields = (ord(code), sock, to, what, flags, size, spare, len(iovecs), points)
    return _OPERATION.pack(*fields, _STEP_NS) + struct.pack(f"<{len(iovecs)}I", *iovecs)


def opened(
    role: Role,
    sock: int = 0,
    *,
    transport: Transport = Transport.TCP,
    midstream: bool = False,
) -> bytes:
    """A connection; midstream: it is older than the agent."""
    return _operation(
        "O", sock, to=_ROLES[role], what=midstream, size=_TRANSPORTS[transport]
    )


def io(
    chunk: Chunk,
    role: Role,
    sock: int = 0,
    *,
    flags: int = 0,
    visited: bool = False,
) -> bytes:
    """A chunk as the socket of this role sees it.

    visited: TCP has it, and a visit comes before the door.
    """
    iovecs = chunk.iovecs if chunk.call in (Call.VECTOR, Call.MESSAGE) else ()
    return (
        _operation(
            "I",
            sock,
            to=(chunk.is_request == (role is Role.CLIENT)) + 2 * visited,
            what=chunk.call,
            flags=flags,
            size=len(chunk.data),
            spare=chunk.spare,
            iovecs=iovecs,
            points=chunk.points,
        )
        + chunk.data
    )


def unseen(size: int, role: Role, sock: int = 0, *, is_request: bool) -> bytes:
    """Bytes that TCP counts and no door brings."""
    return _operation("B", sock, to=is_request == (role is Role.CLIENT), size=size)


def end_of_stream(sock: int = 0) -> bytes:
    """A read that returns nothing: the peer has ended its direction."""
    return _operation("E", sock)


def close(sock: int = 0) -> bytes:
    return _operation("C", sock)


def refused(errno: int, sock: int = 0, *, again: bool = False) -> bytes:
    """A connect that failed, of a new socket or of one that tries again."""
    return _operation("F", sock, what=again, size=errno)


def thread(number: int, *, later: bool = False) -> bytes:
    """Who does what follows; a script begins with thread 101. later: another with its number."""
    return _operation("T", size=number, what=later)


def watched(sock: int) -> bytes:
    """The socket is registered in an epoll instance."""
    return _operation("R", sock)


def waits(how: Wait, *descriptors: int) -> bytes:
    """The thread sleeps: a socket's number is its descriptor, then come LISTENS and PIPE."""
    return _operation("W", what=how, iovecs=descriptors)


def limit(what: Limit, size: int) -> bytes:
    """A map that holds so many entries, a ring of so many bytes, a share."""
    return _operation("L", what=what, size=size)


def keep(segment: str) -> bytes:
    """A segment of paths is no identifier, whatever it looks like."""
    return _operation("K") + segment_hash(segment).to_bytes(8, "little")


def build(to: Path) -> Path:
    """Compiles the kernel's code for this machine."""
    compiler = shutil.which("clang")
    if compiler is None:
        raise HostError(
            "tests/host compiles bpf/ for user space and needs clang (Debian: clang)"
        )
    program = to / "host"
    command = [
        compiler,
        *("-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror"),
        # What the kernel's helpers do not need, and what only tests leave out.
        *("-Wno-unused-parameter", "-Wno-unused-function"),
        *_SANITIZERS,
        *(f"-I{path}" for path in (_BPF, _BPF / "include", _HERE)),
        *("-o", str(program), str(_HERE / "host.c")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"clang cannot compile tests/host/host.c:\n{done.stderr}")
    return program


def judge(outcomes: int) -> bytes:
    """Whether each of so many outcomes is an error: every protocol, role and end."""
    return _operation("J", size=outcomes)


class Host:
    """Runs scripts, each on empty maps. Starts its process when it is first needed."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._errors.close()

    def run(self, script: Iterable[bytes]) -> Seen:
        """One operation after the other. HostError: a sanitizer or the code itself ended it."""
        body = b"".join(script)
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        lines: list[str] = []
        try:
            process.stdin.write(struct.pack("<I", len(body)) + body)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # the end of its output tells below
        for raw in process.stdout:
            line = raw.decode().rstrip("\n")
            if line == "end":
                return _read(lines)
            lines.append(line)
        self._stop()
        self._errors.seek(0)
        raise HostError(self._errors.read().decode(errors="replace") or "no word")

    def feed(
        self,
        chunks: Iterable[Chunk],
        role: Role = Role.SERVER,
        *,
        closed: bool = False,
        midstream: bool = False,
        transport: Transport = Transport.TCP,
        kept: Iterable[str] = (),
    ) -> Seen:
        """The chunks of one fresh connection; what it leaves must balance."""
        script = [keep(segment) for segment in kept]
        script.append(opened(role, transport=transport, midstream=midstream))
        script += [io(chunk, role) for chunk in chunks]
        if closed:
            script.append(close())
        return self.run(script).check()

    def _start(self) -> subprocess.Popen[bytes]:
        self._errors.seek(0)
        self._errors.truncate()
        return subprocess.Popen(
            [self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={"UBSAN_OPTIONS": "print_stacktrace=1"},
        )

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _read(lines: Iterable[str]) -> Seen:
    seen = Seen()
    for line in lines:
        what, *words = line.split(" ")
        if what == "unbalanced":
            seen.unbalanced = (
                "after operation {}: {} exchanges, {} bytes too many".format(*words)
            )
        elif what in ("exchange", "operation"):
            _read_record(seen, what, words)
        elif what == "errors":
            _read_errors(seen, *words)
        else:
            _read_numbers(seen, what, list(map(int, words)))
    return seen


def _read_record(seen: Seen, what: str, words: list[str]) -> None:
    numbers = [int(word) for word in words if not word.startswith("x")]
    texts = [bytes.fromhex(word[1:]) for word in words if word.startswith("x")]
    protocol = _PROTOCOLS[numbers[0]]
    if what == "operation":
        seen.operations.append(Named(protocol, numbers[1], *texts))
        return
    _, signature, outcome, end, *rest, is_alone, role, cause_found = numbers[:-3]
    head, trace = texts
    ten = (protocol, signature, outcome, _ENDS[end], *rest)
    seen.exchanges.append(
        Counted._make(
            [
                *(*ten, bool(is_alone), _role(role)),
                *(cause_found, Wire(*numbers[-3:]), head, trace),
            ]
        )
    )


def _read_errors(seen: Seen, protocol: str, role: str, end: str, told: str) -> None:
    if int(protocol) in _PROTOCOLS and int(role) in _ROLES.values():
        key = (_PROTOCOLS[int(protocol)], _role(int(role)), _ENDS[int(end)])
        seen.errors[key] = [one == "1" for one in told]


def _role(number: int) -> Role:
    return next(role for role, of in _ROLES.items() if of == number)


def _read_numbers(seen: Seen, what: str, numbers: list[int]) -> None:
    match what:
        case "series" | "overflow":
            protocol, signature, outcome, end, *rest = numbers
            into = seen.series if what == "series" else seen.overflow
            into.append(
                Series(_PROTOCOLS[protocol], signature, outcome, _ENDS[end], *rest)
            )
        case "ledger":
            seen.ledger[_LEDGER[numbers[0]]] = LedgerLine(*numbers[1:])
        case "open":
            seen.open = LedgerLine(*numbers)
        case "blind":
            seen.blind.append((numbers[0], numbers[1]))
        case "spilled":
            seen.spilled = numbers[0]
        case "trust":
            seen.trust = Trust(numbers[0])
        case "unproven":
            seen.unproven += 1
        case "steps":
            seen.steps = numbers[0]
        case _:
            raise HostError(f"unknown line {what!r}")
