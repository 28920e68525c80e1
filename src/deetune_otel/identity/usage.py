# SPDX-License-Identifier: Apache-2.0
"""What services' processes and containers use of the machine, in plain values.

Processes are read by psutil, containers from their cgroup (v2 where it has the
file, else v1: hybrid machines have some of both). A container is read once, whatever
the number of its processes. A value that may not be read is left out; a process
that ended is left out; `skipped` counts the readings that the bound left out.

`process.network.io` is not there: Linux counts traffic by network namespace, not by
process. `process.open_file_descriptor.count` is the name that existing dashboards
have; the conventions since call it `process.unix.file_descriptor.count`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from cachetools import LRUCache
from opentelemetry.semconv._incubating.attributes.container_attributes import (
    CONTAINER_ID,
)
from opentelemetry.semconv._incubating.attributes.cpu_attributes import (
    CPU_MODE,
    CpuModeValues,
)
from opentelemetry.semconv._incubating.attributes.disk_attributes import (
    DISK_IO_DIRECTION,
    DiskIoDirectionValues,
)
from opentelemetry.semconv._incubating.metrics.container_metrics import (
    CONTAINER_CPU_TIME,
    CONTAINER_MEMORY_USAGE,
)
from opentelemetry.semconv._incubating.metrics.process_metrics import (
    PROCESS_CPU_TIME,
    PROCESS_CPU_UTILIZATION,
    PROCESS_DISK_IO,
    PROCESS_MEMORY_USAGE,
    PROCESS_MEMORY_VIRTUAL,
    PROCESS_OPEN_FILE_DESCRIPTOR_COUNT,
    PROCESS_THREAD_COUNT,
)

from deetune_otel.identity.container import Cgroup, parse_cgroup
from deetune_otel.identity.process import ProcessReader
from deetune_otel.model import Owner, ProcessKey, Service

__all__ = ["InstrumentKind", "ResourceReading", "Usage"]

# A process costs about 0.2 ms, so a reading ends within about 0.1 s.
_MAX_PROCESSES: Final = 512
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_USER: Final = {CPU_MODE: CpuModeValues.USER.value}
_SYSTEM: Final = {CPU_MODE: CpuModeValues.SYSTEM.value}
_READ: Final = {DISK_IO_DIRECTION: DiskIoDirectionValues.READ.value}
_WRITE: Final = {DISK_IO_DIRECTION: DiskIoDirectionValues.WRITE.value}
_NONE: Final[Mapping[str, str]] = {}


class InstrumentKind(StrEnum):
    COUNTER = "counter"  # cumulative since the process or the container started
    UP_DOWN_COUNTER = "updowncounter"
    GAUGE = "gauge"


class ResourceReading(NamedTuple):
    """One value of one service instance."""

    service: Service
    name: str
    unit: str
    kind: InstrumentKind
    attributes: Mapping[str, str]
    value: float


class _Value(NamedTuple):
    """A reading without the service it belongs to."""

    name: str
    unit: str
    kind: InstrumentKind
    attributes: Mapping[str, str]
    value: float


class _CpuTime(NamedTuple):
    at_s: float
    user_s: float
    system_s: float


class Usage:
    """Reads processes and containers; keeps only what utilization needs."""

    def __init__(
        self,
        *,
        reader: ProcessReader | None = None,
        max_processes: int = _MAX_PROCESSES,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader or ProcessReader()
        self._max_processes = max_processes
        self._clock_s = clock_s
        self._cpu_times: LRUCache[ProcessKey, _CpuTime] = LRUCache(max_processes)
        self._mounts = _cgroup_mounts(_read_text(Path("/proc/self/mountinfo")))
        self.skipped = 0  # processes left out of a reading, over the bound; cumulative

    def read(self, owners: Iterable[tuple[Owner, Service]]) -> list[ResourceReading]:
        """One reading of all; the lowest owner ids first, so that the same stay in."""
        processes: dict[ProcessKey, tuple[Owner, Service]] = {}
        for owner, service in sorted(owners, key=lambda pair: pair[0].id):
            processes.setdefault(owner.process, (owner, service))
        chosen = list(processes.values())[: self._max_processes]
        self.skipped += len(processes) - len(chosen)
        readings: list[ResourceReading] = []
        seen: set[str] = set()
        for owner, service in chosen:
            values = self._process(owner)
            identity = str(service.attributes.get(CONTAINER_ID, ""))
            if identity and identity not in seen:
                container = self._container(owner, identity)
                if container:
                    seen.add(identity)
                    values += container
            readings += (ResourceReading(service, *value) for value in values)
        return readings

    def _process(self, owner: Owner) -> list[_Value]:
        pid = self._reader.local_pid(owner)
        if pid is None:
            return []
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                now_s = self._clock_s()
                values = [
                    *_always_readable(process),
                    *_readable_by_owner(process),
                ]
                times = process.cpu_times()
                cpus = len(process.cpu_affinity() or ()) or 1
        except (psutil.Error, OSError):
            return []
        if self._reader.local_pid(owner) != pid:
            return []  # psutil goes by the pid: it may have been another process's
        cpu = _CpuTime(now_s, times.user, times.system)
        before = self._cpu_times.get(owner.process)
        self._cpu_times[owner.process] = cpu
        return values + list(_utilization(before, cpu, cpus))

    def _container(self, owner: Owner, identity: str) -> list[_Value]:
        cgroup = parse_cgroup(self._reader.cgroup(owner))
        if cgroup.container_id != identity:
            return []  # ended, or moved since it was named
        values = []
        if cpu := self._container_cpu(cgroup):
            values += [
                _Value(CONTAINER_CPU_TIME, "s", InstrumentKind.COUNTER, mode, seconds)
                for mode, seconds in zip((_USER, _SYSTEM), cpu, strict=True)
            ]
        memory = self._number(cgroup, "", "memory.current")
        if memory is None:
            memory = self._number(cgroup, "memory", "memory.usage_in_bytes")
        if memory is not None:
            values.append(
                _Value(
                    CONTAINER_MEMORY_USAGE,
                    "By",
                    InstrumentKind.UP_DOWN_COUNTER,
                    _NONE,
                    memory,
                )
            )
        return values

    def _container_cpu(self, cgroup: Cgroup) -> tuple[float, float] | None:
        """(user, system) seconds."""
        stat = _keyed_numbers(self._text(cgroup, "", "cpu.stat"))
        if "user_usec" in stat and "system_usec" in stat:
            return stat["user_usec"] / 1e6, stat["system_usec"] / 1e6
        # Not cpuacct.usage_user and _sys: they count whole ticks, so that their sum can
        # be more than was used. The kernel scales these to the exact sum.
        stat = _keyed_numbers(self._text(cgroup, "cpuacct", "cpuacct.stat"))
        if "user" in stat and "system" in stat:
            return stat["user"] * _TICK_S, stat["system"] * _TICK_S
        return None

    def _number(self, cgroup: Cgroup, controller: str, file: str) -> int | None:
        text = self._text(cgroup, controller, file).strip()
        return int(text) if text.isdecimal() else None

    def _text(self, cgroup: Cgroup, controller: str, file: str) -> str:
        """The text of a file of the container's cgroup; "" where there is none."""
        path = cgroup.paths.get(controller)
        mount = self._mounts.get(controller)
        if path is None or mount is None:
            return ""
        root = mount.root.rstrip("/")
        below = path.removeprefix(root)
        if not path.startswith(root) or ".." in below.split("/"):
            return ""  # not visible through this mount
        return _read_text(mount.point / below.strip("/") / file)


def _always_readable(process: psutil.Process) -> Iterator[_Value]:
    times = process.cpu_times()
    yield _Value(PROCESS_CPU_TIME, "s", InstrumentKind.COUNTER, _USER, times.user)
    yield _Value(PROCESS_CPU_TIME, "s", InstrumentKind.COUNTER, _SYSTEM, times.system)
    memory = process.memory_info()
    for name, value in (
        (PROCESS_MEMORY_USAGE, memory.rss),
        (PROCESS_MEMORY_VIRTUAL, memory.vms),
    ):
        yield _Value(name, "By", InstrumentKind.UP_DOWN_COUNTER, _NONE, value)
    yield _Value(
        PROCESS_THREAD_COUNT,
        "{thread}",
        InstrumentKind.UP_DOWN_COUNTER,
        _NONE,
        process.num_threads(),
    )


def _readable_by_owner(process: psutil.Process) -> Iterator[_Value]:
    """What takes the right to trace the process (CAP_SYS_PTRACE); else left out."""
    try:
        io = process.io_counters()
        for direction, value in ((_READ, io.read_bytes), (_WRITE, io.write_bytes)):
            yield _Value(
                PROCESS_DISK_IO, "By", InstrumentKind.COUNTER, direction, value
            )
        yield _Value(
            PROCESS_OPEN_FILE_DESCRIPTOR_COUNT,
            "{file_descriptor}",
            InstrumentKind.UP_DOWN_COUNTER,
            _NONE,
            process.num_fds(),
        )
    except psutil.AccessDenied:
        return


def _utilization(before: _CpuTime | None, now: _CpuTime, cpus: int) -> Iterator[_Value]:
    """CPU time since the last reading, by the time of the CPUs that it may use."""
    if before is None or now.at_s <= before.at_s:
        return
    available_s = (now.at_s - before.at_s) * cpus
    for mode, used_s in (
        (_USER, now.user_s - before.user_s),
        (_SYSTEM, now.system_s - before.system_s),
    ):
        share = max(0.0, used_s / available_s)
        yield _Value(PROCESS_CPU_UTILIZATION, "1", InstrumentKind.GAUGE, mode, share)


class _Mount(NamedTuple):
    point: Path
    root: str  # the cgroup that is mounted there


def _cgroup_mounts(mountinfo: str) -> dict[str, _Mount]:
    """Where each controller's hierarchy is mounted; "" is v2. The first mount wins."""
    mounts: dict[str, _Mount] = {}
    for line in mountinfo.splitlines():
        place, _, kind = line.partition(" - ")
        places, kinds = place.split(" "), kind.split(" ")
        if len(places) < 5 or len(kinds) < 3 or kinds[0] not in {"cgroup", "cgroup2"}:
            continue
        mount = _Mount(Path(places[4]), places[3])
        for controller in kinds[2].split(",") if kinds[0] == "cgroup" else ("",):
            mounts.setdefault(controller, mount)
    return mounts


def _keyed_numbers(text: str) -> dict[str, int]:
    """`user_usec 12` lines."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
