# SPDX-License-Identifier: Apache-2.0
"""Real processes as the kernel side would report them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.process import wait_until

from deetune_otel.model import Owner, ProcessKey

__all__ = ["PYTHON", "SLEEPER", "TICK_NS", "children_of", "owner_of", "started"]

PYTHON = Path(sys.executable)
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
SLEEPER = "import sys; sys.stdin.read()"


def owner_of(pid: int, *, later_by_ticks: int = 0, comm: str = "") -> Owner:
    """The owner that a living process is; its start time somewhere within its tick."""
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    ticks = int(stat.rpartition(")")[2].split()[19]) + later_by_ticks
    netns = Path(f"/proc/{pid}/ns/net").stat().st_ino
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    levels = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return Owner(
        id=pid,
        process=ProcessKey(pid, ticks * TICK_NS + TICK_NS // 3),
        parent_pid=0,
        netns=netns,
        cgroup_id=0,
        comm=comm or stat.partition("(")[2].rpartition(")")[0],
        local_pid=int(levels.split()[-1]),
    )


@contextlib.contextmanager
def started(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that lives until the end of the block; its stdin is a pipe of ours.

    Returns once the child is past its exec: Popen waits for its pipe to close, which
    comes a moment before the new arguments can be read.
    """
    with subprocess.Popen(
        [str(word) for word in argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,
    ) as child:
        try:
            command_line = Path(f"/proc/{child.pid}/cmdline")
            wait_until(command_line.read_bytes, "the arguments", every_s=0.001)
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, 9)
            child.kill()


def children_of(pid: int, count: int = 1) -> list[int]:
    """Its children's pids, as soon as there are so many."""
    path = Path(f"/proc/{pid}/task/{pid}/children")

    def enough() -> list[int]:
        children = [int(word) for word in path.read_text("ascii").split()]
        return children if len(children) >= count else []

    return wait_until(enough, f"{count} children of {pid}", every_s=0.01)
