# SPDX-License-Identifier: Apache-2.0
"""HTTP GET on loopback, for asking backends and the agent what they know."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

__all__ = ["get", "get_json", "is_ok"]


def get(url: str, *, timeout_s: float = 10, **query: str | float) -> str:
    """Give the body of a 2xx answer; OSError (HTTPError among them) otherwise."""
    if query:
        url += "?" + urlencode(query)
    # Of two formats the same endpoint may offer, the plain Prometheus text.
    request = Request(url, headers={"Accept": "text/plain, */*;q=0.5"})
    with urlopen(request, timeout=timeout_s) as answer:
        body: bytes = answer.read()
    return body.decode()


def get_json(url: str, *, timeout_s: float = 10, **query: str | float) -> Any:
    return json.loads(get(url, timeout_s=timeout_s, **query))


def is_ok(url: str) -> bool:
    """Tell whether the URL answers 2xx."""
    try:
        get(url, timeout_s=2)
    except OSError:
        return False
    return True
