# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.comparison.masks import is_masked

TOKEN = "redacted-0123456789abcdef"


@pytest.mark.parametrize(
    ("expected", "actual", "masked"),
    [
        (TOKEN, "anything", True),
        (TOKEN, 5, True),
        (f"Bearer {TOKEN}", "Bearer x", True),
        (f"Bearer {TOKEN}", "Basic x", False),
        (f"Bearer {TOKEN}", 5, False),
        (f"a={TOKEN}&b={TOKEN}&c", "a=1&b=2&c", True),
        (f"a={TOKEN}&b={TOKEN}&c", "a=1&c", False),
        (f"ab{TOKEN}bc", "abc", False),
        ("a", TOKEN, False),
        (None, TOKEN, False),
    ],
)
def test_only_tokens_may_differ(expected: object, actual: object, masked: bool) -> None:  # noqa: FBT001
    assert is_masked(expected, actual) is masked
