# SPDX-License-Identifier: Apache-2.0
"""Records are found wherever the chunks end, and each byte is copied a few times at most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.recording.records import records


@given(st.text("ab|-", max_size=60).map(str.encode), st.integers(1, 10))
def test_records_are_what_split_says(data: bytes, size: int) -> None:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert list(records(chunks, b"|-", max_bytes=100)) == data.split(b"|-")


@given(st.text("ab|-", max_size=60).map(str.encode), st.integers(1, 10))
def test_one_that_is_too_long_is_none_and_the_next_is_read(
    data: bytes, size: int
) -> None:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    expected = [one if len(one) <= 4 else None for one in data.split(b"|-")]
    assert list(records(chunks, b"|-", max_bytes=4)) == expected
