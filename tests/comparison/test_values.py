# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.comparison.values import (
    Difference,
    Ignored,
    Kind,
    Rules,
    compare,
    differences,
)

NAMES = st.text("abc", min_size=1, max_size=3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=20,
)


@given(VALUES)
def test_a_value_never_differs_from_itself(value: object) -> None:
    assert differences(value, copy.deepcopy(value)) == []


@given(VALUES, st.data())
def test_one_change_is_found_exactly_there(value: object, data: st.DataObject) -> None:
    expected, actual = [value], [copy.deepcopy(value)]
    path, at, step = "$[0]", actual, 0
    inner: Any = actual[0]
    holder: Any = at
    place: Any = step
    while isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
        holder = inner
        places = list(inner) if isinstance(inner, dict) else range(len(inner))
        place = data.draw(st.sampled_from(places))
        path += f".{place}" if isinstance(inner, dict) else f"[{place}]"
        inner = inner[place]
    holder[place] = "changed \U0001f600 here" if inner != "changed" else "other"
    (found,) = differences(expected, actual)
    assert found.path == path
    assert found.kind == (Kind.VALUE if isinstance(inner, str) else Kind.TYPE)


@pytest.mark.parametrize(
    ("expected", "actual", "found"),
    [
        ({"a": 1}, {}, Difference("$.a", Kind.MISSING, 1, None)),
        ({}, {"a b": 1}, Difference("$['a b']", Kind.EXTRA, None, 1)),
        ({"a": 1}, {"a": True}, Difference("$.a", Kind.TYPE, 1, actual=True)),
        ([1, 2], [2, 1], Difference("$", Kind.ORDER, [1, 2], [2, 1])),
        ([1], [1, 2], Difference("$[1]", Kind.EXTRA, None, 2)),
        (10**400, 1.0, Difference("$", Kind.VALUE, 10**400, 1.0)),
    ],
)
def test_the_kinds(expected: object, actual: object, found: Difference) -> None:
    assert differences(expected, actual) == [found]
    near = Rules(tolerances={"$": 0.5})
    assert differences(expected, actual, near) == [found]


def test_one_and_one_point_nought_are_the_same_number() -> None:
    assert differences([1], [1.0]) == []


@pytest.mark.parametrize(
    "pattern", ["$.a[*].id", "$.**.id", "$.*.*.id", "$**", "$['a'][0]", "$.a[0].id"]
)
def test_what_is_ignored_is_listed(pattern: str) -> None:
    compared = compare(
        {"a": [{"id": 1}]}, {"a": [{"id": 2}]}, Rules(ignored=(pattern,))
    )
    difference = Difference("$.a[0].id", Kind.VALUE, 1, 2)
    assert compared == ([], [Ignored(difference, f"ignored: {pattern}")])


@pytest.mark.parametrize("pattern", ["a", "$a", "$.a[", "$.a.", "$.a[x]"])
def test_what_is_not_a_path_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="path"):
        compare(1, 2, Rules(ignored=(pattern,)))


def test_a_tolerance_holds_where_it_is_set() -> None:
    compared = compare(
        {"a": 1.0, "b": 1.0}, {"a": 1.1, "b": 1.1}, Rules(tolerances={"$.a": 0.2})
    )
    assert [found.path for found in compared.found] == ["$.b"]
    assert compared.ignored[0].reason == "within 0.2: $.a"


def test_arrays_as_sets() -> None:
    rules = Rules(sets=("$",))
    assert differences([1, 2, 2], [2, 1, 2], rules) == []
    assert differences([1, 2, 2], [2, 1], rules) == [
        Difference("$[2]", Kind.MISSING, 2, None)
    ]
    assert differences([1, 2], [3, 2, 1], rules) == [
        Difference("$[0]", Kind.EXTRA, None, 3)
    ]


def test_arrays_by_a_key() -> None:
    found = differences(
        [{"id": 1, "v": 1}, {"id": 2, "v": 2}, {"id": 4}],
        [{"id": 2, "v": 3}, {"id": 3}, {"id": 1, "v": 1}],
        Rules(keys={"$": "id"}),
    )
    assert [(one.path, one.kind) for one in found] == [
        ("$[1].v", Kind.VALUE),
        ("$[2]", Kind.MISSING),
        ("$[1]", Kind.EXTRA),
    ]


def test_depth_does_not_matter() -> None:
    one: Any = 1
    other: Any = 2
    for _ in range(20_000):
        one, other = [one], [other]
    (found,) = differences(one, other, Rules(sets=("$.**.x",)))
    assert found.path == "$" + "[0]" * 20_000


def test_noise_is_ignored_but_where_it_must_be_exact() -> None:
    one, other = ({"a": str(UUID(int=n))} for n in (1, 2))
    assert compare(one, other).ignored[0].reason == "noise: UUID"
    assert differences(one, other, Rules(exact=("$.a",)))
    assert differences(one, other, Rules(is_noise_ignored=False))


def test_what_was_redacted_may_be_of_another_type_but_not_missing() -> None:
    one = {"a": "redacted-" + "0" * 16}
    assert compare(one, {"a": [1]}).ignored[0].reason == "redacted"
    assert [found.kind for found in differences(one, {})] == [Kind.MISSING]


def test_a_long_name_is_not_repeated_in_each_path_below_it() -> None:
    name = "a" * 60_000
    found = compare({name: [1] * 1000}, {name: [2] * 1000}).found
    assert len(found) == 1000
    assert sum(len(one.path) for one in found) < 1000 * 300
