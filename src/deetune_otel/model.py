# SPDX-License-Identifier: Apache-2.0
"""The words that every part of the agent shares: pure values, no behaviour beyond reading them.

Times are nanoseconds; `_ns` values of exchanges are CLOCK_MONOTONIC unless named `unix_ns`.
Hot-path values are NamedTuples (0.3 µs each), the others frozen dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

__all__ = [
    "DURATION_BOUNDS_S",
    "NO_TRAFFIC",
    "RTT_BOUNDS_S",
    "SIZE_BOUNDS_BYTES",
    "BlindBytes",
    "Cause",
    "DnsAnswer",
    "Edge",
    "End",
    "Exchange",
    "Join",
    "KeptBecause",
    "Ledger",
    "LedgerLine",
    "Link",
    "Operation",
    "OperationSample",
    "Owner",
    "Pair",
    "ProcessKey",
    "Protocol",
    "Role",
    "SeriesKey",
    "SeriesValue",
    "Service",
    "Traffic",
    "Transport",
    "Wire",
]

DURATION_BOUNDS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
RTT_BOUNDS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
SIZE_BOUNDS_BYTES: Final = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Role(StrEnum):
    UNKNOWN = "unknown"
    CLIENT = "client"
    SERVER = "server"


class Transport(StrEnum):
    TCP = "tcp"
    UNIX = "unix"
    UDP = "udp"


class Protocol(StrEnum):
    UNKNOWN = "unknown"
    HTTP = "http"
    REDIS = "redis"
    CONNECT = "connect"
    DNS = "dns"


class End(StrEnum):
    COMPLETE = "complete"
    CLOSED = "closed"


class KeptBecause(StrEnum):
    HASH = "hash"
    ERROR = "error"
    SLOW = "slow"


class ProcessKey(NamedTuple):
    """A process, told apart from a later one with the same pid."""

    pid: int
    start_ns: int  # start_boottime


class Owner(NamedTuple):
    """A process in a network namespace that does socket I/O, as the kernel saw it."""

    id: int
    process: ProcessKey
    parent_pid: int
    netns: int
    cgroup_id: int
    comm: str
    local_pid: int  # in the agent's pid namespace, as parent_pid is; 0: not in it


class NewOwner(NamedTuple):
    """One that was just met, with what names it if it has ended by now."""

    owner: Owner
    command_line: bytes  # arguments, each with a zero at its end; cut at 512 bytes
    executable: str  # its name, without its path
    directory: str  # the working directory's name, likewise


class Edge(NamedTuple):
    """One owner's side of its calls to (client) or from (server) one peer."""

    id: int
    owner_id: int
    role: Role
    transport: Transport
    peer_address: str  # "10.0.0.7", "::1"; a Unix server's path; "" when not known
    server_port: int  # 0 for Unix
    local_address: str
    overflow: bool  # stands for all peers beyond the cap
    first_ns: int = 0  # CLOCK_MONOTONIC: when its first connection was made or found

    @property
    def server_address(self) -> str:
        """The server's address, at both ends; a Unix server's path; "" when not known."""
        if self.role is Role.SERVER and self.transport is not Transport.UNIX:
            return self.local_address
        return self.peer_address


class Traffic(NamedTuple):
    """What TCP itself says of an edge; cumulative (or a difference of two readings).

    UDP has only bytes; Unix sockets have no RTT, and nothing is retransmitted. A connection is
    counted for whoever does its I/O: when that changes, `opened` goes down at the one edge and up
    at the other.
    """

    opened: int  # connections established, or found established
    closed: int
    connect_sum_ns: int  # from SYN to established; clients only
    connect_buckets: tuple[int, ...]  # 15, of DURATION_BOUNDS_S
    rtt_sum_ns: int  # of smoothed RTTs, sampled at every reading and at the close
    rtt_buckets: tuple[int, ...]  # 12, of RTT_BOUNDS_S
    retransmits: int  # segments sent again by this end
    sent_bytes: int
    received_bytes: int

    @property
    def active(self) -> int:
        return self.opened - self.closed


NO_TRAFFIC: Final = Traffic(
    0,
    0,
    0,
    (0,) * (len(DURATION_BOUNDS_S) + 1),
    0,
    (0,) * (len(RTT_BOUNDS_S) + 1),
    0,
    0,
    0,
)


class Pair(NamedTuple):
    """Names one connection identically at both ends, on any host, through NAT.

    The first data sequence number of each direction; for Unix sockets salted cookies. What leaves
    the agent is a digest of them.
    """

    client_seq: int
    server_seq: int


class Join(NamedTuple):
    """Connections of which both ends were seen by this kernel."""

    client_edge_id: int
    server_edge_id: int
    connections: int  # cumulative


class Link(NamedTuple):
    """A recent connection; an edge id of 0: that end was not seen by this kernel."""

    pair: Pair
    client_edge_id: int
    server_edge_id: int
    local_port: int  # of the end that was seen; the client's where both were
    peer_port: int


class DnsAnswer(NamedTuple):
    """A DNS response that a client on this host received: up to 512 bytes of the message."""

    owner_id: int
    netns: int
    at_ns: int  # CLOCK_MONOTONIC
    message: bytes


class SeriesKey(NamedTuple):
    edge_id: int
    protocol: Protocol
    signature: int  # 0: the protocol names no operation; below 16: overflow
    # HTTP status, Redis error index, errno of a failed connect, DNS response code
    outcome: int
    end: End
    # Only with edge_id 0: there is no edge to tell it.
    overflow_role: Role = Role.UNKNOWN


class SeriesValue(NamedTuple):
    """Cumulative since the kernel made the series (or a difference of two such readings)."""

    count: int  # type: ignore[assignment]  # the word everyone uses, over tuple.count
    duration_sum_ns: int
    first_byte_sum_ns: int
    request_bytes: int
    response_bytes: int
    request_body_bytes: int
    response_body_bytes: int
    duration_buckets: tuple[int, ...]  # 15
    request_body_buckets: tuple[int, ...]  # 11
    response_body_buckets: tuple[int, ...]  # 11


class Wire(NamedTuple):
    """Names one request, and no other one: at both ends of its connection, unless it is alone."""

    client_seq: int
    server_seq: int
    offset: int


class Cause(NamedTuple):
    """The server exchange during which a client request was made."""

    wire: Wire
    trace_header: bytes  # raw header line of that exchange's request, b"" if none


class Exchange(NamedTuple):
    """One whole request and response that the span budget kept."""

    edge_id: int
    owner_id: int
    tid: int
    key: SeriesKey
    wire: Wire
    cause: Cause | None
    cause_ambiguous: bool
    start_ns: int
    first_byte_ns: int
    end_ns: int
    request_bytes: int
    response_bytes: int
    request_body_bytes: int
    response_body_bytes: int
    local_address: str
    local_port: int
    peer_address: str
    peer_port: int
    transport: Transport
    kept: KeptBecause
    request_head: bytes  # up to 256 bytes
    trace_header: bytes  # b"traceparent: 00-..."; b"" if none
    is_alone: bool = False  # no other end knows the wire


class OperationSample(NamedTuple):
    """The first bytes of a request whose signature has no name yet."""

    owner_id: int
    edge_id: int
    protocol: Protocol
    signature: int
    request_head: bytes


class BlindBytes(NamedTuple):
    """At a close, TCP had counted more bytes than the doors saw."""

    owner_id: int
    sent_bytes: int
    received_bytes: int


class LedgerLine(NamedTuple):
    exchanges: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the doors saw and where it went.

    It balances when `seen == counted + open + sum(lost.values())`, in exchanges and in bytes.
    """

    seen: LedgerLine
    counted: LedgerLine
    open: LedgerLine
    lost: dict[str, LedgerLine]  # by cause: "midstream", "unparsed", ...
    noted: dict[str, LedgerLine]  # beside the balance: "overflow_series", "blind", ...

    @property
    def difference(self) -> LedgerLine:
        """What is missing (positive) or there twice (negative); (0, 0) when it balances."""
        return LedgerLine(
            *(
                seen - counted - is_open - sum(line[i] for line in self.lost.values())
                for i, (seen, counted, is_open) in enumerate(
                    zip(self.seen, self.counted, self.open, strict=True)
                )
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a signature means.

    `name` is what a person reads and a span is called ("GET /users/{id}", "SET");
    `attributes` are the semantic conventions' for metrics and spans (low cardinality).
    """

    name: str
    attributes: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Who a process is: the identity that telemetry carries as its resource."""

    name: str
    namespace: str = ""
    instance_id: str = ""
    # Other resource attributes.
    attributes: dict[str, str | int] = field(default_factory=dict)
    found_by: str = ""  # "OTEL_SERVICE_NAME", "container", "systemd", "script", ...
