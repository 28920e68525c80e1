# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from deetune_otel.comparison.rules import _FIELDS, JudgeRules, RulesError, from_text
from deetune_otel.comparison.values import Rules

TEXT = """
headers: {ignore: [X-Shard], compare: [etag]}
bodies:
  ignore: [$.at]
  exact: [$.id]
  tolerances: {$.price: 0.5}
  sets: [$.tags]
  keys: {$.items: id}
operations:
  GET /a/*:
    bodies: {ignore: [$.b], noise: false, tolerances: {$.price: 1}}
  POST /*: {skip: true}
"""


def test_a_whole_file() -> None:
    rules = from_text(TEXT)
    assert rules.of("GET /b").bodies == Rules(
        ignored=("$.at",),
        exact=("$.id",),
        tolerances={"$.price": 0.5},
        sets=("$.tags",),
        keys={"$.items": "id"},
    )
    assert rules.of("GET /a/b").bodies.ignored == ("$.at", "$.b")
    assert rules.of("GET /a/b").bodies.tolerances == {"$.price": 1}
    assert not rules.of("GET /a/b").bodies.is_noise_ignored
    assert rules.of("POST /a").is_skipped
    assert not rules.of("GET /a/b").is_skipped


def test_an_empty_file_has_no_rules() -> None:
    assert from_text("") == JudgeRules()


def test_headers() -> None:
    rules = from_text(TEXT)
    assert rules.why_header("x-shard") == "ignored: x-shard"
    assert rules.why_header("etag") is None
    assert rules.why_header("date") == "differs by nature"
    assert rules.why_header("content-type") is None


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("bodies:\n  ignore: [a]", "bodies.ignore[0]", 2),
        ("bodies:\n  ignored: []", "bodies.ignored", 2),
        ("bodies: {sets: 5}", "bodies.sets", 1),
        ("bodies: {tolerances: {$.a: x}}", "bodies.tolerances.$.a", 1),
        ("bodies: {tolerances: {$.a: -1}}", "bodies.tolerances.$.a", 1),
        ("bodies: {keys: {$.a: 1}}", "bodies.keys.$.a", 1),
        ("bodies: {noise: 1}", "bodies.noise", 1),
        ("operations:\n  GET /:\n    x: 1", "operations.GET /.x", 3),
        ("headers: []", "headers", 1),
        ("a: 1\na: 2", "", 2),
        ("5", "", 1),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, path: str, line: int) -> None:
    with pytest.raises(RulesError) as caught:
        from_text(text)
    assert (caught.value.path, caught.value.line) == (path, line)


def test_the_example_loads_and_uses_every_setting() -> None:
    text = (Path(__file__).parents[2] / "config/replay-rules.yaml").read_text()
    rules = from_text(text)
    assert rules.of("GET /orders/{id}").bodies.ignored[-1] == "$.estimated_delivery"
    assert rules.of("GET /metrics").is_skipped
    for setting in _FIELDS:
        assert f"{setting.rpartition('.')[2]}:" in text
