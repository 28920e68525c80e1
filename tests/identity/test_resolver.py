# SPDX-License-Identifier: Apache-2.0
"""Real processes get names, keep them, and get others when they become others."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from tests.identity.cgroups import cgroup
from tests.identity.owners import PYTHON, SLEEPER, children_of, owner_of, started
from tests.process import answers, free_port, wait_until

from deetune_otel.config.schema import ServiceMatch, ServiceRule
from deetune_otel.identity.resolver import Resolver, read_host_id
from deetune_otel.model import NewOwner, Owner, ProcessKey

A = "3f4e1c0d9b8a7f6e5d4c3b2a190817263544536271809fafbecdd0e1f2031425"
B = A[::-1]
ENDED = Owner(1, ProcessKey(2**22 - 1, 1), 0, 1, 1, "short-lived", 2**22 - 1)


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def resolver(
    *rules: ServiceRule, clock: Clock | None = None, root: Path = Path("/")
) -> Resolver:
    return Resolver(
        rules, host_name="host1", host_id="id1", root=root, clock_s=clock or Clock()
    )


def script(folder: Path, name: str, code: str = SLEEPER) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, "utf-8")
    return path


def test_a_script_is_a_service(tmp_path: Path) -> None:
    path = script(tmp_path, "orders.py")
    with started([PYTHON, path, "--token", "s3cret"]) as child:
        service = resolver().service(owner_of(child.pid))
    assert service.name == "orders"
    assert service.found_by == "script"
    assert service.instance_id == f"host1:{child.pid}"
    assert service.attributes == {
        "host.name": "host1",
        "host.id": "id1",
        "os.type": "linux",
        "process.pid": child.pid,
        "process.executable.name": PYTHON.resolve().name,
        "process.command": f"{PYTHON} {path}",
    }


def test_shells_are_named_by_their_script(tmp_path: Path) -> None:
    path = script(tmp_path, "backup.sh", "read x\n")
    with started(["bash", path]) as child:
        assert resolver().service(owner_of(child.pid)).name == "backup"


def test_the_targets_environment_comes_first(tmp_path: Path) -> None:
    rule = ServiceRule(match=ServiceMatch(command="*orders*"), name="by-rule")
    argv = [PYTHON, script(tmp_path, "orders.py")]
    with started(argv, env={"OTEL_SERVICE_NAME": "by-itself"}) as child:
        assert resolver(rule).service(owner_of(child.pid)).name == "by-itself"
    with started(argv) as child:
        assert resolver(rule).service(owner_of(child.pid)).name == "by-rule"


def test_rules_by_port_see_a_port_that_opens_later(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import socket, sys\nsys.stdin.read(1)\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\nsys.stdin.read()\n"
    )
    rule = ServiceRule(match=ServiceMatch(port=port), name="by-port")
    clock = Clock()
    with started([PYTHON, script(tmp_path, "orders.py", code)]) as child:
        assert child.stdin is not None
        owner, names = owner_of(child.pid), resolver(rule, clock=clock)
        assert names.service(owner).name == "orders"
        child.stdin.write(b"x")
        child.stdin.flush()
        wait_until(lambda: answers(port), "the port")
        clock.now_s += 1
        assert names.service(owner).name == "by-port"


def test_ended_processes_are_named_by_their_comm() -> None:
    names = resolver()
    service = names.service(ENDED)
    assert (service.name, service.found_by) == ("short-lived", "comm")
    assert service.instance_id == f"host1:{ENDED.process.pid}"
    assert names.service(ENDED) is service


@pytest.mark.parametrize(
    ("script_name", "words"),
    [
        ("orders.py", ()),
        ("main.py", ("--verbose",)),  # its directory tells more
        ("orders.py", ("x" * 600,)),  # cut where the kernel side has no more room
    ],
)
def test_a_process_is_called_the_same_alive_and_ended(
    tmp_path: Path, script_name: str, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "billing"
    folder.mkdir()
    script(folder, script_name)
    with started([PYTHON, script_name, *words], cwd=folder) as child:
        owner = owner_of(child.pid)
        told = NewOwner(
            owner,
            Path(f"/proc/{child.pid}/cmdline").read_bytes()[:512],
            Path(f"/proc/{child.pid}/exe").readlink().name,
            folder.name,
        )
        alive = resolver().service(owner)
    names = resolver()
    names.hear(told)
    ended = names.service(owner)
    assert alive.name in {"orders", "billing"}
    assert (ended.name, ended.found_by) == (alive.name, alive.found_by)
    assert ended.attributes["process.command"] == alive.attributes["process.command"]
    names.forget(owner)
    assert names.service(owner).found_by == "comm"


def test_an_ended_process_is_known_by_its_container_while_that_is_there(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "var/lib/docker/containers" / A
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_text(json.dumps({"Name": "/job"}))
    with cgroup("unified", f"docker-{A}.scope") as group:
        owner = ENDED._replace(cgroup_id=group.path.stat().st_ino)
        named = resolver(root=tmp_path).service(owner)
        unnamed = resolver(root=tmp_path / "none").service(owner)
    gone = resolver(root=tmp_path).service(owner)
    assert (named.name, named.found_by) == ("job", "container")
    assert (unnamed.name, unnamed.found_by) == ("short-lived", "comm")
    for service in (named, unnamed):
        assert service.attributes["container.id"] == A
        assert service.instance_id == f"host1:{owner.process.pid}:{A[:12]}"
    assert "container.id" not in gone.attributes


def test_a_pid_used_again_does_not_inherit(tmp_path: Path) -> None:
    """The same pid with an earlier start was another process, whatever runs now."""
    with started([PYTHON, script(tmp_path, "orders.py")]) as child:
        names = resolver()
        assert names.service(owner_of(child.pid)).name == "orders"
        earlier = owner_of(child.pid, later_by_ticks=-500, comm="before")
        assert names.service(earlier).name == "before"
        assert names.service(owner_of(child.pid)).name == "orders"


def test_a_name_outlives_its_process_until_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    names = resolver(clock=clock)
    with started([PYTHON, script(tmp_path, "orders.py")]) as child:
        owner = owner_of(child.pid)
        known = names.service(owner)
    clock.now_s += 1000
    assert names.service(owner) is known
    names.forget(owner)
    assert names.service(owner).found_by == "comm"
    names.forget(ENDED)  # never asked for: nothing to forget


def test_an_exec_renames_within_a_second(tmp_path: Path) -> None:
    after = script(tmp_path, "after.py")
    code = f"import os, sys; sys.stdin.read(1); os.execv({str(PYTHON)!r}, ['python3', {str(after)!r}])"
    clock = Clock()
    names = resolver(clock=clock)
    with started([PYTHON, script(tmp_path, "before.py", code)]) as child:
        assert child.stdin is not None
        owner = owner_of(child.pid)
        before = names.service(owner)
        assert before.name == "before"
        child.stdin.write(b"x")
        child.stdin.flush()
        command_line = Path(f"/proc/{child.pid}/cmdline")
        wait_until(lambda: b"after.py" in command_line.read_bytes(), "the exec")
        clock.now_s += 0.9
        assert names.service(owner) is before
        clock.now_s += 0.1
        assert names.service(owner).name == "after"


def test_checks_become_rare_and_an_unchanged_service_stays_the_same_object(
    tmp_path: Path,
) -> None:
    clock = Clock()
    names = resolver(clock=clock)
    with started([PYTHON, script(tmp_path, "orders.py")]) as child:
        owner = owner_of(child.pid)
        known = names.service(owner)
        intervals = []
        for _ in range(9):
            entry = names._known[owner.process]
            intervals.append(entry.check_at_s - clock.now_s)
            clock.now_s = entry.check_at_s
            assert names.service(owner) is known
    assert intervals == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_forked_workers_have_their_masters_name(tmp_path: Path) -> None:
    code = "import os, sys\nfor _ in range(2):\n    os.fork() or sys.stdin.read()\nsys.stdin.read()\n"
    with started([PYTHON, script(tmp_path, "shop/prefork.py", code)]) as child:
        pids = [child.pid, *children_of(child.pid, 2)]
        names = resolver()
        services = [names.service(owner_of(pid)) for pid in pids]
    assert {service.name for service in services} == {"prefork"}
    assert len({service.instance_id for service in services}) == 3


def test_spawned_workers_have_their_masters_name(tmp_path: Path) -> None:
    """multiprocessing starts `python -c "from multiprocessing.spawn ..."`, as uvicorn does."""
    code = (
        "import multiprocessing, sys, time\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    multiprocessing.Process(target=time.sleep, args=(60,), daemon=True).start()\n"
        "    sys.stdin.read()\n"
    )
    with started([PYTHON, script(tmp_path, "spawning.py", code)]) as child:
        helpers = children_of(child.pid, 2)  # the worker and the resource tracker
        for pid in helpers:
            wait_until(
                lambda pid=pid: (
                    b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes()
                ),  # type: ignore[misc]
                "the exec",
            )
        names = resolver()
        found = {names.service(owner_of(pid)).name for pid in helpers}
        command = names.service(owner_of(helpers[0])).attributes["process.command"]
    assert found == {"spawning"}
    assert command == str(PYTHON)


def test_nginx_master_and_workers(tmp_path: Path) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not here")
    port = free_port()
    configuration = script(
        tmp_path,
        "nginx.conf",
        f"daemon off; worker_processes 2; pid {tmp_path}/pid; error_log {tmp_path}/log;\n"
        f"events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}\n",
    )
    with started([nginx, "-p", tmp_path, "-c", configuration]) as child:
        wait_until(lambda: answers(port), "nginx")
        names = resolver()
        pids = [child.pid, *children_of(child.pid, 2)]
        assert {names.service(owner_of(pid)).name for pid in pids} == {"nginx"}


def test_a_container_has_the_name_that_its_runtime_keeps(tmp_path: Path) -> None:
    with cgroup("memory", f"docker/{A}") as group:
        folder = tmp_path / "var/lib/docker/containers" / A
        folder.mkdir(parents=True)
        (folder / "config.v2.json").write_text(json.dumps({"Name": "/shop-orders-1"}))
        with started(["sleep", "60"]) as child:
            group.add(child.pid)
            service = resolver(root=tmp_path).service(owner_of(child.pid))
            unnamed = resolver(root=tmp_path / "none").service(owner_of(child.pid))
        with started([PYTHON, "-c", SLEEPER]) as child:
            group.add(child.pid)
            bare = resolver(root=tmp_path / "none").service(owner_of(child.pid))
    assert (service.name, service.found_by) == ("shop-orders-1", "container")
    assert service.attributes["container.id"] == A
    assert service.attributes["container.name"] == "shop-orders-1"
    assert (unnamed.name, unnamed.attributes["container.id"]) == ("sleep", A)
    assert (bare.name, bare.found_by) == (A[:12], "container")


@pytest.mark.parametrize("controller", ["memory", "unified"])
def test_a_process_that_moves_gets_its_new_container(
    controller: str, tmp_path: Path
) -> None:
    clock = Clock()
    names = resolver(clock=clock, root=tmp_path)
    with (
        cgroup(controller, f"docker-{A}.scope") as first,
        cgroup(controller, f"docker-{B}.scope") as second,
        started([PYTHON, script(tmp_path, "orders.py")]) as child,
    ):
        owner = owner_of(child.pid)
        outside = names.service(owner)
        first.add(child.pid)
        clock.now_s += 0.9
        assert names.service(owner) is outside
        clock.now_s += 0.1
        in_first = names.service(owner)
        second.add(child.pid)
        clock.now_s += 1
        in_second = names.service(owner)
    assert outside.instance_id == f"host1:{child.pid}"
    assert "container.id" not in outside.attributes
    for service, identity in ((in_first, A), (in_second, B)):
        assert service.attributes["container.id"] == identity
        assert service.instance_id == f"host1:{child.pid}:{identity[:12]}"
        assert service.name == "orders"
    clock.now_s += 1
    assert names.service(owner) is in_second  # ended


def test_a_later_process_with_its_pid_does_not_move_it(tmp_path: Path) -> None:
    """A glance may see the later one's cgroup; the name stays."""
    clock = Clock()
    names = resolver(clock=clock)
    with started([PYTHON, script(tmp_path, "orders.py")]) as child:
        owner = owner_of(child.pid)
        known = names.service(owner)
        later = names._known[owner.process]
        later.cgroup = "0::/elsewhere\n"
        names._known[ENDED.process] = later
        clock.now_s += 1
        gone = ENDED._replace(local_pid=child.pid)
        assert names.service(gone) is known
        assert later.fingerprint is None
    assert known.name == "orders"


def test_what_is_remembered_is_bounded() -> None:
    names = resolver()
    for start in range(3000):
        names.service(ENDED._replace(process=ProcessKey(ENDED.process.pid, start)))
    assert len(names._known) == 2048


def test_threads_may_ask_at_once(tmp_path: Path) -> None:
    with started([PYTHON, script(tmp_path, "orders.py")]) as child:
        owner, names = owner_of(child.pid), resolver()
        found: list[str] = []

        def ask() -> None:
            for number in range(200):
                key = ProcessKey(ENDED.process.pid, number)
                names.service(ENDED._replace(process=key))
                found.append(names.service(owner).name)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["orders"] * 800


def test_whatever_runs_has_a_name() -> None:
    """Every process of this machine: no exception, no empty name."""
    names = resolver()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            owner = owner_of(int(folder.name))
        except OSError:
            continue  # ended, or not ours to look at
        service = names.service(owner)
        assert service.name
        assert service.instance_id == f"host1:{folder.name}"


def test_host_id(tmp_path: Path) -> None:
    assert read_host_id(tmp_path) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    assert read_host_id(tmp_path) == "0123456789abcdef0123456789abcdef"
    (tmp_path / "etc/machine-id").write_bytes(b"\xff")
    assert read_host_id(tmp_path) == ""
