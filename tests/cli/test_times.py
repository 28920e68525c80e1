# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse

import pytest

from deetune_otel.cli.times import time_s


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("60s", 60), ("90", 90), ("1.5m", 90), ("2h", 7200), (" 5 s", 5)],
)
def test_times(given: str, seconds: float) -> None:
    assert time_s(given) == seconds


@pytest.mark.parametrize("given", ["", "0", "-5s", "5d", "s", "25h", "nan", "1e9"])
def test_what_is_no_time(given: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a time such as"):
        time_s(given)
