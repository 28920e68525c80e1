# SPDX-License-Identifier: Apache-2.0
"""What real processes and groups use, compared with what the kernel says elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.identity.cgroups import Group, cgroup
from tests.identity.owners import PYTHON, SLEEPER, owner_of, started
from tests.process import wait_until

from deetune_otel.identity.process import ProcessReader
from deetune_otel.identity.usage import (
    InstrumentKind,
    ResourceReading,
    Usage,
    _cgroup_mounts,
)
from deetune_otel.model import Owner, Service

A = "3f4e1c0d9b8a7f6e5d4c3b2a190817263544536271809fafbecdd0e1f2031425"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
BURN = """
import sys, time
kept = b"x" * 50_000_000
end = time.process_time() + float(sys.argv[1])
while time.process_time() < end: pass
print(flush=True)
sys.stdin.read()
"""
KINDS = {
    ("process.cpu.time", "s", InstrumentKind.COUNTER),
    ("process.disk.io", "By", InstrumentKind.COUNTER),
    ("process.memory.usage", "By", InstrumentKind.UP_DOWN_COUNTER),
    ("process.memory.virtual", "By", InstrumentKind.UP_DOWN_COUNTER),
    ("process.thread.count", "{thread}", InstrumentKind.UP_DOWN_COUNTER),
    (
        "process.open_file_descriptor.count",
        "{file_descriptor}",
        InstrumentKind.UP_DOWN_COUNTER,
    ),
}


def service(pid: int, container_id: str = "") -> Service:
    attributes: dict[str, str | int] = (
        {"container.id": container_id} if container_id else {}
    )
    return Service(name="x", instance_id=f"h:{pid}", attributes=attributes)


def by_name(readings: list[ResourceReading]) -> dict[tuple[str, str], float]:
    """(name, mode or direction) -> value; every one at most once."""
    found = {
        (reading.name, next(iter(reading.attributes.values()), "")): reading.value
        for reading in readings
    }
    assert len(found) == len(readings)
    return found


def test_values_of_a_process() -> None:
    with started([PYTHON, "-c", BURN, "0.3"]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        owner = owner_of(child.pid)
        readings = Usage().read([(owner, service(child.pid))])
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{child.pid}/status").read_text().splitlines()
        )
        descriptors = len(list(Path(f"/proc/{child.pid}/fd").iterdir()))
    assert {(one.name, one.unit, one.kind) for one in readings} == KINDS
    assert {one.service.instance_id for one in readings} == {f"h:{child.pid}"}
    values = by_name(readings)
    cpu_s = values["process.cpu.time", "user"] + values["process.cpu.time", "system"]
    assert 0.3 - 2 * TICK_S <= cpu_s < 1
    resident = int(status["VmRSS"].split()[0]) * 1024
    assert values["process.memory.usage", ""] == pytest.approx(resident, rel=0.05)
    assert values["process.memory.usage", ""] > 50_000_000
    virtual = int(status["VmSize"].split()[0]) * 1024
    assert values["process.memory.virtual", ""] == virtual
    assert values["process.thread.count", ""] == 1
    assert values["process.open_file_descriptor.count", ""] == descriptors


def test_disk_io(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "os.write(fd, b'x' * 1_000_000); os.fsync(fd); print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with started([PYTHON, "-c", code, tmp_path / "file"]) as child:
        assert child.stdout is not None
        child.stdout.readline()
        values = by_name(Usage().read([(owner_of(child.pid), service(child.pid))]))
        io = dict(
            line.split(": ")
            for line in Path(f"/proc/{child.pid}/io").read_text().splitlines()
        )
    assert values["process.disk.io", "write"] == int(io["write_bytes"])
    assert values["process.disk.io", "read"] == int(io["read_bytes"])


def test_utilization_is_of_the_time_between_two_readings() -> None:
    now_s = [0.0]
    usage = Usage(clock_s=lambda: now_s[0])
    with started([PYTHON, "-c", BURN, "0.4"]) as child:
        assert child.stdout is not None
        os.sched_setaffinity(child.pid, {0})
        pair = (owner_of(child.pid), service(child.pid))
        first = by_name(usage.read([pair]))
        assert not [key for key in first if key[0] == "process.cpu.utilization"]
        child.stdout.readline()
        now_s[0] = 2.0
        second = by_name(usage.read([pair]))
        now_s[0] = 4.0
        third = by_name(usage.read([pair]))
    used_s = sum(
        second["process.cpu.time", mode] - first["process.cpu.time", mode]
        for mode in ("user", "system")
    )
    utilization = sum(
        second["process.cpu.utilization", mode] for mode in ("user", "system")
    )
    assert used_s > 0.2
    assert utilization == pytest.approx(used_s / 2.0)
    assert third["process.cpu.utilization", "user"] == pytest.approx(0, abs=0.02)


def test_ended_and_reused_pids_have_no_values() -> None:
    usage = Usage()
    with started([PYTHON, "-c", SLEEPER]) as child:
        owner = owner_of(child.pid)
        earlier = owner_of(child.pid, later_by_ticks=-500)
        assert usage.read([(earlier, service(child.pid))]) == []
        child.kill()
        stat = Path(f"/proc/{child.pid}/stat")
        wait_until(lambda: ") Z " in stat.read_text("ascii"), "a zombie", every_s=0.01)
        zombie = by_name(usage.read([(owner, service(child.pid))]))
        assert all(
            value == 0 for (name, _), value in zombie.items() if "memory" in name
        )
        child.wait()
        assert usage.read([(owner, service(child.pid))]) == []
    assert usage.skipped == 0


def test_a_process_in_two_network_namespaces_is_read_once() -> None:
    owner = owner_of(os.getpid())
    pairs = [(owner, service(1)), (owner._replace(id=2**31, netns=1), service(1))]
    by_name(Usage().read(pairs))


def test_over_the_bound_the_first_owners_stay_and_the_rest_is_counted() -> None:
    usage = Usage(max_processes=1)
    with started([PYTHON, "-c", SLEEPER]) as child:
        mine = owner_of(os.getpid())._replace(id=7)
        other = owner_of(child.pid)._replace(id=3)
        for round_ in (1, 2):
            readings = usage.read([(mine, service(7)), (other, service(3))])
            assert {one.service.instance_id for one in readings} == {"h:3"}
            assert usage.skipped == round_


def container_values(owners: list[Owner]) -> dict[tuple[str, str], float]:
    readings = Usage().read([(one, service(one.process.pid, A)) for one in owners])
    return by_name([one for one in readings if one.name.startswith("container.")])


@contextlib.contextmanager
def burning_in(*groups: Group) -> Iterator[Owner]:
    """A process that used 0.3 s and 50 MB in these groups, and lives on."""
    shell = ["sh", "-c", 'read go; exec "$@"', "sh"]
    with started([*shell, PYTHON, "-c", BURN, "0.3"]) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for group in groups:
            group.add(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        yield owner_of(child.pid)


def test_container_on_v1() -> None:
    """Two processes in it, and its values come once."""
    with (
        cgroup("memory", f"docker/{A}") as memory,
        cgroup("cpuacct", f"docker/{A}") as cpu,
        burning_in(memory, cpu) as owner,
        started(["sleep", "60"]) as second,
    ):
        memory.add(second.pid)
        cpu.add(second.pid)
        values = container_values([owner, owner_of(second.pid)])
        used_bytes = memory.number("memory.usage_in_bytes")
        used_ns = cpu.number("cpuacct.usage")
    assert values["container.memory.usage", ""] == pytest.approx(used_bytes, rel=0.05)
    assert values["container.memory.usage", ""] > 50_000_000
    total_s = sum(values["container.cpu.time", mode] for mode in ("user", "system"))
    assert total_s == pytest.approx(used_ns / 1e9, abs=3 * TICK_S)
    assert total_s > 0.25


def test_container_on_v2() -> None:
    """On a hybrid machine v2 has CPU time for every group, but no memory."""
    with cgroup("unified", f"docker-{A}.scope") as group, burning_in(group) as owner:
        values = container_values([owner])
        has_memory = (group.path / "memory.current").exists()
    total_s = sum(values["container.cpu.time", mode] for mode in ("user", "system"))
    assert 0.25 < total_s < 2
    assert (("container.memory.usage", "") in values) == has_memory


def test_a_process_that_left_its_container_gives_no_container_values() -> None:
    assert container_values([owner_of(os.getpid())]) == {}


def test_mounts() -> None:
    mounts = _cgroup_mounts(
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        "41 31 0:38 /host /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "garbage\n- cgroup\n"
    )
    assert mounts["cpuacct"] == (Path("/sys/fs/cgroup/cpu,cpuacct"), "/")
    assert mounts[""] == (Path("/sys/fs/cgroup/unified"), "/host")
    assert "mode=755" not in mounts


@pytest.mark.parametrize(
    ("path", "root", "visible"),
    [
        (f"/docker/{A}", "/", True),
        (f"/host/docker/{A}", "/host", True),
        (f"/docker/{A}", "/host", False),
        (f"/../docker-{A}.scope", "/", False),
    ],
)
def test_a_group_is_read_only_through_a_mount_that_shows_it(
    tmp_path: Path, path: str, root: str, *, visible: bool
) -> None:
    from deetune_otel.identity.container import parse_cgroup

    usage = Usage(reader=ProcessReader())
    usage._mounts = _cgroup_mounts(f"1 1 0:1 {root} {tmp_path} rw - cgroup2 none rw\n")
    shown = tmp_path / path.removeprefix(root).strip("/")
    shown.mkdir(parents=True, exist_ok=True)
    (shown / "memory.current").write_text("7\n")
    number = usage._number(parse_cgroup(f"0::{path}"), "", "memory.current")
    assert number == (7 if visible else None)
