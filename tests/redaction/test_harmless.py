# SPDX-License-Identifier: Apache-2.0
"""What was found harmless is known where it stood, long texts by their digest, and not for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.redaction.harmless import MAX_LENGTH, MAX_REMEMBERED, Harmless


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=2 * MAX_LENGTH))))
def test_only_what_was_added_is_known(pairs: list[tuple[str, str]]) -> None:
    ours = Harmless()
    for where, text in pairs[::2]:
        ours.add(where, text)
    for where, text in pairs:
        assert ours.has(where, text) == ((where, text) in pairs[::2])


def test_long_texts_are_not_kept_as_they_are() -> None:
    ours = Harmless()
    text = "hunter2" * 20
    ours.add("cookie", text)
    assert ours.has("cookie", text)
    assert not ours.has("cookie", text + "x")
    assert "hunter2" not in repr(ours._known)


def test_it_is_bounded() -> None:
    ours = Harmless()
    for number in range(3 * MAX_REMEMBERED + 1):
        ours.add("host", str(number))
    assert len(ours) <= MAX_REMEMBERED
    ours.add("x" * 10_000, "a")
    assert not ours.has("x" * 10_000, "a")
