# SPDX-License-Identifier: Apache-2.0
"""Redis (RESP2, RESP3, inline): the command names the operation; keys and values never leave.

The kernel samples the command's name alone; a whole request is read as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from opentelemetry.semconv._incubating.metrics.db_metrics import (
    DB_CLIENT_OPERATION_DURATION,
)
from opentelemetry.semconv.attributes.db_attributes import (
    DB_OPERATION_NAME,
    DB_RESPONSE_STATUS_CODE,
    DB_SYSTEM_NAME,
)

from deetune_otel.model import End, Operation, Protocol, Role
from deetune_otel.protocols.contract import (
    CLOSED,
    Attributes,
    Instrument,
    Measure,
    Outcome,
    error,
    server_endpoint,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.model import Edge, Exchange, SeriesKey
    from deetune_otel.protocols.routes import Routes

__all__ = [
    "ERROR_CODES",
    "METRICS",
    "edge_attributes",
    "operation",
    "outcome",
    "span_attributes",
]

METRICS: Final[Mapping[Role, tuple[Instrument, ...]]] = {
    Role.CLIENT: (
        Instrument(
            name=DB_CLIENT_OPERATION_DURATION,
            unit="s",
            description="Duration of database client operations.",
            measure=Measure.DURATION,
        ),
    ),
    Role.SERVER: (
        Instrument(
            # No semantic convention; the name that OpenTelemetry eBPF Instrumentation uses.
            name="db.server.operation.duration",
            unit="s",
            description="Duration of database operations at the server.",
            measure=Measure.DURATION,
        ),
    ),
}

# By enum dt_redis_outcome of events.h; a test compares the two.
ERROR_CODES: Final = (
    "",  # no error
    "ERR",
    "WRONGTYPE",
    "MOVED",
    "ASK",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "OOM",
    "BUSY",
    "LOADING",
    "NOSCRIPT",
    "EXECABORT",
    "READONLY",
    "MISCONF",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MASTERDOWN",
    "OTHER",
)

_SYSTEM: Final = "redis"
# The longest of Redis 8 and its modules (FT._ALIASADDIFNX, GEORADIUSBYMEMBER_RO) have 20.
_COMMAND: Final = re.compile(rb"[A-Za-z][A-Za-z0-9._-]{0,31}")
_ARRAY: Final = re.compile(rb"\*[1-9]\d{0,6}\r\n\$(\d{1,2})\r\n")
_INLINE: Final = re.compile(rb"([!-~]+)(?:[ \r\n]|$)")


def operation(head: bytes, routes: Routes) -> Operation:
    """The command in capitals; `redis` when the bytes hold none."""
    command = _command(head)
    attributes: Attributes = {DB_SYSTEM_NAME: _SYSTEM}
    if command:
        attributes[DB_OPERATION_NAME] = command
    return routes.capped(
        Protocol.REDIS, Operation(name=command or _SYSTEM, attributes=attributes)
    )


def outcome(key: SeriesKey, role: Role) -> Outcome:  # noqa: ARG001 - the same at both ends
    """Every error reply is an error, MOVED and ASK too, as the conventions have it."""
    if key.end is End.CLOSED:
        return CLOSED
    if key.outcome == 0:
        return Outcome()
    code = ERROR_CODES[key.outcome] if key.outcome < len(ERROR_CODES) else "OTHER"
    return error(code, message=code, attributes={DB_RESPONSE_STATUS_CODE: code})


def edge_attributes(edge: Edge) -> Attributes:
    return server_endpoint(edge)


def span_attributes(exchange: Exchange, role: Role) -> Attributes:  # noqa: ARG001
    return {DB_SYSTEM_NAME: _SYSTEM}


def _command(head: bytes) -> str:
    command = b""
    if match := _ARRAY.match(head):
        length = int(match[1])
        command = head[match.end() :][:length]
        if len(command) < length:
            return ""
    elif match := _INLINE.match(head):
        command = match[1]
    return command.decode().upper() if _COMMAND.fullmatch(command) else ""
