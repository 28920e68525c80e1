# SPDX-License-Identifier: Apache-2.0
"""GoReplay's files, cut anywhere."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.recording import gor
from deetune_otel.recording.gor import SEPARATOR, from_gor
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Missing,
    MissingBecause,
)

ASKED: Final = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
ANSWERED: Final = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nyes"


def record(kind: int, identity: bytes, at_ns: int, message: bytes) -> bytes:
    return b"%d %s %d 5\n%s" % (kind, identity, at_ns, message) + SEPARATOR


FILE: Final = (
    record(1, b"a1", 100, ASKED)
    + record(1, b"b2", 150, ASKED.replace(b"/a", b"/b"))
    + record(3, b"a1", 170, ANSWERED)
    + record(2, b"b2", 180, ANSWERED)
    + record(2, b"a1", 200, ANSWERED)
    + record(1, b"c3", 300, ASKED)
)


@pytest.mark.parametrize("size", [1, 7, 50, 1 << 20])
def test_requests_find_their_responses(size: int) -> None:
    chunks = [FILE[at : at + size] for at in range(0, len(FILE), size)]
    found = list(from_gor(chunks, Counter()))
    targets = [
        one.request.target for one in found if isinstance(one.request, HttpRequest)
    ]
    assert targets == ["/b", "/a", "/a"]
    assert [one.incomplete for one in found] == [(), (), ("unanswered",)]
    second = found[1]
    assert isinstance(second.response, HttpResponse)
    assert (second.response.status, second.response.body) == (201, b"yes")
    assert (second.request_start_ns, second.response_end_ns) == (100, 200)
    assert second.id == "00000000000000a1"


def test_requests_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gor, "MAX_WAITING", 2)
    data = b"".join(record(1, b"%02x" % i, i, ASKED) for i in range(5))
    found = from_gor([data], Counter())
    assert next(found).request_start_ns == 0


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"hello", "records without GoReplay's first line"),
        (record(4, b"a", 1, ASKED), "records without GoReplay's first line"),
        (record(1, b"xyz", 1, ASKED), "records without GoReplay's first line"),
        (record(1, b"a", 1, b"no http\r\n\r\n"), "hold no HTTP message"),
        (record(1, b"a", 1, ASKED[:20]), "records with no whole HTTP message"),
        (record(1, b"a", 1, ASKED + ASKED), "more than one HTTP message"),
    ],
)
def test_one_bad_record_does_not_end_the_file(data: bytes, what: str) -> None:
    passed: Counter[str] = Counter()
    separator = b"" if data.endswith(SEPARATOR) else SEPARATOR
    found = list(from_gor([FILE, data, separator, FILE], passed))
    assert len(found) == 6
    ((said, count),) = passed.items()
    assert (what in said, count) == (True, 1)


def test_a_message_that_was_cut_is_there_and_says_so() -> None:
    data = record(1, b"a", 1, ASKED[:-1]) + record(2, b"a", 2, ANSWERED[:-2])
    (one,) = from_gor([data], Counter())
    assert one.request.missing == (Missing(1, 1, MissingBecause.LOST),)
    assert one.response is not None
    assert one.response.missing == (Missing(1, 2, MissingBecause.LOST),)
    assert one.incomplete == ("lost",)


def test_a_response_that_cannot_be_read_is_not_an_unanswered_request() -> None:
    data = record(1, b"a", 1, ASKED) + record(2, b"a", 2, b"what?\r\n\r\n")
    (one,) = from_gor([data], Counter())
    assert (one.response, one.incomplete) == (None, ("lost",))


def test_long_ids_are_told_apart() -> None:
    data = b"".join(record(1, b"%024d" % i, i + 1, ASKED) for i in range(3))
    assert len({one.id for one in from_gor([data], Counter())}) == 3


def test_a_record_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gor, "MAX_RECORD", 100)
    passed: Counter[str] = Counter()
    found = list(from_gor([b"x" * 200, SEPARATOR, FILE], passed))
    assert len(found) == 3
    assert passed == {"records of more than 100 bytes": 1}


@given(st.integers(0, len(FILE)), st.binary(max_size=20))
def test_any_damage_raises_nothing(at: int, data: bytes) -> None:
    list(from_gor([FILE[:at], data, FILE[at + len(data) :]], Counter()))
