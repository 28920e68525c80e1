# SPDX-License-Identifier: Apache-2.0
"""Plain values of the model with sensible defaults; a test names what matters to it."""

from __future__ import annotations

from typing import Any

from deetune_otel.model import (
    Edge,
    End,
    Exchange,
    KeptBecause,
    Protocol,
    Role,
    SeriesKey,
    Transport,
    Wire,
)

__all__ = ["edge", "exchange", "key"]


def edge(role: Role = Role.CLIENT, **changes: Any) -> Edge:
    made = Edge(
        id=1,
        owner_id=1,
        role=role,
        transport=Transport.TCP,
        peer_address="10.0.0.2",
        server_port=80,
        local_address="10.0.0.1",
        overflow=False,
    )
    return made._replace(**changes)


def key(
    outcome: int = 200, protocol: Protocol = Protocol.HTTP, **changes: Any
) -> SeriesKey:
    made = SeriesKey(
        edge_id=1, protocol=protocol, signature=99, outcome=outcome, end=End.COMPLETE
    )
    return made._replace(**changes)


def exchange(**changes: Any) -> Exchange:
    made = Exchange(
        edge_id=1,
        owner_id=1,
        tid=1,
        key=key(),
        wire=Wire(1, 2, 0),
        cause=None,
        cause_ambiguous=False,
        start_ns=1_000,
        first_byte_ns=2_000,
        end_ns=3_000,
        request_bytes=10,
        response_bytes=20,
        request_body_bytes=3,
        response_body_bytes=4,
        local_address="10.0.0.1",
        local_port=40_000,
        peer_address="10.0.0.2",
        peer_port=80,
        transport=Transport.TCP,
        kept=KeptBecause.HASH,
        request_head=b"",
        trace_header=b"",
    )
    return made._replace(**changes)
