# SPDX-License-Identifier: Apache-2.0
"""`deetune map` beside real programs: exactly the edges that there are, with exact counts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tests.e2e.agent import Agent
from tests.e2e.shop import EDGES, Shop
from tests.process import free_port, wait_for_equal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BOUGHT, FAILED = 23, 7
NAMES = {name for edge in EDGES for name in edge}
# client, server, protocol: calls, failed
CALLS = {
    ("e2e-client", "e2e-front", "http"): (BOUGHT + FAILED, FAILED),
    ("e2e-front", "e2e-orders", "http"): (BOUGHT + FAILED, FAILED),
    ("e2e-orders", "aio", "http"): (BOUGHT, 0),
    ("e2e-orders", "e2e-redis", "redis"): (BOUGHT, 0),
    ("aio", "e2e-redis", "redis"): (BOUGHT, 0),
}


class Watched(NamedTuple):
    agent: Agent
    before: Path  # the map while nothing was bought


def deetune_map(*argv: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "deetune_otel", "map", *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def edges_of_the_shop(document: Any) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Give everything that touches a program of the shop."""
    names = {one["id"]: one["name"] for one in document["nodes"]}
    return {
        (names[edge["client"]], names[edge["server"]], of["protocol"]): (
            of["calls"]["count"],
            of["calls"]["errors"],
        )
        for edge in document["edges"]
        for of in edge["calls"]
        if {names[edge["client"]], names[edge["server"]]} & NAMES
    }


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("mapped")
    nowhere = f"http://127.0.0.1:{free_port()}"
    with Shop(folder) as shop:
        settings = {"services": shop.settings(nowhere)["services"]}
        with Agent.start(folder, settings) as agent:
            before = folder / "before.json"
            deetune_map("--url", agent.url, "--format", "json", "-o", before)
            shop.buy(BOUGHT, failing=FAILED)
            agent.wait_for_calls(shop.expected(BOUGHT, failing=FAILED))
            yield Watched(agent, before)


def as_json(watched: Watched, *argv: object) -> Any:
    return json.loads(
        deetune_map(
            *("--url", watched.agent.url, "--window", "10m", "--format", "json"), *argv
        )
    )


def test_the_map_has_exactly_the_edges_and_calls(watched: Watched) -> None:
    wait_for_equal(
        lambda: edges_of_the_shop(as_json(watched)), CALLS, "the map is the shop's"
    )


def test_both_ends_were_seen_and_counted_alike(watched: Watched) -> None:
    made = as_json(watched)
    names = {one["id"]: one["name"] for one in made["nodes"]}
    of_shop = [one for one in made["edges"] if names[one["client"]] in NAMES]
    assert len(of_shop) == len(EDGES)
    for edge in of_shop:
        assert edge["ends"] == "both", edge["id"]
        for of in edge["calls"]:
            assert of["calls"]["p50_s"] > 0
            # Redis's two clients call from one address: it cannot tell their calls apart.
            if names[edge["server"]] == "e2e-redis":
                continue
            assert of["at_server"]["count"] == of["calls"]["count"], edge["id"]


def test_a_service_and_its_neighbours(watched: Watched) -> None:
    made = as_json(watched, "--service", "e2e-orders")
    assert edges_of_the_shop(made).keys() == {
        edge for edge in CALLS if "e2e-orders" in edge
    }


def test_text_and_drawings_show_every_edge(watched: Watched) -> None:
    ask = ("--url", watched.agent.url, "--window", "10m", "--service", "e2e-*", "aio")
    text = deetune_map(*ask)
    for client, server in EDGES:
        block = text.partition(f"\n{client}")[2]
        assert f"→ {server} " in block.partition("\n\n")[0], text
    for form in ("dot", "mermaid"):
        drawing = deetune_map(*ask, "--format", form)
        assert all(name in drawing for name in NAMES)


def test_what_is_new_since_before(watched: Watched) -> None:
    made = json.loads(
        deetune_map(
            *("--url", watched.agent.url, "--window", "10m"),
            *("--diff", watched.before, "--format", "json"),
            code=1,
        )
    )
    new = {one["name"] for one in made["changes"] if one["kind"] == "edge_appeared"}
    assert "e2e-client → e2e-front" in new
    now = watched.before.parent / "now.json"
    deetune_map("--url", watched.agent.url, "--format", "json", "-o", now)
    assert deetune_map("--from", now, "--diff", now).startswith("nothing changed")


def test_an_agent_given_twice_counts_once(watched: Watched) -> None:
    once = as_json(watched)
    twice = json.loads(
        deetune_map(
            *("--from", watched.agent.url, watched.agent.url),
            *("--window", "10m", "--format", "json"),
        )
    )
    assert edges_of_the_shop(twice) == edges_of_the_shop(once)
