# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from tests.comparison.reports.sample import ALL, report, verdict

from deetune_otel.comparison import reports


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"img", "link", "iframe", "base", "object"}
        self.found += attrs


def test_the_page_holds_nothing_foreign_as_markup() -> None:
    page = reports.html(ALL)
    page.encode("utf-8")
    tags = Tags()
    tags.feed(page)
    assert not {"src", "href", "action", "onerror"} & {name for name, _ in tags.found}
    assert [value for _, value in tags.found if "default-src 'none'" in (value or "")]
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    found = json.loads(data[1])
    assert found["exchanges"][0]["rows"][-1] == ["=", "}", "}"]


def test_the_page_stays_small_with_many_equal_ones() -> None:
    same = verdict(1, {"a": 1}, {"a": 1})
    assert len(reports.html(report(*[same] * 10_000))) < 40_000
