# SPDX-License-Identifier: Apache-2.0
"""Route names: patterns, the heuristic, the cap, and what the kernel's folding allows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.model import Operation, Protocol
from deetune_otel.protocols.routes import OVERFLOW, Routes

HEURISTIC = [
    ("/", "/"),
    ("/users", "/users"),
    ("/users/", "/users/"),
    ("/users/42", "/users/{id}"),
    ("/v1/users/42/orders/7", "/v1/users/{id}/orders/{id}"),
    ("/v12/x", "/v12/x"),
    ("/v123/x", "/{id}/x"),
    ("/V1/x", "/{id}/x"),
    ("/app.3f2a.js", "/{id}"),
    ("/na%C3%AFve", "/{id}"),
    ("//double", "//double"),
    ("/cart;jsessionid=A1", "/{id}"),
    ("/" + "a" * 49, "/{id}"),
    ("/a b", "/{id}"),
]


@pytest.mark.parametrize(("path", "name"), HEURISTIC)
def test_heuristic(path: str, name: str) -> None:
    assert Routes().route(path) == name


PATTERNS = ["/users/{id}/orders", "/users/me", "/static/*", "/v2/{kind}"]
PATTERN_CASES = [
    ("/users/7/orders", "/users/{id}/orders"),
    ("/users/me/orders", "/users/{id}/orders"),
    ("/users/me", "/users/me"),
    ("/users/7", "/users/{id}"),
    ("/static/css/a.css", "/static/*"),
    ("/static/", "/static/*"),
    ("/static", "/static"),
    ("/v2/thing", "/v2/{kind}"),
    ("/v2/thing/", "/v2/thing/"),
]


@pytest.mark.parametrize(("path", "name"), PATTERN_CASES)
def test_patterns_come_first(path: str, name: str) -> None:
    assert Routes(PATTERNS).route(path) == name


def test_first_pattern_wins() -> None:
    assert Routes(["/a/{x}", "/a/b"]).route("/a/b") == "/a/{x}"


def test_cut_path_keeps_only_finished_segments() -> None:
    assert Routes().route("/users/42/ord", complete=False) == "/users/{id}/*"
    assert Routes(["/users/{id}/ord"]).route("/users/42/ord", complete=False) == (
        "/users/{id}/*"
    )
    assert Routes(["/users/*"]).route("/users/42/ord", complete=False) == "/users/*"


def test_cap_is_by_service_and_protocol() -> None:
    routes = Routes(["/known"], max_routes=2)
    a, b, c = (Operation(name=name) for name in "abc")
    assert [routes.capped(Protocol.HTTP, op) for op in (a, b, c, a)] == [
        a,
        b,
        OVERFLOW,
        a,
    ]
    assert routes.capped(Protocol.REDIS, c) == c
    assert routes.for_service().capped(Protocol.HTTP, c) == c
    assert routes.for_service().route("/known") == "/known"
    configured = Operation(name="GET /known", attributes={"http.route": "/known"})
    assert routes.capped(Protocol.HTTP, configured) == configured


def test_cap_must_leave_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Routes(max_routes=0)


def fold(path: str) -> tuple[str, ...]:
    """What the kernel's signature can tell of a path."""
    return tuple(
        "\0" if re.search("[0-9]", s) and not re.fullmatch("v[0-9]{1,2}", s) else s
        for s in path.split("/")
    )


segments = st.text("abv019.{}*%-", max_size=6) | st.sampled_from(["v1", "me", "users"])
paths = st.lists(segments, min_size=1, max_size=5).map(lambda s: "/" + "/".join(s))


@given(path=paths, digits=st.text("0123456789", min_size=1, max_size=3))
def test_same_fold_means_same_name(path: str, digits: str) -> None:
    routes = Routes(PATTERNS)
    twin = "/".join(
        ("x" + digits) if folded == "\0" else folded for folded in fold(path)
    )
    assert fold(twin) == fold(path)
    assert routes.route(twin) == routes.route(path)
