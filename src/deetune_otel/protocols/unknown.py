# SPDX-License-Identifier: Apache-2.0
"""Whatever is not recognised, encrypted or not: counted by turn-taking, so it has no operation.

Its metric also takes the series of recognised protocols whose connection has no known role, for
which the conventions have no name: nothing that was counted is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.semconv.attributes.network_attributes import NETWORK_TRANSPORT

from deetune_otel.model import End, Operation, Role
from deetune_otel.protocols.contract import (
    CLOSED,
    Attributes,
    Instrument,
    Measure,
    Outcome,
    server_endpoint,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.model import Edge, Exchange, SeriesKey
    from deetune_otel.protocols.routes import Routes

__all__ = [
    "METRICS",
    "ROLE_ATTRIBUTE",
    "edge_attributes",
    "operation",
    "outcome",
    "span_attributes",
]

ROLE_ATTRIBUTE: Final = "deetune.role"

_DURATION: Final = (
    Instrument(
        name="deetune.exchange.duration",
        unit="s",
        description="Time from a request's first byte to its response's last, any protocol.",
        measure=Measure.DURATION,
    ),
)
METRICS: Final[Mapping[Role, tuple[Instrument, ...]]] = dict.fromkeys(Role, _DURATION)

_OPERATION: Final = Operation(name="exchange")


def operation(head: bytes, routes: Routes) -> Operation:  # noqa: ARG001 - nothing to read
    return _OPERATION


def outcome(key: SeriesKey, role: Role) -> Outcome:  # noqa: ARG001 - the same at both ends
    return CLOSED if key.end is End.CLOSED else Outcome()


def edge_attributes(edge: Edge) -> Attributes:
    """Server, transport and role: one metric shows both ends, so the role tells them apart."""
    return {
        **server_endpoint(edge),
        NETWORK_TRANSPORT: edge.transport.value,
        ROLE_ATTRIBUTE: edge.role.value,
    }


def span_attributes(exchange: Exchange, role: Role) -> Attributes:  # noqa: ARG001
    """Bytes both ways are all that is known of what was said."""
    return {
        "deetune.request.size": exchange.request_bytes,
        "deetune.response.size": exchange.response_bytes,
    }
