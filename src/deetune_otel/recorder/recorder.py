# SPDX-License-Identifier: Apache-2.0
"""A recording under way: pieces → exchanges → selection, sampling, bounds, redaction → a file.

Whoever runs it calls `step` every few hundredths of a second until it says why it ended, and then
`finish`. Nothing is written before it is redacted, and no exchange is without a line in the
manifest.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from typing import Protocol as Shape

from deetune_otel.kernel.recording import RecordedPiece, RecordingCounts
from deetune_otel.model import Cause, Owner, Protocol, Service, Wire
from deetune_otel.recorder.families import REPLAY, SAMPLED, Families
from deetune_otel.recorder.pieces import Conversations, People
from deetune_otel.recording.codecs import CODECS, RAW
from deetune_otel.recording.model import HttpRequest, Manifest, RecordedExchange
from deetune_otel.recording.selection import Sampling, Selection
from deetune_otel.redaction.redactor import Redactor

__all__ = ["Bounds", "Ended", "Plan", "Progress", "Recorder", "is_replay"]

# What a replay puts into its requests: nobody wants them in the next recording.
REPLAY_HEADER: Final = "deetune-replay"
# Between two readings of the kernel's counts; new processes are decided about as often.
READING_S: Final = 1.0
# Bounds, signals and the live line wait no longer than that, however much comes.
LONGEST_STEP_S: Final = 0.1
# What a full ring still holds at the end; what is not read by then is counted as lost.
LAST_STEP_S: Final = 10.0
DISORDER_NS: Final = 50_000_000
# A kill costs at most what came in this time.
FLUSH_S: Final = 1.0
# Between two looks at the disk.
DISK_S: Final = 2.0


class Ended:
    """Why a recording ended: the words of the manifest."""

    TIME: Final = "time"
    BYTES: Final = "bytes"
    EXCHANGES: Final = "exchanges"
    DISK: Final = "disk"
    INTERRUPTED: Final = "interrupted"
    FULL: Final = (BYTES, EXCHANGES, DISK)  # what comes after these is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where a recording ends by itself; every one of them always holds."""

    seconds: float = 60.0
    bytes: int = 1 << 30  # of all files together
    exchanges: int = 10_000_000
    per_second: int = 20_000  # exchanges; what comes above it is left out and counted
    free_bytes: int = 512 << 20  # that the disk keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is recorded, of what was asked to be recorded."""

    chooses: Callable[[Owner, Service], bool]
    selection: Selection = field(default_factory=Selection)
    sampling: Sampling = field(default_factory=Sampling)
    bounds: Bounds = field(default_factory=Bounds)
    body_limit: int = 64 << 10
    with_raw: bool = False
    with_replays: bool = False
    says: str = "everything"


class Sink(Shape):
    """Where exchanges go: `archive.writer.RecordingWriter`, or a flight recorder's memory."""

    @property
    def bytes(self) -> int: ...
    def write(self, exchange: RecordedExchange) -> None: ...
    def flush(self) -> None: ...


class Kernel(Shape):
    """What is asked of `kernel.recording.KernelRecording`."""

    def choose(self, owner_id: int, *, is_chosen: bool) -> None: ...
    def poll(self) -> list[RecordedPiece]: ...
    def read_counts(self) -> RecordingCounts: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Everybody(People, Shape):
    """Who is there: `agent.process_registry.ProcessRegistry`."""

    def owners(self) -> list[Owner]: ...
    def refresh(self) -> None: ...
    def service_of(self, owner: Owner) -> Service: ...


# Exchanges that the kernel counted, by owner id and protocol.
ByProtocol = Mapping[tuple[int, Protocol], int]


class Progress(NamedTuple):
    """For a live line."""

    seconds: float
    captured: int
    left_out: int
    bytes: int
    lost_pieces: int


class _Reading(NamedTuple):
    at_ns: int
    counts: RecordingCounts


class Recorder:
    """One recording. `step` and `finish` belong to one thread."""

    def __init__(  # noqa: PLR0913 -- what it stands between
        self,
        plan: Plan,
        *,
        kernel: Kernel,
        people: Everybody,
        read_cause: Callable[[Wire], Cause | None],
        polls: Callable[[int], bool],
        read_protocols: Callable[[], ByProtocol],
        redactor: Redactor | None,
        sink: Sink,
        free_bytes: Callable[[], int],
        sees_all: bool = False,
    ) -> None:
        """`redactor` None: nothing is redacted, and the manifest says so. `polls`: whether an
        owner's threads wait for several things at once. `sees_all`: the kernel leaves nothing out
        of what chosen processes answer and ask.
        """
        self._plan = plan
        self._kernel = kernel
        self._people = people
        self._read_protocols = read_protocols
        self._protocols_before = read_protocols()
        self._redactor = redactor
        self._sink = sink
        self._free_bytes = free_bytes
        self._conversations = Conversations(
            codecs=CODECS,
            raw=RAW if plan.with_raw else None,
            people=people,
            read_cause=read_cause,
            polls=polls,
            clock_offset_ns=time.time_ns() - time.monotonic_ns(),
            body_limit=plan.body_limit,
            sees_all=sees_all,
        )
        self._families = Families(self._why_not, sees_calls=sees_all)
        self._chosen: dict[int, tuple[Owner, bool]] = {}
        self._filtered: Counter[str] = Counter()
        self._captured = self._sampled_out = self._over_bound = 0
        self._incomplete = 0
        self._missing_bytes: Counter[str] = Counter()
        self._not_written = 0
        self._open_before = self._missed = self._uncounted = 0
        self._ring_full = self._unreadable = 0
        self._second = 0.0
        self._in_second = 0
        self._began_s = time.monotonic()
        self._began_unix_ns = time.time_ns()
        self._read_at_s = self._flushed_at_s = self._looked_at_s = self._began_s
        self._ended = ""
        self._reading: _Reading | None = (
            None  # pieces of its time are still in the ring
        )
        self._fed_until_ns = 0  # of the kernel's clock
        self._decide()

    @property
    def progress(self) -> Progress:
        return Progress(
            time.monotonic() - self._began_s,
            self._captured,
            sum(self._filtered.values()) + self._sampled_out + self._over_bound,
            self._sink.bytes,
            self._ring_full,
        )

    @property
    def services(self) -> dict[str, bool]:
        """By name, whether a process of it is chosen; of those that are seen now."""
        found: dict[str, bool] = {}
        for owner, is_chosen in self._chosen.values():
            name = self._people.service_of(owner).name
            found[name] = found.get(name, False) or is_chosen
        return found

    @property
    def filtered(self) -> dict[str, int]:
        """Exchanges that were not chosen, by the condition that did not hold."""
        return dict(self._filtered)

    def step(self) -> str:
        """Takes what is there; why the recording has ended, "" while it goes on."""
        now_s = time.monotonic()
        if self._reading is None and now_s - self._read_at_s >= READING_S:
            self._read_at_s = now_s
            self._decide()
            self._reading = self._read()
        self._drain(until_s=now_s + LONGEST_STEP_S)
        if self._reading is not None and self._fed_until_ns > self._reading.at_ns:
            self._count(self._reading.counts)
            self._reading = None
        self._pass_on(self._families.due(time.monotonic_ns()))
        if not self._ended:
            self._mind_bounds(now_s)
        return self._ended

    def finish(self, because: str = Ended.INTERRUPTED) -> Manifest:
        """Stops, takes the rest, and gives the account; the kernel's ring is given back."""
        if not self._ended:
            self._ended = because
        self._kernel.stop()
        try:
            earlier, last = self._reading, self._read()
            self._drain(until_s=time.monotonic() + LAST_STEP_S)
            if earlier is not None:
                self._count(earlier.counts)
            self._count(last.counts)
            self._conversations.end()
            self._pass_on(self._families.due(time.monotonic_ns(), is_end=True))
        finally:
            self._kernel.close()
        self._flush()
        return self._manifest()

    def _decide(self) -> None:
        for owner in self._people.owners():
            known = self._chosen.get(owner.id)
            is_chosen = self._plan.chooses(owner, self._people.service_of(owner))
            if known != (owner, is_chosen):
                self._chosen[owner.id] = owner, is_chosen
                self._kernel.choose(owner.id, is_chosen=is_chosen)

    def _is_chosen(self, owner_id: int) -> bool:
        known = self._chosen.get(owner_id)
        if known is None:
            self._people.refresh()
            self._decide()
            known = self._chosen.get(owner_id)
        return known is not None and known[1]

    def _drain(self, *, until_s: float) -> None:
        """Feeds what is there; under a load without end, what comes until then."""
        while pieces := self._kernel.poll():
            for piece in pieces:
                if self._is_chosen(piece.owner_id):
                    self._take(self._conversations.feed(piece))
            if time.monotonic() >= until_s:
                # Pieces of another CPU may be behind this one, by less than that.
                self._fed_until_ns = pieces[-1].piece.at_ns - DISORDER_NS
                return
        self._fed_until_ns = time.monotonic_ns()

    def _read(self) -> _Reading:
        """To be counted when all pieces that came before it are fed."""
        at_ns = time.monotonic_ns()
        counts = self._kernel.read_counts()
        if counts.ring_full.exchanges > self._ring_full:
            self._families.doubt(at_ns)
        self._ring_full = counts.ring_full.exchanges
        return _Reading(at_ns, counts)

    def _count(self, counts: RecordingCounts) -> None:
        self._open_before = counts.open_before
        self._missed = counts.missed
        self._uncounted = counts.overflow
        self._take(
            self._conversations.count(counts.connections, is_chosen=self._is_chosen)
        )

    def _take(self, exchanges: Iterable[RecordedExchange]) -> None:
        now_ns = time.monotonic_ns()
        for exchange in exchanges:
            self._pass_on(self._families.take(exchange, now_ns))

    def _why_not(self, exchange: RecordedExchange) -> str | None:
        why_not = self._plan.selection.why_not(exchange)
        if why_not is None and not self._plan.with_replays and is_replay(exchange):
            return REPLAY
        if why_not is None and not self._plan.sampling.keeps(exchange):
            return SAMPLED
        return why_not

    def _pass_on(
        self, exchanges: Iterable[tuple[RecordedExchange, str | None]]
    ) -> None:
        for exchange, why_not in exchanges:
            if why_not == SAMPLED:
                self._sampled_out += 1
            elif why_not is not None:
                self._filtered[why_not] += 1
            elif self._ended in Ended.FULL or self._is_over_rate():
                self._over_bound += 1
            else:
                self._write(exchange)

    def _write(self, exchange: RecordedExchange) -> None:
        if self._redactor is not None:
            exchange = self._redactor.redact(exchange)
        try:
            self._sink.write(exchange)
        except OSError as error:
            self._disk_failed(error)
            self._not_written += 1
            return
        self._captured += 1
        self._incomplete += bool(exchange.incomplete)
        for message in (exchange.request, exchange.response):
            for gap in message.missing if message is not None else ():
                self._missing_bytes[gap.because] += gap.bytes
        if self._captured >= self._plan.bounds.exchanges:
            self._ended = Ended.EXCHANGES

    def _is_over_rate(self) -> bool:
        second = time.monotonic() // 1
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return self._in_second > self._plan.bounds.per_second

    def _mind_bounds(self, now_s: float) -> None:
        bounds = self._plan.bounds
        if now_s - self._flushed_at_s >= FLUSH_S:
            self._flushed_at_s = now_s
            self._flush()
        if now_s - self._looked_at_s >= DISK_S:
            self._looked_at_s = now_s
            if self._free_bytes() < bounds.free_bytes:
                self._ended = Ended.DISK
        if now_s - self._began_s >= bounds.seconds:
            self._ended = Ended.TIME
        elif self._sink.bytes >= bounds.bytes:
            self._ended = Ended.BYTES

    def _flush(self) -> None:
        try:
            self._sink.flush()
        except OSError as error:
            self._disk_failed(error)

    def _disk_failed(self, error: OSError) -> None:
        """What a flush could not write is in the ledger: the sink says how much it holds."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise error
        self._ended = Ended.DISK

    def _manifest(self) -> Manifest:
        tally = self._conversations.tally()
        flushed = getattr(self._sink, "flushed", self._captured)
        not_written = self._not_written + self._captured - flushed
        seen = tally.seen + self._open_before + self._missed
        lost = {
            "ring_full" if self._ring_full else "not_copied": tally.seen
            - tally.given
            - tally.unfinished,
            "never_idle": self._missed,
            "disk": not_written,
        }
        redactor = self._redactor
        return Manifest(
            selection=self._plan.says,
            started_ns=self._began_unix_ns,
            ended_ns=time.time_ns(),
            ended_because=self._ended,
            seen=seen,
            captured=flushed,
            filtered=sum(self._filtered.values()),
            sampled_out=self._sampled_out,
            over_bound=self._over_bound,
            unfinished=tally.unfinished + self._open_before,
            lost={cause: count for cause, count in lost.items() if count},
            incomplete=self._incomplete,
            missing_bytes={str(k): v for k, v in self._missing_bytes.items()},
            redactions=redactor.counts if redactor else {},
            dropped_bodies=redactor.dropped_bodies if redactor else 0,
            is_redacted=redactor is not None,
            other_protocols=self._other_protocols(),
        )

    def _other_protocols(self) -> dict[str, int]:
        recorded = self._plan.selection.protocols or frozenset(CODECS)
        found: Counter[str] = Counter()
        for (owner_id, protocol), count in self._read_protocols().items():
            is_raw = protocol is Protocol.UNKNOWN and self._plan.with_raw
            if protocol in recorded or is_raw or not self._is_chosen(owner_id):
                continue
            before = self._protocols_before.get((owner_id, protocol), 0)
            found[protocol.value] += max(0, count - before)
        return {name: count for name, count in sorted(found.items()) if count}


def is_replay(exchange: RecordedExchange) -> bool:
    """Whether `deetune replay` sent it."""
    request = exchange.request
    return isinstance(request, HttpRequest) and any(
        name.lower() == REPLAY_HEADER for name, _ in request.headers
    )
