# SPDX-License-Identifier: Apache-2.0
"""The screen at sizes of real terminals, with and without an agent, with and without details."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from tests.topology.maps import (
    calls,
    details,
    edge,
    network,
    node,
    node_details,
    service_map,
)

from deetune_otel.cli.browsing import Browsing
from deetune_otel.cli.feed import Answer, Question
from deetune_otel.cli.rows import By, arranged, rows
from deetune_otel.cli.screen import footer, headline, room_for_rows, screen
from deetune_otel.topology.model import AgentView, Instance

A, B, C = "service:/a", "service:/b", "service:/c"
EDGE = edge(
    A,
    B,
    calls(60, errors=6),
    network=network(3, connect_failures={"ETIMEDOUT": 2}, retransmits=4),
    via=("10.96.0.1:80",),
    is_cross_zone=True,
)
MAP = service_map([EDGE, edge(B, C, calls(600))])
STATE = Browsing(window_s=60, sort="rate")
SELECTED = next(one.key for one in rows(MAP, By.EDGE) if one.id == EDGE.id)
OPENED = replace(STATE, selected=SELECTED, has_details=True)


def answer(opened: str = "", by: By = By.EDGE, **changes: Any) -> Answer:
    values: dict[str, Any] = {
        "question": Question(60, by, opened),
        "map": MAP,
        "rows": tuple(rows(MAP, by)),
    }
    return Answer(**values | changes)


def drawn(
    state: Browsing, of: Answer, *, width: int = 100, height: int = 30, **more: Any
) -> str:
    console = Console(file=io.StringIO(), width=width, **more)
    with console.capture() as capture:
        console.print(
            screen(
                state,
                of,
                arranged(of.rows, state.sort),
                name="http://x:1",
                first=0,
                now_s=100.0,
                width=width,
                height=height,
            )
        )
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_rows_of_a_map() -> None:
    text = drawn(STATE, answer())
    assert text.splitlines()[0] == "a · last 60 s · 3 nodes, 2 edges"
    assert "2 by edge, sorted by rate, the most first" in text
    assert text.index("→ c") < text.index("→ b")


def test_what_the_state_adds_to_it() -> None:
    state = replace(STATE, filter="a", is_held=True, is_reversed=True, window_s=300)
    text = drawn(state, answer(left_out=3), width=160)
    for part in (
        "held",
        "filter: a (2 of 2)",
        "the least first",
        "asking …",
        "3 less busy",
    ):
        assert part in text


def test_before_the_first_answer() -> None:
    text = drawn(STATE, answer(map=None, rows=()))
    assert text.startswith("asking http://x:1 …")


def test_without_an_agent_the_rows_stay_and_are_dim() -> None:
    gone = answer(problem="http://x:1: refused", failing_since_s=88.0)
    text = drawn(STATE, gone)
    assert "for 12 s · the last rows are shown · http://x:1: refused" in text
    assert "→ c" in text
    coloured = drawn(STATE, gone, force_terminal=True, color_system="standard")
    line = next(line for line in coloured.splitlines() if "→ c" in line)
    assert "\x1b[2m" in line
    was_there = drawn(STATE, answer(), force_terminal=True, color_system="standard")
    line = next(line for line in was_there.splitlines() if "→ c" in line)
    assert not line.startswith("\x1b[2m")


def test_an_edges_details() -> None:
    text = drawn(OPENED, answer(EDGE.id, details=details(EDGE)), width=160)
    for part in (
        "a → b · tcp · seen at both ends · via 10.96.0.1:80 · crosses zones",
        "3 open · 3 connects in 1.00 ms · 2 failed: ETIMEDOUT · RTT 700 µs · 4 resent",
        "50 B/s → 100 B/s ←",
        "GET /",
        "req/s ▁█",
        "ab" * 16,
    ):
        assert part in text


def test_a_services_details() -> None:
    of = node(
        B, instances=(Instance(id="i", host="h", pid=7),), addresses=("10.0.0.1:80",)
    )
    found = answer(B, By.SERVICE, details=node_details(of))
    key = next(one.key for one in rows(MAP, By.SERVICE) if one.id == B)
    text = drawn(replace(OPENED, by=By.SERVICE, selected=key), found)
    assert "b · service · pid 7 on h · 10.0.0.1:80" in text
    assert "called by a · calls nobody" in text


def test_details_of_another_row_are_not_shown_as_this_ones() -> None:
    text = drawn(OPENED, answer("service:/x→service:/y", details=details(EDGE)))
    assert "asking for its details" in text
    assert "GET /" not in text


@pytest.mark.parametrize("width", [40, 80, 132])
@pytest.mark.parametrize("height", [12, 24, 50])
def test_it_fits(width: int, height: int) -> None:
    many = service_map([edge(A, f"service:/{n}", calls(n)) for n in range(100)])
    of = answer(
        EDGE.id, details=details(EDGE), map=many, rows=tuple(rows(many, By.EDGE))
    )
    for state in (STATE, OPENED):
        lines = drawn(state, of, width=width, height=height).splitlines()
        assert max(map(len, lines)) <= width
        assert room_for_rows(height, state) >= 1
        if state is STATE:
            assert len(lines) == height - 1


def test_losses_are_said() -> None:
    agents = (AgentView(host="a", version="1", exchanges_lost=1234),)
    assert "1,234 exchanges lost" in headline(replace(MAP, agents=agents)).plain


def test_many_hosts_are_counted() -> None:
    agents = tuple(AgentView(host=f"h{n}", version="1") for n in range(9))
    assert headline(replace(MAP, agents=agents)).plain.startswith(
        "h0, h1, h2 and 6 more"
    )


def test_the_last_line_is_the_filter_while_it_is_typed() -> None:
    assert "q end" in footer(STATE).plain
    assert footer(replace(STATE, is_typing=True, filter="abc")).plain == "/abc▏"
