# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from lab.scoring import (
    Connection,
    EdgeKey,
    by_address,
    merged_calls,
    read_map,
    score,
    score_edges,
)

AB = EdgeKey("a", "b")
BC = EdgeKey("b", "c")
AC = EdgeKey("a", "c")


def a_map(*edges: dict[str, Any]) -> dict[str, Any]:
    ids = {end for edge in edges for end in (edge["client"], edge["server"])}
    return {
        "nodes": [
            {
                "id": one,
                "kind": "service" if one.startswith("service:") else "address",
                "name": one.rpartition("/")[2],
            }
            for one in sorted(ids)
        ],
        "edges": list(edges),
    }


def an_edge(client: str, server: str, **calls: int) -> dict[str, Any]:
    return {
        "client": client,
        "server": server,
        "calls": [{"protocol": how, "total": n} for how, n in calls.items()],
    }


def test_what_is_right_is_perfect() -> None:
    found = score({AB: {"http": 3}, BC: {}}, {AB: {"http": 3}, BC: {}})
    assert found.is_perfect
    assert (found.precision, found.recall, found.calls) == (1, 1, 3)
    assert found.wrong == ()


def test_each_kind_of_mistake_shows() -> None:
    found = score({AB: {"http": 3}, BC: {"redis": 5}}, {AB: {"http": 4}, AC: {}})
    assert not found.is_perfect
    assert (found.precision, found.recall, found.exact) == (0.5, 0.5, 0)
    assert found.wrong == (
        "missing: b → c",
        "invented: a → c",
        "counts: a → b: {'http': 4}, really {'http': 3}",
    )


@pytest.mark.parametrize(
    "drawn", [{AB: {"http": 2}}, {AB: {"redis": 3}}, {AB: {}}, {BC: {}}, {}]
)
def test_nothing_else_is_perfect(drawn: dict[EdgeKey, dict[str, int]]) -> None:
    assert not score({AB: {"http": 3}}, drawn).is_perfect


def test_an_edge_too_many_is_not_perfect() -> None:
    found = score({AB: {"http": 3}}, {AB: {"http": 3}, BC: {}})
    assert not found.is_perfect
    assert (found.precision, found.recall) == (0.5, 1)


def test_scores_add_up() -> None:
    found = score({AB: {"http": 3}}, {}) + score({AB: {"http": 1}}, {AB: {"http": 1}})
    assert (found.true, found.predicted, found.recall, found.calls) == (2, 1, 0.5, 4)


def test_edges_alone_have_no_counts() -> None:
    assert score_edges([AB, BC], [BC, AB]).is_perfect


def test_a_map_is_read_by_labels() -> None:
    found = a_map(
        an_edge("service:/a", "service:shop/b", http=3, redis=0),
        an_edge("clients:10.0.0.1", "service:/a", http=2),
        an_edge("service:/a", "address:10.0.0.2:80"),
        an_edge("service:/a", "name:db.test:5432"),
    )
    assert read_map(found) == {
        AB: {"http": 3},
        EdgeKey("10.0.0.1", "a"): {"http": 2},
        EdgeKey("a", "10.0.0.2:80"): {},
        EdgeKey("a", "db.test:5432"): {},
    }


def test_a_map_of_a_machine_with_others_is_read_for_some() -> None:
    found = a_map(
        an_edge("service:/a", "service:/b"), an_edge("service:/x", "service:/y")
    )
    assert read_map(found, ["b"]) == {AB: {}}


def test_one_edge_drawn_twice_is_refused() -> None:
    found = a_map(
        an_edge("service:/a", "service:/b"), an_edge("service:/a", "service:n/b")
    )
    with pytest.raises(ValueError, match="twice: a → b"):
        read_map(found)


def test_calls_are_merged() -> None:
    rows = [("a", "b", "http", 2), ("a", "b", "http", 3), ("a", "b", "udp", 0)]
    assert merged_calls(rows) == {AB: {"http": 5}}


def test_addresses_alone_are_right_where_they_mean_what_they_say() -> None:
    ends = [
        Connection("a", True, "10.0.0.1", "10.0.0.2:80"),  # noqa: FBT003
        Connection("b", False, "10.0.0.2:80", "10.0.0.1"),  # noqa: FBT003
    ]
    assert by_address(ends, {"10.0.0.2:80": "b"}) == {AB}


def test_addresses_alone_invent_edges_behind_a_translation() -> None:
    ends = [
        Connection("a", True, "10.0.0.1", "10.96.0.1:80"),  # noqa: FBT003
        Connection("b", False, "10.0.0.2:80", "10.0.0.9"),  # noqa: FBT003
    ]
    assert by_address(ends, {"10.0.0.2:80": "b"}) == {
        EdgeKey("a", "10.96.0.1:80"),
        EdgeKey("10.0.0.9", "b"),
    }
