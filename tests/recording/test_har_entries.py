# SPDX-License-Identifier: Apache-2.0
"""A document of any size is read entry by entry, split anywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recording.har import BROWSER

from deetune_otel.recording import documents, har_entries
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.har_entries import entries_in

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text('ab\\"{}[],\n\u00e9', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=8,
)


def read(data: bytes, size: int = 1 << 20) -> list[Any]:
    return list(entries_in(data[at : at + size] for at in range(0, len(data), size)))


def test_entries_of_a_document_are_read_as_they_come() -> None:
    data = json.dumps(BROWSER).encode()
    whole = list(entries_in([data]))
    assert whole == BROWSER["log"]["entries"]


@given(
    st.lists(_JSON, max_size=4),
    st.dictionaries(st.text(max_size=5), _JSON, max_size=3),
    st.integers(1, 40),
    st.booleans(),
)
def test_any_document_is_what_json_says(
    entries: list[Any],
    more: dict[str, Any],
    size: int,
    is_wide: bool,  # noqa: FBT001
) -> None:
    more.pop("log", None)
    before = {f"x{key}": value for key, value in more.items()}
    whole = {"log": {**before, "entries": entries, "pages": [1, {"entries": [2]}]}}
    data = json.dumps({**whole, **more}, indent=2 if is_wide else None).encode()
    assert read(data, size) == entries


@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_breaks_off_is_said(size: int) -> None:
    data = json.dumps(BROWSER).encode()
    assert len(read(b"\xef\xbb\xbf" + data, size)) == 1
    for end in (5, 30, len(data) // 2, len(data) - 1):
        with pytest.raises(BadInput, match="no JSON"):
            read(data[:end], size)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"log":{"entries":[{]}]}}', "bracket"),
        (b'{"log":{"entries":[{"a":}]}}', "log.entries[0]: no JSON"),
        (b'{"log":{"entries":[1,]}}', "log.entries[1]: no JSON"),
        (b'{"log":{"entries":5}}', "log.entries: no list"),
        (b'{"log":{}}', "log.entries: no list"),
        (b"[1]", "log.entries: no list"),
        (b"[" * 1000, "nested"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(data)
    assert words in str(raised.value)


def test_each_bound_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def log(inner: str) -> bytes:
        return f'{{"log":{{"entries":[{inner}]}}}}'.encode()

    monkeypatch.setattr(har_entries, "MAX_ENTRIES", 2)
    with pytest.raises(BadInput, match="more than 2 entries"):
        read(log("1,2,3"))
    monkeypatch.setattr(documents, "MAX_VALUES", 10)
    with pytest.raises(BadInput, match=r"log.entries\[0\]: more than 10 values"):
        read(log("[" + "1," * 20 + "1]"))
    assert read(log('",,,,,,,,,,,,,,"')) == [",,,,,,,,,,,,,,"]
    monkeypatch.setattr(har_entries, "MAX_ENTRY_BYTES", 100)
    with pytest.raises(BadInput, match=r"log.entries\[0\]: more than 100 bytes"):
        read(log('"' + "x" * 300 + '"'), 50)


def test_a_long_text_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is split: what is searched again would be quadratic."""
    looked = 0

    class Counting:
        def match(self, buffer: bytearray, at: int) -> Any:
            nonlocal looked
            found = whole.match(buffer, at)
            looked += found.end() - at if found else 0
            return found

    whole = har_entries._IN_STRING
    monkeypatch.setattr(har_entries, "_IN_STRING", Counting())
    data = json.dumps({"log": {"entries": ["x" * 100_000]}}).encode()
    assert len(read(data, 100)[0]) == 100_000
    assert looked < 2 * len(data)
