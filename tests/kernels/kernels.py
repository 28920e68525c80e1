# SPDX-License-Identifier: Apache-2.0
"""Which kernels are tried, and what is expected of each: known differences have names here.

Nothing is left out in silence. Where a kernel cannot do what others can, its line says so, and the
test holds it to that exactly: when it does better, the line is to be changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FEXIT", "HERE", "KERNELS", "TRACEPOINTS", "Tried"]

# Hooks, by the programs that only they have.
TRACEPOINTS: Final = frozenset({"dt_sock_recv", "dt_sock_send"})
FEXIT: Final = frozenset(
    f"dt_{family}_{way}"
    for family in ("inet", "inet6", "unix", "unix_packet")
    for way in ("recv", "send")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A kernel, how it is observed, and what it is known for."""

    series: str  # how its release begins
    suite: str  # of Debian; "": the machine's own
    hooks: frozenset[str] = TRACEPOINTS
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
    # it takes this for a recursion, and counts it as such. What is counted of a connection can be
    # wrong by more than the message that was missed, so each such run excuses one end of one step.
    misses_runs: bool = False

    @property
    def name(self) -> str:
        return f"{self.series}-{self.suite}"


KERNELS: Final = (
    Tried(
        series="5.10",
        suite="bullseye-security",
        refused="rung 1: dt_sock_recv cannot be loaded: this kernel's BTF has no tracepoint "
        "sock_recv_length\n  rung 2: dt_inet_send cannot be loaded: ",
    ),
    Tried(
        series="6.1",
        suite="bookworm",
        hooks=FEXIT,
        misses_waiting_reads=True,
        misses_sendfile=True,
    ),
    Tried(series="6.12", suite="bookworm-backports"),
    Tried(series="6.12", suite="trixie"),
    Tried(series="7", suite="trixie-backports", misses_runs=True),
)
HERE: Final = Tried(series="", suite="")
