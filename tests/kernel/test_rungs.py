# SPDX-License-Identifier: Apache-2.0
"""The table of programs is that of the object: what is refused has its loss beside it."""

from __future__ import annotations

from collections import Counter

import pytest

from deetune_otel.kernel.libbpf import Libbpf
from deetune_otel.kernel.rungs import PARTS, Part, Rung, parts_of
from deetune_otel.kernel.session import KernelSettings


def test_every_program_of_the_object_is_in_exactly_one_part() -> None:
    bpf = Libbpf().open(KernelSettings().object_path.read_bytes(), "deetune")
    try:
        there = Counter(bpf.programs.keys())
    finally:
        bpf.close()
    assert Counter(name for part in PARTS for name in part.programs) == there


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.programs[0])
def test_what_is_lost_is_told_in_sentences(part: Part) -> None:
    assert part.lost[0].isupper()
    assert part.lost.endswith(".")


@pytest.mark.parametrize("rung", Rung)
def test_a_rung_sees_bytes_in_its_own_way(rung: Rung) -> None:
    """With essential programs of its own, which are tried first."""
    parts = list(parts_of(rung))
    essential = [part.essential for part in parts]
    assert essential == sorted(essential, reverse=True)
    assert any(part.rung is rung and part.essential for part in parts)
    assert not any(part.rung not in {None, rung} for part in parts)
    assert "programs" in rung.description or "tracepoints" in rung.description
