# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from deetune_otel.comparison.reports.report import MAX_DEPTH, shown


def test_values_are_bounded() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert str(shown(deep)).count("[") == MAX_DEPTH
    assert shown(list(range(300)))[-1] == "… 100 more"
    assert shown({"a": float("nan"), "b": 10**5000, "c": b"x"}) == {
        "a": "nan",
        "b": "a number of 16610 bits",
        "c": "b'x'",
    }
