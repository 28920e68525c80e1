# SPDX-License-Identifier: Apache-2.0
"""What a recording holds, as values: the same whether the kernel, a file or a foreign file gave it.

Times are nanoseconds of the Unix epoch. What is missing is always said: `Missing` where bytes
are, `incomplete` where an exchange must not be judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from deetune_otel.model import Protocol, Transport

__all__ = [
    "Connection",
    "Endpoint",
    "Headers",
    "HttpRequest",
    "HttpResponse",
    "Manifest",
    "Message",
    "Missing",
    "MissingBecause",
    "Piece",
    "Process",
    "RawMessage",
    "RecordedExchange",
    "RedisCommand",
    "RedisReply",
    "Turn",
]

# Names and values as they were sent, latin-1, in their order; a name may come twice.
Headers = tuple[tuple[str, str], ...]


class MissingBecause(StrEnum):
    """Why bytes are not there. The words of the manifest."""

    LOST = "lost"  # the ring was full, or the capture dropped them
    OPAQUE = "opaque"  # never in user memory: sendfile, splice, io_uring
    FAULT = "fault"  # their memory was not resident
    LIMIT = "limit"  # beyond the body limit that the user set
    REDACTED = "redacted"  # a body that could not be redacted was dropped
    CUT = "cut"  # the capture kept only the beginning of each packet (its snaplen)
    ABSENT = (
        "absent"  # whoever wrote the file left them out, as browsers do with bodies
    )


class Missing(NamedTuple):
    """Bytes that are not there, within a body or within raw data."""

    at: int  # offset, in bytes as they were sent, of the first one
    bytes: int
    because: MissingBecause


class Piece(NamedTuple):
    """Bytes of one direction of a connection, or the knowledge that they are missing."""

    from_client: bool
    offset: int  # in that direction's stream, of the first byte
    at_ns: int
    data: bytes  # b"": missing
    missing: int = 0  # how many bytes are, when `data` is b""
    because: MissingBecause = MissingBecause.LOST
    # Nothing is open, and a request begins here: where reading can begin, and begin again.
    # Then `other_offset` is where the other direction is.
    is_start: bool = False
    other_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """An HTTP/1 request. The body is without its chunks, and still in its content encoding."""

    method: str
    target: str  # as sent: "/a?b=c", "http://…" to a proxy
    version: str = "1.1"
    headers: Headers = ()
    body: bytes = b""  # what is there of it
    trailers: Headers = ()
    is_chunked: bool = False
    missing: tuple[Missing, ...] = ()  # of the body
    wire_bytes: int = 0  # as sent, head and body; 0: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """An HTTP/1 response; interim ones (1xx) are passed over, but 101."""

    status: int
    reason: str = ""
    version: str = "1.1"
    headers: Headers = ()
    body: bytes = b""
    trailers: Headers = ()
    is_chunked: bool = False
    has_no_body: bool = False  # to HEAD, 204, 304: whatever its Content-Length says
    ends_with_connection: bool = False  # nothing says its length
    missing: tuple[Missing, ...] = ()
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCommand:
    arguments: tuple[bytes, ...]  # the first is the command's name, as sent
    is_inline: bool = False
    missing: tuple[Missing, ...] = ()  # offsets in the command as sent
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisReply:
    """One reply, as a value: what each type of RESP2 and RESP3 becomes is in codecs.redis."""

    value: object
    missing: tuple[Missing, ...] = ()
    wire_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """Bytes that nobody understood: all of one direction until the other speaks. Never redacted."""

    data: bytes
    missing: tuple[Missing, ...] = ()

    @property
    def wire_bytes(self) -> int:
        return len(self.data) + sum(one.bytes for one in self.missing)


Message = HttpRequest | HttpResponse | RedisCommand | RedisReply | RawMessage


class Turn(NamedTuple):
    """A request and its response, as `assembly` finds them in the bytes of one connection."""

    request: Message
    response: Message | None  # None: the connection ended, or the recording did
    request_offset: int  # in the client's direction, of its first byte
    response_offset: int  # 0 without one
    request_start_ns: int
    request_end_ns: int
    response_start_ns: int  # 0 without one
    response_end_ns: int
    # Why it must not be judged; () when it is whole.
    incomplete: tuple[MissingBecause | str, ...] = ()


class Process(NamedTuple):
    """Who was at one end."""

    service: str
    service_namespace: str = ""
    pid: int = 0
    command: str = ""
    container_id: str = ""


class Endpoint(NamedTuple):
    address: str  # "10.0.0.7", "::1"; the path of a Unix socket
    port: int  # 0 for Unix sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection; both processes where both ran under the recorder."""

    id: str  # 16 hex digits, the same at both ends
    protocol: Protocol
    transport: Transport = Transport.TCP
    client: Endpoint
    server: Endpoint
    client_process: Process | None = None
    server_process: Process | None = None
    # The service at the end that was not recorded, as the map names it; "" when not known.
    peer_service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExchange:
    """One request with its response, as it is kept, shown, replayed and compared."""

    # 16 hex digits: with an agent the span id of the recorded end (the server's where both were
    # seen), so that a trace backend finds it; else a digest of connection and offset.
    id: str
    connection: Connection
    request: Message
    response: Message | None
    request_start_ns: int
    request_end_ns: int
    response_start_ns: int = 0
    response_end_ns: int = 0
    trace_id: str = ""  # 32 hex digits
    span_id: str = ""
    operation: str = ""  # "GET /orders/{id}", "SET"
    # The id of the recorded server exchange during which this client request was made.
    cause: str = ""
    cause_method: str = ""  # "thread", "trace", "alone": how it was found
    # How many calls the service made meanwhile, all of which name this one as their cause; None:
    # not known, because of some of them nobody knows the cause, or not all were recorded.
    calls: int | None = None
    incomplete: tuple[str, ...] = ()  # never judged where not empty
    redactions: tuple[str, ...] = ()  # rules that replaced something, sorted

    @property
    def protocol(self) -> Protocol:
        return self.connection.protocol

    @property
    def is_complete(self) -> bool:
        return not self.incomplete and self.response is not None

    @property
    def service(self) -> str:
        """Who answered; where only the client was seen, who asked. "" when not known."""
        end = self.connection.server_process or self.connection.client_process
        return end.service if end else ""

    @property
    def is_outgoing(self) -> bool:
        """Only the client's end was recorded: a call that a recorded service made."""
        c = self.connection
        return c.server_process is None and c.client_process is not None

    @property
    def duration_ns(self) -> int:
        """First byte of the request to the last one of the response; 0 without a response."""
        return max(0, self.response_end_ns - self.request_start_ns)


MANIFEST_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The account of a recording, in exchanges unless named otherwise. It balances:

    seen == captured + filtered + sampled_out + over_bound + unfinished + sum(lost.values())
    """

    version: int = MANIFEST_VERSION
    product: str = ""  # "deetune 0.1.0"
    host: str = ""
    selection: str = ""  # as a person would say it
    started_ns: int = 0
    ended_ns: int = 0
    ended_because: str = ""  # "time", "bytes", "exchanges", "interrupted", "disk", …
    seen: int = 0  # by the kernel, on the chosen connections
    captured: int = 0  # in the file
    filtered: int = 0  # not chosen by operation, status, latency, …
    sampled_out: int = 0
    over_bound: int = 0  # beyond the rate, or after the last bound was reached
    unfinished: int = 0  # open when the recording began or ended
    lost: dict[str, int] = field(default_factory=dict)  # by cause
    incomplete: int = 0  # of those captured: bytes are missing
    missing_bytes: dict[str, int] = field(default_factory=dict)  # by MissingBecause
    bytes: int = 0  # of the files, as written
    redactions: dict[str, int] = field(default_factory=dict)  # values, by rule
    dropped_bodies: int = 0  # could not be redacted
    is_redacted: bool = True
    files: tuple[str, ...] = ()
    # Beside the balance: exchanges by protocols that are not recorded, as the kernel counted them
    # meanwhile, at each end that is a chosen process's.
    other_protocols: dict[str, int] = field(default_factory=dict)
