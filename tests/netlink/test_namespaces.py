# SPDX-License-Identifier: Apache-2.0
"""Threads that enter a namespace, and come back with something or with a reason."""

from __future__ import annotations

import os
import threading

import pytest
from tests.netlink.lan import Lan

from deetune_otel.netlink.namespaces import (
    NamespaceError,
    call_in,
    current,
    open_namespace,
)


def test_the_own_namespace() -> None:
    netns = current()
    fd = open_namespace(netns, [os.getpid()])
    try:
        assert os.fstat(fd).st_ino == netns
    finally:
        os.close(fd)


def test_no_process_is_left() -> None:
    with pytest.raises(NamespaceError, match="none of its processes is left"):
        open_namespace(1, [os.getpid(), 2**22 + 1])


def test_what_is_no_namespace_is_not_entered() -> None:
    with (
        open("/dev/null", "rb") as file,  # noqa: PTH123 - its number is what matters
        pytest.raises(NamespaceError, match="may not enter"),
    ):
        call_in(file.fileno(), current)


@pytest.mark.kernel
def test_only_the_thread_is_elsewhere() -> None:
    before = current()
    with Lan() as lan:
        host = lan.host("other")
        assert host.do(current) == host.netns != before
        with pytest.raises(ZeroDivisionError):
            host.do(lambda: 1 // 0)
    assert current() == before
    assert not [one for one in threading.enumerate() if one.name == "netns"]


@pytest.mark.kernel
def test_what_hangs_there_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deetune_otel.netlink.namespaces._PATIENCE_S", 0.05)
    go_on = threading.Event()
    with Lan() as lan:
        host = lan.host("other")
        with pytest.raises(NamespaceError, match="no answer"):
            host.do(go_on.wait)
        go_on.set()
