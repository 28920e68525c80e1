# SPDX-License-Identifier: Apache-2.0
"""Whatever ends a lab, nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab.net import PREFIX, LabError, Net, inside, remove_stale, tool
from tests.process import wait_until

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]

A_LAB = """
import subprocess, sys, time
from lab.net import Net, inside
net = Net()
net.network("office", "10.61.0.0/24")
host = net.host("box", office=11)
sleeper = subprocess.Popen([*inside(host.namespace), "sleep", "60"])
print(host.namespace, sleeper.pid, flush=True)
time.sleep(60)
"""


def namespaces(part: str) -> list[str]:
    return [one.name for one in Path("/run/netns").glob(f"*{part}*")]


def test_hosts_of_one_network_reach_each_other_and_no_other() -> None:
    with Net() as net:
        net.network("red", "10.61.0.0/24")
        net.network("green", "10.61.1.0/24")
        one, two = net.host("one", red=11), net.host("two", red=12)
        apart = net.host("apart", green=11)
        assert one.address == "10.61.0.11"

        def can_reach(address: str) -> bool:
            command = f"import socket; socket.create_connection(('{address}', 9), 1)"
            done = subprocess.run(
                [*inside(one.namespace), sys.executable, "-I", "-c", command],
                capture_output=True,
                text=True,
                check=False,
            )
            return "Connection refused" in done.stderr  # it answers

        assert can_reach(two.address)
        assert not can_reach(apart.address)
    assert namespaces(one.namespace) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lab_that_is_killed_leaves_nothing(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", A_LAB],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as killed:
        assert killed.stdout is not None
        namespace, pid = killed.stdout.readline().split()
        assert namespaces(namespace)
        killed.send_signal(number)
    wait_until(lambda: not namespaces(f"{killed.pid}-"), "the namespaces are gone")
    assert not Path(f"/proc/{pid}/cwd").exists()


def test_what_no_process_made_is_stale_and_nothing_else() -> None:
    stale = f"{PREFIX}-1-1-1-box"  # pid 1 began at another time
    subprocess.run([tool("ip"), "netns", "add", stale], check=True)
    with Net() as net:
        assert remove_stale() == [stale]
        assert namespaces(net.fabric)
    assert namespaces(stale) == []


def test_what_cannot_be_done_says_why() -> None:
    with Net() as net:
        net.network("red", "10.61.0.0/24")
        one = net.host("one", red=11)
        with pytest.raises(LabError, match="route add nonsense"):
            net.route(one, to="nonsense", via="10.61.0.1")
    with pytest.raises(LabError, match="script/setup lab"):
        tool("no-such-program")
