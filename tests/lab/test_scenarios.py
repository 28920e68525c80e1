# SPDX-License-Identifier: Apache-2.0
"""The lab's scenarios: every edge right, every count exact, as docs/accuracy.md says."""

from __future__ import annotations

import pytest
from lab.scenarios import SCENARIOS, title
from lab.stage import Lab


@pytest.mark.lab
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_map_is_right(name: str) -> None:
    with Lab() as lab:
        SCENARIOS[name](lab)
        found = lab.scored()
    assert found.is_perfect, "\n".join(found.wrong)
    assert found.true > 0


def test_each_scenario_says_what_it_is() -> None:
    titles = [title(one) for one in SCENARIOS.values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)
