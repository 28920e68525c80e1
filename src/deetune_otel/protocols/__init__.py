# SPDX-License-Identifier: Apache-2.0
"""The table of protocols. Pure: bytes in, meaning out.

A protocol is a module of this package with the shape of `contract.ProtocolModule`; adding one
adds a line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deetune_otel.model import Protocol
from deetune_otel.protocols import connect, dns, http, redis, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deetune_otel.model import Role
    from deetune_otel.protocols.contract import ProtocolModule

__all__ = ["PROTOCOLS", "measuring_module"]

PROTOCOLS: Final[Mapping[Protocol, ProtocolModule]] = {
    Protocol.UNKNOWN: unknown,
    Protocol.HTTP: http,
    Protocol.REDIS: redis,
    Protocol.CONNECT: connect,
    Protocol.DNS: dns,
}


def measuring_module(protocol: Protocol, role: Role) -> ProtocolModule:
    """Whose metrics show such series: the protocol's own, else those of `unknown`."""
    module = PROTOCOLS[protocol]
    return module if role in module.METRICS else unknown
