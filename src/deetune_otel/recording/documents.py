# SPDX-License-Identifier: Apache-2.0
"""JSON of strangers: bounded by what it becomes, not by how long it is."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from deetune_otel.recording.errors import BadInput

__all__ = ["MAX_VALUES", "parsed", "values_in"]

# Of one document. An empty list takes two characters, and 56 bytes in memory.
MAX_VALUES: Final = 1_000_000
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def parsed(data: bytes) -> Any:
    """Raises BadInput."""
    if values_in(data) > MAX_VALUES and values_in(_STRING.sub(b"", data)) > MAX_VALUES:
        raise BadInput(f"more than {MAX_VALUES:,} values in one document")
    try:
        return json.loads(data)
    except RecursionError:
        raise BadInput("no JSON that is read: it is nested too deeply") from None
    except ValueError as error:
        raise BadInput(f"no JSON: {error}") from None


def values_in(data: bytes) -> int:
    """At most so many; what looks like one within a string counts, too."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")
