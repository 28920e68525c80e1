# SPDX-License-Identifier: Apache-2.0
"""What a route may look like; what it matches is tests/protocols/test_routes.py's."""

from __future__ import annotations

import re

import pytest

from deetune_otel.config.routes import (
    MAX_KEPT_SEGMENTS,
    RoutePattern,
    kept_segments,
)


def test_a_pattern_has_segments_and_perhaps_a_tail() -> None:
    pattern = RoutePattern.parse("/users/{id}/orders")
    assert pattern.segments == ("users", re.compile("(.+)", re.DOTALL), "orders")
    assert not pattern.tail
    assert RoutePattern.parse("/v12/*") == RoutePattern("/v12/*", ("v12",), tail=True)


TAKEN = [
    *("/", "/*", "/a/", "/users/{id}", "/users/{user_id}", "/{id:[0-9]+}"),
    *("/@{user}/lists/{id}", "/~{user}", "/{file}.json", "/{name}.tar.gz"),
    *("/v{version}/users", "/v1.{minor}/users", "/user-{id}", "/img_{id}.jpg"),
    *("/operations/{id}:cancel", "/Orders({id})/Items", "/users/id={id}"),
    *("/{owner}:{name}", "/{from}...{to}", "/2010-04-01/accounts/{id}"),
    *("/my%20files/{id}", "/api/2/x", "/404.html"),
]


@pytest.mark.parametrize("pattern", TAKEN)
def test_taken(pattern: str) -> None:
    assert RoutePattern.parse(pattern).text == pattern


REFUSED = [
    ("users", "begins with '/'"),
    ("/a/*/b", "alone and as the last segment"),
    ("/a/**", "alone and as the last segment"),
    ("/a/*.json", "alone and as the last segment"),
    ("/a/{rest*}", "alone and as the last segment"),
    ("/a?b=c", "leave out the query"),
    ("/a;b=c", "leave out ';'"),
    ("/a b", "write it as it is sent"),
    ("/caf\N{LATIN SMALL LETTER E WITH ACUTE}", "write it as it is sent"),
    ("/a/{}", "with a name and nothing else"),
    ("/a/{x", "with a name and nothing else"),
    ("/a/x}", "with a name and nothing else"),
    ("/a/{x{y}}", "with a name and nothing else"),
    ("/a/:id", "a parameter is written '{id}'"),
    ("/a/<int:id>", "a parameter is written '{id}'"),
    ("/a/x{id}", "cannot be told from other identifiers"),
    ("/a/{id}x", "cannot be told from other identifiers"),
    ("/a/{id}-details", "cannot be told from other identifiers"),
    ("/a/{a}{b}", "cannot be told from other identifiers"),
    ("/a/{a}-{b}", "cannot be told from other identifiers"),
    ("/a/{x}.v{y}.{z}", "cannot be told from other identifiers"),
    ("/a/2024.{id}", "is itself an identifier"),
    ("/a/{id}.2024", "is itself an identifier"),
]


@pytest.mark.parametrize(("pattern", "words"), REFUSED)
def test_refused_pattern_says_what_to_write(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        RoutePattern.parse(pattern)
    assert repr(pattern) in str(error.value)


def test_segments_are_kept_that_look_like_identifiers() -> None:
    patterns = map(RoutePattern.parse, ("/2010-04-01/{id}", "/a/2fa1234/7", "/oauth2"))
    assert kept_segments(patterns) - kept_segments(()) == {"2010-04-01", "2fa1234", "7"}


def test_more_segments_than_the_kernel_keeps() -> None:
    room = MAX_KEPT_SEGMENTS - len(kept_segments(()))
    patterns = [RoutePattern.parse(f"/reports/1{i:06}") for i in range(room + 1)]
    assert len(kept_segments(patterns[:-1])) == MAX_KEPT_SEGMENTS
    with pytest.raises(ValueError, match=f"^{room + 1} segments .* of {room} that"):
        kept_segments(patterns)
