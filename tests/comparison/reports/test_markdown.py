# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

from tests.comparison.reports.sample import ALL, report, verdict

from deetune_otel.comparison import reports


def test_markdown_is_bounded_and_harmless() -> None:
    text = reports.markdown(ALL)
    assert "4 of 6 exchanges differ" in text
    assert "<img" not in re.sub("`[^`]*`", "", text)
    text.encode("utf-8")
    wide = {f"key{n}" * 50: n for n in range(150)}
    assert len(reports.markdown(report(verdict(1, wide, {})))) < 60_000


def test_markdown_says_that_all_is_well_only_when_it_is() -> None:
    same = verdict(1, {}, {})
    assert "no differences" in reports.markdown(report(same))
    lost = verdict(1, {}, {}, incomplete=("lost",))
    assert "nothing was judged" in reports.markdown(report(lost))
