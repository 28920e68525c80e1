# SPDX-License-Identifier: Apache-2.0
"""A TCP connect that failed: an exchange whose outcome is the errno."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from deetune_otel.model import Operation, Role
from deetune_otel.protocols.contract import (
    Attributes,
    Instrument,
    Outcome,
    error,
    server_endpoint,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.model import Edge, Exchange, SeriesKey
    from deetune_otel.protocols.routes import Routes

__all__ = ["METRICS", "edge_attributes", "operation", "outcome", "span_attributes"]

# Failed connects are counted by edge: signals/tcp.py.
METRICS: Final[Mapping[Role, tuple[Instrument, ...]]] = dict.fromkeys(Role, ())

_OPERATION: Final = Operation(name="CONNECT")


def operation(head: bytes, routes: Routes) -> Operation:  # noqa: ARG001 - nothing was sent
    return _OPERATION


def outcome(key: SeriesKey, role: Role) -> Outcome:  # noqa: ARG001 - clients alone connect
    """error.type is the errno's name, or `_OTHER`."""
    name = errno.errorcode.get(key.outcome, "_OTHER")
    return error(name, message=f"connect failed: {name}")


def edge_attributes(edge: Edge) -> Attributes:
    return server_endpoint(edge)


def span_attributes(exchange: Exchange, role: Role) -> Attributes:  # noqa: ARG001
    return {}
