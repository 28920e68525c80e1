# SPDX-License-Identifier: Apache-2.0
"""Rows of edges, services and operations; their order and what a filter leaves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.topology.maps import (
    calls,
    edge,
    network,
    node,
    node_details,
    service_map,
    service_maps,
    tally,
)

from deetune_otel.cli.rows import SORTS, By, Row, arranged, matching, rows, to_json
from deetune_otel.model import Protocol, Transport
from deetune_otel.topology.model import Network, ServiceMap

A, B, DB = "service:/a", "service:/b", "name:db:5432"


def row(count: int, errors: int = 0, **changes: object) -> Row:
    values: dict[str, object] = {
        "by": By.EDGE,
        "id": f"{count}/{errors}",
        "window_s": 10.0,
        "calls": tally(count, errors=errors),
    }
    return Row(**values | changes)  # type: ignore[arg-type]


def test_an_edge_has_a_row_for_each_protocol_and_its_network_once() -> None:
    shown = service_map(
        [
            edge(
                A,
                B,
                calls(5, protocol=Protocol.UNKNOWN),
                calls(60),
                network=network(7),
            )
        ]
    )
    http, unknown = rows(shown, By.EDGE)
    assert (http.protocol, http.calls.count, http.network.connects) == ("http", 60, 7)
    assert (unknown.protocol, unknown.network) == ("unknown", Network())
    assert http.key != unknown.key


def test_an_edge_without_calls_is_there() -> None:
    (one,) = rows(service_map([edge(A, DB, transports=(Transport.UDP,))]), By.EDGE)
    assert (one.client, one.server, one.protocol) == ("a", "db:5432", "udp")
    assert one.failed_share is None


def test_failed_connects_are_failures_and_no_calls_of_their_own() -> None:
    failing = calls(9, errors=9, protocol=Protocol.CONNECT)
    refused = network(0, connect_failures={"ECONNREFUSED": 9})
    (one,) = rows(service_map([edge(A, DB, failing, network=refused)]), By.EDGE)
    assert (one.calls.count, one.failures, one.failed_share) == (0, 9, 1.0)


def test_services_are_told_by_themselves_or_by_their_callers() -> None:
    shown = service_map(
        [edge(A, B, calls(50)), edge(A, DB, calls(30)), edge(B, DB, calls(20))],
        [node(B, served=(calls(49, errors=3),))],
    )
    found = {one.server: one for one in rows(shown, By.SERVICE)}
    assert found.keys() == {"b", "db:5432"}  # nobody calls a
    assert (found["b"].calls.count, found["b"].calls.errors) == (49, 3)
    assert found["db:5432"].calls.count == 50


def test_operations_are_of_the_details() -> None:
    (one,) = rows(service_map(), By.OPERATION, [node_details(node(B))])
    assert (one.server, one.operation, one.calls.count) == ("b", "GET /", 5)


def test_the_most_surely_broken_stands_first() -> None:
    broken = [row(100, 90), row(1000, 300), row(1, 1), row(10_000, 100), row(5)]
    assert arranged(reversed(broken), "errors") == broken


def test_equals_stand_by_how_busy_they_are() -> None:
    fine = [row(50), row(20), row(3)]
    assert arranged(reversed(fine), "errors") == fine


@pytest.mark.parametrize("is_reversed", [False, True])
def test_what_has_no_value_stands_last_either_way(is_reversed: bool) -> None:  # noqa: FBT001
    assert arranged([row(0), row(5)], "p99", is_reversed=is_reversed)[-1] == row(0)


def test_reversed() -> None:
    by_rate = arranged([row(5), row(9), row(7)], "rate", is_reversed=True)
    assert [one.calls.count for one in by_rate] == [5, 7, 9]


def test_a_filter_takes_every_word_in_any_column() -> None:
    shop = row(1, client="nginx", server="Shop", protocol="http")
    cache = row(2, client="shop", server="redis", protocol="redis")
    refused = row(
        3, server="x", network=network(1, connect_failures={"ECONNREFUSED": 1})
    )
    every = [shop, cache, refused]
    assert matching(every, "") == every
    assert matching(every, "SHOP") == [shop, cache]
    assert matching(every, "redis shop") == [cache]
    assert matching(every, "econnref") == [refused]
    assert matching(every, "shop nothing") == []


def test_names_give_a_terminal_no_orders() -> None:
    (one,) = rows(service_map([edge("service:/a\x1b[2J", B)]), By.EDGE)
    assert one.client.isprintable()


@settings(max_examples=15)
@given(shown=service_maps(), sort=st.sampled_from(sorted(SORTS)))
def test_any_map_has_rows_of_each_kind(shown: ServiceMap, sort: str) -> None:
    details = [node_details(one) for one in shown.nodes]
    for by in By:
        found = arranged(rows(shown, by, details), sort)
        assert [to_json(one)["id"] for one in found] == [one.id for one in found]
    edges = rows(shown, By.EDGE)
    assert {one.id for one in edges} == {one.id for one in shown.edges}
