# SPDX-License-Identifier: Apache-2.0
"""The ways in, best first, and what each program is there for.

The programs of a part run together or not at all: half of one would count wrong. A part that is
essential is one without which the numbers would be wrong, or there would be none; what is lost
without each of the others stands beside it. Every program of the object is in exactly one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PARTS", "Part", "Rung", "parts_of"]


class Rung(IntEnum):
    """How bytes are seen; a lower number is better."""

    SOCKET_TRACEPOINTS = 1
    FEXIT = 2

    @property
    def description(self) -> str:
        return _RUNGS[self]


_RUNGS: Final = {
    Rung.SOCKET_TRACEPOINTS: "socket tracepoints (sock_send_length, sock_recv_length)",
    Rung.FEXIT: "fexit programs on the socket operations (inet_sendmsg, inet_recvmsg, ...)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Programs that do one thing, and what is lost without them, in sentences."""

    programs: tuple[str, ...]
    lost: str
    essential: bool = False
    rung: Rung | None = None  # None: of every rung


PARTS: Final = (
    Part(
        programs=("dt_sock_recv", "dt_sock_send"),
        lost="Nothing is seen: that is where bytes pass.",
        essential=True,
        rung=Rung.SOCKET_TRACEPOINTS,
    ),
    Part(
        programs=("dt_inet_send", "dt_inet_recv"),
        lost="Nothing is seen: that is where bytes pass.",
        essential=True,
        rung=Rung.FEXIT,
    ),
    Part(
        programs=("dt_inet6_send", "dt_inet6_recv"),
        lost="Calls on IPv6 sockets are not seen, those included that serve IPv4 too; their bytes "
        "are blind bytes.",
        rung=Rung.FEXIT,
    ),
    Part(
        programs=("dt_unix_send", "dt_unix_recv"),
        lost="Calls over Unix stream sockets are not seen.",
        rung=Rung.FEXIT,
    ),
    Part(
        programs=("dt_unix_packet_send", "dt_unix_packet_recv"),
        lost="Calls over Unix sockets that keep messages apart (SOCK_SEQPACKET) are not seen.",
        rung=Rung.FEXIT,
    ),
    Part(
        programs=("dt_tcp_state", "dt_tcp_connect", "dt_tcp_destroy"),
        lost="Nobody would tell who called whom, and when a connection ends: counts would be wrong.",
        essential=True,
    ),
    Part(
        # Also what learns whose the agent's own traffic is, and its pid namespace.
        programs=("dt_iter_listeners",),
        lost="Servers could not be told from clients where a connection is older than the agent, "
        "nor the agent from what it observes: counts would be wrong.",
        essential=True,
    ),
    Part(
        programs=("dt_iter_sockets",),
        lost="Connections that are older than the agent are seen from their next byte on, not "
        "before; those on which nobody speaks have no owner.",
    ),
    Part(
        programs=("dt_task_switch",),
        lost="Which request a program was answering when it made a call is not known by its "
        "threads, but by a trace header alone.",
    ),
    Part(
        programs=("dt_read_open",),
        lost="What is open on live connections is not known: the ledger differs by it.",
    ),
    Part(
        programs=("dt_read_traffic",),
        lost="Bytes, RTT and retransmits of a connection are known when it ends, not before; one "
        "whose end no program saw stays open.",
    ),
    Part(
        programs=("dt_sweep",),
        lost="The end of Unix and MPTCP connections is not seen, nor are DNS look-ups that nobody "
        "answers; what there is no room for any more is in the ledger.",
    ),
)


def parts_of(rung: Rung) -> Iterator[Part]:
    """Essential ones first: they decide."""
    of_it = [part for part in PARTS if part.rung in (None, rung)]
    yield from sorted(of_it, key=lambda part: not part.essential)
