# SPDX-License-Identifier: Apache-2.0
"""Hosts as network namespaces, cables as veth pairs, translation by nftables."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

import pytest
from tests.process import wait_until

from deetune_otel.netlink.namespaces import call_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Host", "Lan"]

_T = TypeVar("_T")
_numbers: Final = itertools.count(1)


def _run(*words: str, stdin: str = "") -> None:
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


class Host:
    """A namespace with a process in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stack = ExitStack()
        _run("ip", "netns", "add", name)
        self._stack.callback(_run, "ip", "netns", "delete", name)
        self.fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
        self._stack.callback(os.close, self.fd)
        self.netns = os.fstat(self.fd).st_ino
        self.ip("link", "set", "lo", "up")
        sleeper = subprocess.Popen([*self.enter, "sleep", "600"])
        self._stack.callback(sleeper.wait)
        self._stack.callback(sleeper.kill)
        self.pid = sleeper.pid
        wait_until(
            lambda: Path(f"/proc/{self.pid}/ns/net").stat().st_ino == self.netns,
            f"a process in {name}",
        )

    @property
    def enter(self) -> list[str]:
        """The start of a command that runs there. (`ip -n` wants / to be a mount.)"""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    def ip(self, *words: str) -> None:
        _run(*self.enter, "ip", *words)

    def nft(self, rules: str) -> None:
        _run(*self.enter, "nft", "-f", "-", stdin=rules)

    def route(self, network: str, via: str) -> None:
        self.ip("route", "add", network, "via", via)

    def forwards(self) -> None:
        for family in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            path = Path(f"/proc/sys/net/{family}")
            self.do(lambda path=path: path.write_text("1"))  # type: ignore[misc]

    def do(self, what: Callable[[], _T]) -> _T:
        """As a program on this host would."""
        return call_in(self.fd, what)

    def tracked(self) -> int:
        """Connections that it tracks."""
        path = Path("/proc/sys/net/netfilter/nf_conntrack_count")
        return int(self.do(path.read_text))

    def close(self) -> None:
        self._stack.close()


class Lan:
    """Gone with everything on it at the end; skips where such things may not be made."""

    def __init__(self) -> None:
        for program in ("ip", "nft"):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program} (Debian: iproute2, nftables)")
        if os.geteuid() != 0:
            pytest.skip("only root may make network namespaces")
        self._stack = ExitStack()
        self._hosts: list[Host] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def host(self, name: str) -> Host:
        host = Host(f"dt{os.getpid()}-{next(_numbers)}-{name}")
        self._stack.callback(host.close)
        self._hosts.append(host)
        return host

    def cable(self, a: Host, b: Host, net: int) -> None:
        """`a` is 10.77.NET.1 and fd00:77:NET::1 on it, `b` the same with 2."""
        ends = [f"dt{os.getpid()}-{next(_numbers)}" for _ in "ab"]
        _run(
            *("ip", "link", "add", ends[0], "netns", a.name, "type", "veth"),
            *("peer", "name", ends[1], "netns", b.name),
        )
        for number, (host, end) in enumerate(zip((a, b), ends, strict=True), 1):
            host.ip("address", "add", f"10.77.{net}.{number}/24", "dev", end)
            host.ip(
                "address", "add", f"fd00:77:{net}::{number}/64", "dev", end, "nodad"
            )
            host.ip("link", "set", end, "up")

    def pids_in(self, netns: int) -> list[int]:
        return [host.pid for host in self._hosts if host.netns == netns]
