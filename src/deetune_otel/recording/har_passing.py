# SPDX-License-Identifier: Apache-2.0
"""Entries of a HAR file that are no request to a server, or that no server answered.

Browsers list all that a page loaded: what an extension brought, what was in the cache, what was
given up. Sent to a server, these would be requests that nobody made.
"""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["why_passed"]

_SCHEME: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]{0,40}):")
_SOCKETS: Final = frozenset({"ws", "wss"})
_SWITCHED: Final = 101
_WEBSOCKETS: Final = "of WebSockets"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# Said by Chrome of what it redirected by itself (HSTS), and of service workers.
_INTERNAL: Final = "Internal Redirect"


def why_passed(entry: dict[str, Any]) -> str:
    """ "" for a request to a server; else the words under which the entry is counted."""
    asked, answered = _object(entry, "request"), _object(entry, "response")
    return _of_request(entry, asked) or _of_answer(entry, answered)


def _of_request(entry: dict[str, Any], asked: dict[str, Any]) -> str:
    url = _text(asked, "url")
    scheme = _SCHEME.match(url)
    name = scheme[1].lower() if scheme else "http"
    if _text(asked, "method").upper() == "CONNECT":
        return "of tunnels (CONNECT)"
    if name in _SOCKETS or "_webSocketMessages" in entry:
        return _WEBSOCKETS
    if name not in ("http", "https"):
        return f"of {name}: URLs, which are no HTTP"
    return "with a control character in their URL" if _CONTROL.search(url) else ""


def _of_answer(entry: dict[str, Any], answered: dict[str, Any]) -> str:
    status = answered.get("status")
    if status == _SWITCHED:
        return _WEBSOCKETS
    if _is_from_cache(entry, answered):
        return "that the browser answered itself (cache, service worker, internal redirect)"
    if status == 0 and "_exchange" not in entry:
        return "that were never answered (failed, blocked or given up)"
    if isinstance(status, int) and 100 <= status < 200:
        return "of interim answers (1xx)"
    return ""


def _is_from_cache(entry: dict[str, Any], answered: dict[str, Any]) -> bool:
    for one in (entry, answered):
        if one.get("_fromCache") or one.get("_servedFromCache"):
            return True
        if one.get("_fetchedViaServiceWorker") is True:
            return True
        if "cache" in _text(one, "_fetchType").lower():  # Safari
            return True
    if _text(answered, "statusText") == _INTERNAL:
        return True
    # Firefox says so in the field that the format has for it.
    return "afterRequest" in _object(entry, "cache") and answered.get("bodySize") == 0


def _object(found: dict[str, Any], key: str) -> dict[str, Any]:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""
