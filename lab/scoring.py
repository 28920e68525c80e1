# SPDX-License-Identifier: Apache-2.0
"""How right a map is: its edges against what the programs counted. Pure.

An edge is who called whom, by label: a service's name; of an end without an agent its address
("10.61.1.2:80" where it serves, "10.61.1.2" where it calls) or the name that DNS gave it ("NAME:PORT").

- precision: how many of the map's edges there really were
- recall: how many of the real edges the map has
- exact: how many of those have just the calls, by protocol, that the programs counted

The same question is put to addresses alone (`by_address`): what a map is that looks the peer's
address up in a table of who listens where, as most tools do. It gets to know the same connections.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = [
    "Connection",
    "EdgeKey",
    "Score",
    "Sight",
    "by_address",
    "merged_calls",
    "read_map",
    "score",
    "score_edges",
]

Calls = dict[str, int]  # by protocol


class EdgeKey(NamedTuple):
    client: str
    server: str

    def __str__(self) -> str:
        return f"{self.client} → {self.server}"


Sight = Mapping[EdgeKey, Calls]  # the edges that are there, or are said to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Counts that add up over scenarios; `wrong` says each mistake."""

    true: int
    predicted: int
    right: int
    exact: int
    calls: int
    wrong: tuple[str, ...] = field(default=())

    @property
    def precision(self) -> float:
        return self.right / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 1.0

    @property
    def has_right_edges(self) -> bool:
        return self.true == self.predicted == self.right

    @property
    def is_perfect(self) -> bool:
        return self.true == self.predicted == self.right == self.exact

    def __add__(self, other: Score) -> Score:
        return Score(
            true=self.true + other.true,
            predicted=self.predicted + other.predicted,
            right=self.right + other.right,
            exact=self.exact + other.exact,
            calls=self.calls + other.calls,
            wrong=(*self.wrong, *other.wrong),
        )


class Connection(NamedTuple):
    """One end of connections as its program saw it: what an observer without joins knows."""

    service: str
    is_client: bool
    own: str  # "10.61.1.2", of a server "10.61.1.2:80"
    other: str  # the other way round


def score_edges(truth: Iterable[EdgeKey], drawn: Iterable[EdgeKey]) -> Score:
    """The same without counts: an edge that is right is exact."""
    return score({key: {} for key in truth}, {key: {} for key in drawn})


def score(truth: Sight, predicted: Sight) -> Score:
    """Compare edge by edge."""
    right = truth.keys() & predicted.keys()
    wrong = [f"missing: {key}" for key in sorted(truth.keys() - right)]
    wrong += [f"invented: {key}" for key in sorted(predicted.keys() - right)]
    exact = 0
    for key in sorted(right):
        if truth[key] == predicted[key]:
            exact += 1
        else:
            wrong.append(f"counts: {key}: {predicted[key]}, really {truth[key]}")
    return Score(
        true=len(truth),
        predicted=len(predicted),
        right=len(right),
        exact=exact,
        calls=sum(sum(calls.values()) for calls in truth.values()),
        wrong=tuple(wrong),
    )


def read_map(found: Mapping[str, Any], services: Iterable[str] = ()) -> Sight:
    """The edges of a map as `deetune map --format json` prints it.

    With `services`, only the edges that touch one of them: an agent that observes a whole machine
    also sees what others do there.
    """
    wanted = set(services)
    labels = {node["id"]: _label(node) for node in found["nodes"]}
    sight: dict[EdgeKey, Calls] = {}
    for edge in found["edges"]:
        key = EdgeKey(labels[edge["client"]], labels[edge["server"]])
        if not wanted or wanted & set(key):
            if key in sight:
                raise ValueError(f"the map has this edge twice: {key}")
            sight[key] = {
                calls["protocol"]: calls["total"]
                for calls in edge.get("calls", ())
                if calls["total"]
            }
    return sight


def by_address(
    connections: Iterable[Connection], listeners: Mapping[str, str]
) -> set[EdgeKey]:
    """The edges that addresses alone would draw, by the table of who listens at the end.

    A connection that came from an observed host is not drawn a second time from its server's end.
    """
    ends = list(connections)
    observed = {end.own for end in ends if end.is_client}
    edges = set()
    for end in ends:
        if end.is_client:
            edges.add(EdgeKey(end.service, listeners.get(end.other, end.other)))
        elif end.other not in observed:
            edges.add(EdgeKey(end.other, end.service))
    return edges


def merged_calls(rows: Iterable[tuple[str, str, str, int]]) -> dict[EdgeKey, Calls]:
    """Rows of (client, server, protocol, calls), added up."""
    sums: dict[EdgeKey, Counter[str]] = defaultdict(Counter)
    for client, server, protocol, count in rows:
        sums[EdgeKey(client, server)][protocol] += count
    return {key: dict(+calls) for key, calls in sums.items()}


def _label(node: Mapping[str, Any]) -> str:
    """A service's name; else what its id says of it, without the kind of id that it is."""
    if node["kind"] == "service":
        return str(node["name"])
    return str(node["id"]).partition(":")[2]
