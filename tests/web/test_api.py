# SPDX-License-Identifier: Apache-2.0
"""The map over the agent's endpoint, as a client gets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.browser.agents import PageAgent
from tests.browser.maps import shop
from tests.web.asking import Answer, ask

from deetune_otel.topology.carry import from_json
from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap

EDGE = "service:shop/storefront→service:shop/orders"


@pytest.fixture
def agent() -> Iterator[PageAgent]:
    agent = PageAgent()
    yield agent
    agent.stop()


def body(answer: Answer) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/json"
    found: dict[str, Any] = json.loads(answer.text)
    return found


def test_the_map_is_what_the_agent_drew(agent: PageAgent) -> None:
    agent.draw = lambda window_s, _: shop(window_s)
    answer = ask(agent.port, "/api/map?window=300")
    assert answer.status == 200
    assert from_json(ServiceMap, body(answer)) == shop(300.0)
    assert agent.windows == [300.0]


def test_without_a_window_it_is_of_a_minute(agent: PageAgent) -> None:
    ask(agent.port, "/api/map")
    assert agent.windows == [60.0]


@pytest.mark.parametrize(
    ("asked", "told"),
    [("", False), ("&connections=0", False), ("&connections=1", True)],
)
def test_connections_are_told_to_who_asks(
    agent: PageAgent, asked: str, *, told: bool
) -> None:
    ask(agent.port, f"/api/map?window=60{asked}")
    assert agent.pairs_wanted == [told]


def test_an_edge_and_a_node(agent: PageAgent) -> None:
    edge = body(ask(agent.port, f"/api/edge?id={quote(EDGE)}&window=60"))
    assert from_json(EdgeDetails, edge).edge.id == EDGE
    assert edge["operations"][0]["calls"]["rate"] > 0
    node = body(ask(agent.port, "/api/node?id=service:shop/orders&window=60"))
    assert from_json(NodeDetails, node).node.name == "orders"
    assert EDGE in node["callers"]


def test_rates_are_of_the_time_that_is_known(agent: PageAgent) -> None:
    """The history is six steps of ten seconds: the agent knows no more than a minute."""
    agent.draw = lambda _, now_ns: shop(60.0, now_ns=now_ns)
    hour = body(ask(agent.port, f"/api/edge?id={quote(EDGE)}&window=3600"))
    assert hour["window_s"] == 60.0
    tally = hour["edge"]["calls"][0]["calls"]
    assert tally["rate"] == pytest.approx(tally["count"] / 60.0)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/api/map?window=0", "window is a number of seconds from 1 to 86400"),
        ("/api/map?window=86401", "window is a number of seconds"),
        ("/api/map?window=nan", "window is a number of seconds"),
        ("/api/map?window=inf", "window is a number of seconds"),
        ("/api/map?window=", "window is a number of seconds"),
        ("/api/map?window=1m", "window is a number of seconds"),
        ("/api/map?window=60&window=5", "window is given 2 times"),
        ("/api/map?connections=yes", "connections is 0 or 1"),
        ("/api/edge?window=60", "id is missing"),
        ("/api/node?id=&window=60", "id is missing"),
        ("/api/edge?id=a&id=b", "id is given 2 times"),
        ("/api/edge?id=a&window=-1", "window is a number of seconds"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(
    agent: PageAgent, path: str, sentence: str
) -> None:
    answer = ask(agent.port, path)
    assert answer.status == 400
    assert body(answer)["error"].startswith(sentence)
    assert agent.windows == []


@pytest.mark.parametrize(
    "path", ["/api/edge?id=a→b", "/api/node?id=service:none", "/api/", "/api/maps"]
)
def test_what_is_not_there_is_not_found(agent: PageAgent, path: str) -> None:
    answer = ask(agent.port, quote(path, safe="/?=:"))
    assert answer.status == 404
    assert body(answer)["error"]


def test_a_map_that_cannot_be_drawn_is_an_error_with_its_reason(
    agent: PageAgent,
) -> None:
    def broken(_window_s: float, _now_ns: int) -> ServiceMap:
        raise RuntimeError("no kernel")

    agent.draw = broken
    answer = ask(agent.port, "/api/map")
    assert answer.status == 500
    assert body(answer) == {"error": "RuntimeError: no kernel"}
