# SPDX-License-Identifier: Apache-2.0
"""What a browser lists beside the requests to servers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.recording.har import entry, read


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (entry("data:image/png;base64,AAAA"), "data: URLs"),
        (entry("blob:https://shop/6f1e"), "blob: URLs"),
        (entry("chrome-extension://abc/x.js"), "chrome-extension: URLs"),
        (entry("about:blank"), "about: URLs"),
        (entry("file:///etc/hosts"), "file: URLs"),
        (entry("wss://shop/live"), "WebSockets"),
        (entry("http://shop/live", response={"status": 101}), "WebSockets"),
        (entry(_webSocketMessages=[]), "WebSockets"),
        (entry("shop:443", "CONNECT"), "tunnels"),
        (entry(response={"status": 0}), "never answered"),
        (entry(_fromCache="disk"), "answered itself"),
        (entry(response={"_fetchedViaServiceWorker": True}), "answered itself"),
        (entry(response={"_fetchType": "Memory Cache"}), "answered itself"),
        (entry(response={"statusText": "Internal Redirect"}), "answered itself"),
        (
            entry(response={"bodySize": 0}, cache={"afterRequest": None}),
            "answered itself",
        ),
        (entry(response={"status": 103}), "interim"),
        (entry("http://shop/a\r\nb"), "control character"),
        (entry(sent=(("X", "1\r\n\r\nDELETE /all HTTP/1.1"),)), "line end"),
        (entry(sent=(("X\r\nY", "1"),)), "a header whose name"),
        (entry(sent=(("", "1"),)), "a header whose name"),
        (entry(got=(("X", "1\n2"),)), "line end"),
        (entry(method="GET /x HTTP/1.1\r\n"), "method"),
    ],
)
def test_what_is_no_request_is_left_out_and_said(one: Any, words: str) -> None:
    found, passed = read(one, entry())
    assert len(found) == 1
    ((said, count),) = passed.items()
    assert (words in said, count) == (True, 1), said
