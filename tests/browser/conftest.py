# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, a fresh window for each test, and nothing of what went wrong in it overlooked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.browser.agents import PageAgent
from tests.browser.windows import Window

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# Quiet: it asks nobody for anything that the page did not ask for.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        reason = "no chromium on the PATH (Debian: chromium)"
        if os.environ.get("DEETUNE_REQUIRE_KERNEL"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def agent() -> Iterator[PageAgent]:
    agent = PageAgent()
    yield agent
    agent.stop()


@pytest.fixture
def window(chromium: Browser, agent: PageAgent) -> Iterator[Window]:
    window = Window(chromium, agent.url)
    yield window
    window.close()
