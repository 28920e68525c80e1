# SPDX-License-Identifier: Apache-2.0
"""The table of protocols is complete, and its instruments are named once."""

from __future__ import annotations

from deetune_otel.model import Protocol, Role
from deetune_otel.protocols import PROTOCOLS


def test_every_protocol_has_a_module() -> None:
    assert set(PROTOCOLS) == set(Protocol)


def test_both_roles_are_measured() -> None:
    for module in PROTOCOLS.values():
        assert {Role.CLIENT, Role.SERVER} <= set(module.METRICS)


def test_a_metric_has_one_unit_and_one_description() -> None:
    by_name: dict[str, set[tuple[str, str]]] = {}
    for module in PROTOCOLS.values():
        for instruments in module.METRICS.values():
            for i in instruments:
                by_name.setdefault(i.name, set()).add((i.unit, i.description))
    assert all(len(kinds) == 1 for kinds in by_name.values())
