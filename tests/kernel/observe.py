# SPDX-License-Identifier: Apache-2.0
"""What the kernel side counted of some processes, against what they really did.

Whatever else runs on the machine is observed too, so series are always those of given
processes; the ledger is the whole machine's, and has to balance as such.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.process import wait_until

from deetune_otel.kernel import Kernel, KernelSettings
from deetune_otel.model import (
    NO_TRAFFIC,
    BlindBytes,
    Edge,
    End,
    Exchange,
    LedgerLine,
    OperationSample,
    Protocol,
    Role,
    SeriesKey,
    SeriesValue,
    Traffic,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deetune_otel.kernel.records import Record

__all__ = [
    "BUSY_DEADLINE_S",
    "COMPLETE",
    "Bytes",
    "Call",
    "Calls",
    "Watch",
    "http",
    "settings",
    "unknown",
]

COMPLETE: Final = End.COMPLETE
DEADLINE_S: Final = 5
BUSY_DEADLINE_S: Final = 40  # while others load the machine; below a test's time limit


class Call(NamedTuple):
    """Which exchanges are counted together here."""

    role: Role
    protocol: Protocol
    outcome: int = 0
    end: End = End.COMPLETE


class Calls(NamedTuple):
    """Their number and their bytes."""

    number: int
    request: int
    response: int
    request_body: int = 0
    response_body: int = 0


class Bytes(NamedTuple):
    """Of all exchanges of a process."""

    request: int
    response: int


def settings(**changes: object) -> KernelSettings:
    """Of a kernel side under test; DEETUNE_TEST_OBJECT names other programs to test."""
    other = os.environ.get("DEETUNE_TEST_OBJECT")
    if other:
        changes["object_path"] = Path(other)
    return KernelSettings(**changes)  # type: ignore[arg-type]  # names are checked there


def http(role: Role, outcome: int = 200, end: End = End.COMPLETE) -> Call:
    return Call(role, Protocol.HTTP, outcome, end)


def unknown(role: Role, end: End = End.COMPLETE) -> Call:
    return Call(role, Protocol.UNKNOWN, 0, end)


class Watch:
    """A kernel side, and what it counts from now on."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel: Final = kernel
        self._ledger = kernel.read_ledger()
        self._owners = frozenset(kernel.read_owners())
        self._records: list[Record] = []

    def owners(self, pids: Collection[int]) -> set[int]:
        return {
            owner.id
            for owner in self.kernel.read_owners().values()
            if owner.local_pid in pids
        }

    def children(self, parent: int, comm: str) -> set[int]:
        """The processes of this name that this one started and the watch has seen come."""
        return {
            owner.local_pid
            for owner in self.kernel.read_owners().values()
            if (owner.parent_pid, owner.comm) == (parent, comm)
            and owner.id not in self._owners
        }

    def edges(self, *pids: int) -> list[Edge]:
        owners = self.owners(pids)
        edges = self.kernel.read_edges().values()
        return [edge for edge in edges if edge.owner_id in owners]

    def series(self, *pids: int) -> list[tuple[Edge, SeriesKey, SeriesValue]]:
        """Each with its edge; every histogram is checked to hold each exchange once."""
        found = self.kernel.read_series()
        edges = {edge.id: edge for edge in self.edges(*pids)}
        rows = [
            (edges[key.edge_id], key, value)
            for key, value in found.items()
            if key.edge_id in edges
        ]
        for _, key, value in rows:
            assert sum(value.duration_buckets) == value.count, key
            for buckets in (value.request_body_buckets, value.response_body_buckets):
                assert sum(buckets) == value.count, key
                assert min(buckets) >= 0, key
            assert value.first_byte_sum_ns <= value.duration_sum_ns, key
        return rows

    def calls(self, *pids: int) -> dict[Call, Calls]:
        """Of these processes, over all edges and operations."""
        sums: dict[Call, Counter[str]] = {}
        for edge, key, value in self.series(*pids):
            call = Call(edge.role, key.protocol, key.outcome, key.end)
            sums.setdefault(call, Counter()).update(
                number=value.count,
                request=value.request_bytes,
                response=value.response_bytes,
                request_body=value.request_body_bytes,
                response_body=value.response_body_bytes,
            )
        return {call: Calls(**sums[call]) for call in sorted(sums)}

    def traffic(self, *pids: int) -> list[tuple[Edge, Traffic]]:
        """Of these processes' edges, with bytes or connections."""
        found = self.kernel.read_traffic()
        return [
            (edge, found[edge.id])
            for edge in sorted(self.edges(*pids))
            if found.get(edge.id, NO_TRAFFIC) != NO_TRAFFIC
        ]

    def count(self, call: Call, *pids: int) -> int:
        found = self.calls(*pids).get(call)
        return found.number if found else 0

    def operations(self, *pids: int) -> Counter[bytes]:
        """Exchanges by the first two words of the head that named their operation."""
        names = {
            (sample.protocol, sample.signature): b" ".join(
                sample.request_head.split()[:2]
            )
            for sample in self.records()
            if isinstance(sample, OperationSample)
        }
        counts: Counter[bytes] = Counter()
        for _, key, value in self.series(*pids):
            counts[names.get((key.protocol, key.signature), b"?")] += value.count
        return counts

    def expect(self, pids: int | Collection[int], calls: Mapping[Call, Calls]) -> None:
        """These and no others are counted of these processes, within the deadline."""
        numbers = {pids} if isinstance(pids, int) else set(pids)
        wanted = dict(sorted(calls.items()))
        last: dict[Call, Calls] = {}

        def equal() -> bool:
            nonlocal last
            last = self.calls(*numbers)
            return last == wanted

        try:
            wait_until(equal, "the expected calls", timeout_s=DEADLINE_S, every_s=0.01)
        except AssertionError:
            assert last == wanted  # shows what differs
            raise

    def expect_both(
        self, client: int, server: int, calls: Mapping[tuple[Protocol, int], Calls]
    ) -> None:
        """The same complete calls at both ends."""
        for pid, role in ((client, Role.CLIENT), (server, Role.SERVER)):
            self.expect(
                pid,
                {
                    Call(role, protocol, outcome): totals
                    for (protocol, outcome), totals in calls.items()
                },
            )

    def bytes(self, *pids: int) -> Bytes:
        rows = self.calls(*pids).values()
        return Bytes(
            sum(row.request for row in rows), sum(row.response for row in rows)
        )

    def lost(self, line: str) -> LedgerLine:
        """What went to this line of the ledger since the watch began."""
        now = self.kernel.read_ledger().lost[line]
        return _less(now, self._ledger.lost[line])

    def noted(self, line: str) -> LedgerLine:
        now = self.kernel.read_ledger().noted[line]
        return _less(now, self._ledger.noted[line])

    def records(self) -> list[Record]:
        """All that came through the ring and no watch before this one has read."""
        while found := self.kernel.poll(0):
            self._records += found
        return self._records

    def exchanges(self, *pids: int) -> list[Exchange]:
        owners = self.owners(pids)
        return [
            record
            for record in self.records()
            if isinstance(record, Exchange) and record.owner_id in owners
        ]

    def blind(self, *pids: int) -> list[BlindBytes]:
        owners = self.owners(pids)
        return [
            record
            for record in self.records()
            if isinstance(record, BlindBytes) and record.owner_id in owners
        ]

    def wait_for_balance(self) -> None:
        """Everything that the doors saw is somewhere.

        A reading is judged when nothing was seen meanwhile: others on the machine may have
        traffic, for whose pauses this waits.
        """
        began = time.monotonic()
        while True:
            before = self.kernel.read_ledger().seen
            last = self.kernel.read_ledger()
            if last.difference == (0, 0):
                return
            waited = time.monotonic() - began
            quiet = self.kernel.read_ledger().seen == before
            if waited > (DEADLINE_S if quiet else BUSY_DEADLINE_S):
                break
            time.sleep(0.02)
        assert last.difference == (0, 0), last


def _less(now: LedgerLine, then: LedgerLine) -> LedgerLine:
    return LedgerLine(now.exchanges - then.exchanges, now.bytes - then.bytes)
