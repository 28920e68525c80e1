# SPDX-License-Identifier: Apache-2.0
"""Bodies that are decoded, cut or left out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.recording.har import entry, request_of, response_of

from deetune_otel.recording.model import Missing, MissingBecause


@pytest.mark.parametrize(
    ("sent", "request_", "body", "missing"),
    [
        ((), {}, b"", 0),
        ((), {"bodySize": 7}, b"", 7),
        ((("Content-Length", "7"),), {"bodySize": -1}, b"", 7),
        ((("Content-Length", "0"),), {"bodySize": 9}, b"", 0),
        ((("Transfer-Encoding", "chunked"),), {}, b"", 1),
        ((), {"postData": {"text": "hi"}, "bodySize": 2}, b"hi", 0),
        ((), {"postData": {"text": "hi"}, "bodySize": 5}, b"hi", 3),
        ((("Content-Length", "5"),), {"postData": {"text": "hi"}}, b"hi", 3),
        ((("Content-Length", "1"),), {"postData": {"text": "hi"}}, b"hi", 0),
        ((("Content-Length", "1"),), {"postData": {"text": "\xff"}}, b"\xff", 0),
        ((("Content-Encoding", "gzip"),), {"postData": {"text": "hi"}}, b"hi", 0),
    ],
)
def test_a_body_of_which_bytes_are_missing(
    sent: tuple[tuple[str, str], ...],
    request_: dict[str, Any],
    body: bytes,
    missing: int,
) -> None:
    one = request_of(entry(method="POST", sent=sent, request=request_))
    assert one.body == body
    assert sum(gap.bytes for gap in one.missing) == missing
    assert "content-encoding" not in {name.lower() for name, _ in one.headers}


@pytest.mark.parametrize(
    ("content", "got", "missing"),
    [
        ({"size": 0}, (), 0),
        ({"size": 5}, (), 5),
        ({"size": 0}, (("Content-Length", "154"),), 154),
        ({}, (("Content-Length", "3"),), 3),
        ({"size": -1}, (("Transfer-Encoding", "chunked"),), 1),
        ({"size": 5, "text": "hello"}, (), 0),
        ({"size": 9, "text": "hello"}, (), 4),
        ({"size": 9, "text": "hé", "mimeType": "text/plain; charset=utf-16"}, (), 0),
        ({"size": 2, "text": "hello"}, (), 0),
    ],
)
def test_a_text_that_is_not_there_is_no_empty_body(
    content: dict[str, Any], got: tuple[tuple[str, str], ...], missing: int
) -> None:
    one = response_of(entry(got=got, response={"content": content}))
    assert sum(gap.bytes for gap in one.missing) == missing
    assert {gap.because for gap in one.missing} <= {MissingBecause.ABSENT}


def test_what_has_no_body_has_none_whatever_is_said() -> None:
    for status, method in ((304, "GET"), (204, "GET"), (200, "HEAD")):
        content = {"size": 5, "text": "hello"}
        response = {"status": status, "content": content}
        one = response_of(entry(method=method, response=response))
        assert (one.body, one.missing, one.has_no_body) == (b"", (), True)


def test_the_gap_of_a_file_is_read_as_it_was_written() -> None:
    gap = [[0, 4, "limit"]]
    one = response_of(entry(response={"content": {"size": 4, "_missing": gap}}))
    assert one.missing == (Missing(0, 4, MissingBecause.LIMIT),)
