# SPDX-License-Identifier: Apache-2.0
"""What the comment of a packet says of an exchange, and what is no such comment.

That any exchange is read as it was written, tests/archive/test_reading.py holds.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exchanges import EXCHANGE

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.facts import (
    Extent,
    Gap,
    connection_comment,
    exchange_comment,
    facts_in,
)
from deetune_otel.recording.model import MissingBecause

COMMENT = exchange_comment(
    EXCHANGE,
    Extent(7, (Gap(1, 2, MissingBecause.LOST),), 9),
    Extent(2),
    connection=connection_comment(
        EXCHANGE.connection,
        client=EXCHANGE.connection.client,
        server=EXCHANGE.connection.server,
    ),
)


def test_a_comment_there_and_back() -> None:
    facts = facts_in(COMMENT)
    assert facts is not None
    assert (facts.id, facts.trace_id) == (EXCHANGE.id, EXCHANGE.trace_id)
    assert facts.server_process == EXCHANGE.connection.server_process
    assert facts.request == Extent(7, (Gap(1, 2, MissingBecause.LOST),), 9)
    assert facts.response == Extent(2)
    assert facts.client is None, "the packets say it"


def test_a_person_can_search_for_it() -> None:
    for word in (
        f"trace_id={EXCHANGE.trace_id}",
        "server_service=shop",
        'operation="POST /orders"',
    ):
        assert word in COMMENT


def test_comments_of_others_are_passed_over() -> None:
    for text in ("", "a comment", "exchange", "packet 7: retransmission"):
        assert facts_in(text) is None


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("times_ns=1", "times_ns=x"),
        ("protocol=http", "protocol=none"),
        ("request_bytes=7", "request_bytes=x"),
        ("request_gaps=", "request_gaps=1:"),
    ],
)
def test_a_broken_comment_is_refused(good: str, bad: str) -> None:
    assert good in COMMENT
    with pytest.raises(BadInput):
        facts_in(COMMENT.replace(good, bad))


@given(st.data())
def test_any_damage_raises_nothing_else(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(COMMENT)))
    more = data.draw(st.text(max_size=5))
    with suppress(BadInput):
        facts_in(COMMENT[:at] + more + COMMENT[at + len(more) :])
