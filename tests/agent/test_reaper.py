# SPDX-License-Identifier: Apache-2.0
"""Who is gone: not before it was quiet, never who lives."""

from __future__ import annotations

from tests.readings import owner

from deetune_otel.agent.reaper import MAX_LOOKS, QUIET_S, Reaper


def test_a_process_goes_after_it_ended_and_was_quiet() -> None:
    alive = {1, 2}
    reaper = Reaper(lambda one: one.id in alive)
    owners = [owner(1), owner(2)]
    assert reaper.due(owners, busy=(), now_s=0) == set()
    alive.remove(2)
    assert reaper.due(owners, busy=(), now_s=1) == set()
    assert reaper.due(owners, busy=(), now_s=1 + QUIET_S) == {2}


def test_what_still_counts_starts_the_wait_anew() -> None:
    reaper = Reaper(lambda _: False)
    assert reaper.due([owner(1)], busy=(), now_s=0) == set()
    assert reaper.due([owner(1)], busy={1}, now_s=QUIET_S) == set()
    assert reaper.due([owner(1)], busy=(), now_s=QUIET_S + 1) == set()
    assert reaper.due([owner(1)], busy=(), now_s=2 * QUIET_S + 1) == {1}


def test_all_get_their_turn() -> None:
    looked_at: list[int] = []

    def is_alive(one: object) -> bool:
        looked_at.append(one.id)  # type: ignore[attr-defined]
        return True

    owners = [owner(number) for number in range(1, 2 * MAX_LOOKS + 1)]
    reaper = Reaper(is_alive)
    for now_s in range(2):
        reaper.due(owners, busy=(), now_s=now_s)
    assert sorted(looked_at) == [one.id for one in owners]
