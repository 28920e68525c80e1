# SPDX-License-Identifier: Apache-2.0
"""Asking again and again: what is asked, what stays when nobody answers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.process import wait_until
from tests.topology.maps import calls, details, edge, node, node_details, service_map

from deetune_otel.cli.feed import MOST_SERVICES, Feed, Question, ask
from deetune_otel.cli.rows import By
from deetune_otel.web.client import NoAgent

if TYPE_CHECKING:
    from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap

A, B = "service:/a", "service:/b"
EDGE = f"{A}→{B}"


class Source:
    """An agent in this process."""

    def __init__(self, shown: ServiceMap) -> None:
        self.map = shown
        self.problem: Exception | None = None
        self.asked: list[tuple[str, float]] = []

    def service_map(
        self,
        *,
        window_s: float,
        with_pairs: bool = False,
    ) -> ServiceMap:
        assert not with_pairs
        self.asked.append(("map", window_s))
        if self.problem:
            raise self.problem
        return self.map

    def edge_details(self, edge_id: str, *, window_s: float) -> EdgeDetails | None:
        self.asked.append((edge_id, window_s))
        return next((details(e) for e in self.map.edges if e.id == edge_id), None)

    def node_details(self, node_id: str, *, window_s: float) -> NodeDetails | None:
        self.asked.append((node_id, window_s))
        return next((node_details(n) for n in self.map.nodes if n.id == node_id), None)


@pytest.fixture
def source() -> Source:
    return Source(service_map([edge(A, B, calls(60))], [node(B, served=(calls(60),))]))


def test_an_edge_that_is_opened(source: Source) -> None:
    answer = ask(source, Question(30, By.EDGE, EDGE))
    assert source.asked == [("map", 30), (EDGE, 30)]
    assert answer.details == details(source.map.edges[0])
    assert [row.id for row in answer.rows] == [EDGE]


def test_a_service_that_is_opened_and_is_gone(source: Source) -> None:
    assert ask(source, Question(30, By.SERVICE, B)).details is not None
    assert ask(source, Question(30, By.SERVICE, "service:/gone")).details is None


def test_operations_are_asked_for_only_where_there_are_some(source: Source) -> None:
    ask(source, Question(30, By.SERVICE))
    assert source.asked == [("map", 30)]
    answer = ask(source, Question(30, By.OPERATION))
    assert source.asked[1:] == [("map", 30), (B, 30)]
    assert [row.operation for row in answer.rows] == ["GET /"]


def test_of_many_services_the_busiest_are_asked_and_the_rest_is_said() -> None:
    busy = [node(f"service:/{n:03}", served=(calls(n + 1),)) for n in range(100)]
    source = Source(service_map((), busy))
    answer = ask(source, Question(30, By.OPERATION))
    assert answer.left_out == 100 - MOST_SERVICES
    assert {one for one, _ in source.asked[1:]} == {
        one.id for one in busy[-MOST_SERVICES:]
    }


@pytest.mark.parametrize("problem", [NoAgent("gone"), ValueError("odd")])
def test_the_last_answer_stays_when_nobody_answers(
    source: Source, problem: Exception
) -> None:
    news = threading.Event()
    with Feed(source, Question(60, By.EDGE), every_s=0.01, news=news.set) as feed:
        assert news.wait(10)
        source.problem = problem
        wait_until(lambda: feed.answer.problem, "a problem")
        first = feed.answer
        assert str(problem) in first.problem
        assert len(first.rows) == 1
        count = len(source.asked)
        wait_until(lambda: len(source.asked) > count + 2, "asked again")
        assert feed.answer.failing_since_s == first.failing_since_s
        source.problem = None
        wait_until(lambda: not feed.answer.problem, "it is back")


def test_another_question_is_asked_at_once(source: Source) -> None:
    with Feed(source, Question(60, By.EDGE), every_s=3600, news=lambda: None) as feed:
        wait_until(lambda: feed.answer.map, "an answer")
        feed.want(Question(300, By.SERVICE))
        wait_until(lambda: feed.answer.question.window_s == 300, "the other answer")
        feed.want(Question(300, By.SERVICE))
        assert source.asked == [("map", 60), ("map", 300)]
