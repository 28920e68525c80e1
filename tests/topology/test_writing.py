# SPDX-License-Identifier: Apache-2.0
"""Numbers and names for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.topology.maps import calls, edge, node

from deetune_otel.model import Protocol, Transport
from deetune_otel.topology import writing
from deetune_otel.topology.model import NodeKind


@pytest.mark.parametrize(
    ("calls_per_s", "said"),
    [
        (0.0, "0.0/s"),
        (0.02, "1.2/min"),
        (0.1, "0.1/s"),
        (99.9, "99.9/s"),
        (1234.5, "1,234/s"),
    ],
)
def test_rates(calls_per_s: float, said: str) -> None:
    assert writing.rate(calls_per_s) == said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (None, "0 %"),
        (0.0, "0 %"),
        (0.0001, "< 0.1 %"),
        (0.021, "2.1 %"),
        (0.9991, "99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_shares(ratio: float | None, said: str) -> None:
    assert writing.percent(ratio) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (0.001, "< 5 ms"),
        (0.0123, "12 ms"),
        (1.26, "1.3 s"),
        (10.0, "> 10 s"),
    ],
)
def test_durations_are_as_precise_as_the_histogram(
    seconds: float | None, said: str
) -> None:
    assert writing.duration(seconds) == said


@pytest.mark.parametrize(
    ("node_id", "changes", "said"),
    [
        ("service:shop/web", {}, "shop/web"),
        ("service:/web", {}, "web"),
        ("clients:10.0.0.3", {}, "clients 10.0.0.3"),
        ("clients:internet", {"name": "clients (internet)"}, "clients (internet)"),
        ("name:db:5432", {"kind": NodeKind.DATABASE}, "db:5432"),
        ("other", {"name": ""}, "other"),
    ],
)
def test_names(node_id: str, changes: dict[str, object], said: str) -> None:
    assert writing.name_of(node(node_id, **changes)) == said


@given(st.text())
def test_no_name_does_anything_to_a_terminal(text: str) -> None:
    made = writing.plain(text)
    assert made.isprintable()
    assert len(made) <= writing.MAX_NAME


def test_an_edge_in_words() -> None:
    busy = edge(
        "a", "b", calls(50, errors=5), calls(10, protocol=Protocol.REDIS, each_s=0.2)
    )
    assert writing.edge_words(busy, 60) == [
        "http+redis 1.0/s",
        "8.3 % errors",
        "p99 241 ms",
    ]
    assert writing.has_many_errors(busy)
    idle = edge("a", "b", transports=(Transport.UDP,))
    assert writing.edge_words(idle, 60) == ["udp"]
    assert not writing.has_many_errors(idle)
