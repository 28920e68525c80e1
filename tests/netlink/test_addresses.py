# SPDX-License-Identifier: Apache-2.0
"""Addresses of a namespace: of our own, and of processes that are not there."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from deetune_otel.netlink.addresses import NamespaceAddresses

OWN = Path("/proc/self/ns/net").stat().st_ino


def test_our_own_are_those_of_our_interfaces() -> None:
    expected = {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name in ("AF_INET", "AF_INET6")
    }
    found = NamespaceAddresses(lambda _: [os.getpid()]).of(OWN)
    assert "127.0.0.1" in found
    assert found == expected


def test_a_process_of_another_namespace_says_nothing() -> None:
    assert NamespaceAddresses(lambda _: [os.getpid()]).of(OWN + 1) == frozenset()


def test_a_process_that_ended_is_passed_over() -> None:
    gone = 2**22 + 1  # over any pid
    assert NamespaceAddresses(lambda _: [gone, os.getpid()]).of(OWN)
    assert NamespaceAddresses(lambda _: [gone]).of(OWN) == frozenset()


def test_they_are_kept_for_a_while() -> None:
    asked: list[int] = []

    def pids_in(netns: int) -> list[int]:
        asked.append(netns)
        return [os.getpid()]

    addresses = NamespaceAddresses(pids_in)
    assert addresses.of(OWN) is addresses.of(OWN)
    assert asked == [OWN]
