# SPDX-License-Identifier: Apache-2.0
"""A picture of a running agent's page: python -m tests.browser.picture URL FILE.png [light|dark] [HASH]."""

from __future__ import annotations

import shutil
import sys

from playwright.sync_api import sync_playwright

# The first layout settles, details and a history arrive.
LOOK_MS = 6000


def main(url: str, file: str, scheme: str = "light", view: str = "") -> None:
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or "chromium"
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-background-networking"],
        )
        page = browser.new_page(
            viewport={"width": 1360, "height": 800},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page.goto(f"{url}#{view}")
        page.wait_for_timeout(LOOK_MS)
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
