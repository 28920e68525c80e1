# SPDX-License-Identifier: Apache-2.0
"""Each part of a request is changed, and nothing beside it."""

from __future__ import annotations

import json
import re

import pytest

from deetune_otel.recording.model import HttpRequest
from deetune_otel.replay.rewrite import Rewrites, field_path

REQUEST = HttpRequest(
    method="POST",
    target="/v1/orders?a=b&c=",
    headers=(("Host", "shop"), ("X-A", "1"), ("x-a", "2"), ("Content-Length", "34")),
    body=b'{"items":[{"p":1},{"p":2}],"u":"x"}',
)


def test_nothing_asked_changes_nothing() -> None:
    assert Rewrites()(REQUEST) == REQUEST


def test_host_and_headers_take_the_old_ones_place() -> None:
    done = Rewrites(host="test", headers=(("X-A", "9"), ("X-B", "0")))(REQUEST)
    assert done.headers == (
        ("Host", "test"),
        ("X-A", "9"),
        ("Content-Length", "34"),
        ("X-B", "0"),
    )


def test_paths_leave_the_query_alone() -> None:
    done = Rewrites(paths=((re.compile("^/v1/(o)"), r"/v2/\1"),))(REQUEST)
    assert done.target == "/v2/orders?a=b&c="


def test_query_parameters_are_set_or_added() -> None:
    done = Rewrites(query=(("a", "x y"), ("d", "1")))(REQUEST)
    assert done.target == "/v1/orders?a=x+y&c=&d=1"
    bare = HttpRequest(method="GET", target="/")
    assert Rewrites(query=(("d", "1"),))(bare).target == "/?d=1"


@pytest.mark.parametrize(
    ("path", "value", "body"),
    [
        ("$.u", "yy", {"items": [{"p": 1}, {"p": 2}], "u": "yy"}),
        ("$.items[1].p", 7, {"items": [{"p": 1}, {"p": 7}], "u": "x"}),
        ("$.items[*].p", None, {"items": [{"p": None}, {"p": None}], "u": "x"}),
    ],
)
def test_fields_of_json_and_the_length_follows(
    path: str, value: object, body: object
) -> None:
    done = Rewrites(fields=((field_path(path), value),))(REQUEST)
    assert json.loads(done.body) == body
    assert dict(done.headers)["Content-Length"] == str(len(done.body))


@pytest.mark.parametrize("path", ["$.none", "$.items[9].p", "$.u.deeper", "$.items.p"])
def test_a_field_that_is_not_there_changes_nothing(path: str) -> None:
    assert Rewrites(fields=((field_path(path), 1),))(REQUEST) == REQUEST


def test_a_body_that_is_no_json_stays() -> None:
    one = HttpRequest(method="POST", target="/", body=b"\x1f\x8b")
    assert Rewrites(fields=((field_path("$.a"), 1),))(one) == one


@pytest.mark.parametrize("path", ["", "a", "$", "$.", "$.a[", "$..a", "$.a[x]"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match=r"no path"):
        field_path(path)
