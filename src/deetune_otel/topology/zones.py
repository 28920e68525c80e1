# SPDX-License-Identifier: Apache-2.0
"""In which zone an address is: the configuration's networks, the longest prefix decides."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Zones"]

# Answers kept: two readings ask the same, and a host talks to a few thousand addresses.
MAX_ANSWERS: Final = 4_096


class Zones:
    """`networks`: zone by network, as `{"10.1.0.0/16": "eu-1a"}`. ValueError for another text."""

    def __init__(self, networks: Mapping[str, str] | None = None) -> None:
        parsed = [
            (ip_network(network, strict=False), zone)
            for network, zone in (networks or {}).items()
        ]
        self._networks: list[tuple[IPv4Network | IPv6Network, str]] = sorted(
            parsed, key=lambda one: one[0].prefixlen, reverse=True
        )
        self._answers: dict[str, str] = {}

    def zone(self, address: str) -> str:
        """ "" when no network holds it, or it is no IP address."""
        if not self._networks:
            return ""
        found = self._answers.get(address)
        if found is None:
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            found = self._answers[address] = self._find(address)
        return found

    def _find(self, address: str) -> str:
        try:
            ip = ip_address(address)
        except ValueError:
            return ""
        if ip.version == 6 and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        # `in` is False, not an error, across versions.
        return next((zone for network, zone in self._networks if ip in network), "")
