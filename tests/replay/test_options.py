# SPDX-License-Identifier: Apache-2.0
"""A target as a person writes it."""

from __future__ import annotations

import pytest

from deetune_otel.replay.options import Target


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target("127.0.0.1", 80), "127.0.0.1:80"),
        (Target("::1", 80), "[::1]:80"),
        (Target("", 0, "/run/a.sock"), "unix:/run/a.sock"),
    ],
)
def test_as_text(target: Target, text: str) -> None:
    assert str(target) == text
    assert Target.parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:",
        ":80",
        "a:b",
        "a:0",
        "a:65536",
        "unix:",
        "http:h:1",
        "http:/h:1",
        "a b:80",
        "a:1/",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 127\.0\.0\.1:8081"):
        Target.parse(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http://127.0.0.1:8081", Target("127.0.0.1", 8081)),
        ("HTTP://localhost:8081/", Target("localhost", 8081)),
        ("http://127.0.0.1", Target("127.0.0.1", 80)),
        ("http://[::1]:8081", Target("::1", 8081)),
        ("redis://127.0.0.1", Target("127.0.0.1", 6379)),
    ],
)
def test_a_url_is_understood(text: str, target: Target) -> None:
    assert Target.parse(text) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://127.0.0.1:8443", "https is not spoken"),
        ("ftp://127.0.0.1", "expected http or redis"),
        ("http://127.0.0.1:8081/api", "a target has no path"),
        ("http://me:secret@127.0.0.1:8081", "a target has no user"),
        ("http://", "expected http://"),
        ("http://:80", "expected http://"),
        ("http://a:b", "expected http://"),
        ("http://a:99999", "expected http://"),
        ("http://a?b=c", "expected http://"),
        ("http://a:0", "expected http://"),
        ("http://a b:1", "expected http://"),
        ("me:secret@127.0.0.1:80", "a target has no user"),
        ("https://me:secret@127.0.0.1", "a target has no user"),
    ],
)
def test_a_url_that_is_no_target_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        Target.parse(text)
    assert "secret" not in str(raised.value)
