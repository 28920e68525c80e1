# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from lab.report import Row, markdown, text, to_json
from lab.scoring import Score

RIGHT = Score(true=4, predicted=4, right=4, exact=4, calls=1234)
WRONG = Score(true=4, predicted=5, right=3, exact=2, calls=9, wrong=("missing: a → b",))
ROWS = [
    Row(name="one", title="One", agents=1, score=RIGHT, addresses=WRONG, seconds=1.2),
    Row(name="two", title="Two", agents=2, score=WRONG, addresses=WRONG, seconds=2),
]


def test_the_text_has_a_line_for_each_and_one_for_all() -> None:
    lines = text(ROWS).splitlines()
    assert lines[1].split() == [
        *("one", "1", "4", "100", "%", "100", "%", "4/4", "1,234"),
        *("60.0", "%", "75.0", "%"),
    ]
    assert lines[3].split()[:3] == ["all", "3", "8"]
    assert lines[4] == "  two: missing: a → b"


def test_the_page_says_what_was_wrong() -> None:
    page = markdown(ROWS, kernel="6.18")
    assert "| One | 1 | 4 | 100 % | 100 % | 4/4 | 1,234 | 60.0 % | 75.0 % |" in page
    assert "- Wrong in Two: missing: a → b" in page
    assert page.endswith("- Linux 6.18; 3 s in all.")


def test_nearly_all_is_not_all() -> None:
    nearly = Score(true=99_999, predicted=99_999, right=99_998, exact=0, calls=0)
    row = Row(name="n", title="N", agents=1, score=nearly, addresses=nearly, seconds=0)
    assert "100 %" not in text([row])


def test_json_has_the_numbers() -> None:
    found = json.loads(json.dumps(to_json(ROWS)))
    assert found["one"]["map"]["precision"] == 1
    assert found["two"]["addresses_alone"]["drawn"] == 5
    assert found["two"]["wrong"] == ["missing: a → b"]
