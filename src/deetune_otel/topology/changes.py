# SPDX-License-Identifier: Apache-2.0
"""Two maps compared: what appeared, vanished, got slower, started to fail.

That something is there or not is a fact of the two windows. That a number changed is only said
when chance does not explain it and a person would care, both:

- **Slower, faster**: the quantile (p50, p99) moved to another bucket of the histogram, by a
  quarter at least, and the share of calls beyond the bound that it crossed differs between the
  two times by SIGMAS standard deviations (two-proportion z test, pooled).
- **Failing**: the same test on the share of failed calls, and of failed connects; the share at
  least doubled (or halved), and is more than MIN_ERROR_RATIO at its worse time.
- **Rate**: at least doubled (or halved), and the counts differ by SIGMAS standard deviations of
  a Poisson process.

MIN_CALLS at both times (for the rate: at the busier one) make the normal approximation hold. Of
8,000 comparisons, two thousand edges' worth, chance fakes less than one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from deetune_otel.model import DURATION_BOUNDS_S, Protocol
from deetune_otel.topology.model import Calls, Edge, Network, ServiceMap, Tally
from deetune_otel.topology.tally import NO_CALLS, quantile
from deetune_otel.topology.writing import duration, name_of, percent, plain, rate

__all__ = ["Change", "ChangeKind", "changes_to_json", "diff", "lines"]

SIGMAS: Final = 4.0
MIN_CALLS: Final = 20
MIN_WINDOW_S: Final = 0.1
MIN_FACTOR: Final = 1.25
MIN_ERROR_RATIO: Final = 0.01
MIN_ERROR_FACTOR: Final = 2.0
MIN_RATE_FACTOR: Final = 2.0
QUANTILES: Final = (("p50", 0.5), ("p99", 0.99))


class ChangeKind(StrEnum):
    """In the order in which a person wants to read them."""

    STARTED_FAILING = "started_failing"
    SLOWER = "slower"
    NODE_VANISHED = "node_vanished"
    EDGE_VANISHED = "edge_vanished"
    NODE_APPEARED = "node_appeared"
    EDGE_APPEARED = "edge_appeared"
    RATE_FELL = "rate_fell"
    RATE_ROSE = "rate_rose"
    STOPPED_FAILING = "stopped_failing"
    FASTER = "faster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`measure`: "p50", "p99", "errors", "connects" or "rate"; "" for what came or went."""

    kind: ChangeKind
    id: str  # of a node or an edge
    name: str  # for people
    protocol: Protocol | None = None
    measure: str = ""
    before: float | None = None  # seconds, a ratio, or calls a second
    after: float | None = None


def diff(earlier: ServiceMap, later: ServiceMap) -> list[Change]:
    """What a person should look at, the worst first."""
    names = {
        one.id: name_of(one) for side in (earlier, later) for one in side.nodes
    }  # fmt: skip
    found = [
        *_came_and_went(earlier, later, names),
        *_changed(earlier, later, names),
    ]
    order = list(ChangeKind)
    return sorted(found, key=lambda one: (order.index(one.kind), one.id, one.measure))


def lines(changes: Iterable[Change]) -> Iterator[str]:
    for one in changes:
        yield f"{_WORDS[one.kind]}  {plain(one.name)}{_numbers(one)}"


def changes_to_json(
    earlier: ServiceMap, later: ServiceMap, changes: Iterable[Change]
) -> dict[str, Any]:
    return {
        "earlier_unix_ns": earlier.time_unix_ns,
        "later_unix_ns": later.time_unix_ns,
        "changes": [asdict(one) for one in changes],
    }


# What came and went


def _came_and_went(
    earlier: ServiceMap, later: ServiceMap, names: Mapping[str, str]
) -> Iterator[Change]:
    kinds = ChangeKind
    nodes = {one.id for one in earlier.nodes}, {one.id for one in later.nodes}
    edges = {one.id for one in earlier.edges}, {one.id for one in later.edges}
    edge_names = {
        one.id: _edge_name(one, names)
        for side in (earlier, later)
        for one in side.edges
    }
    for kind, ids, of in (
        (kinds.NODE_VANISHED, nodes[0] - nodes[1], names),
        (kinds.NODE_APPEARED, nodes[1] - nodes[0], names),
        (kinds.EDGE_VANISHED, edges[0] - edges[1], edge_names),
        (kinds.EDGE_APPEARED, edges[1] - edges[0], edge_names),
    ):
        for one in ids:
            yield Change(kind=kind, id=one, name=of[one])


def _edge_name(edge: Edge, names: Mapping[str, str]) -> str:
    return f"{names[edge.client]} → {names[edge.server]}"


# What changed


def _changed(
    earlier: ServiceMap, later: ServiceMap, names: Mapping[str, str]
) -> Iterator[Change]:
    before = {one.id: one for one in earlier.edges}
    for edge in later.edges:
        known = before.get(edge.id)
        if known is None:
            continue
        name = _edge_name(edge, names)
        old, new = _by_protocol(known), _by_protocol(edge)
        for protocol in sorted({*old, *new}):
            pair = old.get(protocol, NO_CALLS), new.get(protocol, NO_CALLS)
            seconds = earlier.window_s, later.window_s
            for kind, measure, numbers in (
                *_latency(*pair),
                *_errors(*pair),
                *_rate(*pair, seconds),
            ):
                yield Change(
                    kind=kind,
                    id=edge.id,
                    name=name,
                    protocol=protocol,
                    measure=measure,
                    before=numbers[0],
                    after=numbers[1],
                )
        for kind, measure, numbers in _connects(known.network, edge.network):
            yield Change(
                kind=kind,
                id=edge.id,
                name=name,
                measure=measure,
                before=numbers[0],
                after=numbers[1],
            )


_Found = tuple[ChangeKind, str, tuple[float | None, float | None]]


def _by_protocol(edge: Edge) -> dict[Protocol, Tally]:
    """Failed connects are told by the network's counts, which know their total."""
    return {
        one.protocol: one.calls
        for one in edge.calls
        if one.protocol is not Protocol.CONNECT and _has_calls(one)
    }


def _has_calls(one: Calls) -> bool:
    return one.calls.count > 0


def _latency(old: Tally, new: Tally) -> Iterator[_Found]:
    if min(old.count, new.count) < MIN_CALLS:
        return
    for measure, q in QUANTILES:
        before = quantile(old.duration_buckets, q)
        after = quantile(new.duration_buckets, q)
        if before is None or after is None:
            continue
        low, high = _bucket(min(before, after)), _bucket(max(before, after))
        if low == high or max(before, after) < MIN_FACTOR * min(before, after):
            continue
        beyond = [sum(one.duration_buckets[low + 1 :]) for one in (old, new)]
        if _z(beyond[0], old.count, beyond[1], new.count) >= SIGMAS:
            kind = ChangeKind.SLOWER if after > before else ChangeKind.FASTER
            yield kind, measure, (before, after)


def _bucket(seconds: float) -> int:
    return next(
        (i for i, bound in enumerate(DURATION_BOUNDS_S) if seconds <= bound),
        len(DURATION_BOUNDS_S),
    )


def _errors(old: Tally, new: Tally) -> Iterator[_Found]:
    if min(old.count, new.count) < MIN_CALLS:
        return
    yield from _failing(
        "errors", (old.errors, old.count), (new.errors, new.count)
    )  # fmt: skip


def _connects(old: Network, new: Network) -> Iterator[_Found]:
    counts = []
    for one in (old, new):
        failed = sum(one.connect_failures.values())
        counts.append((failed, failed + one.connects))
    if min(counts[0][1], counts[1][1]) >= MIN_CALLS:
        yield from _failing("connects", *counts)


def _failing(
    measure: str, old: tuple[int, int], new: tuple[int, int]
) -> Iterator[_Found]:
    before, after = old[0] / old[1], new[0] / new[1]
    worse, better = max(before, after), min(before, after)
    if worse < MIN_ERROR_RATIO or worse < MIN_ERROR_FACTOR * better:
        return
    if _z(*old, *new) >= SIGMAS:
        kind = (
            ChangeKind.STARTED_FAILING
            if after > before
            else ChangeKind.STOPPED_FAILING
        )  # fmt: skip
        yield kind, measure, (before, after)


def _rate(old: Tally, new: Tally, seconds: tuple[float, float]) -> Iterator[_Found]:
    if max(old.count, new.count) < MIN_CALLS or min(seconds) < MIN_WINDOW_S:
        return
    before, after = old.count / seconds[0], new.count / seconds[1]
    if max(before, after) < MIN_RATE_FACTOR * min(before, after):
        return
    deviation = math.sqrt(old.count / seconds[0] ** 2 + new.count / seconds[1] ** 2)
    if abs(after - before) >= SIGMAS * deviation:
        kind = ChangeKind.RATE_ROSE if after > before else ChangeKind.RATE_FELL
        yield kind, "rate", (before, after)


def _z(old: int, of_old: int, new: int, of_new: int) -> float:
    """How many standard deviations two shares differ by; 0 where both are all or nothing."""
    pooled = (old + new) / (of_old + of_new)
    variance = pooled * (1 - pooled) * (1 / of_old + 1 / of_new)
    if variance <= 0:
        return 0.0
    return abs(new / of_new - old / of_old) / math.sqrt(variance)


# For people

_WORDS: Final = {
    ChangeKind.STARTED_FAILING: "fails   ",
    ChangeKind.SLOWER: "slower  ",
    ChangeKind.NODE_VANISHED: "vanished",
    ChangeKind.EDGE_VANISHED: "vanished",
    ChangeKind.NODE_APPEARED: "new     ",
    ChangeKind.EDGE_APPEARED: "new     ",
    ChangeKind.RATE_FELL: "fewer   ",
    ChangeKind.RATE_ROSE: "more    ",
    ChangeKind.STOPPED_FAILING: "recovers",
    ChangeKind.FASTER: "faster  ",
}


def _numbers(one: Change) -> str:
    if one.before is None or one.after is None:
        return ""
    show = {"rate": rate, "errors": percent, "connects": percent}.get(
        one.measure, duration
    )
    what = {"errors": "failed calls", "connects": "failed connects", "rate": "calls"}
    protocol = f" {one.protocol}" if one.protocol else ""
    measure = what.get(one.measure, one.measure)
    return f" ({protocol.strip()}{' ' if protocol else ''}{measure}: {show(one.before)} → {show(one.after)})"
