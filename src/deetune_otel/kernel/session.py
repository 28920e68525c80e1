# SPDX-License-Identifier: Apache-2.0
"""The agent's one connection to its kernel side: load, attach, read, detach.

The order of open() keeps every byte accounted for: sockets that listen are visited before the
doors open, so that the first chunk of a connection finds its role; connections older than the
agent are visited after, so that none slips through between. Nothing is pinned: when the
process ends, by kill -9 too, the kernel takes programs and maps away.

Threads: poll() belongs to one thread (a second one waits for the first); everything else may be
called from any thread. close() waits for calls under way, a poll() included.
"""

from __future__ import annotations

import logging
import mmap
import struct
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from deetune_otel.kernel.btf import Btf, BtfError
from deetune_otel.kernel.errors import KernelClosed, KernelUnavailable, RecordError
from deetune_otel.kernel.features import probe
from deetune_otel.kernel.libbpf import (
    BpfIterator,
    BpfMap,
    BpfObject,
    Libbpf,
    MapType,
    RingBuffer,
)
from deetune_otel.kernel.libbpf import Link as Attachment
from deetune_otel.kernel.libbpf import ProgramStatistics as ProgramCost
from deetune_otel.kernel.looking import Looking
from deetune_otel.kernel.recording import KernelRecording
from deetune_otel.kernel.records import Record, Records, Unproven
from deetune_otel.kernel.rungs import PARTS
from deetune_otel.kernel.trying import Doing, NothingTaken, Tried, refusable, take
from deetune_otel.model import (
    Cause,
    Edge,
    Exchange,
    Join,
    Ledger,
    LedgerLine,
    Link,
    Owner,
    Pair,
    SeriesKey,
    SeriesValue,
    Traffic,
    Transport,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from deetune_otel.kernel.recording import RecordingRules

__all__ = ["Kernel", "KernelSettings", "ProgramCost"]

_log = logging.getLogger(__name__)

_OBJECT: Final = Path(__file__).with_name("bpf") / "deetune.bpf.o"
_HINT_REBUILD: Final = (
    "Install one release of deetune-otel whole, or build the object again with "
    "script/build-bpf."
)
_HINT_REPORT: Final = "Please report this message with the kernel's version (uname -r)."
# A visit of the listening sockets, of the older connections; what is read out later.
_LISTENERS: Final = "dt_iter_listeners"
_SOCKETS: Final = "dt_iter_sockets"
_READ_OPEN: Final = "dt_read_open"
_READ_TRAFFIC: Final = "dt_read_traffic"
_SWEEP: Final = "dt_sweep"
_ASKED: Final = (_READ_OPEN, _READ_TRAFFIC, _SWEEP)
# Attached now and again, the others as long as the kernel side is open.
_SWITCH: Final = "dt_task_switch"
_ITERATORS: Final = (_LISTENERS, _SOCKETS)
# Map: type, struct of the key, struct of the value ("": neither).
_MAPS: Final = {
    "owners": (MapType.HASH, "dt_owner_key", "dt_owner"),
    "owner_limits": (MapType.ARRAY, "", "dt_owner_limit"),
    "owner_ids": (MapType.QUEUE, "", ""),
    "shares": (MapType.ARRAY, "", "dt_share"),
    "edges": (MapType.HASH, "dt_edge_key", "dt_edge"),
    "series": (MapType.HASH, "dt_series_key", "dt_series"),
    "traffic": (MapType.HASH, "", "dt_traffic"),
    "links": (MapType.LRU_HASH, "dt_pair", "dt_link"),
    "joins": (MapType.HASH, "dt_join", ""),
    "series_overflow": (MapType.ARRAY, "", "dt_series"),
    "ledger": (MapType.PERCPU_ARRAY, "", "dt_ledger"),
    "causes": (MapType.LRU_HASH, "dt_wire", "dt_cause"),
    "operations": (MapType.HASH, "dt_operation_key", ""),
    "operation_cache": (MapType.ARRAY, "", ""),
    "records": (MapType.RINGBUF, "", ""),
    "news": (MapType.RINGBUF, "", ""),
    "kept_segments": (MapType.HASH, "", ""),
    "recording": (MapType.ARRAY_OF_MAPS, "", ""),
    "recording_rules": (MapType.ARRAY, "", "dt_recording_rules"),
    "recorded": (MapType.HASH, "dt_recorded_key", "dt_recorded"),
    "recording_ledger": (MapType.PERCPU_ARRAY, "", "dt_ledger"),
}
_BPF_F_MMAPABLE: Final = 1 << 10
# Of map shares: which number of an owner's limits each is the sum of.
_SHARED: Final = {"edges": 0, "series": 1}
# Eight ports of a server's, then one for each role and transport.
_OVERFLOW_EDGES_PER_OWNER: Final = 16
# Records taken by one poll(): 0.3 MB of them, 3 ms to decode.
_RECORDS_PER_POLL: Final = 512
_U32: Final = struct.Struct("=I")
_U64: Final = struct.Struct("=Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """What the programs observe, and the sizes of their maps (entries, unless named bytes).

    The agent's own process is never observed: the first iterator notes whose it is.
    """

    object_path: Path = _OBJECT
    observe_unix: bool = True
    observe_own: bool = False
    observe_udp: bool = True
    netns: int = 0  # only this network namespace, by its inode number; 0: all
    slow_ns: int = 1_000_000_000  # from here an exchange is preferred for a span
    spans_per_second: int = 100  # of each owner that has no limit of its own
    # Segments of HTTP's paths that are no identifiers though they look like some, by their hash.
    kept_segments: tuple[int, ...] = ()
    operations_per_owner: int = 500
    edges_per_owner: int = 4096
    # The hashes grow as they fill: a high bound costs nothing before it is needed.
    max_owners: int = 4096
    # Of these two an owner may have a quarter of what is left, and overflow ones beside.
    max_edges: int = 1 << 15
    max_series: int = 1 << 16  # 0.4 KB each
    max_operations: int = 1 << 17  # of all owners
    max_connections: int = 1 << 16  # of either kind: by storage, and by cookie
    max_spilled: int = 1 << 16  # requests in flight beyond a connection's own slots
    ring_bytes: int = 4 << 20  # a power of two; 6000 exchanges

    @property
    def knobs(self) -> dict[str, int]:
        """The object's constants by name."""
        return {
            "dt_slow_ns": self.slow_ns,
            "dt_default_budget": self.spans_per_second,
            "dt_operation_cap": self.operations_per_owner,
            "dt_edge_cap_per_owner": self.edges_per_owner,
            "dt_max_edges": self.max_edges,
            "dt_max_series": self.max_series,
            "dt_observe_unix": int(self.observe_unix),
            "dt_observe_own": int(self.observe_own),
            "dt_observe_udp": int(self.observe_udp),
            "dt_only_netns": self.netns,
        }

    @property
    def map_sizes(self) -> dict[str, int]:
        """Entries (of the ring: bytes) by map."""
        edges = self.max_edges + _OVERFLOW_EDGES_PER_OWNER * (self.max_owners + 1)
        return {
            "owners": self.max_owners,
            "owner_ids": self.max_owners,
            "owner_limits": self.max_owners + 1,  # owner 0 is "other processes"
            "edges": edges,
            "traffic": edges,
            "joins": 2 * edges,
            "series": self.max_series + 2 * edges,
            "operations": self.max_operations,
            "kept_segments": max(1, len(self.kept_segments)),
            "live": self.max_connections,
            "hashed_conns": self.max_connections,
            "hashed_flights": self.max_connections,
            "spill": self.max_spilled,
            "records": self.ring_bytes,
        }


class Kernel:
    """The programs, loaded and attached."""

    tried: Tried  # what the kernel took, and what it refused

    def __init__(
        self,
        library: Libbpf,
        bpf: BpfObject,
        records: Records,
        programs: Collection[str],
        stack: ExitStack,
    ) -> None:
        """For open() alone; `stack` takes everything down, last things first."""
        self._library = library
        self._records = records
        self._programs = {  # in the object's order, in which they are attached
            name: one for name, one in bpf.programs.items() if name in programs
        }
        self._maps = bpf.maps
        self._stack = stack
        self._poll_lock = Lock()
        self._lock = Lock()
        self._closed = False
        self._undecodable = 0
        self._recording: KernelRecording | None = None
        self._unix_paths: dict[int, str] = {}
        self._doors = stack.enter_context(ExitStack())
        self._looking = Looking(self._programs.get(_SWITCH))
        self._doors.callback(self._looking.close)
        self._attachments: dict[str, Attachment] = {}
        self._limit_layout = records.layout("dt_owner_limit")
        self._limits = stack.enter_context(_mapped(bpf.maps["owner_limits"]))
        self._share_layout = records.layout("dt_share")
        self._shares = stack.enter_context(_mapped(bpf.maps["shares"]))
        self._operation_cache = stack.enter_context(
            _mapped(bpf.maps["operation_cache"])
        )
        self._ring = RingBuffer(library, bpf.maps["news"], bpf.maps["records"])
        stack.callback(self._ring.close)

    @classmethod
    def open(cls, settings: KernelSettings) -> Kernel:
        """Loads the programs, visits the sockets that are there, attaches.

        Nearly all of its time is the kernel's verification of the programs: some seconds.
        Raises KernelUnavailable, which says what to do; then nothing stays behind.
        """
        data, records = _read_object(settings.object_path)
        library = Libbpf()

        def open_object() -> BpfObject:
            bpf = library.open(data, "deetune")
            try:
                _check_parts(bpf, records)
                _configure(bpf, settings)
            except BaseException:
                bpf.close()
                raise
            return bpf

        def start(
            bpf: BpfObject, programs: Collection[str], stack: ExitStack
        ) -> Kernel:
            kernel = cls(library, bpf, records, programs, stack)
            kernel._start(settings)
            kernel._stack = stack.pop_all()
            return kernel

        try:
            kernel, tried = take(library, open_object, start)
        except LookupError as error:
            raise _mismatch(str(error.args[0])) from error
        except NothingTaken as error:
            raise _explained(error) from error
        except OSError as error:
            raise KernelUnavailable(
                f"The kernel does not take the programs: {error}", _HINT_REPORT
            ) from error
        kernel.tried = tried
        return kernel

    def poll(self, timeout_ms: int) -> list[Record]:
        """Up to 512 records of the ring; waits so long for the first, if there is none.

        A record that cannot be decoded is counted in the ledger as `undecodable`. Between calls
        the kernel side looks how programs wait, or stops to.
        """
        with self._poll_lock:
            if self._closed:
                raise KernelClosed
            raw = self._ring.drain(_RECORDS_PER_POLL, timeout_ms)
        now_s = time.monotonic()
        self._looking.tick(now_s)
        found: list[Record] = []
        for data in raw:
            try:
                record = self._records.record(data)
                if isinstance(record, Unproven):
                    self._looking.look(now_s)
                else:
                    found.append(record)
            except RecordError as error:
                self._undecodable += 1
                if self._undecodable == 1:
                    _log.warning("a record cannot be decoded: %s", error)
        return self._with_unix_paths(found)

    def read_series(self) -> dict[SeriesKey, SeriesValue]:
        """All counts since the programs were loaded; for what had no memory, edge_id is 0.

        Ends the Unix connections that are gone first, and the DNS look-ups that nobody
        answered: nothing else tells of their end. A bucket of empty bodies can be one too small
        while its exchange is being added.
        """
        with self._open_maps() as maps:
            self._ask(_SWEEP)
            series: dict[SeriesKey, SeriesValue] = {}
            for keys, values in maps["series"].batches():
                series.update(self._records.series(keys, values))
            overflow = maps["series_overflow"]
            for index in range(overflow.max_entries):
                value = overflow.lookup(_U32.pack(index))
                one = value and self._records.series_overflow(index, value)
                if one:
                    series[one[0]] = one[1]
            return series

    def read_edges(self) -> dict[int, Edge]:
        """By id."""
        with self._open_maps() as maps:
            key_size, value_size = maps["edges"].key_size, maps["edges"].value_size
            edges = [
                self._records.edge(key, value)
                for keys, values in maps["edges"].batches()
                for key, value in _pairs(keys, values, key_size, value_size)
            ]
        self._unix_paths = {
            edge.id: edge.peer_address
            for edge in edges
            if edge.transport is Transport.UNIX
        }
        return {edge.id: edge for edge in edges}

    def read_owners(self) -> dict[int, Owner]:
        """By id, ended processes too until they are forgotten."""
        with self._open_maps() as maps:
            key_size, value_size = maps["owners"].key_size, maps["owners"].value_size
            owners = [
                self._records.owner(key, value)
                for keys, values in maps["owners"].batches()
                for key, value in _pairs(keys, values, key_size, value_size)
            ]
        return {owner.id: owner for owner in owners}

    def read_traffic(self) -> dict[int, Traffic]:
        """By edge id; asks every live connection first what it carried (0.8 µs each).

        Connections that ended while no program was run for it are taken off the list, and
        counted in the ledger as `unseen_ends`.
        """
        with self._open_maps() as maps:
            self._ask(_READ_TRAFFIC)
            return {
                edge_id: traffic
                for keys, values in maps["traffic"].batches()
                for edge_id, traffic in self._records.traffic(keys, values)
            }

    def read_joins(self) -> list[Join]:
        """All since the programs were loaded, but of edges that were forgotten."""
        with self._open_maps() as maps:
            return [
                join
                for keys, values in maps["joins"].batches()
                for join in self._records.joins(keys, values)
            ]

    def read_links(self) -> list[Link]:
        """The last connections (32,768 at most), in no order."""
        with self._open_maps() as maps:
            return [
                link
                for keys, values in maps["links"].batches()
                for link in self._records.links(keys, values)
            ]

    def read_link(self, pair: Pair) -> Link | None:
        """One of them; None when it is not, or no longer, among them."""
        key = self._records.pair(pair)
        with self._open_maps() as maps:
            value = maps["links"].lookup(key)
        return None if value is None else next(self._records.links(key, value))

    def own_idle(self) -> None:
        """Finds whose the connections are on which nobody has spoken yet, by descriptor.

        Looks at every descriptor of every process: some 0.1 µs each.
        """
        with self._open_maps():
            if self._sockets is not None:
                self._sockets.run()

    def read_ledger(self) -> Ledger:
        """What the doors saw and where it went.

        Read while traffic flows it is off by what happened meanwhile: the kernel's counters are
        read one after another.
        """
        lines = self._records.ledger_lines
        first_lost, end = lines["DT_LOST_FIRST"], lines["DT_LEDGER_LINES"]
        with self._open_maps() as maps:
            counts = {
                index: self._records.ledger_line(maps["ledger"].lookup(key) or b"")
                for index, key in ((i, _U32.pack(i)) for i in lines.values() if i < end)
            }
            size = maps["ledger"].value_size
            is_open = self._records.ledger_line(self._ask(_READ_OPEN, size))
            not_run = sum(
                program.statistics().recursion_misses
                for program in self._programs.values()
            )
        seen, counted = lines["DT_SEEN"], lines["DT_COUNTED"]
        lost, noted = {}, {}
        for name, index in lines.items():
            if index in (seen, counted, end) or name == "DT_LOST_FIRST":
                continue
            if index >= first_lost:
                lost[name.removeprefix("DT_LOST_").lower()] = counts[index]
            else:
                noted[name.removeprefix("DT_").lower()] = counts[index]
        noted["undecodable"] = LedgerLine(self._undecodable, 0)
        noted["not_run"] = LedgerLine(not_run, 0)
        return Ledger(
            seen=counts[seen],
            counted=counts[counted],
            open=is_open,
            lost=lost,
            noted=noted,
        )

    def read_cause(self, wire: Wire) -> Cause | None:
        """Why a client request was made; None when not known, or too long ago."""
        with self._open_maps() as maps:
            value = maps["causes"].lookup(self._records.wire(wire))
        return None if value is None else self._records.cause(value)

    def set_span_limit(
        self, owner_id: int, *, per_second: int, keep_fraction: float
    ) -> None:
        """At most so many spans a second, of this share of exchanges, chosen by hash.

        per_second 0 stands for the settings' number.
        """
        if not 0 <= keep_fraction <= 1 or not 0 <= per_second < 1 << 32:
            raise ValueError(f"no limit: {per_second} a second of {keep_fraction}")
        dropped = min(round((1 - keep_fraction) * (1 << 32)), (1 << 32) - 1)
        self._set_limits(owner_id, budget=per_second, drop_below=dropped)

    def is_understood(self, owner_id: int) -> bool:
        """Whether it is known how its threads wait while they have a request in hand."""
        return bool(self._trust(owner_id))

    def polls(self, owner_id: int) -> bool:
        """Whether a thread of it that reads requests waits for several things at once."""
        return bool(self._trust(owner_id) & self._records.trust["DT_TRUST_POLLS"])

    def record(self, rules: RecordingRules) -> KernelRecording:
        """Begins to copy the chosen connections' bytes. One at a time: RuntimeError."""
        if self._recording is not None and not self._recording.is_closed:
            raise RuntimeError("a recording is under way")
        with self._open_maps() as maps:
            owners = maps["owner_limits"].max_entries
        for owner_id in range(owners):
            self._set_limits(owner_id, recorded=0)
        self._recording = KernelRecording(
            self._library,
            self._records,
            self._open_maps,
            lambda owner_id, value: self._set_limits(owner_id, recorded=value),
            rules,
        )
        return self._recording

    def forget_owner(self, owner_id: int) -> dict[SeriesKey, SeriesValue]:
        """The last values of an ended process, which are then gone from the maps."""
        return self.forget_owners({owner_id})

    def forget_owners(self, owner_ids: Collection[int]) -> dict[SeriesKey, SeriesValue]:
        """The same for several at the cost of one: all keys are read through once."""
        with self._open_maps() as maps:
            edges = self._edges_of(maps["edges"], owner_ids)
            last = dict(self._take_series(maps["series"], set(edges)))
            for edge_id, key in edges.items():
                maps["edges"].delete(key)
                maps["traffic"].delete(_U32.pack(edge_id))
                self._unix_paths.pop(edge_id, None)
            self._delete_joins(maps["joins"], edges.keys())
            self._delete_operations(maps["operations"], owner_ids)
            size = self._limit_layout.size
            for owner_id in self._delete_owners(maps["owners"], owner_ids):
                if not owner_id:  # "other processes": nobody's number
                    continue
                self._give_back_shares(owner_id)
                self._limits[owner_id * size : (owner_id + 1) * size] = bytes(size)
                maps["owner_ids"].push(_U32.pack(owner_id))
        return last

    def cost(self) -> dict[str, ProgramCost]:
        """By program; runs and time are counted while measuring_cost(), or the sysctl is on."""
        with self._open_maps():
            return {
                name: program.statistics() for name, program in self._programs.items()
            }

    @contextmanager
    def measuring_cost(self) -> Iterator[None]:
        """The kernel counts runs and time of all BPF programs meanwhile (about 20 ns a run).

        Raises OSError without CAP_SYS_ADMIN.
        """
        with self._library.run_time_statistics():
            yield

    def detach(self) -> None:
        """Nothing is observed any more; what was counted can still be read."""
        with self._open_maps():
            self._doors.close()

    def close(self) -> None:
        """Detaches and gives everything back; again does nothing."""
        if self._recording is not None and not self._closed:
            self._recording.close()
        with self._poll_lock, self._lock:
            if not self._closed:
                self._closed = True
                self._stack.close()

    def _start(self, settings: KernelSettings) -> None:
        for owner_id in range(1, settings.max_owners + 1):
            self._maps["owner_ids"].push(_U32.pack(owner_id))
        for segment in settings.kept_segments:
            self._maps["kept_segments"].update(_U64.pack(segment), _U32.pack(0))
        answer_bytes = {_READ_OPEN: self._maps["ledger"].value_size}
        for name in _ASKED:  # nothing is there yet: whether they may be asked at all
            with refusable(name, Doing.RUN):
                self._ask(name, answer_bytes.get(name, 0))
        self._sockets = self._iterator(_SOCKETS)
        self._visit_listeners()
        for name, program in self._programs.items():
            if name not in (*_ITERATORS, *_ASKED, _SWITCH):
                with refusable(name, Doing.ATTACH):
                    self._attachments[name] = program.attach()
                self._doors.callback(self._attachments[name].close)
        switch = self._programs.get(_SWITCH)
        if switch is not None:
            with refusable(_SWITCH, Doing.ATTACH):
                switch.attach().close()
            self._looking.look(time.monotonic())
        if self._sockets is not None:
            with refusable(_SOCKETS, Doing.RUN):
                self._sockets.run()

    def _visit_listeners(self) -> None:
        iterator = self._iterator(_LISTENERS)
        if iterator is not None:
            with refusable(_LISTENERS, Doing.RUN):
                iterator.run()
            iterator.close()

    def _iterator(self, name: str) -> BpfIterator | None:
        """None where the kernel refuses the program."""
        program = self._programs.get(name)
        if program is None:
            return None
        with refusable(name, Doing.ATTACH):
            iterator = program.iterator()
        self._stack.callback(iterator.close)
        return iterator

    def _ask(self, name: str, answer_bytes: int = 0) -> bytes:
        """Runs a program that answers; all zero where the kernel refuses it."""
        program = self._programs.get(name)
        return bytes(answer_bytes) if program is None else program.run(answer_bytes)

    @contextmanager
    def _open_maps(self) -> Iterator[dict[str, BpfMap]]:
        """The maps, which are not closed meanwhile."""
        with self._lock:
            if self._closed:
                raise KernelClosed
            yield self._maps

    def _with_unix_paths(self, found: list[Record]) -> list[Record]:
        """A Unix server's path stands in its edge; the edges are read at most once a call."""
        unnamed = {
            record.edge_id
            for record in found
            if isinstance(record, Exchange) and record.transport is Transport.UNIX
        }
        if not unnamed:
            return found
        if not unnamed <= self._unix_paths.keys():
            self.read_edges()
        return [
            record._replace(peer_address=self._unix_paths.get(record.edge_id, ""))
            if isinstance(record, Exchange) and record.edge_id in unnamed
            else record
            for record in found
        ]

    def _trust(self, owner_id: int) -> int:
        at = owner_id * self._limit_layout.size + self._limit_layout.offset("trust")
        with self._open_maps() as maps:
            if not 0 <= owner_id < maps["owner_limits"].max_entries:
                raise ValueError(f"no owner {owner_id}")
            trust: int = _U32.unpack_from(self._limits, at)[0]
        return trust

    def _give_back_shares(self, owner_id: int) -> None:
        """What an owner had of what all share is free again."""
        limits = owner_id * self._limit_layout.size
        for name, index in _SHARED.items():
            at = limits + self._limit_layout.offset(name)
            gone = index * self._share_layout.size + self._share_layout.offset("gone")
            total = _U64.unpack_from(self._shares, gone)[0]
            total += _U32.unpack_from(self._limits, at)[0]
            _U64.pack_into(self._shares, gone, total)

    def _set_limits(self, owner_id: int, **values: int) -> None:
        # Through shared memory, one word at a time: a map update would write the whole struct,
        # and set back the counts that the kernel keeps beside.
        with self._open_maps() as maps:
            if not 0 <= owner_id < maps["owner_limits"].max_entries:
                raise ValueError(f"no owner {owner_id}")
            with memoryview(self._limits) as raw, raw.cast("I") as words:
                for name, value in values.items():
                    offset = self._limit_layout.offset(name)
                    words[(owner_id * self._limit_layout.size + offset) // 4] = value

    def _edges_of(self, edges: BpfMap, owner_ids: Collection[int]) -> dict[int, bytes]:
        """Keys by the edge's id."""
        return {
            self._records.edge_id(value): bytes(key)
            for keys, values in edges.batches()
            for key, value in _pairs(keys, values, edges.key_size, edges.value_size)
            if self._records.edge_owner(key) in owner_ids
        }

    def _take_series(
        self, series: BpfMap, edge_ids: Collection[int]
    ) -> Iterator[tuple[SeriesKey, SeriesValue]]:
        # Chosen first: what is deleted while a batch is read can make it skip others.
        size = series.key_size
        chosen = [
            bytes(keys[i * size : (i + 1) * size])
            for keys, _ in series.batches()
            for i, edge_id in enumerate(self._records.series_edges(keys))
            if edge_id in edge_ids
        ]
        for key in chosen:
            value = series.pop(key)
            if value is not None:
                yield from self._records.series(key, value)

    def _delete_joins(self, joins: BpfMap, edge_ids: Collection[int]) -> None:
        size = joins.key_size
        chosen = [
            bytes(keys[i * size : (i + 1) * size])
            for keys, _ in joins.batches()
            for i, edges in enumerate(self._records.join_edges(keys))
            if edges[0] in edge_ids or edges[1] in edge_ids
        ]
        for key in chosen:
            joins.delete(key)

    def _delete_operations(
        self, operations: BpfMap, owner_ids: Collection[int]
    ) -> None:
        size = operations.key_size
        chosen = [
            bytes(keys[i * size : (i + 1) * size])
            for keys, _ in operations.batches()
            for i, owner_id in enumerate(self._records.operation_owners(keys))
            if owner_id in owner_ids
        ]
        for key in chosen:
            operations.delete(key)
        # The cache in front of them knows no owners: it fills again, at 40 ns an operation.
        self._operation_cache[:] = bytes(len(self._operation_cache))

    def _delete_owners(self, owners: BpfMap, owner_ids: Collection[int]) -> list[int]:
        """The ids of those that were there."""
        chosen = [
            (self._records.owner(key, value).id, bytes(key))
            for keys, values in owners.batches()
            for key, value in _pairs(keys, values, owners.key_size, owners.value_size)
        ]
        return [
            owner_id
            for owner_id, key in chosen
            if owner_id in owner_ids and owners.delete(key)
        ]


def _read_object(path: Path) -> tuple[bytes, Records]:
    try:
        data = path.read_bytes()
        return data, Records(Btf.from_elf(data))
    except OSError as error:
        raise KernelUnavailable(
            f"The compiled programs cannot be read: {error}", _HINT_REBUILD
        ) from error
    except BtfError as error:
        raise KernelUnavailable(
            f"{path} cannot be used: {error}", _HINT_REBUILD
        ) from error


def _check_parts(bpf: BpfObject, records: Records) -> None:
    """Every map and program that this package names is there, and as it expects."""
    named = (name for part in PARTS for name in part.programs)
    wrong = [f"no program {name}" for name in named if name not in bpf.programs]
    for name, (map_type, key, value) in _MAPS.items():
        found = bpf.maps.get(name)
        if found is None:
            wrong.append(f"no map {name}")
            continue
        if found.type != map_type:
            wrong.append(f"map {name} is of type {found.type}, not {map_type}")
        for struct_name, size in ((key, found.key_size), (value, found.value_size)):
            if struct_name and records.layout(struct_name).size != size:
                wrong.append(f"map {name} has no {struct_name}")
    if wrong:
        raise _mismatch("; ".join(wrong))


def _configure(bpf: BpfObject, settings: KernelSettings) -> None:
    bpf.set_knobs(settings.knobs)
    for name, size in settings.map_sizes.items():
        if name not in bpf.maps:
            raise LookupError(f"no map {name}")
        bpf.maps[name].max_entries = size
    for name in ("owner_limits", "shares", "operation_cache"):
        bpf.maps[name].add_flags(_BPF_F_MMAPABLE)


def _explained(error: NothingTaken) -> NothingTaken:
    """What is known to be missing says more than what the kernel refused for it."""
    for missing in probe().missing:
        if missing.fatal:
            return NothingTaken(
                f"{missing.what} {missing.costs}", missing.remedy, error.outcomes
            )
    return error


def _mismatch(what: str) -> KernelUnavailable:
    return KernelUnavailable(
        f"the BPF object and this package do not belong together: {what}", _HINT_REBUILD
    )


@contextmanager
def _mapped(array: BpfMap) -> Iterator[mmap.mmap]:
    """An array's values as shared memory; their size is a multiple of 8."""
    size = array.value_size * array.max_entries
    whole_pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    with mmap.mmap(array.fd, whole_pages) as memory:
        yield memory


def _pairs(
    keys: memoryview, values: memoryview, key_size: int, value_size: int
) -> Iterator[tuple[memoryview, memoryview]]:
    for i in range(len(keys) // key_size):
        yield (
            keys[i * key_size : (i + 1) * key_size],
            values[i * value_size : (i + 1) * value_size],
        )
