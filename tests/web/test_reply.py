# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import json
from http import HTTPStatus

import pytest

from deetune_otel.web.reply import (
    LEAST_PACKED_BYTES,
    TEXT,
    Reply,
    accepts_gzip,
    as_json,
    packed,
)

LARGE = Reply(HTTPStatus.OK, TEXT, b"a" * LEAST_PACKED_BYTES, {"X": "y"})


@pytest.mark.parametrize(
    ("header", "accepts"),
    [
        ("gzip, deflate, br", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("identity", False),
        ("", False),
    ],
)
def test_who_accepts_gzip(header: str, *, accepts: bool) -> None:
    assert accepts_gzip(header) is accepts


def test_large_replies_are_packed_for_who_takes_it() -> None:
    small = packed(LARGE, "gzip")
    assert gzip.decompress(small.body) == LARGE.body
    assert small.headers == {
        "X": "y",
        "Vary": "Accept-Encoding",
        "Content-Encoding": "gzip",
    }


def test_others_get_it_as_it_is_and_caches_are_told() -> None:
    same = packed(LARGE, "")
    assert same.body == LARGE.body
    assert same.headers == {"X": "y", "Vary": "Accept-Encoding"}


def test_small_replies_are_not_worth_it() -> None:
    short = LARGE._replace(body=LARGE.body[1:])
    assert packed(short, "gzip") is short


def test_json_for_people_and_for_programs() -> None:
    value = {"a": [1, 2]}
    assert b"\n  " in as_json(HTTPStatus.OK, value).body
    terse = as_json(HTTPStatus.OK, value, for_people=False).body
    assert terse == b'{"a":[1,2]}\n'
    assert json.loads(terse) == value
