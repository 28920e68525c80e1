# SPDX-License-Identifier: Apache-2.0
"""What was found to differ, and what an exchange is called."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from deetune_otel.recording.model import RecordedExchange
from deetune_otel.recording.operations import operation_name

__all__ = ["Finding", "Found", "Ignored", "general", "operation_of"]

_INDEX: Final = re.compile(r"\[[0-9]+\]|(?<=^line )[0-9]+")


class Finding(NamedTuple):
    """One place where the answer is not what was recorded."""

    place: str  # "status", "header x", "$.items[0].price", "line 3", "body", "failure"
    kind: str  # a values.Kind; "added", "missing", "changed" of downstream calls
    expected: Any  # None: not there
    actual: Any


class Ignored(NamedTuple):
    """A finding that does not count."""

    finding: Finding
    reason: str


class Found(NamedTuple):
    """All that differs."""

    findings: list[Finding]
    ignored: list[Ignored]

    def add(self, finding: Finding, reason: str | None = None) -> None:
        if reason is None:
            self.findings.append(finding)
        else:
            self.ignored.append(Ignored(finding, reason))


def general(place: str) -> str:
    """The place without its indexes: `$.items[*].price`."""
    return _INDEX.sub(lambda found: "[*]" if found[0][0] == "[" else "*", place)


def operation_of(exchange: RecordedExchange) -> str:
    """Its name; recordings of others have none, then it is that of the request."""
    named = exchange.operation or operation_name(exchange.request)
    return named or exchange.protocol.name
