# SPDX-License-Identifier: Apache-2.0
"""The page over the agent as users run it, while real programs call each other."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.windows import Window
from tests.e2e.agent import Agent
from tests.programs import Client, Nginx

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        os.geteuid() != 0 and not os.environ.get("DEETUNE_REQUIRE_KERNEL"),
        reason="loading BPF needs root",
    ),
]

CALLS = 40


def test_real_calls_are_on_the_page(chromium: Browser, tmp_path: Path) -> None:
    settings = {"web": {"trace_url": "http://127.0.0.1:16686/trace/{trace_id}"}}
    with (
        Agent.start(tmp_path, settings) as agent,
        Nginx.start(tmp_path, workers=1) as front,
        Client.start(
            tmp_path,
            front.port,
            count=CALLS,
            paths=["/", "/missing"],
            env={"OTEL_SERVICE_NAME": "page-client"},
        ) as client,
    ):
        assert client.result() == {200: CALLS, 404: CALLS}
        window = Window(chromium, f"{agent.url}/")
        try:
            window.open(q="page-client", view="table")
            row = window.page.locator(".edges tbody tr", has_text="page-client")
            expect(row).to_contain_text("nginx")
            expect(row).to_contain_text("50")  # % of them failed
            row.click()
            panel = window.page.locator("#panel")
            expect(panel.locator("h2")).to_have_text("page-client → nginx")
            expect(panel).to_contain_text("Both ends were seen.")
            operations = panel.get_by_role("table")
            expect(operations).to_contain_text("GET /missing")
            trace = panel.get_by_role("link", name="Open the trace of GET /missing")
            expect(trace.first).to_have_attribute(
                "href", re.compile(r"/trace/[0-9a-f]{32}$")
            )
            window.page.get_by_label("Map", exact=True).check(force=True)
            expect(window.page.locator("#map")).to_be_visible()
            window.until(
                "document.getElementById('map').whereIs('service:/page-client') !== null"
            )
        finally:
            window.close()
