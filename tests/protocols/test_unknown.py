# SPDX-License-Identifier: Apache-2.0
"""The protocol of what nobody recognised."""

from __future__ import annotations

from deetune_otel.model import Edge, End, Protocol, Role, SeriesKey, Transport
from deetune_otel.protocols import measuring_module, unknown
from deetune_otel.protocols.contract import CLOSED
from deetune_otel.protocols.routes import Routes


def test_name_has_nothing_of_the_bytes() -> None:
    assert unknown.operation(b"Q\0\0\0\x10SELECT 1\0", Routes()).name == "exchange"


def test_outcome() -> None:
    key = SeriesKey(1, Protocol.UNKNOWN, 0, 0, End.COMPLETE)
    assert unknown.outcome(key, Role.CLIENT).error_type is None
    assert unknown.outcome(key._replace(end=End.CLOSED), Role.CLIENT) == CLOSED


def test_edge_attributes_tell_the_two_ends_apart() -> None:
    edge = Edge(
        1, 1, Role.SERVER, Transport.TCP, "10.0.0.9", 5432, "10.0.0.1", overflow=False
    )
    assert unknown.edge_attributes(edge) == {
        "server.address": "10.0.0.1",
        "server.port": 5432,
        "network.transport": "tcp",
        "deetune.role": "server",
    }


def test_series_without_a_role_have_a_metric() -> None:
    for protocol in Protocol:
        assert Role.UNKNOWN in measuring_module(protocol, Role.UNKNOWN).METRICS
