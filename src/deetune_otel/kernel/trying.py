# SPDX-License-Identifier: Apache-2.0
"""What this kernel takes is found by trying: never by its version, its BTF or capabilities alone.

From the best rung down, a rung's programs are loaded together and started: where nothing is
refused that is all, and what was tried is what runs. Where something is, it is asked who: by
loading each program alone, in an object of its own (40 ms each, beside its verification). A
refused program costs its part (`rungs`); an essential part costs the rung.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from deetune_otel.kernel.errors import KernelUnavailable
from deetune_otel.kernel.rungs import Part, Rung, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from deetune_otel.kernel.libbpf import BpfObject, Libbpf

__all__ = [
    "Doing",
    "NothingTaken",
    "Outcome",
    "Refusal",
    "Tried",
    "refusable",
    "take",
]

T = TypeVar("T")

# Where capabilities are missing, that is said instead.
_HINT_RIGHTS: Final = (
    "The capabilities are there, so something else forbids it: in a container its seccomp "
    "profile, which must allow bpf(), a security module, or the kernel itself."
)
_HINT_KERNEL: Final = (
    "Linux 6.3 and later have the socket tracepoints; of older kernels 6.1 is known to do without "
    "them, by fexit programs."
)
_HINT_REPORT: Final = (
    "Please report this message with the kernel's version (uname -r); `deetune check --json` "
    "has all that was said."
)
_HINTS: Final = {errno.EPERM: _HINT_RIGHTS, errno.ESRCH: _HINT_KERNEL}
# Of what a verifier said: enough to see where it stopped.
_LOG_LINES: Final = 12
_LOG_BEGINS: Final = "-- BEGIN PROG LOAD LOG --"
_LOG_ENDS: Final = "-- END PROG LOAD LOG --"
# What a verifier ends with, whatever it found.
_FIGURES: Final = re.compile(r"(processed \d+ insns|verification time|stack depth)")


class Doing(StrEnum):
    """What is tried of a program."""

    LOAD = "loaded"
    ATTACH = "attached"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the kernel did not take, and its own words for it."""

    program: str
    doing: Doing
    reason: str  # one line
    number: int = 0  # errno; 0 where it is left out because another program is refused
    log: tuple[str, ...] = ()  # the verifier's last lines

    @property
    def hint(self) -> str:
        """What can be done about it."""
        return _HINTS.get(self.number, _HINT_REPORT)

    def __str__(self) -> str:
        if not self.number:
            return f"{self.program} is {self.reason}"
        return f"{self.program} cannot be {self.doing}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of trying a program."""

    program: str
    rung: Rung
    part: Part
    refusal: Refusal | None = None

    @property
    def taken(self) -> bool:
        return self.refusal is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The rung that was taken with all its programs; of better ones, who was refused."""

    rung: Rung
    outcomes: tuple[Outcome, ...]

    @property
    def programs(self) -> tuple[str, ...]:
        """That run."""
        return tuple(one.program for one in self.outcomes if one.taken)

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """Of the rung that was taken, one a part: what the agent does without."""
        return tuple(
            one
            for one in self.outcomes
            if one.rung is self.rung and one.refusal is not None and one.refusal.number
        )

    @property
    def passed_over(self) -> tuple[Outcome, ...]:
        """Why no better rung was taken."""
        return tuple(one for one in self.outcomes if one.rung is not self.rung)


class NothingTaken(KernelUnavailable):
    """No rung was taken; `outcomes` says why, and is empty where nothing could be tried."""

    def __init__(
        self, message: str, hint: str, outcomes: tuple[Outcome, ...] = ()
    ) -> None:
        super().__init__(message, hint)
        self.outcomes = outcomes


class _Refused(Exception):  # noqa: N818 - reads as what happened
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@contextmanager
def refusable(program: str, doing: Doing) -> Iterator[None]:
    """Where something is started: an OSError of what is done here is the kernel's refusal."""
    try:
        yield
    except OSError as error:
        raise _Refused(_refusal(program, doing, error, ())) from error


def take(
    library: Libbpf,
    open_object: Callable[[], BpfObject],
    start: Callable[[BpfObject, Collection[str], ExitStack], T],
) -> tuple[T, Tried]:
    """The best rung's programs, started, and what came of trying.

    `open_object` gives an object that is configured and not loaded. `start` gets it loaded, with
    the names of its programs and a stack that it takes over at its end: what is still there is
    undone. Raises NothingTaken, and what `start` raises.
    """
    passed: list[Outcome] = []
    for rung in Rung:
        refused: dict[str, Refusal] = {}
        while True:
            outcomes = tuple(_outcomes(rung, refused))
            if any(one.part.essential and not one.taken for one in outcomes):
                break
            tried = Tried(rung=rung, outcomes=(*passed, *outcomes))
            try:
                return _started(library, open_object, start, tried), tried
            except _Refused as error:
                refused[error.refusal.program] = error.refusal
            except _LoadFailed as error:
                found = _who_is_refused(library, open_object, rung, tried.programs)
                if not found:
                    raise NothingTaken(
                        f"The kernel takes each program alone, but not all of them: {error}",
                        _HINT_REPORT,
                        tried.outcomes,
                    ) from error
                refused.update(found)
        passed += [one for one in outcomes if one.program in refused]
    raise _nothing_taken(passed)


class _LoadFailed(Exception):  # noqa: N818 - reads as what happened
    pass


def _started(
    library: Libbpf,
    open_object: Callable[[], BpfObject],
    start: Callable[[BpfObject, Collection[str], ExitStack], T],
    tried: Tried,
) -> T:
    with library.log_tail() as said, ExitStack() as stack:
        bpf = open_object()
        stack.callback(bpf.close)
        _choose(bpf, tried.programs)
        try:
            bpf.load()
        except OSError as error:
            raise _LoadFailed("\n".join((str(error), *said))) from error
        return start(bpf, tried.programs, stack)


def _choose(bpf: BpfObject, programs: Collection[str]) -> None:
    """The object has those of every rung."""
    for name, program in bpf.programs.items():
        program.autoload = name in programs


def _who_is_refused(
    library: Libbpf,
    open_object: Callable[[], BpfObject],
    rung: Rung,
    programs: Collection[str],
) -> dict[str, Refusal]:
    """Each alone; no further ones where the rung is lost. Raises NothingTaken where not even
    the maps are taken: then no program is to blame.
    """
    _, error, said = _loaded(library, open_object, ())
    if error is not None:
        raise NothingTaken(
            f"The kernel takes nothing at all: {_words(error)}",
            _HINTS.get(error.errno or 0, _HINT_REPORT),
        ) from error
    found: dict[str, Refusal] = {}
    for part in parts_of(rung):
        for name in part.programs:
            if name not in programs:
                continue
            section, error, said = _loaded(library, open_object, (name,))
            if error is None:
                continue
            found[name] = _refusal(name, Doing.LOAD, error, said, section=section)
            if part.essential:
                return found
            break  # the others of the part are left out with it
    return found


def _loaded(
    library: Libbpf, open_object: Callable[[], BpfObject], programs: tuple[str, ...]
) -> tuple[str, OSError | None, tuple[str, ...]]:
    """The section of the last program, what became of loading, and what libbpf said of it."""
    with library.log_tail() as said, ExitStack() as stack:
        bpf = open_object()
        stack.callback(bpf.close)
        _choose(bpf, programs)
        section = bpf.programs[programs[-1]].section if programs else ""
        try:
            bpf.load()
        except OSError as error:
            return section, error, tuple(said)
        return section, None, ()


def _outcomes(rung: Rung, refused: dict[str, Refusal]) -> Iterator[Outcome]:
    """What is known so far: who is refused, and who is left out with them."""
    for part in parts_of(rung):
        beside = [name for name in part.programs if name in refused]
        for name in part.programs:
            refusal = refused.get(name)
            if refusal is None and beside:
                refusal = Refusal(
                    program=name,
                    doing=Doing.LOAD,
                    reason=f"left out, because {beside[0]} is refused",
                )
            yield Outcome(program=name, rung=rung, part=part, refusal=refusal)


def _refusal(
    program: str,
    doing: Doing,
    error: OSError,
    said: Iterable[str],
    *,
    section: str = "",
) -> Refusal:
    kind, _, target = section.lstrip("?").partition("/")
    log = _verifier(said)
    reason = _words(error)
    if error.errno == errno.ESRCH and target:
        what = "tracepoint" if kind == "tp_btf" else "function"
        reason = f"this kernel's BTF has no {what} {target}"
    elif log:
        reason = f"{reason}: {log[-1]}"
    return Refusal(
        program=program, doing=doing, reason=reason, number=error.errno or 0, log=log
    )


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _verifier(said: Iterable[str]) -> tuple[str, ...]:
    """Its own lines, of what libbpf said; the last one is the reason."""
    lines = list(said)
    ends = [i for i, line in enumerate(lines) if _LOG_ENDS in line]
    if not ends:
        return ()
    begins = [i + 1 for i, line in enumerate(lines) if _LOG_BEGINS in line]
    own = lines[begins[-1] if begins else 0 : ends[-1]]
    return tuple(line for line in own if not _FIGURES.match(line))[-_LOG_LINES:]


def _nothing_taken(passed: list[Outcome]) -> NothingTaken:
    decisive = [
        (one.rung, one.refusal)
        for one in passed
        if one.part.essential and one.refusal is not None and one.refusal.number
    ]
    refusals = [refusal for _, refusal in decisive]
    absent = [one.hint for one in refusals if one.number == errno.ESRCH]
    # A better rung's refusal says more than a worse one's, if what it needs is there at all.
    there = [one.hint for one in refusals if one.number != errno.ESRCH]
    hints = dict.fromkeys((*absent, *there[:1]))
    lines = (f"rung {rung:d}: {refusal}" for rung, refusal in decisive)
    return NothingTaken(
        "\n  ".join(("The kernel refuses what nothing can be seen without:", *lines)),
        " ".join(hints),
        tuple(passed),
    )
