# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import pytest

from deetune_otel.config import document
from deetune_otel.redaction import policy
from deetune_otel.redaction.policy import Policy, PolicyError, from_document

ROOT = Path(__file__).parents[2]


def test_the_example_equals_the_default_and_has_every_setting() -> None:
    value = document.read((ROOT / "config" / "redaction.yaml").read_text()).value
    assert from_document(value) == Policy.default()
    written = {path for path, _ in policy._entries(value, "")}
    assert written == set(policy._FIELDS)


def test_the_example_of_the_docs_loads() -> None:
    text = (ROOT / "docs" / "redaction.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert from_document(document.read(example).value) != Policy.default()


@pytest.mark.parametrize("empty", [None, {}, {"headers": None}])
def test_an_empty_file_is_the_default(empty: object) -> None:
    assert from_document(empty) == Policy.default()


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ([], "", "expected settings"),
        ({"header": {}}, "header", "no such setting"),
        ({"headers": {"drop": []}}, "headers.drop", "headers.keep"),
        ({"headers": "x"}, "headers", "expected settings"),
        ({"names": "x"}, "names", "expected a list"),
        ({"names": ["a", 1]}, "names[1]", "expected a text"),
        ({"names": [""]}, "names[0]", "expected a text"),
        ({"detectors": ["email", "mail"]}, "detectors[1]", "there are email"),
        ({"paths": {"redact": ["a.b"]}}, "paths.redact[0]", "begins with"),
        ({"paths": {"keep": ["$.a["]}}, "paths.keep[0]", "not a path"),
        ({"patterns": {"a": "("}}, "patterns.a", "not a regular expression"),
        ({"patterns": {"a": 1}}, "patterns.a", "expected a regular"),
        ({"patterns": []}, "patterns", "expected names"),
        ({"redis": {"values": "keep"}}, "redis.values", "replace or scan"),
    ],
)
def test_a_mistake_is_told_with_its_path(
    value: object, path: str, message: str
) -> None:
    with pytest.raises(PolicyError, match=re.escape(message)) as caught:
        from_document(value)
    assert caught.value.path == path
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize(
    ("path", "steps", "matches"),
    [
        ("$.a[*].b", ["a", "0", "b"], True),
        ("$.a[*].b", ["a", "0", "c"], False),
        ("$.a", ["a", "x", "1"], True),  # what is within
        ("$.a", ["b", "a"], False),
        ("$.**.a", ["x", "y", "a"], True),
        ("$.**.a", ["a"], True),
        ("$[1]['a.b']", ["1", "a.b"], True),
        ("$.a.*", ["a"], False),
        ("$", ["a"], True),
    ],
)
def test_paths(path: str, steps: list[str], matches: bool) -> None:  # noqa: FBT001
    text = "".join(f"\0{step}" for step in steps)
    pattern = re.compile(policy.path_pattern(path), re.DOTALL)
    assert (pattern.fullmatch(text) is not None) == matches
