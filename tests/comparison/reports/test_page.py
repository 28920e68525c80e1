# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

from deetune_otel.comparison.reports.page import BODY, SCRIPT, STYLE


def test_it_asks_nobody_and_makes_no_markup_of_text() -> None:
    assert not re.search(r"https?:|url\(|@import|fetch|XMLHttp", BODY + SCRIPT + STYLE)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|eval|write\(", SCRIPT)
    assert "</script" not in SCRIPT
    assert "</style" not in STYLE


def test_the_script_finds_every_element_that_it_names() -> None:
    named = set(re.findall(r"\bat\('([\w-]+)'\)", SCRIPT))
    assert named
    assert named <= set(re.findall(r'id="([\w-]+)"', BODY))
