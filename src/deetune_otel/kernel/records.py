# SPDX-License-Identifier: Apache-2.0
"""Turns the kernel's bytes into the values of `model`.

Nothing here knows an offset or an enum's value: both are read from the object's BTF when the
agent starts, so that bpf/include/events.h stays the only place where they are written. What
stands here is which fields we need (`_FIELDS`), how long their arrays must be (`_LENGTHS`) and
which Python enum a C enum belongs to (`_ENUMS`). When the object has not all of that, it was not
built together with this package, and `Records` says so instead of guessing.

A struct becomes one compiled `struct.Struct` (0.13 µs a record here, ctypes fields take 0.7).
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from deetune_otel.kernel.errors import KernelUnavailable, RecordError
from deetune_otel.model import (
    DURATION_BOUNDS_S,
    RTT_BOUNDS_S,
    SIZE_BOUNDS_BYTES,
    BlindBytes,
    Cause,
    DnsAnswer,
    Edge,
    End,
    Exchange,
    Join,
    KeptBecause,
    LedgerLine,
    Link,
    NewOwner,
    OperationSample,
    Owner,
    Pair,
    ProcessKey,
    Protocol,
    Role,
    SeriesKey,
    SeriesValue,
    Traffic,
    Transport,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from enum import Enum

    from deetune_otel.kernel.btf import Btf, Field

__all__ = [
    "Layout",
    "Record",
    "Records",
    "Unproven",
    "address_text",
    "missing_from",
]

Record: TypeAlias = Exchange | OperationSample | NewOwner | BlindBytes | DnsAnswer
Buffer: TypeAlias = bytes | memoryview


class Unproven(NamedTuple):
    """An owner of which nobody knows yet how its threads wait; it never leaves this package."""

    owner_id: int


class _CauseFound(IntEnum):
    """`cause_found` of an exchange record; no enum of the C side."""

    NONE = 0
    THREAD = 1
    AMBIGUOUS = 2


# In the order in which the decoders below take them.
_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "dt_owner_key": ("start_ns", "pid", "netns"),
    "dt_owner": ("cgroup_id", "id", "local_pid", "parent_pid", "comm"),
    "dt_owner_limit": (
        "budget",
        "drop_below",
        "trust",
        "recorded",
        "edges",
        "series",
    ),
    "dt_share": ("made", "gone"),
    "dt_edge_key": ("address", "owner_id", "port", "role", "transport"),
    "dt_edge": ("local_address", "id", "overflow", "path", "first_ns"),
    "dt_traffic": (
        "opened",
        "closed",
        "connect_sum_ns",
        "rtt_sum_ns",
        "retransmits",
        "sent_bytes",
        "received_bytes",
        "connect_buckets",
        "rtt_buckets",
    ),
    "dt_pair": ("client_seq", "server_seq"),
    "dt_link": ("client_edge", "server_edge", "local_port", "peer_port"),
    "dt_join": ("client_edge", "server_edge"),
    "dt_series_key": ("signature", "edge", "outcome", "protocol", "end"),
    "dt_series": (
        "duration_sum_ns",
        "first_byte_sum_ns",
        "request_bytes",
        "response_bytes",
        "request_body_bytes",
        "response_body_bytes",
        "duration_buckets",
        "request_body_buckets",
        "response_body_buckets",
    ),
    "dt_operation_key": ("owner_id",),
    "dt_ledger": ("exchanges", "bytes"),
    "dt_wire": ("client_seq", "server_seq", "offset"),
    "dt_cause": (
        "wire.client_seq",
        "wire.server_seq",
        "wire.offset",
        "trace_bytes",
        "trace",
    ),
    "dt_exchange_record": (
        "edge",
        "owner_id",
        "tid",
        "key.signature",
        "key.edge",
        "key.outcome",
        "key.protocol",
        "key.end",
        "wire.client_seq",
        "wire.server_seq",
        "wire.offset",
        "cause.client_seq",
        "cause.server_seq",
        "cause.offset",
        "start_ns",
        "first_byte_ns",
        "end_ns",
        "request_bytes",
        "response_bytes",
        "request_body_bytes",
        "response_body_bytes",
        "local_address",
        "peer_address",
        "local_port",
        "peer_port",
        "head_bytes",
        "trace_bytes",
        "cause_trace_bytes",
        "kept",
        "transport",
        "cause_found",
        "flags",
        "head",
        "trace",
        "cause_trace",
    ),
    "dt_operation_record": (
        "owner_id",
        "signature",
        "protocol",
        "head_bytes",
        "edge",
        "head",
    ),
    "dt_owner_record": (
        "id",
        "key.start_ns",
        "key.pid",
        "key.netns",
        "owner.cgroup_id",
        "owner.local_pid",
        "owner.parent_pid",
        "owner.comm",
        "command_bytes",
        "command",
        "executable",
        "directory",
    ),
    "dt_blind_record": ("owner_id", "sent_bytes", "received_bytes"),
    "dt_unproven_record": ("owner_id",),
    "dt_answer_record": ("owner_id", "netns", "at_ns", "message_bytes", "message"),
    "dt_recording_rules": (
        "begun_ns",
        "body_limit",
        "epoch",
        "keep_below",
        "roles",
        "protocols",
        "ports",
        "peers",
        "port",
        "address",
        "mask",
    ),
    "dt_piece": (
        "offset",
        "other_offset",
        "at_ns",
        "pair.client_seq",
        "pair.server_seq",
        "owner_id",
        "edge",
        "bytes",
        "missing",
        "local_address",
        "peer_address",
        "local_port",
        "peer_port",
        "role",
        "transport",
        "protocol",
        "flags",
    ),
    "dt_recorded_key": ("pair.client_seq", "pair.server_seq", "role"),
    "dt_recorded": ("exchanges", "owner_id", "is_closed"),
}
_DURATION_BUCKETS: Final = len(DURATION_BOUNDS_S) + 1
_SIZE_BUCKETS: Final = len(SIZE_BOUNDS_BYTES) + 1
_RTT_BUCKETS: Final = len(RTT_BOUNDS_S) + 1
_LENGTHS: Final = {
    ("dt_series", "duration_buckets"): _DURATION_BUCKETS,
    ("dt_series", "request_body_buckets"): _SIZE_BUCKETS,
    ("dt_series", "response_body_buckets"): _SIZE_BUCKETS,
    ("dt_traffic", "connect_buckets"): _DURATION_BUCKETS,
    ("dt_traffic", "rtt_buckets"): _RTT_BUCKETS,
    ("dt_edge_key", "address"): 16,
    ("dt_edge", "local_address"): 16,
    ("dt_exchange_record", "local_address"): 16,
    ("dt_exchange_record", "peer_address"): 16,
}
# C enum: its Python twin, the prefix of its values' names, values that never reach us.
_ENUMS: Final[dict[str, tuple[type[Enum], str, frozenset[str]]]] = {
    "dt_role": (Role, "DT_ROLE_", frozenset()),
    "dt_transport": (Transport, "DT_TRANSPORT_", frozenset()),
    "dt_protocol": (Protocol, "DT_PROTOCOL_", frozenset({"UNDECIDED"})),
    "dt_end": (End, "DT_END_", frozenset()),
    "dt_kept": (KeptBecause, "DT_KEPT_", frozenset()),
}
_RECORD_TYPES: Final = {
    "DT_RECORD_EXCHANGE",
    "DT_RECORD_OPERATION",
    "DT_RECORD_OWNER",
    "DT_RECORD_BLIND",
    "DT_RECORD_ANSWER",
    "DT_RECORD_UNPROVEN",
}
_CONSTANTS: Final = {
    "dt_record_type": _RECORD_TYPES,
    "dt_signature": {"DT_SIGNATURE_OVERFLOW"},
    "dt_exchange_flag": {"DT_EXCHANGE_ALONE"},
    "dt_trust": {"DT_TRUST_POLLS"},
    "dt_owner_recorded": {"DT_OWNER_CHOSEN", "DT_OWNER_NOT_CHOSEN"},
    "dt_piece_flag": {
        "DT_PIECE_FROM_CLIENT",
        "DT_PIECE_START",
        "DT_PIECE_OPAQUE",
        "DT_PIECE_FAULT",
        "DT_PIECE_LIMIT",
        "DT_PIECE_LAST",
    },
    "dt_recording_line": {
        "DT_RECORDING_COPIED",
        "DT_RECORDING_RING_FULL",
        "DT_RECORDING_OPAQUE",
        "DT_RECORDING_FAULT",
        "DT_RECORDING_LIMITED",
        "DT_RECORDING_OPEN",
        "DT_RECORDING_MISSED",
        "DT_RECORDING_OVERFLOW",
    },
    "dt_ledger_line": {"DT_SEEN", "DT_COUNTED", "DT_LOST_FIRST", "DT_LEDGER_LINES"},
    "dt_limit": {"DT_DURATION_BOUNDS", "DT_SIZE_BOUNDS", "DT_RTT_BOUNDS"},
}
_LIMITS: Final = {
    "DT_DURATION_BOUNDS": len(DURATION_BOUNDS_S),
    "DT_SIZE_BOUNDS": len(SIZE_BOUNDS_BYTES),
    "DT_RTT_BOUNDS": len(RTT_BOUNDS_S),
}
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_NO_ADDRESS: Final = bytes(16)
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"


def missing_from(btf: Btf) -> list[str]:
    """What the object lacks, or has otherwise, of all that this package needs; [] is good."""
    found = (*_missing_fields(btf), *_missing_constants(btf), *_unlike_enums(btf))
    return list(
        dict.fromkeys(found)
    )  # a struct's every field says that it is not there


def _missing_fields(btf: Btf) -> Iterator[str]:
    for name, paths in _FIELDS.items():
        for path in paths:
            try:
                field = btf.field(name, path)
            except (LookupError, ValueError) as error:
                yield str(error)
                continue
            if field.size not in _CODES:
                yield f"{name}.{path} has {field.size} bytes"
            wanted = _LENGTHS.get((name, path), field.elements)
            if field.elements != wanted:
                yield f"{name}.{path} has {field.elements} elements, not {wanted}"


def _missing_constants(btf: Btf) -> Iterator[str]:
    for name, wanted in _CONSTANTS.items():
        try:
            found = btf.enum(name)
        except LookupError as error:
            yield str(error)
            continue
        for constant in sorted(wanted - found.keys()):
            yield f"enum {name} has no {constant}"
        for limit, value in _LIMITS.items() if name == "dt_limit" else ():
            if found.get(limit, value) != value:
                yield f"{limit} is {found[limit]}, not {value}"


def _unlike_enums(btf: Btf) -> Iterator[str]:
    for name, (twin, prefix, hidden) in _ENUMS.items():
        try:
            found = {word.removeprefix(prefix) for word in btf.enum(name)} - hidden
        except LookupError as error:
            yield str(error)
            continue
        for word in sorted(twin.__members__.keys() ^ found):
            side = "the package" if word in found else "the object"
            yield f"{prefix}{word} is not known to {side}"


class Layout:
    """Reads and writes chosen fields of one C struct, in an order of one's own.

    An array of bytes is one value, an array of larger numbers as many values as it is long.
    """

    def __init__(self, btf: Btf, name: str, paths: Iterable[str]) -> None:
        self.name = name
        self.size = btf.struct_size(name)
        self._fields = {path: btf.field(name, path) for path in paths}
        fields = self._fields.values()
        self._struct = struct.Struct(_format(fields, self.size))
        slots = [
            (field.offset, i)
            for field in fields
            for i in range(1 if field.size == 1 else max(field.elements, 1))
        ]
        by_offset = sorted(range(len(slots)), key=slots.__getitem__)
        self._order = [by_offset.index(slot) for slot in range(len(slots))]
        self._in_order = self._order == sorted(self._order)

    def offset(self, path: str) -> int:
        """Of a chosen field, in bytes."""
        return self._fields[path].offset

    def unpack(self, data: Buffer) -> tuple[Any, ...]:
        """Of the first bytes; raises RecordError when there are too few."""
        try:
            values = self._struct.unpack_from(data)
        except struct.error:
            raise RecordError(
                f"{self.name} has {self.size} bytes, not {len(data)}"
            ) from None
        return self._arranged(values)

    def unpack_all(self, data: Buffer) -> Iterator[tuple[Any, ...]]:
        """Of an array of them; raises RecordError when it ends within one."""
        if len(data) % self.size:
            raise RecordError(f"{len(data)} bytes are no whole number of {self.name}")
        structs = self._struct.iter_unpack(data)
        return structs if self._in_order else map(self._arranged, structs)

    def pack(self, *values: int | bytes) -> bytes:
        """The struct with these values, zero where no field was chosen."""
        return self._struct.pack(
            *(values[self._order.index(i)] for i in range(len(values)))
        )

    def _arranged(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._in_order:
            return values
        return tuple([values[i] for i in self._order])


def _format(fields: Iterable[Field], size: int) -> str:
    parts, at = ["<"], 0
    for field in sorted(fields):
        parts.append(f"{field.offset - at}x")
        code = "s" if field.size == 1 and field.elements else _CODES[field.size]
        parts.append(f"{field.elements or 1}{code}")
        at = field.offset + field.size * (field.elements or 1)
    parts.append(f"{size - at}x")
    return "".join(parts)


class Records:
    """Decoders for one object, made from its BTF.

    Raises KernelUnavailable when the object and this package do not belong together. The
    decoders raise RecordError and nothing else, whatever the bytes.
    """

    def __init__(self, btf: Btf) -> None:
        wrong = missing_from(btf)
        if wrong:
            raise KernelUnavailable(
                "the BPF object and this package do not belong together: "
                + "; ".join(wrong[:8])
                + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""),
                "Install one release of deetune-otel whole, or build the object again "
                "with script/build-bpf.",
            )
        self._layouts = {
            name: Layout(btf, name, paths) for name, paths in _FIELDS.items()
        }
        self._roles = _names(btf, "dt_role", Role)
        self._transports = _names(btf, "dt_transport", Transport)
        self._protocols = _names(btf, "dt_protocol", Protocol)
        self._ends = _names(btf, "dt_end", End)
        self._kept = _names(btf, "dt_kept", KeptBecause)
        types = btf.enum("dt_record_type")
        self._type = struct.Struct("<I")
        self._by_type: dict[int, Callable[[Buffer], Record | Unproven]] = {
            types["DT_RECORD_EXCHANGE"]: self._exchange,
            types["DT_RECORD_OPERATION"]: self._operation,
            types["DT_RECORD_OWNER"]: self._new_owner,
            types["DT_RECORD_BLIND"]: self._blind,
            types["DT_RECORD_ANSWER"]: self._answer,
            types["DT_RECORD_UNPROVEN"]: self._unproven,
        }
        self._overflow_signature = btf.enum("dt_signature")["DT_SIGNATURE_OVERFLOW"]
        self._alone = btf.enum("dt_exchange_flag")["DT_EXCHANGE_ALONE"]
        self.trust = btf.enum("dt_trust")
        self.ledger_lines = btf.enum("dt_ledger_line")
        self.owner_recorded = btf.enum("dt_owner_recorded")
        self.piece_flags = btf.enum("dt_piece_flag")
        self.recording_lines = btf.enum("dt_recording_line")

    def layout(self, name: str) -> Layout:
        """Of one of the structs that this package reads; LookupError for another."""
        return self._layouts[name]

    def role(self, number: int) -> Role:
        """Raises RecordError."""
        found: Role = _known(self._roles, number)
        return found

    def transport(self, number: int) -> Transport:
        """Raises RecordError."""
        found: Transport = _known(self._transports, number)
        return found

    def protocol(self, number: int) -> Protocol:
        """Raises RecordError."""
        found: Protocol = _known(self._protocols, number)
        return found

    def role_number(self, role: Role) -> int:
        """Of enum dt_role."""
        return next(number for number, one in self._roles.items() if one is role)

    def protocol_number(self, protocol: Protocol) -> int:
        """Of enum dt_protocol."""
        return next(n for n, one in self._protocols.items() if one is protocol)

    def record(self, data: Buffer) -> Record | Unproven:
        """Of the ring."""
        try:
            (record_type,) = self._type.unpack_from(data)
            return self._by_type[record_type](data)
        except struct.error:
            raise RecordError(f"{len(data)} bytes are no record") from None
        except KeyError as error:
            raise RecordError(f"a record holds the unknown value {error}") from None

    def owner(self, key: Buffer, value: Buffer) -> Owner:
        """Of map owners."""
        start_ns, pid, netns = self._layouts["dt_owner_key"].unpack(key)
        cgroup_id, number, local_pid, parent_pid, comm = self._layouts[
            "dt_owner"
        ].unpack(value)
        return Owner(
            id=number,
            process=ProcessKey(pid, start_ns),
            parent_pid=parent_pid,
            netns=netns,
            cgroup_id=cgroup_id,
            comm=_text(comm),
            local_pid=local_pid,
        )

    def edge(self, key: Buffer, value: Buffer) -> Edge:
        """Of map edges."""
        address, owner_id, port, role, transport = self._layouts["dt_edge_key"].unpack(
            key
        )
        local_address, number, overflow, path, first_ns = self._layouts[
            "dt_edge"
        ].unpack(value)
        try:
            on_unix = self._transports[transport] is Transport.UNIX
            return Edge(
                id=number,
                owner_id=owner_id,
                role=self._roles[role],
                transport=self._transports[transport],
                peer_address=_text(path) if on_unix else address_text(address),
                server_port=port,
                local_address="" if on_unix else address_text(local_address),
                overflow=bool(overflow),
                first_ns=first_ns,
            )
        except KeyError as error:
            raise RecordError(f"an edge holds the unknown value {error}") from None

    def edge_owner(self, key: Buffer) -> int:
        """The owner's id, of a key of map edges."""
        owner_id: int = self._layouts["dt_edge_key"].unpack(key)[1]
        return owner_id

    def edge_id(self, value: Buffer) -> int:
        """Of a value of map edges."""
        number: int = self._layouts["dt_edge"].unpack(value)[1]
        return number

    def traffic(self, keys: Buffer, values: Buffer) -> Iterator[tuple[int, Traffic]]:
        """By the edge's id, of two arrays of equal length, from map traffic."""
        numbers = struct.Struct("<I").iter_unpack(keys)
        for (edge_id,), value in zip(
            numbers, self._layouts["dt_traffic"].unpack_all(values), strict=True
        ):
            opened, closed, connect_ns, rtt_ns, retransmits, sent, received = value[:7]
            rtts = 7 + _DURATION_BUCKETS
            yield (
                edge_id,
                Traffic(
                    opened=_signed(opened),
                    closed=closed,
                    connect_sum_ns=connect_ns,
                    connect_buckets=value[7:rtts],
                    rtt_sum_ns=rtt_ns,
                    rtt_buckets=value[rtts:],
                    retransmits=retransmits,
                    sent_bytes=sent,
                    received_bytes=received,
                ),
            )

    def joins(self, keys: Buffer, values: Buffer) -> Iterator[Join]:
        """Of two arrays of equal length, from map joins; only those with connections."""
        counts = struct.Struct("<q").iter_unpack(values)
        for edges, (connections,) in zip(
            self._layouts["dt_join"].unpack_all(keys), counts, strict=True
        ):
            if connections > 0:
                yield Join(edges[0], edges[1], connections)

    def join_edges(self, keys: Buffer) -> Iterator[tuple[int, int]]:
        """The edges' ids, the client's first, of an array of keys of map joins."""
        return ((key[0], key[1]) for key in self._layouts["dt_join"].unpack_all(keys))

    def links(self, keys: Buffer, values: Buffer) -> Iterator[Link]:
        """Of two arrays of equal length, from map links."""
        for pair, link in zip(
            self._layouts["dt_pair"].unpack_all(keys),
            self._layouts["dt_link"].unpack_all(values),
            strict=True,
        ):
            yield Link(Pair(*pair), *link)

    def series_edges(self, keys: Buffer) -> Iterator[int]:
        """The edge's id of each of an array of series' keys."""
        return (key[1] for key in self._layouts["dt_series_key"].unpack_all(keys))

    def operation_owners(self, keys: Buffer) -> Iterator[int]:
        """The owner's id of each of an array of operations' keys."""
        return (key[0] for key in self._layouts["dt_operation_key"].unpack_all(keys))

    def series(
        self, keys: Buffer, values: Buffer
    ) -> Iterator[tuple[SeriesKey, SeriesValue]]:
        """Of two arrays of equal length, from map series."""
        for key, value in zip(
            self._layouts["dt_series_key"].unpack_all(keys),
            self._layouts["dt_series"].unpack_all(values),
            strict=True,
        ):
            yield self._series_key(*key), _series_value(value)

    def series_overflow(
        self, index: int, value: Buffer
    ) -> tuple[SeriesKey, SeriesValue] | None:
        """Of map series_overflow (index: protocol * 4 + role); None where nothing is counted."""
        decoded = _series_value(self._layouts["dt_series"].unpack(value))
        if not decoded.count:
            return None
        try:
            key = SeriesKey(
                edge_id=0,
                protocol=self._protocols[index >> 2],
                signature=self._overflow_signature,
                outcome=0,
                end=End.COMPLETE,
                overflow_role=self._roles[index & 3],
            )
        except KeyError as error:
            raise RecordError(
                f"series_overflow holds the unknown value {error}"
            ) from None
        return key, decoded

    def ledger_line(self, data: Buffer) -> LedgerLine:
        """The sum of an array of struct dt_ledger: one for each CPU, or for each connection."""
        exchanges = total = 0
        for more_exchanges, more_bytes in self._layouts["dt_ledger"].unpack_all(data):
            exchanges += more_exchanges
            total += more_bytes
        return LedgerLine(exchanges, total)

    def pair(self, pair: Pair) -> bytes:
        """The key of map links."""
        return self._layouts["dt_pair"].pack(*pair)

    def wire(self, wire: Wire) -> bytes:
        """The key of map causes."""
        return self._layouts["dt_wire"].pack(*wire)

    def cause(self, value: Buffer) -> Cause | None:
        """Of map causes; None when the kernel knew of none."""
        client_seq, server_seq, offset, length, trace = self._layouts[
            "dt_cause"
        ].unpack(value)
        wire = Wire(client_seq, server_seq, offset)
        return Cause(wire, trace[:length]) if any(wire) else None

    def _series_key(
        self, signature: int, edge: int, outcome: int, protocol: int, end: int
    ) -> SeriesKey:
        try:
            return SeriesKey(
                edge, self._protocols[protocol], signature, outcome, self._ends[end]
            )
        except KeyError as error:
            raise RecordError(f"a series holds the unknown value {error}") from None

    def _exchange(self, data: Buffer) -> Exchange:
        (
            edge,
            owner_id,
            tid,
            *key,
            client_seq,
            server_seq,
            offset,
            cause_client_seq,
            cause_server_seq,
            cause_offset,
            start_ns,
            first_byte_ns,
            end_ns,
            request_bytes,
            response_bytes,
            request_body_bytes,
            response_body_bytes,
            local_address,
            peer_address,
            local_port,
            peer_port,
            head_bytes,
            trace_bytes,
            cause_trace_bytes,
            kept,
            transport_number,
            cause_found,
            flags,
            head,
            trace,
            cause_trace,
        ) = self._layouts["dt_exchange_record"].unpack(data)
        transport = self._transports[transport_number]
        on_unix = transport is Transport.UNIX
        cause_wire = Wire(cause_client_seq, cause_server_seq, cause_offset)
        known = cause_found == _CauseFound.THREAD and any(cause_wire)
        return Exchange(
            edge_id=edge,
            owner_id=owner_id,
            tid=tid,
            key=self._series_key(*key),
            wire=Wire(client_seq, server_seq, offset),
            cause=Cause(cause_wire, cause_trace[:cause_trace_bytes]) if known else None,
            cause_ambiguous=cause_found == _CauseFound.AMBIGUOUS,
            start_ns=start_ns,
            first_byte_ns=first_byte_ns,
            end_ns=end_ns,
            request_bytes=request_bytes,
            response_bytes=response_bytes,
            request_body_bytes=request_body_bytes,
            response_body_bytes=response_body_bytes,
            # A Unix server's path stands in its edge, here is only a hash of it.
            local_address="" if on_unix else address_text(local_address),
            local_port=local_port,
            peer_address="" if on_unix else address_text(peer_address),
            peer_port=peer_port,
            transport=transport,
            kept=self._kept[kept],
            request_head=head[:head_bytes],
            trace_header=trace[:trace_bytes],
            is_alone=bool(flags & self._alone),
        )

    def _operation(self, data: Buffer) -> OperationSample:
        owner_id, signature, protocol, head_bytes, edge, head = self._layouts[
            "dt_operation_record"
        ].unpack(data)
        return OperationSample(
            owner_id=owner_id,
            edge_id=edge,
            protocol=self._protocols[protocol],
            signature=signature,
            request_head=head[:head_bytes],
        )

    def _new_owner(self, data: Buffer) -> NewOwner:
        number, start_ns, pid, netns, cgroup_id, local_pid, parent_pid, *told = (
            self._layouts["dt_owner_record"].unpack(data)
        )
        comm, length, command, executable, directory = told
        owner = Owner(
            id=number,
            process=ProcessKey(pid, start_ns),
            parent_pid=parent_pid,
            netns=netns,
            cgroup_id=cgroup_id,
            comm=_text(comm),
            local_pid=local_pid,
        )
        return NewOwner(owner, command[:length], _text(executable), _text(directory))

    def _blind(self, data: Buffer) -> BlindBytes:
        return BlindBytes(*self._layouts["dt_blind_record"].unpack(data))

    def _answer(self, data: Buffer) -> DnsAnswer:
        owner_id, netns, at_ns, length, message = self._layouts[
            "dt_answer_record"
        ].unpack(data)
        return DnsAnswer(owner_id, netns, at_ns, message[:length])

    def _unproven(self, data: Buffer) -> Unproven:
        return Unproven(*self._layouts["dt_unproven_record"].unpack(data))


def _names(btf: Btf, name: str, twin: type[Any]) -> dict[int, Any]:
    """The members of a Python enum by the C side's numbers."""
    _, prefix, hidden = _ENUMS[name]
    numbers = {word.removeprefix(prefix): n for word, n in btf.enum(name).items()}
    return {n: twin[word] for word, n in numbers.items() if word not in hidden}


def _series_value(values: tuple[int, ...]) -> SeriesValue:
    durations_end = 6 + _DURATION_BUCKETS
    requests_end = durations_end + _SIZE_BUCKETS
    durations = values[6:durations_end]
    count = sum(durations)
    return SeriesValue(
        count=count,
        duration_sum_ns=values[0],
        first_byte_sum_ns=values[1],
        request_bytes=values[2],
        response_bytes=values[3],
        request_body_bytes=values[4],
        response_body_bytes=values[5],
        duration_buckets=durations,
        request_body_buckets=_with_empty_bodies(
            count, values[durations_end:requests_end]
        ),
        response_body_buckets=_with_empty_bodies(count, values[requests_end:]),
    )


def _with_empty_bodies(count: int, buckets: tuple[int, ...]) -> tuple[int, ...]:
    """The kernel does not write bucket 0.

    An exchange that is being added while the value is copied can be in one array and not yet in
    the other, hence never below zero.
    """
    with_body = buckets[1:]
    return (max(count - sum(with_body), 0), *with_body)


def _signed(number: int) -> int:
    """Of two words of 64 bits that are summed without a sign."""
    return number - (1 << 64) if number >> 63 else number


def address_text(raw: bytes) -> str:
    """Dotted for IPv4 (v4-mapped), text for IPv6, "" for none."""
    if raw == _NO_ADDRESS:
        return ""
    if raw.startswith(_V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def _text(raw: bytes) -> str:
    """A C string of any bytes: a program names itself and its sockets as it likes."""
    return raw.split(b"\0", 1)[0].decode(errors="backslashreplace")


_Known = TypeVar("_Known")


def _known(names: dict[int, _Known], number: int) -> _Known:
    try:
        return names[number]
    except KeyError:
        raise RecordError(f"a piece holds the unknown value {number}") from None
