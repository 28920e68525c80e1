# SPDX-License-Identifier: Apache-2.0
"""What can be a host and a URL, by tables; that nobody need be there."""

from __future__ import annotations

import pytest

from deetune_otel.config.hosts import is_host, wrong_with_url


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "0"),
        *("collector", "otel-collector.svc.cluster.local", "a_b.c", "a.b."),
        *("b\u00fccher.example", "a" * 63),
    ],
)
def test_hosts(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "a..b",
            ".a",
            "*",
            "a b",
            "a\tb",
            "a\0b",
            "a/b",
            "a:1",
            "[::1]",
            "::g",
        ),
        *("a,b", "a%20b", "a\\b", '"a"', "http://a", "a@b", "a" * 64, "\u00fc" * 64),
    ],
)
def test_what_is_no_host(text: str) -> None:
    assert not is_host(text)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8127", "https://agent.example/", "http://[::1]:8127/a"),
        *("HTTP://h", "http://h:0"),
    ],
)
def test_urls(url: str) -> None:
    assert wrong_with_url(url) == ""


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("127.0.0.1:8127", "it begins with http:// or https://"),
        ("ftp://h", "it begins with http:// or https://"),
        ("http://", "it names no host"),
        ("http://:80", "it names no host"),
        ("http://a..b:80", "'a..b' is no host"),
        ("http://h:x", "Port could not be cast"),
        ("http://h:99999", "Port out of range"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://h/?q=1", "it has no ? and no #"),
        ("http://h/#a", "it has no ? and no #"),
        ("http://h/\r\nX: y", "it has letters that no URL has"),
        ("http://h\u00f6/", "it has letters that no URL has"),
    ],
)
def test_what_is_no_url(url: str, wrong: str) -> None:
    assert wrong_with_url(url).startswith(wrong)
