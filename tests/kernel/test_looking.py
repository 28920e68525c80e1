# SPDX-License-Identifier: Apache-2.0
"""When the kernel side looks how threads wait: when it is asked, and never longer than it must."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from deetune_otel.kernel.looking import GLANCE_EVERY_S, GLANCE_S, LOOK_S, Looking

if TYPE_CHECKING:
    import pytest

    from deetune_otel.kernel.libbpf import Program


@dataclass
class Attached:
    """A program, and its link."""

    count: int = 0
    is_attached: bool = False
    fails: OSError | None = field(default=None)

    def attach(self) -> Attached:
        if self.fails is not None:
            raise self.fails
        self.count += 1
        self.is_attached = True
        return self

    def close(self) -> None:
        self.is_attached = False


def looking(program: Attached) -> Looking:
    return Looking(cast("Program", program))


def test_a_look_ends() -> None:
    program = Attached()
    ours = looking(program)
    ours.look(100)
    ours.tick(100 + LOOK_S - 1)
    assert program.is_attached
    ours.tick(100 + LOOK_S)
    assert not program.is_attached


def test_who_asks_again_is_looked_at_longer() -> None:
    program = Attached()
    ours = looking(program)
    ours.look(100)
    ours.look(105)
    ours.tick(105 + LOOK_S - 1)
    assert program.is_attached
    assert program.count == 1
    ours.look(105, 1)  # a shorter one ends nothing
    ours.tick(105 + LOOK_S - 1)
    assert program.is_attached


def test_a_glance_every_now_and_again() -> None:
    program = Attached()
    ours = looking(program)
    ours.look(0)
    ours.tick(LOOK_S)
    ours.tick(LOOK_S + GLANCE_EVERY_S - 1)
    assert not program.is_attached
    ours.tick(LOOK_S + GLANCE_EVERY_S)
    assert program.is_attached
    ours.tick(LOOK_S + GLANCE_EVERY_S + GLANCE_S)
    assert not program.is_attached


def test_after_its_end_it_looks_no_more() -> None:
    program = Attached()
    ours = looking(program)
    ours.look(0)
    ours.close()
    ours.look(1)
    ours.tick(1000)
    assert not program.is_attached
    assert program.count == 1


def test_where_it_cannot_look_it_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = looking(Attached(fails=OSError(22, "no")))
    with caplog.at_level(logging.WARNING):
        ours.look(0)
        ours.look(1)
        ours.tick(1000)
    (said,) = caplog.records
    assert "by its thread" in said.message
