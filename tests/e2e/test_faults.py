# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around the agent: counts stay exact, losses are counted, all recovers."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from tests.backends.prometheus import total
from tests.e2e.agent import Agent, Call, calls_in_points
from tests.e2e.shop import Shop
from tests.process import free_port, wait_for_equal, wait_until
from tests.programs import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backends.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# The longest pause between two tries to send is 30 s.
RECOVERY_S: Final = 60


def test_a_collector_that_was_away_gets_everything(
    collector: Collector, tmp_path: Path
) -> None:
    with (
        Shop(tmp_path) as shop,
        Agent.start(tmp_path, shop.settings(collector.grpc_endpoint)) as agent,
    ):
        shop.buy(3)
        _wait_for_arrival(collector, shop, shop.expected(3))
        collector.stop()  # killed, it would lose what it has taken and not yet written
        shop.buy(5, failing=2)
        agent.wait_for_calls(shop.expected(8, failing=2))
        collector.restart()
        shop.buy(1)
        expected = shop.expected(9, failing=2)
        _wait_for_arrival(collector, shop, expected, timeout_s=RECOVERY_S)
        wait_for_equal(
            lambda: len(shop.spans(collector)),
            sum(expected.values()),
            "every span arrived",
            timeout_s=RECOVERY_S,
        )
        agent.wait_for_balance()


def test_a_collector_that_hangs_costs_spans_that_are_counted(
    collector: Collector, tmp_path: Path
) -> None:
    with Shop(tmp_path) as shop:
        settings = shop.settings(collector.grpc_endpoint)
        settings["otlp"]["timeout_s"] = 1.0
        settings["limits"] = {"span_queue": 20}
        with Agent.start(tmp_path, settings) as agent:
            shop.buy(1)
            _wait_for_arrival(collector, shop, shop.expected(1))
            collector.freeze()
            try:
                shop.buy(40)
                agent.wait_for_calls(shop.expected(41))
                wait_until(lambda: _dropped(agent, "spans"), "spans were dropped")
                agent.wait_for_balance()
            finally:
                collector.thaw()
            expected = shop.expected(41)
            _wait_for_arrival(collector, shop, expected, timeout_s=RECOVERY_S)
            made = sum(expected.values())
            # A request that was given up may have been taken all the same.
            wait_until(
                lambda: len(shop.spans(collector)) + _dropped(agent, "spans") >= made,
                "every span arrived or was counted as dropped",
                timeout_s=RECOVERY_S,
            )
            assert len(shop.spans(collector)) < made
            shop.buy(1)
            _wait_for_arrival(collector, shop, shop.expected(42), timeout_s=RECOVERY_S)


def test_an_agent_without_a_collector_counts_and_ends_in_time(tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        nobody = f"http://127.0.0.1:{free_port()}"
        with Agent.start(tmp_path, shop.settings(nobody)) as agent:
            shop.buy(3)
            agent.wait_for_calls(shop.expected(3))
            agent.wait_for_balance()
            started = time.monotonic()
            assert agent.stop(timeout_s=30) == 0, agent.log_text()
            assert time.monotonic() - started < 15


def test_a_service_that_dies_in_the_middle_of_a_request(
    collector: Collector, tmp_path: Path
) -> None:
    with (
        Shop(tmp_path) as shop,
        Agent.start(tmp_path, shop.settings(collector.grpc_endpoint)) as agent,
        Client.start(
            tmp_path, shop.front.port, count=1, paths=["/orders/hang"]
        ) as client,
    ):
        wait_until(lambda: "hangs" in shop.orders.log_text(), "the request is open")
        shop.orders.kill()
        assert client.result() == {502: 1}

        def counted() -> bool:
            calls = agent.calls([shop.front.port, shop.orders.port])
            at_orders = [call for call in calls if call.port == shop.orders.port]
            return (
                calls[Call("server", shop.front.port, "502")] == 1
                and calls[Call("client", shop.front.port, "502")] == 1
                and {call.role for call in at_orders} == {"client", "server"}
                and all(calls[call] == 1 for call in at_orders)
                and all("!" in call.outcome for call in at_orders)
            )

        wait_until(counted, "both ends of the call that got no answer are errors")
        agent.wait_for_balance()


def _wait_for_arrival(
    collector: Collector,
    shop: Shop,
    expected: dict[Call, int],
    *,
    timeout_s: float = 20,
) -> None:
    wait_for_equal(
        lambda: calls_in_points(collector.points(), shop.ports),
        Counter(expected),
        "the Collector has the exact counts",
        timeout_s=timeout_s,
    )


def _dropped(agent: Agent, signal: str) -> int:
    """Count what the queue of one signal dropped."""
    return int(
        total(agent.metrics(), "deetune_agent_dropped_total", deetune_signal=signal)
    )
