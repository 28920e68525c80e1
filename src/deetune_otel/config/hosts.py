# SPDX-License-Identifier: Apache-2.0
"""What can be a host, and a URL of one. Whether anybody is there is not asked."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

__all__ = ["is_host", "wrong_with_url"]

# Underscores are in no host's name by the book, and in many a container's.
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


def is_host(text: str) -> bool:
    """An IP address, or a name as DNS has them (also one with letters beyond ASCII)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        return True
    try:
        name = text.encode("idna").decode("ascii")  # a label has at most 63 letters
    except UnicodeError:
        return False
    return _NAME.fullmatch(name) is not None


def wrong_with_url(url: str) -> str:
    """Why nothing could be asked there over HTTP; "" where something could."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return "it begins with http:// or https://"
    if not is_host(host):
        return f"{host!r} is no host" if host else "it names no host"
    if not all(" " < one < "\x7f" for one in url):
        return "it has letters that no URL has"
    if parts.query or parts.fragment:
        return "it has no ? and no #"
    return ""
