# SPDX-License-Identifier: Apache-2.0
"""The page of a replay in Chromium: it works, and asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.comparison.reports.sample import ALL

from deetune_otel.comparison import reports

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_replay(chromium: Browser, tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(reports.html(ALL), encoding="utf-8")
    page = chromium.new_page(color_scheme="dark" if scheme == "dark" else "light")
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())

    expect(page.locator("html")).to_have_attribute("data-theme", scheme)
    expect(page.locator("#shown")).to_have_text("5 of 5")
    page.locator("summary").first.click()
    expect(page.locator(".sides .now").first).to_have_text('  "a": 2,')
    page.fill("#search", "503")
    expect(page.locator("#shown")).to_have_text("1 of 5")
    page.fill("#search", "")
    page.locator("#chips button", has_text="failed").click()
    expect(page.locator("#shown")).to_have_text("1 of 5")
    page.locator("#chips button", has_text="all").click()
    page.locator(".cluster", has_text="$.a").click()
    expect(page.locator("#shown")).to_have_text("1 of 5")
    page.locator("#theme").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", scheme)
    assert wrong == []
    assert asked == [file.as_uri()]
    page.close()
