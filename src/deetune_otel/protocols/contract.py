# SPDX-License-Identifier: Apache-2.0
"""What a protocol module is: four pure functions and a table of instruments.

Bytes come from the wire, cut and hostile: no protocol module raises for them. What cannot be
read is left out, or named coarsely.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry.semconv.attributes import error_attributes, server_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.model import Edge, Exchange, Operation, Role, SeriesKey
    from deetune_otel.protocols.routes import Routes

__all__ = [
    "CLOSED",
    "Attributes",
    "Instrument",
    "Measure",
    "Outcome",
    "ProtocolModule",
    "error",
    "server_endpoint",
]

Attributes = dict[str, str | int]


class Measure(Enum):
    """The part of a series' value that an instrument shows."""

    DURATION = "duration"
    REQUEST_BODY = "request body"
    RESPONSE_BODY = "response body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """A histogram."""

    name: str
    unit: str
    description: str
    measure: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an exchange.

    `error_type` is None unless it failed; `attributes` (for metrics and spans) hold it too.
    `message` is for people, and "" where the attributes say it all.
    """

    error_type: str | None = None
    attributes: Attributes = field(default_factory=dict)
    message: str = ""
    # The server answered as it should what the client should not have asked: HTTP's 4xx. By the
    # conventions it is an error at the client; it says nothing of the server's health.
    is_client_error: bool = False

    @property
    def is_failure(self) -> bool:
        """Something is wrong with what was called, or with the way to it."""
        return self.error_type is not None and not self.is_client_error


class ProtocolModule(Protocol):
    """The shape of http.py, redis.py, …; the table is in `deetune_otel.protocols`."""

    @property
    def METRICS(self) -> Mapping[Role, tuple[Instrument, ...]]:  # noqa: N802
        """Which instruments show a series, by role."""

    def operation(self, head: bytes, routes: Routes) -> Operation:
        """Name what the first bytes of a request ask for."""

    def outcome(self, key: SeriesKey, role: Role) -> Outcome:
        """Say what the kernel's outcome number means at this end."""

    def edge_attributes(self, edge: Edge) -> Attributes:
        """Attributes of the edge in this protocol's metrics."""

    def span_attributes(self, exchange: Exchange, role: Role) -> Attributes:
        """Attributes of one exchange beside its connection's, operation's and outcome's."""


def error(
    error_type: str, *, message: str = "", attributes: Attributes | None = None
) -> Outcome:
    return Outcome(
        error_type=error_type,
        attributes={error_attributes.ERROR_TYPE: error_type, **(attributes or {})},
        message=message,
    )


CLOSED: Final = error(
    "connection_closed",
    message="the connection closed before the response was complete",
)


def server_endpoint(edge: Edge) -> Attributes:
    """server.address and server.port of an edge, at both of its ends, as far as known."""
    attributes: Attributes = {}
    if edge.server_address:
        attributes[server_attributes.SERVER_ADDRESS] = edge.server_address
    if edge.server_port:
        attributes[server_attributes.SERVER_PORT] = edge.server_port
    return attributes
