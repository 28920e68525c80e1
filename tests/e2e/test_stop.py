# SPDX-License-Identifier: Apache-2.0
"""How the agent ends: what was counted is sent, and nothing stays in the kernel."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.e2e.agent import (
    Agent,
    calls_in_points,
    loaded_programs,
    programs_held_by,
)
from tests.e2e.shop import Shop
from tests.process import wait_for_equal, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backends.collector import Collector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_sigterm_sends_everything_and_leaves_nothing(
    protocol: str, collector: Collector, tmp_path: Path
) -> None:
    """Nothing is exported before: the interval is longer than the test."""
    endpoint = (
        collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    )
    with Shop(tmp_path) as shop:
        settings = shop.settings(endpoint, protocol)
        settings["agent"] = {"interval_s": 3600.0}
        with Agent.start(tmp_path, settings) as agent:
            held = programs_held_by(agent.pid)
            assert held
            shop.buy(5, failing=1)
            assert agent.stop() == 0, agent.log_text()
        assert not held & loaded_programs().keys()
        expected = shop.expected(5, failing=1)
        wait_for_equal(
            lambda: calls_in_points(collector.points(), shop.ports),
            Counter(expected),
            "the last counts arrived",
        )
        spans = sum(expected.values())
        wait_for_equal(
            lambda: len(shop.spans(collector)), spans, "the last spans arrived"
        )


def test_nothing_stays_after_a_kill(collector: Collector, tmp_path: Path) -> None:
    with Shop(tmp_path) as shop:
        with Agent.start(tmp_path, shop.settings(collector.grpc_endpoint)) as agent:
            held = programs_held_by(agent.pid)
            assert held
            shop.buy(2)
            agent.signal(signal.SIGKILL)
            assert agent.wait(10) == -signal.SIGKILL
        wait_until(
            lambda: not held & loaded_programs().keys(),
            "the kernel has dropped the programs of a killed agent",
        )
        shop.buy(2)  # and the shop does not care
