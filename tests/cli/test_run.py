# SPDX-License-Identifier: Apache-2.0
"""`deetune run` as a supervisor meets it: a process, signals, exit codes, log lines."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tests.backends.fetch import get_json, is_ok
from tests.otlp_stub import OtlpStub
from tests.process import Child, free_port, wait_until

MAX_RSS_BYTES = 80_000_000

kernel = pytest.mark.kernel


def argv(*settings: str) -> list[str]:
    flags = [word for one in settings for word in ("--set", one)]
    return [sys.executable, "-m", "deetune_otel", "run", *flags]


class Run(Child):
    """The agent, ready when it answers /healthz."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.web_port = free_port()
        super().__init__(
            argv(f"web.port={self.web_port}", *settings), log=folder / "run.log"
        )
        self.wait_ready(lambda: is_ok(f"{self.url}/healthz"), "the agent is well")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def programs(self) -> set[int]:
        """The ids of the BPF programs that it holds."""
        found = set()
        for info in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # a descriptor that was closed meanwhile
                text = info.read_text()
                found |= set(
                    map(int, re.findall(r"^prog_id:\s+(\d+)$", text, re.MULTILINE))
                )
        return found

    def rss_bytes(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def loaded_programs() -> set[int]:
    said = subprocess.run(
        ["bpftool", "--json", "prog", "list"], capture_output=True, check=True
    )
    return {program["id"] for program in json.loads(said.stdout)}


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of a Collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@kernel
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with Run(tmp_path) as agent:
        programs = agent.programs()
        assert programs <= loaded_programs()
        assert len(programs) > 4
        agent.signal(number)
        assert agent.wait(5) == 0
        wait_until(
            lambda: not programs & loaded_programs(), "the kernel let its programs go"
        )
        log = agent.log_text()
    assert f"pid left out: {agent.pid}" in log
    for line in log.splitlines():
        assert re.match(r"time=\S+Z level=info source=\S+ msg=", line), line


@kernel
def test_kill_leaves_nothing_loaded(tmp_path: Path) -> None:
    with Run(tmp_path) as agent:
        programs = agent.programs()
        assert programs
        agent.signal(signal.SIGKILL)
        assert agent.wait(5) == -signal.SIGKILL
        wait_until(
            lambda: not programs & loaded_programs(), "the kernel let its programs go"
        )


@kernel
@pytest.mark.parametrize("state", ["refuses", "hangs"])
def test_it_ends_in_time_whatever_the_collector_does(
    tmp_path: Path, state: str, silent_port: int
) -> None:
    port = silent_port if state == "hangs" else free_port()
    with Run(
        tmp_path, f"otlp.endpoint=http://127.0.0.1:{port}", "agent.interval_s=0.5"
    ) as agent:
        wait_until(lambda: _attempts(agent, state), "something was to be sent")
        begin = time.monotonic()
        agent.signal(signal.SIGTERM)
        assert agent.wait(5) == 0
        assert time.monotonic() - begin < 5
        assert "that could not be sent" in agent.log_text()


def _attempts(agent: Run, state: str) -> bool:
    export = get_json(f"{agent.url}/status")["export"]["metrics"][0]
    return bool(export["failing"] if state == "refuses" else export["depth"])


@kernel
def test_a_second_signal_ends_it_at_once(tmp_path: Path, silent_port: int) -> None:
    with Run(
        tmp_path,
        f"otlp.endpoint=http://127.0.0.1:{silent_port}",
        "agent.interval_s=0.5",
    ) as agent:
        wait_until(lambda: _attempts(agent, "hangs"), "something was to be sent")
        agent.signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: detaching" in agent.log_text(), "it ends")
        agent.signal(signal.SIGTERM)
        assert agent.wait(1) == 128 + signal.SIGTERM


@kernel
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_that_means_nothing_yet_ends_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Run(tmp_path) as agent:
        agent.signal(number)
        wait_until(
            lambda: f"{number.name} is ignored" in agent.log_text(), "it is said"
        )
        assert get_json(f"{agent.url}/status")["ledger"]
        agent.signal(signal.SIGTERM)
        assert agent.wait(5) == 0


@kernel
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_it_loads(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Loading takes seconds; nothing was observed, so there is nothing to send."""
    with Child(argv("web.enabled=false"), log=tmp_path / "run.log") as agent:
        agent.wait_ready(lambda: "starts" in agent.log_text(), "it starts")
        agent.signal(number)
        assert agent.wait(5) == 0
        assert "nothing was observed yet" in agent.log_text()


@kernel
def test_it_is_small_and_idle(tmp_path: Path) -> None:
    """With the HTTP exporter, on a machine that is busy with other things."""
    with (
        OtlpStub() as collector,
        Run(
            tmp_path, f"otlp.endpoint={collector.endpoint}", "spans.per_second=1"
        ) as agent,
    ):
        before_s, begin = agent.cpu_s(), time.monotonic()
        wait_until(lambda: collector.metrics, "an export", every_s=0.5)
        share = (agent.cpu_s() - before_s) / (time.monotonic() - begin)
        assert agent.rss_bytes() < MAX_RSS_BYTES
        assert share < 0.1
        maps = Path(f"/proc/{agent.pid}/maps").read_text()
        assert "grpc" not in maps


@kernel
def test_no_rights() -> None:
    """As root without any capability: nobody may not read this Python everywhere."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
    done = _run("web.enabled=false", before=drop)
    assert done.returncode == 3, done.stderr
    assert "deetune: error: " in done.stderr
    assert "CAP_BPF" in done.stderr
    assert "Traceback" not in done.stderr


@kernel
def test_the_port_is_taken(silent_port: int) -> None:
    done = _run(f"web.port={silent_port}")
    assert done.returncode == 1
    assert f"port {silent_port}" in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("agent.intervall_s=1", "agent.interval_s"),
        ("otlp.endpoint=127.0.0.1:4318", "http://"),
        ("web.port=x", "web.port"),
    ],
)
def test_a_wrong_setting(setting: str, said: str) -> None:
    done = _run(setting)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def _run(
    *settings: str, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *argv(*settings)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
