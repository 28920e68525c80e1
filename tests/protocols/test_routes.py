# SPDX-License-Identifier: Apache-2.0
"""Route names: patterns, the heuristic, the cap, and what the kernel's folding allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.paths import APART, NAMED
from tests.strategies import fold

from deetune_otel.config.routes import RoutePattern, kept_segments
from deetune_otel.model import Operation, Protocol
from deetune_otel.protocols.routes import OVERFLOW, Routes


@pytest.mark.parametrize(("path", "name"), [*NAMED, *((path, path) for path in APART)])
def test_heuristic(path: str, name: str) -> None:
    assert Routes().route(path) == name


PATTERNS = [
    *("/users/{id}/orders", "/users/me", "/static/*", "/v2/{kind}", "/@{user}/lists"),
    *("/files/{file}.json", "/v{version}/status", "/jobs/{id}:cancel", "/me/ux-{name}"),
    *("/team-{id}", "/2010-04-01/accounts/{sid}", "/a/7", "/Orders({id})"),
    *("/{repo}...{other}", "/404.html"),
]
PATTERN_CASES = [
    ("/users/7/orders", "/users/{id}/orders"),
    ("/users/me/orders", "/users/{id}/orders"),
    ("/users/alice/orders;a=b", "/users/{id}/orders"),
    ("/users/me", "/users/me"),
    ("/users/7", "/users/{id}"),
    ("/users//orders", "/users//orders"),
    ("/static/css/a.css", "/static/*"),
    ("/static/", "/static/*"),
    ("/static", "/static"),
    ("/v2/thing", "/v2/{kind}"),
    ("/v2/thing/", "/v2/thing/"),
    ("/@alice/lists", "/@{user}/lists"),
    ("/@4711/lists", "/@{user}/lists"),
    ("/@a.b/lists", "/@{user}/lists"),
    ("/@/lists", "/@/lists"),
    ("/alice/lists", "/alice/lists"),
    ("/files/7.json", "/files/{file}.json"),
    ("/files/a.b.json", "/files/{file}.json"),
    ("/files/7.xml", "/files/{id}.xml"),
    ("/v1/status", "/v{version}/status"),
    ("/v1.41/status", "/v{version}/status"),
    ("/jobs/7:cancel", "/jobs/{id}:cancel"),
    ("/jobs/7:wait", "/jobs/{id}:wait"),
    ("/team-7", "/team-{id}"),
    ("/team-4711", "/team-{id}"),
    ("/team-red", "/team-{id}"),
    ("/user-4711", "/user-{id}"),
    ("/2010-04-01/accounts/AC123", "/2010-04-01/accounts/{sid}"),
    ("/2010-04-02/accounts/AC123", "/{id}/accounts/{id}"),
    ("/other/2010-04-01", "/other/{id}"),
    ("/a/7", "/a/7"),
    ("/a/8", "/a/{id}"),
    ("/Orders(7)", "/Orders({id})"),
    ("/main...next", "/{repo}...{other}"),
    ("/404.html", "/404.html"),
]


@pytest.mark.parametrize(("path", "name"), PATTERN_CASES)
def test_patterns_come_first(path: str, name: str) -> None:
    assert Routes(PATTERNS).route(path) == name


def test_first_pattern_wins() -> None:
    assert Routes(["/a/{x}", "/a/b"]).route("/a/b") == "/a/{x}"


def test_a_long_segment_is_no_more_work_than_its_beginning() -> None:
    """Of an imported path nobody bounds the length; the time of all tests is bounded."""
    routes = Routes(["/{a}:{b}:{c}:x"])
    assert routes.route("/" + "a:" * 50_000 + "y") == "/{id}"


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


KEPT = kept_segments(map(RoutePattern.parse, PATTERNS))
segments = (
    st.text("abv019.{}*%-@:(;", max_size=6)
    | st.sampled_from(["v1", "me", "users", "lists", "files", "7.json", "team-12"])
    | st.sampled_from(sorted(KEPT))
)
paths = st.lists(segments, min_size=1, max_size=5).map(lambda s: "/" + "/".join(s))


@given(path=paths, digits=st.text("0123456789", min_size=2, max_size=3))
def test_same_fold_means_same_name(path: str, digits: str) -> None:
    routes = Routes(PATTERNS)
    twin = fold(path, KEPT).replace("\0", digits)
    if fold(twin, KEPT) == fold(path, KEPT):
        assert routes.route(twin) == routes.route(path)
