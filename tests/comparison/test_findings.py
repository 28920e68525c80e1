# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.comparison.findings import Finding, Found, Ignored, general


@pytest.mark.parametrize(
    ("place", "without"),
    [
        ("$.items[0].price", "$.items[*].price"),
        ("$[12][3]", "$[*][*]"),
        ("line 7", "line *"),
        ("header line 7", "header line 7"),
        ("status", "status"),
    ],
)
def test_places_without_indexes(place: str, without: str) -> None:
    assert general(place) == without


def test_a_reason_makes_it_ignored() -> None:
    found, one = Found([], []), Finding("status", "value", 1, 2)
    found.add(one)
    found.add(one, "why")
    assert found == ([one], [Ignored(one, "why")])
