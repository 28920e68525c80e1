# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import xml.etree.ElementTree as ET

from tests.comparison.reports.sample import ALL

from deetune_otel.comparison import reports


def test_junit_is_xml_that_counts_right() -> None:
    text = reports.junit(ALL)
    root = ET.fromstring(text.encode("utf-8"))
    assert root.tag == "testsuites"
    for name, tag in (
        ("tests", "testcase"),
        ("failures", "failure"),
        ("errors", "error"),
        ("skipped", "skipped"),
    ):
        count = len(list(root.iter(tag)))
        assert root.attrib[name] == str(count), name
        assert sum(int(one.attrib[name]) for one in root) == count, name
    assert next(one.attrib["name"] for one in root) == "GET /orders/{id}"
    assert len(list(root.iter("testcase"))) == 8
