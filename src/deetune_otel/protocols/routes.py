# SPDX-License-Identifier: Apache-2.0
"""Names for paths: patterns from the configuration first, then a heuristic; both capped.

The kernel folds before it counts: its signature covers the path up to `?`, with all identifiers
(config/http_path.py) one and the same. One signature gets one name, from one sample, so a name
may only depend on the folded path. It can be coarser, never finer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from opentelemetry.semconv.attributes.http_attributes import HTTP_ROUTE

from deetune_otel.config.http_path import ANY, folded
from deetune_otel.config.routes import TAIL, WELL_KNOWN, RoutePattern, kept_segments
from deetune_otel.model import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deetune_otel.model import Protocol

__all__ = ["ANY_ROUTE", "MAX_ROUTES", "OVERFLOW", "OVERFLOW_ATTRIBUTE", "Routes"]

# A service's attribute sets are this times its statuses; the SDK's own limit for all is 2000.
MAX_ROUTES: Final = 200

OVERFLOW_ATTRIBUTE: Final = "otel.metric.overflow"
OVERFLOW: Final = Operation(name="other", attributes={OVERFLOW_ATTRIBUTE: True})
ANY_ROUTE: Final = "/*"  # of paths beyond the cap

# pchar of RFC 3986, and the braces of what is folded; what is longer is a token, what is outside
# is not a name.
_READABLE: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@%{}-]{0,100}")


class Routes:
    """The route names of one service, and how many it may have."""

    def __init__(
        self, patterns: Iterable[str] = (), max_routes: int = MAX_ROUTES
    ) -> None:
        """`/users/{id}/orders` or `/static/*`, tried in order; ValueError says what to write."""
        if max_routes < 1:
            raise ValueError(f"max_routes must be at least 1, not {max_routes}")
        self._patterns = tuple(map(RoutePattern.parse, patterns))
        self._kept = kept_segments(self._patterns)
        self._configured = {pattern.text for pattern in self._patterns}
        self._max_routes = max_routes
        self._names: dict[Protocol, set[str]] = {}

    def for_service(self) -> Routes:
        """The same patterns and cap for another service, which starts with no names."""
        other = Routes((), self._max_routes)
        other._patterns, other._configured = self._patterns, self._configured
        other._kept = self._kept
        return other

    def route(self, path: str, *, complete: bool = True) -> str:
        """The name of a path that starts with `/` and has no query.

        Of an incomplete one only the finished segments count, and the name ends in `*`.
        """
        # without parameters, ";name=value"
        segments = tuple(part.partition(";")[0] for part in path.split("/")[1:])
        if not complete:
            segments = (*segments[:-1], "")
        for pattern in self._patterns:
            if pattern.matches(segments, kept=self._kept, complete=complete):
                return pattern.text
        known = segments if complete else segments[:-1]
        named = [_segment_name(segment) for segment in known]
        return "/" + "/".join(named if complete else [*named, TAIL])

    def capped(
        self, protocol: Protocol, operation: Operation, beyond: Operation = OVERFLOW
    ) -> Operation:
        """The operation, or `beyond` when its name would be one too many."""
        if operation.attributes.get(HTTP_ROUTE) in self._configured:
            return operation  # bounded by the configuration, whatever strangers ask for
        names = self._names.setdefault(protocol, set())
        if operation.name not in names:
            if len(names) >= self._max_routes:
                return beyond
            names.add(operation.name)
        return operation


def _segment_name(segment: str) -> str:
    """What a pattern keeps is a name where the pattern matches, and nowhere else."""
    name = segment if segment in WELL_KNOWN else folded(segment)
    return name if _READABLE.fullmatch(name) else ANY
