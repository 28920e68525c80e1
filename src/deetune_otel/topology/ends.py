# SPDX-License-Identifier: Apache-2.0
"""A kernel edge while it lives, and who is at its other end.

The kernel's joins decide first: a connection of which both ends were seen. Connections are
counted twice, `opened` by TCP and `joined` by the kernel; a connection that was opened before the
last reading and is not joined by now leads elsewhere: to what the answers (`Far`) say, else to
the address. So an edge may be joined in parts: an address of which some servers are here.

What an edge called is divided between several services in this order: only those whose own edge
counted something in this interval; by the servers' counts, where no other service calls these;
by connections, which is marked as an estimate. Calls beyond the servers' counts are elsewhere's.

A server's edge is the mirror: its calls are its joined clients'; what these did not count is of
callers elsewhere. Where several joined services call, their calls cannot be told apart there.

What a UDP server receives at a socket that is not connected is on an edge without a peer: the
kernel does not tell the sender. Its callers are those whom the service answered at that port, and
those who are joined; what the joined ones did not send is divided by what the others were answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from deetune_otel.model import Edge, Role, Service, Transport
from deetune_otel.topology.model import NodeKind
from deetune_otel.topology.places import OTHER, Sureness, service_place
from deetune_otel.topology.sums import (
    COUNT,
    NO_CALLS,
    NO_TRAFFIC,
    RECEIVED_BYTES,
    SENT_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deetune_otel.model import End, Protocol
    from deetune_otel.topology.drawn import DrawnEdge, Part
    from deetune_otel.topology.far import Far
    from deetune_otel.topology.model import Example
    from deetune_otel.topology.places import Place, Places

__all__ = [
    "CallKey",
    "DatagramServers",
    "Joined",
    "KernelEnd",
    "Split",
    "overflow_end",
    "split",
    "split_nameless",
]

# Answers hold as long as the newest, and so many readings less: connections to two backends are
# not asked about at the same moment; a server that moved away is forgotten in a minute.
ANSWER_READINGS: Final = 6
# Of one edge: behind a virtual address are as many backends, behind a router as many clients.
MAX_ANSWERS: Final = 64
# Without TCP's counts: a join comes at most this late.
JOIN_READINGS: Final = 2


class CallKey(NamedTuple):
    """What both ends of a call agree on, and its name at this one."""

    protocol: Protocol
    signature: int
    outcome: int
    end: End
    operation: str


_Shared: TypeAlias = (
    "tuple[Protocol, int, int, End]"  # the parts of a CallKey but its name
)


_Answered: TypeAlias = tuple[str, int, str]  # address, port, service; "": not known


@dataclass(slots=True)
class Joined:
    """Connections of which the other end was seen as well."""

    total: int = 0
    interval: int = 0


@dataclass(slots=True, eq=False)
class KernelEnd:
    """One owner's side of its calls to or from one peer."""

    edge: Edge
    owner: Place
    service: Service
    netns: int
    first_seen_ns: int
    opened: int = 0
    opened_before: int = 0  # as of the last reading
    closed: int = 0
    joined: int = 0  # connections, those of ends that are forgotten too
    joins: dict[int, Joined] = field(default_factory=dict)  # by the other end's id
    # Of the last joined ends that were forgotten: who they were, and `opened` at that time.
    gone: Place | None = None
    opened_when_gone: int = 0
    answers: dict[_Answered, tuple[Far, int]] = field(default_factory=dict)
    # of this interval
    calls: dict[CallKey, list[int]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    traffic: list[int] | None = None
    # what the calls at the other ends were more than those here, when last compared
    owed: int = 0
    part: Part | None = None
    settled: str = ""  # place at which its last part was settled
    examples: list[Example] = field(default_factory=list)  # of this interval
    targets: tuple[tuple[DrawnEdge, float], ...] = ()  # whose its connections are now
    # what it has told: the edge, and how many joins and answers it had then
    known: set[tuple[str, int, int]] = field(default_factory=set)

    @property
    def is_server(self) -> bool:
        return self.edge.role is Role.SERVER

    @property
    def is_udp_server(self) -> bool:
        edge = self.edge
        return (
            edge.role is Role.SERVER
            and edge.transport is Transport.UDP
            and not edge.overflow
        )

    @property
    def is_nameless(self) -> bool:
        """What a UDP server received, from whomever."""
        return self.is_udp_server and not self.edge.peer_address

    @property
    def active(self) -> int:
        return max(0, self.opened - self.closed)

    @property
    def unjoined(self) -> int:
        """Connections that are surely not joined: they had a whole reading's time."""
        return max(0, self.opened_before - self.joined)

    @property
    def is_joined_whole(self) -> bool:
        return self.joined >= self.opened > 0

    def count(self) -> int:
        return sum(numbers[COUNT] for numbers in self.calls.values())

    def add(self, key: CallKey, numbers: list[int]) -> None:
        have = self.calls.get(key)
        self.calls[key] = numbers if have is None else list(map(add, have, numbers))

    def end_interval(self) -> None:
        self.calls.clear()
        self.failures.clear()
        self.traffic = None
        self.opened_before = self.opened
        for joined in self.joins.values():
            joined.interval = 0

    def know(self, far: Far, reading: int) -> None:
        """An answer that says less does not replace one that says more.

        Services at one address stand side by side: it is a load balancer's.
        """
        place = (far.address, far.port)
        if far.service is not None:
            self.answers.pop((*place, ""), None)
            key = (*place, service_place(far.service).id)
        elif any(key[:2] == place and key[2] for key in self.answers):
            return
        else:
            key = (*place, "")
            have, _ = self.answers.get(key, (far, 0))
            far = have if have.name and not far.name else far
        self.answers.pop(key, None)  # the newest stands last
        self.answers[key] = (far, reading)
        while len(self.answers) > MAX_ANSWERS:
            del self.answers[next(iter(self.answers))]

    def valid_answers(self) -> list[Far]:
        newest = max((reading for _, reading in self.answers.values()), default=0)
        return [
            far
            for far, reading in self.answers.values()
            if newest - reading <= ANSWER_READINGS
        ]

    def elsewhere(self, places: Places) -> Place:
        """Who is at the other end where no join says it."""
        if self.edge.overflow:
            return OTHER
        found = {}
        for far in self.valid_answers():
            place = (
                places.client(far, self.netns)
                if self.is_server
                else places.server(far, self.edge, self.netns)
            )
            found[place.id] = place
        if len(found) == 1:
            return next(iter(found.values()))
        if self.is_server:
            return places.caller(self.edge, self.netns)
        called = places.called(self.edge, self.netns)
        if not found:
            return called
        return called._replace(kind=NodeKind.VIRTUAL, sureness=Sureness.NAME)


def overflow_end(id_: int, role: Role, now_ns: int) -> KernelEnd:
    """For counts of no known edge; -1 and -2 are no ids of the kernel's."""
    edge = Edge(id_, 0, role, Transport.TCP, "", 0, "", overflow=True)
    return KernelEnd(edge, OTHER, Service(name=OTHER.name), 0, now_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Whose an end's calls of this interval are.

    `shares` are of connections; `models`, if there are any, each place's calls as its own end
    counted them. `is_told`: one of both tells the calls apart.
    """

    places: tuple[Place, ...]
    shares: tuple[float, ...] = (1.0,)
    elsewhere: frozenset[int] = frozenset()  # indices of places that are not joined
    models: tuple[Mapping[_Shared, Sequence[float]], ...] = ()
    is_told: bool = True

    def models_of(self, key: CallKey) -> list[Sequence[float]]:
        return [model.get(key[:4], NO_CALLS) for model in self.models]


def split(end: KernelEnd, ends: Mapping[int, KernelEnd], places: Places) -> Split:
    """`ends` by edge id. Moves `end.owed` on."""
    joined = _by_place(end, ends)
    if not joined:
        # A server that is gone is still the one that is called, until somebody else answers.
        if end.gone is not None and end.opened_before <= end.opened_when_gone:
            return Split(places=(end.gone,))
        return Split(places=(end.elsewhere(places),), elsewhere=frozenset({0}))
    if len(joined) == 1 and not end.unjoined:
        return Split(places=(joined[0].place,))
    busy = [one for one in joined if one.is_busy] or joined
    models = [one.calls() for one in busy]
    is_told = len(busy) == 1 or (
        not end.is_server and all(one.is_exclusive(end.owner, ends) for one in busy)
    )
    is_interval = any(one.connections(is_interval=True) for one in busy)
    shares = [float(one.connections(is_interval=is_interval)) for one in busy]
    found = [one.place for one in busy]
    rest = _rest(end, models) if end.unjoined and (is_told or end.is_server) else None
    if rest is None and end.unjoined and not is_told and not end.is_server:
        rest = {}
        models.clear()
    if rest is not None:
        found.append(end.elsewhere(places))
        shares.append(float(end.unjoined))
        models.append(rest)
    return Split(
        places=tuple(found),
        shares=tuple(shares),
        elsewhere=frozenset() if rest is None else frozenset({len(found) - 1}),
        models=tuple(models) if is_told or end.is_server else (),
        is_told=is_told,
    )


class DatagramServers:
    """UDP servers' edges whose peer is known, by the service and its port."""

    def __init__(self, ends: Iterable[KernelEnd]) -> None:
        self._ends: defaultdict[tuple[str, int], list[KernelEnd]] = defaultdict(list)
        for end in ends:
            if end.is_udp_server and end.edge.peer_address:
                self._ends[end.owner.id, end.edge.server_port].append(end)

    def beside(self, end: KernelEnd) -> Sequence[KernelEnd]:
        return self._ends.get((end.owner.id, end.edge.server_port), ())


def split_nameless(
    end: KernelEnd,
    ends: Mapping[int, KernelEnd],
    places: Places,
    servers: DatagramServers,
) -> Split:
    """Of an end that `is_nameless`."""
    joined: dict[str, Place] = {}
    others: dict[str, Place] = {}
    answered: Counter[str] = Counter()
    senders: dict[int, KernelEnd] = {}
    for one in (end, *servers.beside(end)):
        whole = split(one, ends, places)
        into = others if whole.elsewhere else joined
        for place in whole.places:
            if place.sureness is not Sureness.NOTHING:
                into[place.id] = place
                answered[place.id] += _bytes(one)[1]
        senders |= {id_: ends[id_] for id_ in one.joins if id_ in ends}
    if not joined and not others:
        return split(end, ends, places)
    sent: Counter[str] = Counter()
    for sender in senders.values():
        sent[sender.owner.id] += _bytes(sender)[0]
    for id_ in joined:
        others.pop(id_, None)
    rest = max(0, _bytes(end)[0] - sent.total())
    answers = sum(answered[id_] for id_ in others)
    shares = [float(sent[id_]) for id_ in joined]
    shares += [
        rest * answered[id_] / answers if answers else rest / len(others)
        for id_ in others
    ]
    return Split(
        places=(*joined.values(), *others.values()),
        shares=tuple(shares) if any(shares) else (1.0,) * len(shares),
        elsewhere=frozenset(range(len(joined), len(shares))),
        is_told=len(shares) == 1,
    )


def _bytes(end: KernelEnd) -> tuple[int, int]:
    """Of this interval: to the server, and from it."""
    traffic = end.traffic or NO_TRAFFIC
    return max(0, traffic[SENT_BYTES]), max(0, traffic[RECEIVED_BYTES])


def _rest(
    end: KernelEnd, models: Iterable[Mapping[_Shared, Sequence[float]]]
) -> dict[_Shared, Sequence[float]] | None:
    """The calls that the joined ends did not count; None when there are none.

    A call is counted at its two ends in two moments, and a reading may lie between.
    """
    own: dict[_Shared, Sequence[float]] = {}
    for call, numbers in end.calls.items():
        own[call[:4]] = list(map(add, own.get(call[:4], NO_CALLS), numbers))
    theirs = sum(counts[COUNT] for model in models for counts in model.values())
    ahead = theirs + end.owed - end.count()
    end.owed = max(0, round(ahead))
    if ahead > -1:
        return None
    for model in models:
        for key, counts in model.items():
            if key in own:
                own[key] = [
                    max(0, a - b) for a, b in zip(own[key], counts, strict=True)
                ]
    return {key: counts for key, counts in own.items() if counts[COUNT]}


@dataclass(slots=True)
class _Candidate:
    """A service at the other end, with its own kernel edges."""

    place: Place
    ends: list[tuple[KernelEnd, Joined]] = field(default_factory=list)

    @property
    def is_busy(self) -> bool:
        return any(end.calls for end, _ in self.ends)

    def connections(self, *, is_interval: bool) -> int:
        return sum(j.interval if is_interval else j.total for _, j in self.ends)

    def calls(self) -> dict[_Shared, Sequence[float]]:
        """What its ends counted; by connections where they have others at their other end."""
        found: dict[_Shared, Sequence[float]] = {}
        for end, joined in self.ends:
            part = joined.total / (sum(one.total for one in end.joins.values()) or 1)
            for key, numbers in end.calls.items():
                have = found.get(key[:4], NO_CALLS)
                found[key[:4]] = [
                    a + b * part for a, b in zip(have, numbers, strict=True)
                ]
        return found

    def is_exclusive(self, owner: Place, ends: Mapping[int, KernelEnd]) -> bool:
        """Its ends are joined with nobody but that service."""
        return all(
            ends[id_].owner.id == owner.id
            for end, _ in self.ends
            for id_ in end.joins
            if id_ in ends
        )


def _by_place(end: KernelEnd, ends: Mapping[int, KernelEnd]) -> list[_Candidate]:
    found: dict[str, _Candidate] = {}
    for id_, joined in end.joins.items():
        other = ends.get(id_)
        if other is not None:
            candidate = found.setdefault(other.owner.id, _Candidate(other.owner))
            candidate.ends.append((other, joined))
    return list(found.values())
