# SPDX-License-Identifier: Apache-2.0
"""Which kernels are tried, and what is expected of each: known differences have names here.

Nothing is left out in silence. Where a kernel cannot do what others can, its line says so, and the
test holds it to that exactly: when it does better, the line is to be changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deetune_otel.kernel.features import Rung

__all__ = ["HERE", "KERNELS", "Tried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A kernel, how it is observed, and what it is known for."""

    series: str  # how its release begins
    suite: str  # of Debian; "": the machine's own
    rung: Rung
    # It cannot be observed; what the agent says of it (a regular expression).
    refused: str = ""
    # A read that was waiting when the agent came is not seen: fexit programs run where the function
    # was entered through them. So the first request on an older connection is missed at an end that
    # was waiting for it, and the ledger has its answer as `midstream`, or `unanswered`.
    misses_waiting_reads: bool = False
    # sendfile goes another way than the functions that are watched. What is sent so is in no
    # response, and a response that nothing follows ends with the connection.
    misses_sendfile: bool = False
    # The kernel may preempt a program, and then does not run it for another task on that processor:
    # it takes this for a recursion, and counts it as such. Each such run may cost two exchanges, the
    # message's own and the one that it is taken for.
    misses_runs: bool = False

    @property
    def name(self) -> str:
        return f"{self.series}-{self.suite}"


KERNELS: Final = (
    Tried(
        series="5.10",
        suite="bullseye-security",
        rung=Rung.FEXIT,
        refused="does not take the programs",
    ),
    Tried(
        series="6.1",
        suite="bookworm",
        rung=Rung.FEXIT,
        misses_waiting_reads=True,
        misses_sendfile=True,
    ),
    Tried(series="6.12", suite="bookworm-backports", rung=Rung.SOCKET_TRACEPOINTS),
    Tried(series="6.12", suite="trixie", rung=Rung.SOCKET_TRACEPOINTS),
    Tried(
        series="7",
        suite="trixie-backports",
        rung=Rung.SOCKET_TRACEPOINTS,
        misses_runs=True,
    ),
)
HERE: Final = Tried(series="", suite="", rung=Rung.SOCKET_TRACEPOINTS)
