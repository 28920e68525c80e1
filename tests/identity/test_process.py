# SPDX-License-Identifier: Apache-2.0
"""Real processes: living, ended, forbidden, in namespaces, and with a pid used again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.identity.owners import PYTHON, SLEEPER, children_of, owner_of, started
from tests.process import answers, free_port, wait_until

from deetune_otel.identity.process import ProcessReader
from deetune_otel.model import Owner

SOURCES = str(Path(__file__).parents[2])
# Reads an owner (given as JSON) from inside of another namespace, prints the pid.
ELSEWHERE = f"""
import json, os, sys
sys.path[:0] = ["{SOURCES}/src"]
from deetune_otel.identity.process import ProcessReader
from deetune_otel.model import Owner, ProcessKey
exec(sys.argv[2])
fields = json.loads(sys.argv[1])
owner = Owner(*[ProcessKey(*f) if isinstance(f, list) else f for f in fields])
reader = ProcessReader()
facts = reader.read(owner)
seen = facts and [facts.comm, facts.executable, facts.working_directory]
print(json.dumps([reader.pids, facts and facts.pid, seen]))
"""


# What `unshare --mount-proc` does, in a changed root too: there / is no mount point, which
# it insists on.
NEW_PIDS = (
    *("--pid", "--fork", "--mount", "--propagation", "unchanged", "sh", "-c"),
    'mount --make-private /proc && mount -t proc proc /proc && exec "$@"',
    "sh",
)


def in_namespaces(*options: str) -> list[str]:
    """The words before a command that give it namespaces of its own, or a skip."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("util-linux is not here")
    words = [unshare, *options]
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"may not make namespaces: unshare {' '.join(options)}")
    return words


def running_in(parent: int, argument: str) -> int:
    """The child that has it as its last argument; 0: not yet."""
    for child in children_of(parent):
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if words[-2:-1] == [argument.encode()]:
            return child
    return 0


def read_elsewhere(words: list[str], owner: Owner, before: str = "") -> list[object]:
    """[whose pids /proc shows there, pid, (comm, executable, directory)]."""
    done = subprocess.run(
        [*words, sys.executable, "-c", ELSEWHERE, json.dumps(owner), before],
        check=True,
        stdout=subprocess.PIPE,
    )
    answer: list[object] = json.loads(done.stdout)
    return answer


def at_root() -> bool:
    """Whether these tests run in the root pid namespace: only there are kernel threads."""
    path = Path("/proc/2/comm")
    return path.exists() and path.read_text("ascii") == "kthreadd\n"


def test_facts_of_a_living_process(tmp_path: Path) -> None:
    environment = {
        "OTEL_SERVICE_NAME": "orders",
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop",
        "PASSWORD": "s3cret",
    }
    with started([PYTHON, "-c", SLEEPER, "ö"], env=environment, cwd=tmp_path) as child:
        facts = ProcessReader().read(owner_of(child.pid))
    assert facts is not None
    assert facts.pid == child.pid
    assert facts.parent_pid == os.getpid()
    assert facts.executable == str(PYTHON.resolve())
    assert facts.arguments == (str(PYTHON), "-c", SLEEPER, "ö")
    assert facts.otel_service_name == "orders"
    assert facts.otel_resource_attributes == "service.namespace=shop"
    assert facts.working_directory == str(tmp_path)
    assert facts.cgroup == Path("/proc/self/cgroup").read_text("utf-8")
    assert facts.netns == Path("/proc/self/ns/net").stat().st_ino
    assert facts.listening_ports == frozenset()
    assert "s3cret" not in repr(facts)


def test_one_tick_of_difference_is_the_same_process() -> None:
    reader = ProcessReader()
    with started([PYTHON, "-c", SLEEPER]) as child:
        for ticks in (-1, 0, 1):
            assert reader.read(owner_of(child.pid, later_by_ticks=ticks)) is not None


def test_a_pid_used_again_is_gone() -> None:
    """The pid of a living process with the start time of one that had it before."""
    reader = ProcessReader()
    with started([PYTHON, "-c", SLEEPER]) as child:
        for ticks in (-2, 2, 1000):
            owner = owner_of(child.pid, later_by_ticks=ticks)
            assert reader.read(owner) is None
            assert reader.read_parent(owner) is None
            assert reader.fingerprint(owner) is None
            assert reader.local_pid(owner) is None
            assert reader.cgroup(owner) == ""


def test_an_open_directory_never_becomes_another_process() -> None:
    """Every read fails once the process ended: the kernel keeps no link to the pid."""
    reader = ProcessReader()
    with started([PYTHON, "-c", SLEEPER]) as child:
        owner = owner_of(child.pid)
        with reader._open(owner) as directory:
            assert directory is not None
            child.kill()
            child.wait()
            with pytest.raises(OSError, match=r"No such (process|file)"):
                directory.read("stat")
            assert reader._facts(directory, with_ports=False) is None
    assert reader.read(owner) is None


def test_a_zombie_has_ended() -> None:
    with started(["sleep", "60"]) as child:
        owner = owner_of(child.pid)
        child.kill()
        stat = Path(f"/proc/{child.pid}/stat")
        wait_until(lambda: ") Z " in stat.read_text("ascii"), "a zombie", every_s=0.01)
        assert ProcessReader().read(owner) is None


def test_a_kernel_thread_has_a_name_only() -> None:
    if not at_root():
        pytest.skip("kernel threads live in the root pid namespace alone")
    facts = ProcessReader().read(owner_of(2))
    assert facts is not None
    assert facts.comm == "kthreadd"
    assert (facts.executable, facts.arguments) == ("", ())


def test_names_with_brackets_and_spaces(tmp_path: Path) -> None:
    program = tmp_path / "a) (b c"
    shutil.copy("/bin/sleep", program)
    with started([program, "60"]) as child:
        facts = ProcessReader().read(owner_of(child.pid))
    assert facts is not None
    assert facts.comm == "a) (b c"
    assert facts.parent_pid == os.getpid()


def test_what_may_not_be_read_is_empty() -> None:
    """As nobody, of a process of root's: what /proc tells everybody remains."""
    if os.getuid() != 0:
        pytest.skip("needs root to become nobody")
    with started(["sleep", "60"], env={"OTEL_SERVICE_NAME": "x"}) as child:
        become_nobody = "os.setgid(65534), os.setuid(65534)"
        answer = read_elsewhere([], owner_of(child.pid), become_nobody)
    assert answer[1:] == [child.pid, ["sleep", "", ""]]


def test_title_written_over_the_arguments(tmp_path: Path) -> None:
    """As nginx does it: text and zeros over argv, in place."""
    source = tmp_path / "title.c"
    source.write_text(
        "#include <string.h>\n#include <unistd.h>\nint main(int c, char **v) {\n"
        "  size_t n = v[c - 1] + strlen(v[c - 1]) - v[0];\n"
        '  memset(v[0], 0, n); strcpy(v[0], "shop: worker"); write(1, "x", 1);\n'
        "  char b; return (int)read(0, &b, 1); }\n"
    )
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path / "title"
    subprocess.run([compiler, "-w", "-o", program, source], check=True)
    with started([program, "-a", "-b", "cccccccccccc"]) as child:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"x"
        facts = ProcessReader().read(owner_of(child.pid))
    assert facts is not None
    assert facts.arguments == ("shop: worker",)


def test_long_arguments_are_cut() -> None:
    words = ["x" * 100_000] * 3
    with started([PYTHON, "-c", SLEEPER, *words]) as child:
        facts = ProcessReader().read(owner_of(child.pid))
    assert facts is not None
    assert facts.arguments[:3] == (str(PYTHON), "-c", SLEEPER)
    assert 200_000 < sum(map(len, facts.arguments)) < 256 * 1024


def test_listening_ports_when_asked_for() -> None:
    port = free_port()
    argv = [PYTHON, "-m", "http.server", "--bind", "127.0.0.1", port]
    with started([str(word) for word in argv]) as child:
        wait_until(lambda: answers(port), "the server")
        owner = owner_of(child.pid)
        silent = ProcessReader().read(owner)
        asked = ProcessReader().read(owner, with_ports=True)
    assert silent is not None
    assert asked is not None
    assert silent.listening_ports == frozenset()
    assert asked.listening_ports == {port}


def test_parents_while_they_live() -> None:
    reader = ProcessReader()
    middle = f"import subprocess, sys; subprocess.run(['cat'])  # {SLEEPER}"
    with started([PYTHON, "-c", middle]) as child:
        grandchild = children_of(child.pid)[0]
        owner = owner_of(grandchild)
        parent = reader.read_parent(owner)
        grandparent = reader.read_parent(owner, generation=2)
        assert parent is not None
        assert parent.pid == child.pid
        assert parent.arguments[-1] == middle
        assert grandparent is not None
        assert grandparent.pid == os.getpid()
        assert reader.read_parent(owner, generation=99) is None


def test_fingerprint_changes_with_an_exec_of_the_same_program() -> None:
    code = "import os, sys; sys.stdin.read(1); os.execv(sys.argv[1], sys.argv[1:])"
    reader = ProcessReader()
    # The same words and the same executable, so only the memory layout tells.
    with started([PYTHON, "-c", code, PYTHON, "-c", code, PYTHON]) as child:
        assert child.stdin is not None
        owner = owner_of(child.pid)
        before = reader.fingerprint(owner)
        assert before is not None
        assert reader.fingerprint(owner) == before
        child.stdin.write(b"x")
        child.stdin.flush()
        wait_until(lambda: reader.fingerprint(owner) != before, "an exec", every_s=0.01)


def test_another_pid_namespace_finds_its_own_processes() -> None:
    """An agent in there goes by the pid that a process has in there."""
    inside = in_namespaces(*NEW_PIDS)
    code = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPER!r}])"
    )
    with started([*inside, sys.executable, "-c", code]) as child:
        init = children_of(child.pid)[0]
        target = wait_until(lambda: running_in(init, SLEEPER), "the sleeper")
        owner = owner_of(target)
        enter = ["nsenter", f"--target={init}", "--pid", "--mount", "--root"]
        pids, pid, seen = read_elsewhere(enter, owner)
        assert (pids, pid) == ("own", owner.local_pid)
        assert pid != target
        assert isinstance(seen, list)
        assert seen[:2] == [owner.comm, str(PYTHON.resolve())]
        later = owner_of(target, later_by_ticks=2)
        assert read_elsewhere(enter, later) == ["own", None, None]
        # A process outside: its pid may mean another in there, it is never taken.
        outside = owner_of(os.getpid())._replace(local_pid=0)
        assert read_elsewhere(enter, outside) == ["own", None, None]


def test_the_proc_of_another_pid_namespace() -> None:
    """The root's is as good as our own; any other tells nothing."""
    inside = in_namespaces("--pid", "--fork")  # /proc stays what it was
    with started(["sleep", "60"]) as child:
        owner = owner_of(child.pid)._replace(local_pid=0)
        pids, pid, _ = read_elsewhere(inside, owner)
    assert [pids, pid] == (["root", child.pid] if at_root() else ["unknown", None])


def test_our_time_namespace_shifts_start_times() -> None:
    """In a time namespace /proc shows other start times than the kernel side has."""
    inside = in_namespaces("--time", "--boottime", "100000", "--fork")
    with started(["sleep", "60"]) as child:
        answer = read_elsewhere(inside, owner_of(child.pid))
    assert answer[:2] == ["own", child.pid]


CHURN = f"""
import subprocess, sys, time
sys.path[:0] = ["{SOURCES}/src", "{SOURCES}"]
from deetune_otel.identity.process import ProcessReader
from tests.identity.owners import TICK_NS, owner_of
reader = ProcessReader()
reused = wrong = 0
for _ in range(40):
    first = subprocess.Popen(["sleep", "60"])
    owner = owner_of(first.pid)
    first.kill(), first.wait()
    with open("/proc/sys/kernel/ns_last_pid", "w") as last_pid:
        last_pid.write(str(first.pid - 1))
    start_differs_ns = time.monotonic_ns() + 3 * TICK_NS
    while time.monotonic_ns() < start_differs_ns: pass
    second = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    reused += second.pid == first.pid
    wrong += reader.read(owner) is not None
    second.kill(), second.wait(), second.stdin.close()
print(reused, wrong)
"""


def test_never_another_process_when_its_pid_comes_again() -> None:
    """A pid namespace of our own lets us choose which pid comes next."""
    inside = in_namespaces(*NEW_PIDS)
    if not Path("/proc/sys/kernel/ns_last_pid").exists():
        pytest.skip("this kernel does not let us choose pids")
    done = subprocess.run(
        [*inside, sys.executable, "-c", CHURN], check=True, stdout=subprocess.PIPE
    )
    reused, wrong = map(int, done.stdout.split())
    assert reused > 0
    assert wrong == 0


def test_listening_ports_in_another_network_namespace() -> None:
    """Where the same numbers mean other sockets."""
    code = (
        "import socket, sys\n"
        "one = socket.create_server(('0.0.0.0', 7777))\n"
        "six = socket.create_server(('::', 7778), family=socket.AF_INET6)\n"
        "print('listens', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with started([*in_namespaces("--net"), PYTHON, "-c", code]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"listens\n"
        facts = ProcessReader().read(owner_of(child.pid), with_ports=True)
    assert facts is not None
    assert facts.listening_ports == {7777, 7778}
