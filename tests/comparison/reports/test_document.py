# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from tests.comparison.reports.sample import ALL

from deetune_otel.comparison import reports


def test_the_document_is_json_and_balances() -> None:
    found = json.loads(json.dumps(reports.document(ALL), allow_nan=False))
    assert found["outcomes"] == {
        "same": 1,
        "different": 3,
        "not judged": 1,
        "failed": 1,
    }
    assert len(found["exchanges"]) == 5
    assert found["not_judged"] == {"recorded incompletely: lost": 1}
    places = [(one["place"], one["reason"]) for one in found["ignored"]]
    assert ("$.key", "redacted") in places
    assert found["exchanges"][0]["findings"] == [
        {"place": "$.a", "kind": "value", "expected": 1, "actual": 2}
    ]


@pytest.mark.parametrize("form", ["document", "html", "junit", "markdown"])
def test_what_was_redacted_is_shown_of_no_answer(form: str) -> None:
    assert "LIVE-SECRET" not in str(getattr(reports, form)(ALL))
