# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.comparison.reports.sample import verdict

from deetune_otel.comparison.reports.sides import rows


def test_lines_side_by_side() -> None:
    long = {f"k{n}": n for n in range(20)}
    found = rows(verdict(1, long, {**long, "k10": "x"}))
    assert ("~", '  "k10": 10,', '  "k10": "x",') in found
    assert ("…", "10 equal lines", None) in found
