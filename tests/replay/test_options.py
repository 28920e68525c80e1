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
    "text", ["", "a", "a:", ":80", "a:b", "a:0", "a:65536", "unix:"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 127\.0\.0\.1:8081"):
        Target.parse(text)
