# SPDX-License-Identifier: Apache-2.0
"""The whole path: unmodified programs, the kernel, OTLP, a real Collector, a real Jaeger.

One agent watches one shop for all tests of this file; each looks at another station.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from tests.e2e.agent import (
    Agent,
    calls_in_points,
    calls_on_page,
    loaded_programs,
    programs_held_by,
)
from tests.e2e.shop import EDGES, Shop
from tests.process import wait_for_equal, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backends.collector import Collector
    from tests.backends.jaeger import Jaeger, JaegerSpan
    from tests.e2e.agent import Call

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MET: Final = 3  # after a request or two it is known how a process waits
BOUGHT: Final = 23
FAILED: Final = 7


class Observed(NamedTuple):
    """A shop whose traffic is over, and the agent that watched it."""

    shop: Shop
    agent: Agent
    expected: dict[Call, int]


@pytest.fixture(scope="module")
def observed(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    with (
        Shop(folder) as shop,
        Agent.start(folder, shop.settings(collector.grpc_endpoint)) as agent,
    ):
        shop.buy(MET, client="e2e-visitor")
        spans = sum(shop.expected(MET).values())
        wait_for_equal(lambda: len(shop.spans(collector)), spans, "the first spans")
        shop.buy(BOUGHT, failing=FAILED)
        expected = shop.expected(MET + BOUGHT, failing=FAILED)
        agent.wait_for_calls(expected)
        yield Observed(shop, agent, expected)


def test_the_agents_page_shows_the_exact_counts(observed: Observed) -> None:
    answered = observed.shop.front.answered()
    assert answered == {200: MET + BOUGHT, 500: FAILED}
    assert observed.agent.calls(observed.shop.ports) == observed.expected


def test_the_collector_received_the_exact_counts(
    observed: Observed, collector: Collector
) -> None:
    ports = observed.shop.ports
    wait_for_equal(
        lambda: calls_in_points(collector.points(), ports),
        Counter(observed.expected),
        "the counts arrived by OTLP",
    )


def test_the_collectors_page_shows_the_exact_counts(
    observed: Observed, collector: Collector
) -> None:
    ports = observed.shop.ports
    wait_for_equal(
        lambda: calls_on_page(collector.prometheus(), ports),
        Counter(observed.expected),
        "the counts are on the Collector's page",
    )


@pytest.mark.usefixtures("observed")
def test_jaeger_shows_who_calls_whom(jaeger: Jaeger) -> None:
    services = {service for edge in EDGES for service in edge}
    wait_until(lambda: services <= jaeger.services(), "Jaeger knows every service")
    expected = {
        ("e2e-client", "e2e-front"): BOUGHT + FAILED,
        ("e2e-front", "e2e-orders"): MET + BOUGHT + FAILED,
        ("e2e-orders", "aio"): MET + BOUGHT,
        ("e2e-orders", "e2e-redis"): MET + BOUGHT,
        ("aio", "e2e-redis"): MET + BOUGHT,
    }

    def map_of_the_shop() -> dict[tuple[str, str], int]:
        return {
            edge: count
            for edge, count in jaeger.dependencies().items()
            if services >= set(edge)
        }

    wait_for_equal(map_of_the_shop, expected, "Jaeger's map is the shop's")


@pytest.mark.usefixtures("observed")
def test_the_collectors_service_graph_agrees(collector: Collector) -> None:
    wait_until(
        lambda: collector.service_graph().keys() >= EDGES,
        "the service graph shows every edge",
    )
    assert not {(b, a) for a, b in EDGES} & collector.service_graph().keys()


Shape = tuple[tuple[str, ...], ...]


@pytest.mark.usefixtures("observed")
def test_a_trace_is_whole_as_far_as_threads_go(jaeger: Jaeger) -> None:
    """nginx and asyncio do several things at once: what they call begins a trace of its own."""
    asked: Shape = (
        ("e2e-client client GET /orders/{id}", "e2e-front server GET /orders/{id}"),
        ("root", "e2e-client client GET /orders/{id}"),
    )
    in_vain: Shape = (
        ("e2e-client client GET /orders/fail", "e2e-front server GET /orders/fail"),
        ("root", "e2e-client client GET /orders/fail"),
    )
    bought: Shape = (
        ("e2e-front client GET /orders/{id}", "e2e-orders server GET /orders/{id}"),
        ("e2e-orders client GET /stock/{id}", "aio server GET /stock/{id}"),
        ("e2e-orders client SET", "e2e-redis server SET"),
        ("e2e-orders server GET /orders/{id}", "e2e-orders client GET /stock/{id}"),
        ("e2e-orders server GET /orders/{id}", "e2e-orders client SET"),
        ("root", "e2e-front client GET /orders/{id}"),
    )
    failed: Shape = (
        ("e2e-front client GET /orders/fail", "e2e-orders server GET /orders/fail"),
        ("root", "e2e-front client GET /orders/fail"),
    )
    looked_up: Shape = (
        ("aio client GET", "e2e-redis server GET"),
        ("root", "aio client GET"),
    )
    wait_for_equal(
        lambda: _shapes(jaeger, "e2e-client"),
        Counter({asked: BOUGHT, in_vain: FAILED}),
        "every purchase is there",
    )

    def behind() -> Counter[Shape]:
        """Of all purchases but the first ones, which may be in pieces."""
        orders = _shapes(jaeger, "e2e-orders")
        return Counter(
            {
                bought: min(orders[bought], BOUGHT),
                failed: orders[failed],
                looked_up: _shapes(jaeger, "aio")[looked_up],
            }
        )

    wait_for_equal(
        behind,
        Counter({bought: BOUGHT, failed: FAILED, looked_up: MET + BOUGHT}),
        "every purchase is whole behind the front",
    )


def _shapes(jaeger: Jaeger, service: str) -> Counter[Shape]:
    return Counter(_shape(trace) for trace in jaeger.traces(service))


@pytest.mark.usefixtures("observed")
def test_spans_lie_within_their_parents_and_say_their_outcome(jaeger: Jaeger) -> None:
    wait_until(
        lambda: len(jaeger.traces("e2e-client")) == BOUGHT + FAILED,
        "all traces are there",
    )
    traces = jaeger.traces("e2e-client") + jaeger.traces("e2e-orders")
    for trace in traces:
        spans = {span.span_id: span for span in trace}
        for span in trace:
            parent = spans.get(span.parent_id)
            if parent is not None and parent.service == span.service:
                assert parent.start_us <= span.start_us, (parent, span)
                assert span.end_us <= parent.end_us + 1, (parent, span)
            failed = "fail" in span.name
            assert span.tags.get("error", False) == failed, span
            if failed:
                assert span.tags["http.response.status_code"] == 500


def test_exemplars_lead_to_spans_that_were_kept(
    observed: Observed, collector: Collector
) -> None:
    def exemplars() -> set[tuple[str, str]]:
        return {
            exemplar
            for point in collector.points()
            if point.attributes.get("server.port") in observed.shop.ports
            for exemplar in point.exemplars
        }

    wait_until(exemplars, "a histogram has an exemplar")
    wait_until(
        lambda: exemplars() <= {(s.trace_id, s.span_id) for s in collector.spans()},
        "every exemplar's span arrived",
    )


def test_the_ledger_balances(observed: Observed) -> None:
    observed.agent.wait_for_balance()
    ledger = observed.agent.status()["ledger"]
    assert ledger["counted"]["exchanges"] >= sum(observed.expected.values())


def test_the_agent_leaves_itself_out_and_says_so(
    observed: Observed, collector: Collector
) -> None:
    pid = observed.agent.pid
    own_traffic = [
        span for span in collector.spans() if span.resource.get("process.pid") == pid
    ]
    own_calls = [
        point
        for point in collector.points()
        if point.resource.get("process.pid") == pid
        and (
            point.name.startswith(("http.", "db.", "rpc."))
            or "deetune"
            in (point.attributes.get("client"), point.attributes.get("server"))
        )
    ]
    assert own_traffic == []
    assert own_calls == []
    assert str(pid) in observed.agent.log_text()


def test_what_the_kernel_holds_is_the_agents_and_has_its_prefix(
    observed: Observed,
) -> None:
    held = programs_held_by(observed.agent.pid)
    assert held
    names = {loaded_programs()[number] for number in held}
    assert all(name.startswith("dt_") for name in names), names


def _shape(trace: list[JaegerSpan]) -> Shape:
    """Pairs of parent and child, without ids and times."""
    names = {span.span_id: f"{span.service} {span.kind} {span.name}" for span in trace}
    return tuple(
        sorted(
            (names.get(span.parent_id, "root"), names[span.span_id]) for span in trace
        )
    )
