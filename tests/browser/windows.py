# SPDX-License-Identifier: Apache-2.0
"""A browser's window on the page: what tests do in it, and what it must never do."""

from __future__ import annotations

import time
from typing import Any, Literal
from urllib.parse import urlencode

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

__all__ = ["Window"]

PATIENCE_MS = 15_000
WATCH_POLICY = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Window:
    """`close` fails the test on errors, on broken policies and on requests that leave the host."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        size: tuple[int, int] = (1280, 800),
        scheme: Literal["light", "dark"] = "light",
        reduced_motion: Literal["reduce", "no-preference"] = "reduce",
    ) -> None:
        self.url = url
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.is_agent_expected = True  # False: failed requests are part of the test
        self._context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion=reduced_motion,
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self._context.add_init_script(WATCH_POLICY)
        self.page: Page = self._context.new_page()
        expect.set_options(timeout=PATIENCE_MS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._context.on("request", self._saw)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if "getImageData" in message.text:  # that is us, looking at pixels
            return
        if not self.is_agent_expected and "Failed to load resource" in message.text:
            return
        self.errors.append(message.text)

    def _saw(self, request: Request) -> None:
        self.asked.append(request.url)

    def close(self) -> None:
        violations = self.page.evaluate("window.violations")
        self._context.close()
        elsewhere = [
            url for url in self.asked if not url.startswith((self.url, "data:"))
        ]
        problems = [*self.errors, *violations, *elsewhere]
        assert not problems, problems

    def open(self, **state: str) -> None:
        """Until the map is drawn; `state` is the view, as its URL holds it."""
        self.page.goto(f"{self.url}#{urlencode(state)}" if state else self.url)
        if state.get("view") == "table":
            self.page.wait_for_selector(".edges tbody tr")
        else:
            self.wait_for_nodes()

    def wait_for_nodes(self) -> None:
        self.until("Number(document.getElementById('map').dataset.placed) > 0")

    def until(self, expression: str) -> None:
        """The page's policy lets nobody evaluate strings in it, so it is asked from here."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(50)

    def where_is(self, what: str) -> tuple[float, float] | None:
        """In the window; `what` is a node's or an edge's id."""
        found = self.page.evaluate(
            "id => document.getElementById('map').whereIs(id)", what
        )
        if found is None:
            return None
        box = self.page.locator("#map").bounding_box()
        assert box is not None
        return box["x"] + found[0], box["y"] + found[1]

    def click(self, what: str) -> None:
        at = self.where_is(what)
        assert at is not None, f"{what} is not shown"
        self.page.mouse.click(*at)

    def pixel(self, what: str, *, dx: float = 0, dy: float = 0) -> list[int]:
        """Red, green and blue on the canvas at a node or an edge."""
        colour: list[int] = self.page.evaluate(
            """([id, dx, dy]) => {
                const map = document.getElementById("map");
                const [x, y] = map.whereIs(id);
                return [...map.getContext("2d").getImageData(x + dx, y + dy, 1, 1).data].slice(0, 3);
            }""",
            [what, dx, dy],
        )
        return colour

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(
            "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
        )
        return found
