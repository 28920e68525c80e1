# SPDX-License-Identifier: Apache-2.0
"""Recording in the kernel: rules, a ring that is lent to it, and the counts it is held against.

The ring exists only from the start of a recording to its close(). Nobody is woken for a piece:
poll() often. The kernel decides about a connection once, when nothing is open on it; owners that
nobody has chosen or refused yet are copied, so that their first exchange is not missed.
"""

from __future__ import annotations

import ipaddress
import struct
import time
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from deetune_otel.kernel.errors import RecordError
from deetune_otel.kernel.libbpf import RingBuffer
from deetune_otel.kernel.records import address_text
from deetune_otel.model import LedgerLine, Pair, Protocol, Role
from deetune_otel.recording.model import MissingBecause, Piece

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from ipaddress import IPv4Network, IPv6Network

    from deetune_otel.kernel.libbpf import BpfMap, Libbpf
    from deetune_otel.kernel.records import Records
    from deetune_otel.model import Transport

__all__ = [
    "MOST_RULES",
    "ConnectionCount",
    "KernelRecording",
    "RecordedPiece",
    "RecordingCounts",
    "RecordingRules",
]

# Of ports and of networks; as many as the kernel's rules have room for.
MOST_RULES: Final = 8
# Pieces taken by one poll(): 32 MB of them at most.
_PIECES_PER_POLL: Final = 4096
_FIRST: Final = struct.pack("=I", 0)
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_ALL: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRules:
    """Which connections are recorded. ValueError for what the kernel cannot be told."""

    roles: frozenset[Role] = frozenset({Role.CLIENT, Role.SERVER})
    protocols: frozenset[Protocol] = frozenset({Protocol.HTTP, Protocol.REDIS})
    with_raw: bool = False  # also what has no known protocol
    ports: tuple[int, ...] = ()  # the server's, at most 8; none: all
    peers: tuple[IPv4Network | IPv6Network, ...] = ()  # at most 8; none: all
    keep_fraction: float = 1.0  # of connections, the same ones at both ends
    # Bytes of a body behind it are not copied, or few: who wants exactly so many cuts the rest.
    body_limit: int = 64 << 10
    ring_bytes: int = 32 << 20  # a power of two

    def __post_init__(self) -> None:
        if len(self.ports) > MOST_RULES or len(self.peers) > MOST_RULES:
            raise ValueError(f"at most {MOST_RULES} ports and {MOST_RULES} networks")
        if not 0 <= self.keep_fraction <= 1:
            raise ValueError(f"no fraction: {self.keep_fraction}")
        if self.ring_bytes & (self.ring_bytes - 1) or self.ring_bytes < 1 << 16:
            raise ValueError(f"a ring has a power of two, not {self.ring_bytes} bytes")


class RecordedPiece(NamedTuple):
    """A piece, and whose it is. The same bytes come from both ends of a connection, if both
    are recorded, under the same pair. Times are of CLOCK_MONOTONIC.
    """

    pair: Pair
    owner_id: int
    edge_id: int
    role: Role
    protocol: Protocol
    transport: Transport
    local_address: str  # "" for Unix sockets
    local_port: int
    peer_address: str
    peer_port: int
    is_last: (
        bool  # this end is closed; the piece is empty, its offsets are where it ended
    )
    piece: Piece


class ConnectionCount(NamedTuple):
    """What the kernel counted at one end of a recorded connection."""

    owner_id: int
    exchanges: int
    is_closed: bool


class RecordingCounts(NamedTuple):
    """What a recording is held against; lines in pieces and bytes."""

    connections: dict[tuple[Pair, Role], ConnectionCount]
    open_before: int  # exchanges that were open when the recording began
    missed: int  # exchanges of connections on which something was always open
    overflow: int  # exchanges that there was no room to count by connection
    copied: LedgerLine
    ring_full: LedgerLine
    opaque: LedgerLine
    fault: LedgerLine
    limited: LedgerLine


class KernelRecording:
    """A recording under way: Kernel.record() gives it. poll() belongs to one thread."""

    _epoch = 0

    def __init__(
        self,
        library: Libbpf,
        records: Records,
        open_maps: Callable[[], AbstractContextManager[dict[str, BpfMap]]],
        set_recorded: Callable[[int, int], None],
        rules: RecordingRules,
    ) -> None:
        self._records = records
        self._open_maps = open_maps
        self._set_recorded = set_recorded
        self._lock = Lock()
        self._is_closed = False
        self._undecodable = 0
        self._address = lru_cache(4096)(address_text)
        self._piece = records.layout("dt_piece")
        self._flags = {
            name.removeprefix("DT_PIECE_"): value
            for name, value in records.piece_flags.items()
        }
        with open_maps() as maps:
            self._before = self._lines(maps)
            self._forget_counts(maps)
            self._lent = library.lend_ring("dt_recording", rules.ring_bytes)
            try:
                self._ring = RingBuffer(library, self._lent)
                maps["recording"].update(_FIRST, struct.pack("=I", self._lent.fd))
                maps["recording_rules"].update(_FIRST, self._packed(rules))
            except BaseException:
                self._lent.close()
                raise

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def undecodable(self) -> int:
        """Pieces that were not understood."""
        return self._undecodable

    def choose(self, owner_id: int, *, is_chosen: bool) -> None:
        """Whether this owner's connections are recorded, from now on."""
        name = "DT_OWNER_CHOSEN" if is_chosen else "DT_OWNER_NOT_CHOSEN"
        self._set_recorded(owner_id, self._records.owner_recorded[name])

    def poll(self) -> list[RecordedPiece]:
        """The next pieces, some thousand at most; never waits. [] when there are none."""
        with self._lock:
            raw = [] if self._is_closed else self._ring.drain(_PIECES_PER_POLL, 0)
        found = []
        for data in raw:
            try:
                found.append(self._decoded(data))
            except RecordError:
                self._undecodable += 1
        return found

    def read_counts(self) -> RecordingCounts:
        """Since the recording began. Ends that are closed are given once, and then forgotten."""
        connections = {}
        with self._open_maps() as maps:
            counts = maps["recorded"]
            layouts = (
                self._records.layout("dt_recorded_key"),
                self._records.layout("dt_recorded"),
            )
            closed = []
            for keys, values in counts.batches():
                for i, (key, value) in enumerate(
                    zip(
                        layouts[0].unpack_all(keys),
                        layouts[1].unpack_all(values),
                        strict=True,
                    )
                ):
                    exchanges, owner_id, is_closed = value
                    end = Pair(key[0], key[1]), self._records.role(key[2])
                    connections[end] = ConnectionCount(
                        owner_id, exchanges, bool(is_closed)
                    )
                    if is_closed:
                        size = counts.key_size
                        closed.append(bytes(keys[i * size : (i + 1) * size]))
            for raw_key in closed:
                counts.delete(raw_key)
            now = self._lines(maps)
        lines = {
            name: LedgerLine(
                line.exchanges - self._before[name].exchanges,
                line.bytes - self._before[name].bytes,
            )
            for name, line in now.items()
        }
        return RecordingCounts(
            connections,
            lines["OPEN"].exchanges,
            lines["MISSED"].exchanges,
            lines["OVERFLOW"].exchanges,
            lines["COPIED"],
            lines["RING_FULL"],
            lines["OPAQUE"],
            lines["FAULT"],
            lines["LIMITED"],
        )

    def stop(self) -> None:
        """Nothing is copied any more; what is in the ring and the counts can still be read."""
        with self._open_maps() as maps:
            rules = maps["recording_rules"]
            rules.update(_FIRST, bytes(rules.value_size))

    def close(self) -> None:
        """Stops, and gives the ring back; again does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                self.stop()
                with self._open_maps() as maps:
                    maps["recording"].delete(_FIRST)
                    self._forget_counts(maps)
            finally:
                self._ring.close()
                self._lent.close()

    def _packed(self, rules: RecordingRules) -> bytes:
        KernelRecording._epoch += 1
        protocols = set(rules.protocols) - {Protocol.UNKNOWN}
        if rules.with_raw:
            protocols.add(Protocol.UNKNOWN)
        networks = [_words(one) for one in rules.peers]
        empty = (0, 0), (0, 0)
        padded = networks + [empty] * (MOST_RULES - len(networks))
        return self._records.layout("dt_recording_rules").pack(
            time.monotonic_ns(),
            rules.body_limit,
            KernelRecording._epoch,
            min(round(rules.keep_fraction * (1 << 32)), _ALL),
            sum(1 << self._records.role_number(role) for role in rules.roles),
            sum(1 << self._records.protocol_number(one) for one in protocols),
            len(rules.ports),
            len(rules.peers),
            *(*rules.ports, *[0] * (MOST_RULES - len(rules.ports))),
            *(word for address, _ in padded for word in address),
            *(word for _, mask in padded for word in mask),
        )

    def _decoded(self, data: bytes) -> RecordedPiece:
        (
            offset,
            other_offset,
            at_ns,
            client_seq,
            server_seq,
            owner_id,
            edge_id,
            count,
            missing,
            local_address,
            peer_address,
            local_port,
            peer_port,
            role,
            transport,
            protocol,
            flags,
        ) = self._piece.unpack(data)
        size = self._piece.size
        if len(data) < size + count:
            raise RecordError(f"a piece of {count} bytes holds {len(data) - size}")
        because = MissingBecause.LOST
        for name, reason in (
            ("OPAQUE", MissingBecause.OPAQUE),
            ("FAULT", MissingBecause.FAULT),
            ("LIMIT", MissingBecause.LIMIT),
        ):
            if flags & self._flags[name]:
                because = reason
        on_unix = not local_port and not peer_port
        return RecordedPiece(
            Pair(client_seq, server_seq),
            owner_id,
            edge_id,
            self._records.role(role),
            self._records.protocol(protocol),
            self._records.transport(transport),
            "" if on_unix else self._address(local_address),
            local_port,
            "" if on_unix else self._address(peer_address),
            peer_port,
            bool(flags & self._flags["LAST"]),
            Piece(
                from_client=bool(flags & self._flags["FROM_CLIENT"]),
                offset=offset,
                at_ns=at_ns,
                data=data[size : size + count],
                missing=missing,
                because=because,
                is_start=bool(flags & self._flags["START"]),
                other_offset=other_offset,
            ),
        )

    def _lines(self, maps: dict[str, BpfMap]) -> dict[str, LedgerLine]:
        return {
            name.removeprefix("DT_RECORDING_"): self._records.ledger_line(
                maps["recording_ledger"].lookup(struct.pack("=I", index)) or b""
            )
            for name, index in self._records.recording_lines.items()
            if name != "DT_RECORDING_LINES"
        }

    def _forget_counts(self, maps: dict[str, BpfMap]) -> None:
        counts = maps["recorded"]
        size = counts.key_size
        there = [
            bytes(keys[at : at + size])
            for keys, _ in counts.batches()
            for at in range(0, len(keys), size)
        ]
        for key in there:
            counts.delete(key)


def _words(network: IPv4Network | IPv6Network) -> tuple[tuple[int, ...], ...]:
    """Address and mask as the kernel holds them: v4-mapped, two words of memory each."""
    address, mask = network.network_address.packed, network.netmask.packed
    if isinstance(network, ipaddress.IPv4Network):
        address, mask = _V4_MAPPED + address, b"\xff" * 12 + mask
    return struct.unpack("<QQ", address), struct.unpack("<QQ", mask)
