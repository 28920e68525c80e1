# SPDX-License-Identifier: Apache-2.0
"""The lab's scenarios: every edge right, every count exact, as docs/accuracy.md says.

But for the calls of several services of one host to several servers behind one address: each end
sees only sums, so these calls are divided, and marked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from lab.scenarios import SCENARIOS, title
from lab.stage import Lab

DIVIDED: Final = frozenset({"virtual_address", "balancer"})
PAGE: Final = Path(__file__).parents[2] / "docs" / "accuracy.md"


@pytest.mark.lab
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_map_is_right(name: str) -> None:
    with Lab() as lab:
        SCENARIOS[name](lab)
        found = lab.scored()
    is_good = found.has_right_edges if name in DIVIDED else found.is_perfect
    assert is_good, "\n".join(found.wrong)
    assert found.true > 0


def test_each_scenario_says_what_it_is() -> None:
    titles = [title(one) for one in SCENARIOS.values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)


def test_the_page_has_each_scenario() -> None:
    rows = re.findall(r"^\| (.*?) \| \d+ \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [*(title(one) for one in SCENARIOS.values()), "all"]
