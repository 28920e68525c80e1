# SPDX-License-Identifier: Apache-2.0
"""What is sent, and what is not."""

from __future__ import annotations

from dataclasses import replace

from tests.exchanges import EXCHANGE, numbered

from deetune_otel.recording.model import HttpRequest, Process, RecordedExchange
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


def test_a_service_is_who_answers() -> None:
    def between(client: str, server: str, number: int) -> RecordedExchange:
        one = GETS[number]
        ends = replace(
            one.connection,
            client_process=Process(client),
            server_process=Process(server),
        )
        return replace(one, connection=ends)

    both = [between("front", "shop", 0), between("shop", "stock", 1), GETS[2]]
    plan = planned(both, selection=Selection(), allows_writes=False)
    assert plan.services() == {"shop": 2, "stock": 1}
    chosen = Selection(services=("shop",))
    plan = planned(both, selection=chosen, allows_writes=False)
    assert plan.services() == {"shop": 2}
    assert plan.skipped == {"not chosen (service)": 1}
    alone = replace(
        GETS[0], connection=replace(GETS[0].connection, server_process=None)
    )
    plan = planned([alone], selection=Selection(), allows_writes=False)
    assert plan.services() == {"http": 1}


def test_writes_are_sent_when_allowed() -> None:
    plan = planned([EXCHANGE], selection=Selection(), allows_writes=True)
    assert plan.sessions == [[EXCHANGE]]
