# SPDX-License-Identifier: Apache-2.0
"""YAML with lines, and its traps."""

from __future__ import annotations

import pytest

from deetune_otel.config.document import DocumentError, read


def test_every_key_and_item_has_its_line() -> None:
    lines = read("a:\n  b: 1\n  c:\n    - x: 1\n    - 2\n").lines
    assert lines == {
        "": 1,
        "a": 1,
        "a.b": 2,
        "a.c": 3,
        "a.c[0]": 4,
        "a.c[0].x": 4,
        "a.c[1]": 5,
    }


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment\n", "---\n"])
def test_an_empty_text_has_no_value(text: str) -> None:
    assert read(text).value is None


def test_an_anchor_is_followed() -> None:
    assert read("a: &x {k: 1}\nb: *x\n").value == {"a": {"k": 1}, "b": {"k": 1}}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' stands twice (first on line 1)", 3),
        ("s:\n  k: 1\n  k: 1\n", "'k' stands twice (first on line 2)", 3),
        ("a: [1\nb: 2", "not valid YAML: expected ',' or ']', but got ':'", 2),
        ("a: &x [*x]\n", "an alias refers to what it stands in", 1),
        ("? [1, 2]\n: 3\n", "a key must be plain text", 1),
        ("a: !!python/name:os.system\n", "not valid YAML: could not determine", 1),
        ("a: 1\n---\nb: 2\n", "not valid YAML: but found another document", 2),
        ("a: *nobody\n", "not valid YAML: found undefined alias 'nobody'", 1),
        ("a: 2024-13-99\n", "not valid YAML: month must be in 1..12", 0),
        ("a: \x00", "not valid YAML", 0),
        ("[" * 100_000, "nested too deep", 0),
    ],
)
def test_what_is_refused(text: str, message: str, line: int) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert caught.value.message.startswith(message)
    assert caught.value.line == line
