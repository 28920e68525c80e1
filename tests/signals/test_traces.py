# SPDX-License-Identifier: Apache-2.0
"""One trace per tree of calls, with the right parents, in whatever order exchanges arrive."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories import edge, exchange, key

from deetune_otel.model import (
    Cause,
    Edge,
    Exchange,
    Protocol,
    Role,
    Transport,
    Wire,
)
from deetune_otel.signals.traces import (
    ParentMethod,
    RemoteParents,
    Resolved,
    SpanIds,
    TraceResolver,
    span_id,
)

HEADER = b"traceparent: 00-%032x-%016x-01"
LOCAL = "10.0.0.2"
REMOTE = "10.9.9.9"
A, B, C = Wire(11, 12, 0), Wire(21, 22, 0), Wire(31, 32, 7)


def resolver(**changes: object) -> TraceResolver:
    arguments: dict[str, object] = {"is_local": lambda a: a == LOCAL, "hold_ns": 10}
    return TraceResolver(**(arguments | changes))  # type: ignore[arg-type]


def client(wire: Wire, cause: Cause | None = None, **changes: object) -> Exchange:
    return exchange(wire=wire, cause=cause, peer_address=LOCAL)._replace(**changes)  # type: ignore[arg-type]


def server(wire: Wire, **changes: object) -> Exchange:
    return exchange(wire=wire, peer_address=REMOTE)._replace(**changes)  # type: ignore[arg-type]


def resolve(
    traces: TraceResolver, *ends: tuple[Role, Exchange]
) -> dict[tuple[Role, Wire], SpanIds]:
    for role, one in ends:
        traces.add(one, edge(role), now_ns=0)
    return {(r.edge.role, r.exchange.wire): r.ids for r in traces.flush()}


def test_both_ends_of_a_call() -> None:
    ids = resolve(resolver(), (Role.SERVER, server(A)), (Role.CLIENT, client(A)))
    ours, theirs = ids[Role.CLIENT, A], ids[Role.SERVER, A]
    assert ours.trace_id == theirs.trace_id
    assert ours.parent_span_id is None
    assert ours.parent_method is None
    assert theirs.parent_span_id == ours.span_id == span_id(A, Role.CLIENT)
    assert theirs.parent_method is ParentMethod.WIRE
    assert theirs.span_id == span_id(A, Role.SERVER) != ours.span_id


def test_two_hosts_agree_without_talking() -> None:
    here = resolve(resolver(), (Role.CLIENT, client(A, peer_address=REMOTE)))
    there = resolve(resolver(), (Role.SERVER, server(A)))
    assert here[Role.CLIENT, A].trace_id == there[Role.SERVER, A].trace_id
    assert here[Role.CLIENT, A].span_id == there[Role.SERVER, A].parent_span_id


def test_ids_are_the_same_in_every_version() -> None:
    ids = resolve(resolver(), (Role.CLIENT, client(Wire(1, 2, 3))))
    assert ids[Role.CLIENT, Wire(1, 2, 3)] == SpanIds(
        trace_id=0x1F187D9702F10EE2419057DEDAABD471, span_id=0x0699165B7C4AB997
    )


def test_far_end_on_another_host_gets_a_link_not_a_parent() -> None:
    one = client(B, Cause(A, b""), peer_address=REMOTE)
    ids = resolve(resolver(), (Role.CLIENT, one), (Role.SERVER, server(A)))
    assert ids[Role.CLIENT, B].trace_id != ids[Role.SERVER, A].trace_id
    assert ids[Role.CLIENT, B].parent_span_id is None
    assert ids[Role.CLIENT, B].links == (
        (ids[Role.SERVER, A].trace_id, span_id(A, Role.SERVER)),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"peer_address": "127.0.0.1"},
        {"peer_address": "::1"},
        {"peer_address": LOCAL},
        {"peer_address": "", "transport": Transport.UNIX},
        {"peer_address": REMOTE, "is_alone": True},
        {"peer_address": REMOTE, "wire": Wire(0, 0, 0)},
    ],
)
def test_child_of_its_cause_where_nobody_else_could_disagree(
    changes: dict[str, object],
) -> None:
    one = client(B, Cause(A, b""))._replace(**changes)  # type: ignore[arg-type]
    ids = resolve(resolver(), (Role.CLIENT, one), (Role.SERVER, server(A)))
    child = ids[Role.CLIENT, one.wire]
    assert child.trace_id == ids[Role.SERVER, A].trace_id
    assert child.parent_span_id == span_id(A, Role.SERVER)
    assert child.parent_method is ParentMethod.THREAD


def test_a_far_end_that_was_seen_is_here_whatever_its_address() -> None:
    one = client(B, Cause(A, b""), peer_address="172.17.0.5")
    ids = resolve(resolver(), (Role.SERVER, server(B)), (Role.CLIENT, one))
    assert ids[Role.CLIENT, B].parent_span_id == span_id(A, Role.SERVER)
    assert ids[Role.CLIENT, B].trace_id == ids[Role.SERVER, B].trace_id


def test_a_decision_holds_for_the_other_end() -> None:
    traces = resolver()
    traces.add(server(B), edge(Role.SERVER), now_ns=0)
    [late] = traces.release(10)
    traces.add(client(B, Cause(A, b"")), edge(Role.CLIENT), now_ns=20)
    [ours] = traces.release(30)
    assert ours.ids.trace_id == late.ids.trace_id
    assert ours.ids.links  # the cause is not forgotten


def test_ambiguous_cause_is_counted_and_links_nothing() -> None:
    traces = resolver()
    one = client(B, Cause(A, b""), cause_ambiguous=True)
    ids = resolve(traces, (Role.CLIENT, one))
    assert ids[Role.CLIENT, B].parent_span_id is None
    assert ids[Role.CLIENT, B].links == ()
    assert traces.ambiguous_causes == 1


def test_what_the_client_says_of_its_cause_is_enough() -> None:
    traces = resolver(read_cause=lambda _: pytest.fail("asked the kernel"))
    ids = resolve(traces, (Role.CLIENT, client(B)), (Role.SERVER, server(B)))
    assert ids[Role.SERVER, B].trace_id == ids[Role.CLIENT, B].trace_id


def test_header_of_a_remote_client() -> None:
    header = HEADER % (0xABC, 0xDEF)
    for mode, parent, method in [
        (RemoteParents.HEADER, 0xDEF, ParentMethod.HEADER),
        (RemoteParents.WIRE, span_id(A, Role.CLIENT), ParentMethod.WIRE),
    ]:
        traces = resolver(remote_parents=mode)
        ids = resolve(traces, (Role.SERVER, server(A, trace_header=header)))
        assert ids[Role.SERVER, A].trace_id == 0xABC
        assert ids[Role.SERVER, A].parent_span_id == parent
        assert ids[Role.SERVER, A].parent_method is method


def test_header_of_a_local_client() -> None:
    header = HEADER % (0xABC, 0xDEF)
    ids = resolve(
        resolver(),
        (Role.SERVER, server(A, trace_header=header)),
        (Role.CLIENT, client(A, trace_header=header)),
    )
    assert ids[Role.CLIENT, A].parent_span_id == 0xDEF
    assert ids[Role.CLIENT, A].parent_method is ParentMethod.HEADER
    assert ids[Role.SERVER, A].parent_span_id == ids[Role.CLIENT, A].span_id
    assert {i.trace_id for i in ids.values()} == {0xABC}


def test_header_that_a_proxy_passed_on() -> None:
    header = HEADER % (0xABC, 0xDEF)
    one = client(B, Cause(A, header), trace_header=header)
    ids = resolve(resolver(), (Role.CLIENT, one))
    assert ids[Role.CLIENT, B].parent_span_id == span_id(A, Role.SERVER)
    assert ids[Role.CLIENT, B].parent_method is ParentMethod.THREAD


def test_header_of_a_span_that_the_program_made() -> None:
    one = client(
        B, Cause(A, HEADER % (0xABC, 0xDEF)), trace_header=HEADER % (0xABC, 0x123)
    )
    ids = resolve(resolver(), (Role.CLIENT, one))
    assert ids[Role.CLIENT, B].parent_span_id == 0x123
    assert ids[Role.CLIENT, B].parent_method is ParentMethod.HEADER
    assert ids[Role.CLIENT, B].links == ()


def test_header_of_the_cause_is_inherited() -> None:
    one = client(B, Cause(A, HEADER % (0xABC, 0xDEF)))
    ids = resolve(resolver(), (Role.CLIENT, one), (Role.SERVER, server(B)))
    assert {i.trace_id for i in ids.values()} == {0xABC}
    assert ids[Role.CLIENT, B].parent_span_id == span_id(A, Role.SERVER)


def test_what_is_known_at_one_end_alone_has_no_client_for_its_parent() -> None:
    """Even where a client's wire is the same: each end counts from a place of its own."""
    ids = resolve(
        resolver(),
        (Role.SERVER, server(A, is_alone=True, transport=Transport.UNIX)),
        (Role.CLIENT, client(A, is_alone=True, transport=Transport.UNIX)),
    )
    assert ids[Role.SERVER, A].parent_span_id is None
    assert ids[Role.SERVER, A].parent_method is None
    header = HEADER % (0xABC, 0xDEF)
    one = server(A, is_alone=True, trace_header=header)
    ids = resolve(resolver(), (Role.SERVER, one))
    assert ids[Role.SERVER, A].trace_id == 0xABC
    assert ids[Role.SERVER, A].parent_span_id == 0xDEF
    assert ids[Role.SERVER, A].parent_method is ParentMethod.HEADER


@pytest.mark.parametrize(
    ("peer", "is_seen", "has_parent"),
    [
        (LOCAL, True, True),
        (LOCAL, False, False),  # the client cut its requests elsewhere
        ("127.0.0.1", False, False),
        (REMOTE, False, True),  # nobody here can tell
    ],
)
def test_a_turn_is_the_child_of_the_same_turn(
    peer: str, *, is_seen: bool, has_parent: bool
) -> None:
    turn = key(0, Protocol.UNKNOWN)
    ends = [(Role.SERVER, server(A, key=turn, peer_address=peer))]
    if is_seen:
        ends.append((Role.CLIENT, client(A, key=turn)))
    ids = resolve(resolver(), *ends)
    expected = span_id(A, Role.CLIENT) if has_parent else None
    assert ids[Role.SERVER, A].parent_span_id == expected


def test_header_that_names_only_the_trace() -> None:
    ids = resolve(
        resolver(),
        (Role.SERVER, server(A, trace_header=b"x-b3-traceid: %032x" % 0xABC)),
    )
    assert ids[Role.SERVER, A].trace_id == 0xABC
    assert ids[Role.SERVER, A].parent_method is ParentMethod.WIRE


def test_connections_without_identity_are_not_confused() -> None:
    unknown = Wire(0, 5, 0)
    traces = resolver()
    for start_ns in (1, 2):
        traces.add(client(unknown, start_ns=start_ns), edge(), now_ns=0)
        traces.add(
            server(unknown, start_ns=start_ns, edge_id=2), edge(Role.SERVER), now_ns=0
        )
    ids = [r.ids for r in traces.flush()]
    assert len({i.trace_id for i in ids}) == 4
    assert len({i.span_id for i in ids}) == 4
    assert all(i.parent_span_id is None for i in ids)


def test_held_until_due_or_crowded_out() -> None:
    traces = resolver(hold_ns=10, max_held=2)
    for now in (0, 5, 6):
        traces.add(client(Wire(now + 1, 1, 0)), edge(), now_ns=now)
    assert [r.exchange.wire.client_seq for r in traces.release(7)] == [1]
    assert traces.released_early == 1
    assert traces.release(14) == []
    assert [r.exchange.wire.client_seq for r in traces.release(15)] == [6]
    assert [r.exchange.wire.client_seq for r in traces.flush()] == [7]
    assert traces.flush() == []


def test_causes_in_a_circle_end() -> None:
    causes = {A: Cause(B, b""), B: Cause(A, b"")}
    traces = resolver(read_cause=causes.get)
    ids = resolve(traces, (Role.SERVER, server(A)), (Role.SERVER, server(B)))
    assert ids[Role.SERVER, A].trace_id == ids[Role.SERVER, B].trace_id


@dataclass
class Call:
    """A request between two services of one host, and the requests made to answer it."""

    wire: Wire
    parent: Call | None
    header: bytes
    children: list[Call] = field(default_factory=list)

    @property
    def cause(self) -> Cause | None:
        return Cause(self.parent.wire, self.parent.header) if self.parent else None

    def ends(self) -> list[tuple[Edge, Exchange]]:
        """In the order in which they finish: children first, a server before its client."""
        finished = [end for child in self.children for end in child.ends()]
        ours = {"wire": self.wire, "trace_header": self.header}
        return [
            *finished,
            (edge(Role.SERVER), server(self.wire)._replace(**ours)),  # type: ignore[arg-type]
            (edge(), client(self.wire, self.cause)._replace(**ours)),  # type: ignore[arg-type]
        ]


@st.composite
def trees(draw: st.DrawFn) -> Call:
    """Up to 12 calls; the first may carry a header from outside."""
    seq = count(1)
    header = draw(st.sampled_from([b"", HEADER % (draw(st.integers(1, 99)), 0xDEF)]))
    calls = [Call(Wire(next(seq), next(seq), draw(st.integers(0, 99))), None, header)]
    for _ in range(draw(st.integers(0, 11))):
        parent = draw(st.sampled_from(calls))
        calls.append(Call(Wire(next(seq), next(seq), 0), parent, b""))
        parent.children.append(calls[-1])
    return calls[0]


def check(root: Call, resolved: list[Resolved]) -> None:
    ids = {(r.edge.role, r.exchange.wire): r.ids for r in resolved}
    assert len({i.trace_id for i in ids.values()}) == 1
    assert len({i.span_id for i in ids.values()}) == len(ids)
    pending = [root]
    while pending:
        call = pending.pop()
        pending += call.children
        ours, theirs = ids[Role.CLIENT, call.wire], ids[Role.SERVER, call.wire]
        assert theirs.parent_span_id == ours.span_id
        assert ours.links == ()
        if call.parent is not None:
            assert ours.parent_span_id == ids[Role.SERVER, call.parent.wire].span_id
        elif call.header:
            assert ours.parent_span_id == 0xDEF
        else:
            assert ours.parent_span_id is None


@given(root=trees(), seed=st.integers())
def test_within_the_hold_order_does_not_matter(root: Call, seed: int) -> None:
    traces = resolver()
    ends = root.ends()
    random.Random(seed).shuffle(ends)
    for one_edge, one in ends:
        traces.add(one, one_edge, now_ns=0)
    assert traces.release(9) == []
    check(root, traces.release(10))


@given(root=trees(), batches=st.integers(1, 9), peer=st.sampled_from([LOCAL, REMOTE]))
def test_beyond_the_hold_the_kernels_causes_lead_upwards(
    root: Call, batches: int, peer: str
) -> None:
    """Children are released long before their parents finish."""
    causes: dict[Wire, Cause] = {}
    pending = [root]
    while pending:
        call = pending.pop()
        pending += call.children
        if call.cause is not None:
            causes[call.wire] = call.cause
    traces = resolver(read_cause=causes.get)
    resolved = []
    ends = root.ends()
    # Both ends of a call finish within the hold of each other.
    for number in range(0, len(ends), 2 * batches):
        for one_edge, one in ends[number : number + 2 * batches]:
            traces.add(one._replace(peer_address=peer), one_edge, now_ns=100 * number)
        resolved += traces.release(100 * number + 10)
    check(root, resolved)
