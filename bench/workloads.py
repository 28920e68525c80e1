# SPDX-License-Identifier: Apache-2.0
"""The loads: each is run to its end and says itself what it reached. Loopback only.

Servers have the first CPU that we may use, their load the last one; the ping-pong has one alone.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.programs import Nginx, Redis, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.plan import Plan

__all__ = ["BenchError", "Load", "Workloads", "build", "run_json"]

_HERE: Final = Path(__file__).parent
_BUILT: Final = _HERE.parent / "build" / "bench"
_SOURCES: Final = ("pingpong", "file_read", "statistics_cost")
_CONNECTIONS: Final = 16
# Beyond its own length; only a machine that hangs needs it.
_PATIENCE_S: Final = 30


class BenchError(Exception):
    """Nothing can be measured; the message says why."""


class Load(NamedTuple):
    """What a load reached; latencies as it saw them itself."""

    requests: int
    seconds: float
    p50_ns: float
    p99_ns: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def build() -> None:
    """Compile the programs in C. Raises BenchError."""
    _BUILT.mkdir(parents=True, exist_ok=True)
    for name in _SOURCES:
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror"]
        _run([*command, "-o", str(_BUILT / name), str(_HERE / f"{name}.c")])


class Workloads:
    """The servers, started once for the whole run, and the loads on them."""

    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        """`stack` ends the servers."""
        self._plan = plan
        self._folder = folder
        self._stack = stack
        self._first, self._last = _cpus()
        self._nginx: Nginx | None = None
        self._redis: Redis | None = None

    def file_read(self) -> float:
        """Nanoseconds a read."""
        with _pinned(self._first):
            return float(run_json("file_read", self._plan.file_s)["read_ns"])

    def pingpong(self, *, seconds: float | None = None, per_second: int = 0) -> Load:
        """As fast as it goes, unless `per_second` is given."""
        with _pinned(self._first):
            return _load(
                run_json("pingpong", seconds or self._plan.pingpong_s, per_second)
            )

    def nginx(self) -> Load:
        if self._nginx is None:
            with _pinned(self._first):
                self._nginx = self._stack.enter_context(
                    Nginx.start(self._folder, workers=1)
                )
        with _pinned(self._last):
            said = _run(
                [
                    *(str(program("wrk", "wrk")), "-s", str(_HERE / "wrk.lua")),
                    *("-t", "1", "-c", str(_CONNECTIONS), "-d", f"{self._plan.wrk_s}s"),
                    self._nginx.url,
                ]
            )
        found = json.loads(said.splitlines()[-1])
        if found.pop("errors"):
            raise BenchError(f"wrk met errors:\n{said}")
        return _load(found)

    def redis(self, depth: int) -> Load:
        """`depth` commands in one write."""
        if self._redis is None:
            with _pinned(self._first):
                self._redis = self._stack.enter_context(Redis.start(self._folder))
        requests = self._plan.redis_requests[depth]
        with _pinned(self._last):
            said = _run(
                [
                    str(program("redis-benchmark", "redis-tools")),
                    *("-p", str(self._redis.port), "-t", "get", "--csv"),
                    *("-n", str(requests), "-c", str(_CONNECTIONS), "-P", str(depth)),
                ]
            )
        (found,) = csv.DictReader(said.splitlines())
        return Load(
            requests=requests,
            seconds=requests / float(found["rps"]),
            p50_ns=float(found["p50_latency_ms"]) * 1e6,
            p99_ns=float(found["p99_latency_ms"]) * 1e6,
        )


def run_json(name: str, *arguments: float) -> dict[str, float]:
    """Run one of our programs and give what it says."""
    said = _run([str(_BUILT / name), *map(str, arguments)])
    found: dict[str, float] = json.loads(said)
    return found


def _load(found: dict[str, float]) -> Load:
    return Load(
        requests=int(found["requests"]),
        seconds=found["seconds"],
        p50_ns=found["p50_ns"],
        p99_ns=found["p99_ns"],
    )


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        raise BenchError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _cpus() -> tuple[int, int]:
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextmanager
def _pinned(cpu: int) -> Iterator[None]:
    """What this thread starts meanwhile has this CPU alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
