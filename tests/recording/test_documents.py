# SPDX-License-Identifier: Apache-2.0
"""JSON is bounded by what becomes of it."""

from __future__ import annotations

import pytest

from deetune_otel.recording import documents
from deetune_otel.recording.documents import parsed
from deetune_otel.recording.errors import BadInput


def test_values_are_counted_outside_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 5)
    assert parsed(rb'["[[[[[[,,,,\"[[["]') == ['[[[[[[,,,,"[[[']
    with pytest.raises(BadInput, match="more than 5 values"):
        parsed(b"[[],[],[],[]]")


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff", b"1" * 10_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="no JSON"):
        parsed(data)
