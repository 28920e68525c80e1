# SPDX-License-Identifier: Apache-2.0
"""What is sent, and what is not."""

from __future__ import annotations

from dataclasses import replace

from tests.exchanges import EXCHANGE, numbered

from deetune_otel.recording.model import HttpRequest, Process
from deetune_otel.recording.selection import Selection
from deetune_otel.replay.plan import planned

GETS = [
    replace(
        numbered(i, connections=2), request=HttpRequest(method="GET", target=f"/{i}")
    )
    for i in range(6)
]
CALL = replace(
    EXCHANGE,
    connection=replace(
        EXCHANGE.connection, server_process=None, client_process=Process("shop")
    ),
)


def test_sessions_are_connections_in_their_order() -> None:
    plan = planned(reversed(GETS), selection=Selection(), allows_writes=False)
    assert [[one.id for one in session] for session in plan.sessions] == [
        [GETS[0].id, GETS[2].id, GETS[4].id],
        [GETS[1].id, GETS[3].id, GETS[5].id],
    ]
    assert plan.in_order() == GETS
    assert plan.count == 6


def test_what_is_not_sent_is_counted_by_cause() -> None:
    plan = planned(
        [*GETS, EXCHANGE, CALL],
        selection=Selection(paths=("/[0-4]", "/orders")),
        allows_writes=False,
        limit=3,
    )
    assert plan.count == 3
    assert plan.skipped == {
        "not chosen (path)": 1,
        "over --limit": 2,
        "a write (--allow-writes)": 1,
    }
    assert plan.calls == [CALL]


def test_writes_are_sent_when_allowed() -> None:
    plan = planned([EXCHANGE], selection=Selection(), allows_writes=True)
    assert plan.sessions == [[EXCHANGE]]
