# SPDX-License-Identifier: Apache-2.0
"""Numbers and names of the map as people read them, the same in every text form.

Names come from programs, from the network and from other agents: nothing in them may move a
terminal's cursor or end a quoted text.
"""

from __future__ import annotations

from typing import Final

from deetune_otel.model import DURATION_BOUNDS_S
from deetune_otel.topology import tally
from deetune_otel.topology.model import Edge, Node, NodeKind

__all__ = [
    "MANY_ERRORS",
    "duration",
    "edge_words",
    "has_many_errors",
    "name_of",
    "percent",
    "plain",
    "rate",
]

# A name that is longer says no more, and spoils every table.
MAX_NAME: Final = 60
MANY_ERRORS: Final = 0.05


def plain(text: str, *, limit: int = MAX_NAME) -> str:
    """Printable characters alone, on one line, of bounded length."""
    made = "".join(one if one.isprintable() else "�" for one in text)
    return made if len(made) <= limit else f"{made[: limit - 1]}…"


def name_of(node: Node) -> str:
    """ "shop/web", "db.internal:5432", "clients 10.0.0.3"."""
    if node.kind is NodeKind.SERVICE:
        name = f"{node.namespace}/{node.name}" if node.namespace else node.name
    elif node.kind is NodeKind.CLIENTS and "clients" not in node.name:
        name = f"clients {node.name}"
    else:
        name = node.name
    return plain(name or node.id)


def rate(calls_per_s: float) -> str:
    if calls_per_s and calls_per_s < 0.095:
        return f"{calls_per_s * 60:.1f}/min"
    if calls_per_s < 100:
        return f"{calls_per_s:.1f}/s"
    return f"{calls_per_s:,.0f}/s"


def percent(ratio: float | None) -> str:
    if not ratio:
        return "0 %"
    if ratio < 0.001:
        return "< 0.1 %"
    return f"{ratio * 100:.1f} %" if ratio < 0.9995 else "100 %"


def duration(seconds: float | None) -> str:
    """Of a quantile: as precise as the histogram is, which knows no more outside its bounds."""
    if seconds is None:
        return "-"
    if seconds <= DURATION_BOUNDS_S[0]:
        return f"< {DURATION_BOUNDS_S[0] * 1000:.0f} ms"
    if seconds >= DURATION_BOUNDS_S[-1]:
        return f"> {DURATION_BOUNDS_S[-1]:.0f} s"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def edge_words(edge: Edge, window_s: float) -> list[str]:
    """What stands at an edge in a drawing: "http 80.1/s", "2 % errors", "p99 9 ms"."""
    counted = [one for one in edge.calls if one.calls.count]
    if not counted:
        return [str(one) for one in edge.transports]
    all_calls = tally.total(one.calls for one in counted)
    protocols = "+".join(sorted({one.protocol for one in counted}))
    made = [f"{protocols} {rate(tally.rate(all_calls, window_s))}"]
    if all_calls.errors:
        made.append(f"{percent(tally.error_ratio(all_calls))} errors")
    if all_calls.client_errors:
        made.append(f"{percent(all_calls.client_errors / all_calls.count)} 4xx")
    made.append(f"p99 {duration(tally.quantile(all_calls.duration_buckets, 0.99))}")
    return made


def has_many_errors(edge: Edge) -> bool:
    """Whether a drawing shows it in red."""
    ratio = tally.error_ratio(tally.total(one.calls for one in edge.calls))
    return ratio is not None and ratio >= MANY_ERRORS
