# SPDX-License-Identifier: Apache-2.0
"""The phases of a run. Loads without and with the agent stand side by side, in rounds.

Rounds go off, on, on, off, off, on …: whatever drifts on the machine meets both sides alike, and
an agent serves two rounds. The kernel's statistics cost some 70 ns a run of a program themselves,
so they are off in the rounds and have a phase of their own.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.observer import Observer, ProgramTime, observing, recording
from bench.results import Compared, Measured, Spread
from bench.workloads import Load, Workloads, run_json
from deetune_otel.kernel import Kernel, KernelSettings
from deetune_otel.kernel.libbpf import Libbpf

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from bench.plan import Plan
    from bench.results import Results

__all__ = ["run"]

# As everyone reads "80 MB"; 5 % stricter than MiB.
_MB: Final = 1e6
_SIDES: Final = 2  # both ends of every request are on this machine


class _Workload(NamedTuple):
    part: str
    key: str
    what: str
    run: Callable[[], Load]


class _Seen(NamedTuple):
    """One value of one half of a round."""

    key: str
    what: str
    unit: str


def run(
    results: Results,
    plan: Plan,
    parts: Collection[str],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Fill in what these parts measure; `say` hears what is going on.

    Raises BenchError and KernelUnavailable.
    """
    with ExitStack() as stack:
        phases = _Phases(results, plan, parts, folder, stack)
        if phases.has_rounds:
            say("without and with the agent, in rounds")
            phases.rounds()
        if not {"kernel", "rates", "memory"}.isdisjoint(parts):
            with observing(folder, "http/protobuf") as observer:
                phases.starts_s.append(observer.start_s)
                if "kernel" in parts:
                    say("kernel time, by the kernel's statistics")
                    phases.kernel(observer)
                if "rates" in parts:
                    say("the agent's CPU time, by request rate")
                    phases.rates(observer)
                if "memory" in parts:
                    say("memory after a load")
                    phases.memory(observer, "http")
                phases.ledger(observer)
        if "memory" in parts:
            with observing(folder, "grpc") as observer:
                phases.memory(observer, "grpc")
        if "recording" in parts:
            say("recordings, each with the same load without an agent beside it")
            phases.recordings()
        if "load" in parts:
            say("loading the programs")
            phases.load()


class _Phases:
    def __init__(
        self,
        results: Results,
        plan: Plan,
        parts: Collection[str],
        folder: Path,
        stack: ExitStack,
    ) -> None:
        self._results = results
        self._plan = plan
        self._folder = folder
        self._workloads = Workloads(plan, folder, stack)
        every = _workloads(self._workloads, plan)
        self._compared = [one for one in every if one.part in parts]
        self._loads = self._compared or every
        self._with_file = "file" in parts
        self.starts_s: list[float] = []

    @property
    def has_rounds(self) -> bool:
        return self._with_file or bool(self._compared)

    def rounds(self) -> None:
        """Both halves of every round; the ratio is taken within the round."""
        pairs: list[tuple[dict[_Seen, float], dict[_Seen, float]]] = []
        end_s = time.monotonic() + self._plan.rounds_s
        self._half()  # warms up
        with ExitStack() as agent:
            for number in range(self._plan.rounds):
                if pairs and time.monotonic() > end_s:
                    break
                if number % 2 == 0:
                    without = self._half()
                    observer = agent.enter_context(
                        observing(self._folder, "http/protobuf")
                    )
                    self.starts_s.append(observer.start_s)
                    with_agent = self._half()
                else:
                    with_agent = self._half()
                    agent.close()
                    without = self._half()
                pairs.append((without, with_agent))
        self._results.rounds = len(pairs)
        for seen in pairs[0][0]:
            off = [without[seen] for without, _ in pairs]
            on = [with_agent[seen] for _, with_agent in pairs]
            ratios = [b / a for a, b in zip(off, on, strict=True)]
            self._results.compared.append(
                Compared(*seen, Spread.of(off), Spread.of(on), Spread.of(ratios))
            )

    def kernel(self, observer: Observer) -> None:
        """What the programs take of the observed processes' own system calls."""
        cost = run_json("statistics_cost")
        floor_ns = cost["floor_ns"]
        runs: Counter[str] = Counter()
        times_ns: Counter[str] = Counter()
        for load in self._loads:
            a_side_ns = []
            for _ in range(self._plan.kernel_runs):
                with Libbpf().run_time_statistics():
                    before = observer.program_times()
                    done = load.run()
                    after = observer.program_times()
                total_ns = 0.0
                for name, now in after.items():
                    earlier = before.get(name, ProgramTime(0, 0))
                    more = now.runs - earlier.runs
                    took_ns = now.time_ns - earlier.time_ns
                    total_ns += took_ns - more * floor_ns
                    runs[name] += more
                    times_ns[name] += took_ns
                a_side_ns.append(total_ns / done.requests / _SIDES)
            self._measured(
                f"kernel.{load.key}",
                f"kernel time a side of a request: {load.what}",
                "ns",
                *a_side_ns,
            )
        for name, count in runs.items():
            if count:
                self._measured(
                    f"kernel.{name}",
                    f"{name}, a run, mean of these loads",
                    "ns",
                    times_ns[name] / count - floor_ns,
                )
        self._results.notes.append(
            f"Kernel times are the kernel's own, less {floor_ns:.0f} ns a run that it "
            "counts for a program that does nothing. With these statistics on, a run takes "
            f"{cost['cost_ns']:.0f} ns longer; they are off in all other phases."
        )

    def rates(self, observer: Observer) -> None:
        """CPU time of the agent's process in windows of equal length."""
        window_s = self._plan.window_s
        before_s, began_s = observer.cpu_s(), time.monotonic()
        time.sleep(window_s)
        rest = (observer.cpu_s() - before_s) / (time.monotonic() - began_s)
        self._measured("rates.rest", "agent's CPU at rest", "% of a core", 100 * rest)
        shares = []
        for key, per_second in (("low", self._plan.low_per_s), ("high", 0)):
            before_s = observer.cpu_s()
            load = self._workloads.pingpong(seconds=window_s, per_second=per_second)
            used_s = observer.cpu_s() - before_s
            rate = f"{load.per_second:,.0f} requests/s"
            shares.append(used_s / load.seconds)
            self._measured(
                f"rates.{key}",
                f"agent's CPU at {rate}",
                "% of a core",
                100 * shares[-1],
            )
            self._measured(
                f"rates.{key}_per_million",
                f"agent's CPU per million requests, at {rate}",
                "s",
                used_s / load.requests * 1e6,
            )
        low, high = shares
        self._measured(
            "rates.growth", "agent's CPU at the high rate / at the low", "", high / low
        )

    def memory(self, observer: Observer, name: str) -> None:
        for load in self._loads:
            load.run()
        self._measured(
            f"memory.{name}",
            f"agent's resident memory, OTLP over {name}",
            "MB",
            observer.memory_bytes() / _MB,
        )

    def ledger(self, observer: Observer) -> None:
        """Whether what looks cheap was counted at all."""
        found = observer.status()["ledger"]
        lost = {
            cause: line["exchanges"]
            for cause, line in found["lost"].items()
            if line["exchanges"]
        }
        causes = ", ".join(f"{cause} {count:,}" for cause, count in lost.items())
        self._results.notes.append(
            f"The agent of these phases saw {found['seen']['exchanges']:,} exchanges and "
            f"counted {found['counted']['exchanges']:,}; open "
            f"{found['open']['exchanges']:,}; lost: {causes or 'none'}."
        )

    def recordings(self) -> None:
        """nginx as fast as it goes, without an agent and while something is recorded."""
        for key, what, words in (
            ("other", "another service is recorded", ["--service", "no-such"]),
            ("one", "it is recorded", ["--service", "nginx"]),
            ("all", "all are recorded", []),
        ):
            off, on, ratios = [], [], []
            for _ in range(max(2, self._plan.rounds // 2)):
                off.append(self._workloads.nginx().per_second)
                with recording(self._folder, words):
                    on.append(self._workloads.nginx().per_second)
                ratios.append(on[-1] / off[-1])
            self._results.compared.append(
                Compared(
                    f"recording.{key}",
                    f"nginx, wrk, {what}: throughput",
                    "/s",
                    *map(Spread.of, (off, on, ratios)),
                )
            )

    def load(self) -> None:
        """Verification by the kernel is nearly all of it."""
        took_s = []
        for _ in range(self._plan.loads):
            before_s = time.monotonic()
            kernel = Kernel.open(KernelSettings())
            took_s.append(time.monotonic() - before_s)
            kernel.close()
        self._measured("load.programs", "programs loaded and attached in", "s", *took_s)
        if self.starts_s:
            self._measured(
                "load.agent", "agent ready, from its start", "s", *self.starts_s
            )

    def _half(self) -> dict[_Seen, float]:
        found: dict[_Seen, float] = {}
        if self._with_file:
            read_ns = self._workloads.file_read()
            found[_Seen("file.read", "read(/dev/zero)", "ns")] = read_ns
        for one in self._compared:
            load = one.run()
            for key, what, unit, value in (
                ("throughput", "throughput", "/s", load.per_second),
                ("p50", "p50", "ns", load.p50_ns),
                ("p99", "p99", "ns", load.p99_ns),
            ):
                seen = _Seen(f"{one.key}.{key}", f"{one.what}: {what}", unit)
                found[seen] = value
        return found

    def _measured(self, key: str, what: str, unit: str, *values: float) -> None:
        self._results.measured.append(Measured(key, what, unit, Spread.of(values)))


def _workloads(workloads: Workloads, plan: Plan) -> list[_Workload]:
    return [
        _Workload("pingpong", "pingpong", "1 KB ping-pong", workloads.pingpong),
        _Workload("nginx", "nginx", "nginx, wrk", workloads.nginx),
        *(
            _Workload(
                "redis",
                f"redis_{depth}",
                f"Redis, -P {depth}",
                partial(workloads.redis, depth),
            )
            for depth in plan.redis_requests
        ),
    ]
