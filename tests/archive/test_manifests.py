# SPDX-License-Identifier: Apache-2.0
"""A manifest there and back, and what is none."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.archive.manifests import from_text, to_text
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.model import Manifest

FULL = Manifest(
    product="deetune 1",
    selection="päth",
    seen=9,
    captured=7,
    lost={"ring_full": 2},
    files=("a", "b"),
    is_redacted=False,
)


def test_there_and_back() -> None:
    assert from_text(to_text(FULL)) == FULL
    assert from_text(to_text(Manifest())) == Manifest()


def test_names_of_a_later_version_are_passed_over() -> None:
    assert from_text('{"version": 1, "seen": 3, "more": [1]}') == Manifest(seen=3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2}',
        '{"version": "1"}',
        '{"version": 1, "seen": "3"}',
        '{"version": 1, "seen": true}',
        '{"version": 1, "lost": {"a": "b"}}',
        '{"version": 1, "files": [1]}',
        '{"version": 1, "files": "a"}',
        "[" * 100_000,
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        from_text(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*json.loads(to_text(FULL)), "x"]), _JSON))
def test_any_json_raises_nothing_else(document: dict[str, object]) -> None:
    with suppress(BadInput):
        assert isinstance(from_text(json.dumps({**document, "version": 1})), Manifest)
