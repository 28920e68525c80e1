# SPDX-License-Identifier: Apache-2.0
"""What is missing, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from tests.exchanges import any_exchange

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.gaps import read_gaps, written_gaps
from deetune_otel.recording.model import RecordedExchange


@given(any_exchange())
def test_there_and_back(exchange: RecordedExchange) -> None:
    missing = exchange.request.missing
    assert read_gaps(written_gaps(missing)) == missing


@pytest.mark.parametrize(
    "found",
    [
        1,
        [1],
        [[0, 0, "lost"]],
        [[-1, 1, "lost"]],
        [[0, 1, "eaten"]],
        [[0, 5, "lost"], [4, 1, "lost"]],
        [[0, 1 << 70, "lost"]],
    ],
)
def test_what_is_none_is_refused(found: object) -> None:
    with pytest.raises(BadInput, match="missing"):
        read_gaps(found)
