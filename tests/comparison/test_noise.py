# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.comparison.noise import noise


@pytest.mark.parametrize(
    ("expected", "actual", "reason"),
    [
        ("redacted-" + "0" * 16, "redacted-" + "a" * 16, "redacted"),
        ("2024-01-02T03:04:05Z", "2025-01-02T03:04:05.1+01:00", "RFC 3339 date"),
        (
            "Tue, 02 Jan 2024 03:04:05 GMT",
            "Wed, 03 Jan 2024 03:04:05 GMT",
            "HTTP date",
        ),
        (1700000000, 1700000100.5, "epoch seconds"),
        ("1700000000", "1700000100", "epoch seconds"),
        (1700000000000, 1700000100000, "epoch milliseconds"),
        ("00a0000000000001", "0b00000000000002", "hex id"),
        ("dGhpcyBpcyBhbiBpZA9=", "dGhpcyBpcyBhbiBpZB8=", "base64 id"),
        (1700000000, 1700000000 + 31 * 86400, "epoch seconds"),
        (1700000000, 1700000001 + 31 * 86400, None),
        (1000000000, 4000000000, None),
        (1700000000, 1700000000000, None),
        (True, 1700000000, None),
        (1, 2, None),
        (None, "a", None),
        ("2024-13-02T03:04:05Z", "2024-01-02T03:04:05Z", None),
        ("00a0000000000001", "0b0000000000000002", None),
        ("internationalisation", "internationalization", None),
        ("shipped", "pending", None),
    ],
)
def test_the_sort_of_noise(
    expected: object, actual: object, reason: str | None
) -> None:
    assert noise(expected, actual) == reason
    assert noise(actual, expected) == reason


@given(st.uuids(), st.uuids())
def test_any_two_uuids_are_noise(expected: object, actual: object) -> None:
    assert noise(str(expected), str(actual)) == "UUID"
    assert noise(str(expected), "2024-01-02T03:04:05Z") is None
