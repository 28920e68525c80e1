# SPDX-License-Identifier: Apache-2.0
"""What a route may look like; what it matches is tests/protocols/test_routes.py's."""

from __future__ import annotations

import re

import pytest

from deetune_otel.config.routes import RoutePattern


def test_a_pattern_has_segments_and_perhaps_a_tail() -> None:
    assert RoutePattern.parse("/users/{id}/orders") == RoutePattern(
        "/users/{id}/orders", ("users", None, "orders"), tail=False
    )
    assert RoutePattern.parse("/v12/*") == RoutePattern("/v12/*", ("v12",), tail=True)


REFUSED = [
    ("users", "begins with '/'"),
    ("/reports/2024/pdf", "write '/reports/{id}/pdf'"),
    ("/v123", "write '/{id}'"),
    ("/a/*/b", "comes last"),
    ("/a/x{id}", "whole segment"),
    ("/a/{}", "whole segment"),
    ("/a?b=c", "leave out the query"),
]


@pytest.mark.parametrize(("pattern", "words"), REFUSED)
def test_refused_pattern_says_what_to_write(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        RoutePattern.parse(pattern)
    assert repr(pattern) in str(error.value)
