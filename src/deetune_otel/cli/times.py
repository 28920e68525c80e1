# SPDX-License-Identifier: Apache-2.0
"""Lengths of time on the command line: 30s, 5m, 1h; a bare number is seconds."""

from __future__ import annotations

import argparse
import re
from typing import Final

__all__ = ["time_s"]

UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
MOST_S: Final = 86_400  # as far back as the map remembers


def time_s(given: str) -> float:
    """An argument's type; argparse says the error."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", given.strip())
    seconds = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    if not 0 < seconds <= MOST_S:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 30s, 5m or 1h, got {given!r}"
        )
    return seconds
