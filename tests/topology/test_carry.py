# SPDX-License-Identifier: Apache-2.0
"""There and back unchanged; and what is no map is refused by name of the place."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.topology.maps import (
    calls,
    details,
    edge,
    network,
    node,
    node_details,
    service_map,
    service_maps,
)

from deetune_otel.model import Pair
from deetune_otel.topology.carry import MapFormatError, from_json, to_json
from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap

EDGE = edge(
    "service:/web",
    "service:/api",
    calls(600, errors=6, at_server=600),
    network=network(4),
    pairs=(Pair(1, 2**64 - 1),),
)


def document() -> Any:
    """As it comes from the wire."""
    return json.loads(json.dumps(to_json(service_map([EDGE]))))


@given(service_maps())
def test_a_map_goes_there_and_back(one: ServiceMap) -> None:
    assert from_json(ServiceMap, json.loads(json.dumps(to_json(one)))) == one


def test_details_go_there_and_back() -> None:
    one, other = details(EDGE), node_details(node("service:/api", served=(calls(3),)))
    of_edge = json.loads(json.dumps(to_json(one, window_s=60)))
    of_node = json.loads(json.dumps(to_json(other, window_s=60)))
    assert from_json(EdgeDetails, of_edge) == one
    assert from_json(NodeDetails, of_node) == other
    assert of_edge["operations"][0]["calls"]["rate"] == pytest.approx(5 / 60)


def test_details_need_to_be_told_their_window() -> None:
    with pytest.raises(TypeError):
        to_json(details(EDGE))


def test_numbers_that_a_script_wants_stand_beside_the_counts() -> None:
    made = document()
    assert made["format"] == 2
    of_edge = made["edges"][0]
    tally = of_edge["calls"][0]["calls"]
    assert tally["rate"] == 10.0
    assert tally["error_ratio"] == 0.01
    assert tally["mean_s"] == pytest.approx(0.02)
    assert 0.01 < tally["p50_s"] < tally["p90_s"] < tally["p99_s"] <= 0.025
    tcp = of_edge["network"]
    assert tcp["connect_p50_s"] <= tcp["connect_p99_s"] <= 0.005
    assert tcp["rtt_mean_s"] == pytest.approx(0.0007)
    assert 0.0005 < tcp["rtt_p50_s"] <= tcp["rtt_p99_s"] <= 0.001
    assert of_edge["pairs"] == ["0000000000000001" + "f" * 16]


def test_where_there_was_no_call_there_is_no_latency() -> None:
    made = to_json(service_map([edge("service:/a", "service:/b", calls(0))]))
    tally = made["edges"][0]["calls"][0]["calls"]
    assert [tally[name] for name in ("rate", "mean_s", "p50_s")] == [0, None, None]


def test_connections_can_be_left_out() -> None:
    assert to_json(service_map([EDGE]), with_pairs=False)["edges"][0]["pairs"] == []


def put(document: Any, path: list[Any], value: object) -> Any:
    """A document with another value at the path; Ellipsis: without it."""
    made = copy.deepcopy(document)
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made


CALLS = ["edges", 0, "calls", 0]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["format"], 3, "format: format 3, and this version of deetune reads 2"),
        (["format"], True, "format: format true, and this version of deetune reads 2"),
        (["format"], ..., "format: is missing: this is no map"),
        (["nodes"], ..., "nodes: is missing"),
        (["nodes"], {}, "nodes: expected a list, got an object"),
        (["nodes", 0, "kind"], "x", "nodes[0].kind: expected one of service, database, "),
        (["nodes", 1, "name"], 3, "nodes[1].name: expected text, got 3"),
        (["window_s"], "60", "window_s: expected a number, got '60'"),
        (["window_s"], float("nan"), "window_s: expected a number from 0, got nan"),
        (["window_s"], 10**400, "window_s: expected a number from 0, got a number that"),
        ([*CALLS, "total"], -1, "edges[0].calls[0].total: expected a whole number from 0"),
        ([*CALLS, "total"], 1.5, "edges[0].calls[0].total: expected a whole number, got"),
        ([*CALLS, "total"], False, "edges[0].calls[0].total: expected a whole number"),
        (
            [*CALLS, "calls", "duration_buckets"],
            [1, 2],
            "edges[0].calls[0].calls.duration_buckets: expected 15 numbers, got 2",
        ),
        (
            [*CALLS, "calls", "duration_buckets", 3],
            None,
            "edges[0].calls[0].calls.duration_buckets[3]: expected a whole number, got null",
        ),
        ([*CALLS, "is_estimated"], 1, "edges[0].calls[0].is_estimated: expected true or"),
        (["edges", 0, "pairs", 0], "xyz", "edges[0].pairs[0]: expected 32 hex digits"),
        (["edges", 0, "calls", 0], [], "edges[0].calls[0]: expected an object, got a list"),
        (
            ["edges", 0, "network", "connect_failures"],
            {"E": "x" * 99},
            "edges[0].network.connect_failures['E']: expected a whole number, got 'xxx",
        ),
        (["edges", 0, "client"], "service:/q", "edges[0]: no node 'service:/q'"),
        (["nodes", 0, "id"], "service:/web", "nodes[1].id: 'service:/web' twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(
    path: list[Any], value: object, said: str
) -> None:
    with pytest.raises(MapFormatError) as caught:
        from_json(ServiceMap, put(document(), path, value))
    assert str(caught.value).startswith(said)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [None, [], "map", 3, True])
def test_what_is_no_object_is_no_map(value: object) -> None:
    with pytest.raises(MapFormatError, match="expected an object"):
        from_json(ServiceMap, value)


def test_an_edge_that_is_there_twice_is_refused() -> None:
    made = document()
    made["edges"].append(made["edges"][0])
    with pytest.raises(MapFormatError, match=r"^edges\[1\]\.id: .* twice$"):
        from_json(ServiceMap, made)


def test_a_field_that_is_not_known_is_none_of_our_business() -> None:
    made = document()
    made["edges"][0]["colour"] = "blue"
    assert from_json(ServiceMap, made) == service_map([EDGE])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A map, somewhere in it anything else, or nothing."""
    made = inner = json.loads(json.dumps(to_json(draw(service_maps()))))
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw(st.sampled_from(keys))
        below = inner[key]
        if isinstance(below, dict | list) and below and draw(st.booleans()):
            inner = below
            continue
        if draw(st.booleans()):
            inner[key] = draw(ANYTHING)
        else:
            del inner[key]
        return made


@pytest.mark.parametrize("kind", [ServiceMap, EdgeDetails, NodeDetails])
@given(value=ANYTHING | spoilt())
def test_only_one_error_comes_of_it(kind: type[ServiceMap], value: object) -> None:
    with suppress(MapFormatError):
        made = from_json(kind, value)
        assert from_json(kind, to_json(made, window_s=1.0)) == made
