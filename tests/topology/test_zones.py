# SPDX-License-Identifier: Apache-2.0
"""Addresses find their zones."""

from __future__ import annotations

import pytest

from deetune_otel.topology import zones
from deetune_otel.topology.zones import Zones

NETWORKS = {
    "10.0.0.0/8": "eu",
    "10.1.0.0/16": "eu-1a",
    "10.1.2.3/32": "eu-1b",
    "fd00::/8": "eu-6",
}


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("10.9.9.9", "eu"),
        ("10.1.9.9", "eu-1a"),
        ("10.1.2.3", "eu-1b"),
        ("::ffff:10.1.2.3", "eu-1b"),
        ("fd00::1", "eu-6"),
        ("192.0.2.1", ""),
        ("2001:db8::1", ""),
        ("/run/php.sock", ""),
        ("", ""),
    ],
)
def test_the_longest_prefix_decides(address: str, zone: str) -> None:
    known = Zones(NETWORKS)
    assert known.zone(address) == zone
    assert known.zone(address) == zone  # as remembered


def test_no_networks_no_zones() -> None:
    assert Zones().zone("10.0.0.1") == ""


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="10"):
        Zones({"10.0.0.0.0/8": "x"})


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "MAX_ANSWERS", 10)
    known = Zones(NETWORKS)
    assert {known.zone(f"10.1.9.{n}") for n in range(100)} == {"eu-1a"}
    assert len(known._answers) <= 10
