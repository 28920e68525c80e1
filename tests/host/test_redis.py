# SPDX-License-Identifier: Apache-2.0
"""bpf/l7/redis.h on the host: every case fed in every way, then conversations nobody thought of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.case import Case
from tests.cases.redis import CASES, command
from tests.host.engine import Chunk, Host
from tests.host.feeding import BOTH, WAYS, feed_case, splits
from tests.strategies import redis_turns, schedules

from deetune_otel.model import LedgerLine, Protocol, Role
from deetune_otel.protocols import redis
from deetune_otel.protocols.routes import Routes

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_role = pytest.mark.parametrize("role", BOTH)
shrinks = pytest.mark.timeout(400)  # making a failure small may take five minutes


def call(*words: bytes) -> Chunk:
    return Chunk(is_request=True, data=command(*words))


def reply(data: bytes) -> Chunk:
    return Chunk(is_request=False, data=data)


OK = reply(b"+OK\r\n")


@by_role
@by_case
@pytest.mark.parametrize("way", WAYS)
def test_case(host: Host, case: Case, way: str, role: Role) -> None:
    feed_case(host, case, WAYS[way](case), role)


@by_case
def test_case_split_at_each_point(host: Host, case: Case) -> None:
    for chunks in splits(case):
        feed_case(host, case, chunks, Role.SERVER)


@shrinks
@given(data=st.data(), role=st.sampled_from(BOTH))
def test_conversation(host: Host, data: st.DataObject, role: Role) -> None:
    turns = data.draw(redis_turns())
    pushed = any(not turn.operation for turn in turns)
    case = Case(
        name="",
        turns=tuple(turns),
        protocol=Protocol.REDIS,
        lost=("lost_not_a_call",) if pushed else (),
    )
    feed_case(host, case, data.draw(schedules(turns)), role)


def test_name_goes_up_in_capitals(host: Host) -> None:
    words = [b"get", b"GET", b"gEt", b"ft.search", b"g" * 40]
    seen = host.feed([chunk for word in words for chunk in (call(word), OK)])
    *usual, longest = [x.head for x in seen.operations]
    assert usual == [b"GET", b"FT.SEARCH"]
    # No command of Redis or of its modules is longer than twenty.
    assert longest in [b"G" * size for size in range(20, 41)]
    names = [redis.operation(x.head, Routes()).name for x in seen.operations]
    assert names == ["GET", "FT.SEARCH", longest.decode()]
    signatures = [x.signature for x in seen.exchanges]
    assert len(set(signatures[:3])) == 1
    assert len(set(signatures)) == 3


@shrinks
@given(
    words=st.lists(
        st.text("abcABC.-_", min_size=1, max_size=12).map(str.encode),
        min_size=2,
        max_size=6,
    )
)
def test_signature_is_the_command_without_its_case(
    host: Host, words: list[bytes]
) -> None:
    seen = host.feed([chunk for word in words for chunk in (call(word), OK)])
    pairs = set(
        zip((x.signature for x in seen.exchanges), map(bytes.upper, words), strict=True)
    )
    assert len(pairs) == len({s for s, _ in pairs}) == len({w for _, w in pairs})


@pytest.mark.parametrize(
    "words",
    [
        (b"SYNC",),
        (b"PSYNC", b"?", b"-1"),
        (b"CLIENT", b"REPLY", b"OFF"),
        (b"client", b"reply", b"skip"),
    ],
)
def test_what_answers_can_not_be_told_in_is_counted_by_turns(
    host: Host, words: tuple[bytes, ...]
) -> None:
    seen = host.feed([call(b"GET", b"k"), OK, call(*words), call(b"GET", b"k"), OK])
    assert seen.exchanges[0].protocol is Protocol.REDIS
    assert {x.protocol for x in seen.exchanges[1:]} == {Protocol.UNKNOWN}
    assert seen.ledger["demoted"].exchanges == 1
    assert not seen.lost


@by_role
def test_deep_pipeline(host: Host, role: Role) -> None:
    """More requests than a connection has slots wait in the spill map, and all are found."""
    many = 3000
    seen = host.feed(
        [
            Chunk(is_request=True, data=command(b"INCR", b"k") * many),
            reply(b":1\r\n" * many),
        ],
        role,
    )
    assert seen.ledger["counted"].exchanges == many
    assert seen.spilled == 0
    assert not seen.lost
    assert seen.open == LedgerLine(0, 0)


@by_role
def test_replies_that_are_all_faster_than_their_requests(
    host: Host, role: Role
) -> None:
    many = 100
    seen = host.feed(
        [
            call(b"GET", b"k"),
            OK,
            reply(b":1\r\n" * many),
            Chunk(is_request=True, data=command(b"INCR", b"k") * many),
        ],
        role,
    )
    assert seen.ledger["counted"].exchanges == many + 1
    assert seen.spilled == 0
    assert not seen.lost
