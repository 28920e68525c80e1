# SPDX-License-Identifier: Apache-2.0
"""What a kernel refuses is named, and costs only itself: programs that no verifier takes, rights
that are not there, and calls that seccomp forbids. `check` and `run` come to the same.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.backends.fetch import get as fetched
from tests.backends.fetch import get_json, is_ok
from tests.kernel.actor import Actor, Ends
from tests.kernel.conftest import compiled
from tests.kernel.messages import OK, get
from tests.kernel.observe import Calls, Watch, http, settings
from tests.process import Child, free_port
from tests.programs import program

from deetune_otel.kernel import Kernel, NothingTaken, Outcome
from deetune_otel.kernel.libbpf import BpfObject, Libbpf
from deetune_otel.kernel.rungs import PARTS, Rung
from deetune_otel.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.kernel

ROOT: Final = Path(__file__).resolve().parents[2]
ARCH: Final = {"x86_64": "x86", "aarch64": "arm64"}[platform.machine()]
ONCE: Final = Calls(1, len(get()), len(OK), 0, 3)
OPTIONAL: Final = [
    name
    for part in PARTS
    if not part.essential and part.rung is None
    for name in part.programs
]
# enum bpf_cmd
MAP_CREATE, PROG_TEST_RUN, RAW_TRACEPOINT_OPEN = 0, 10, 17
# The programs, with one renamed and one in its place that reads what it was never given.
BROKEN: Final = """\
#define {name} dt_whole
#include "deetune.bpf.c"
#undef {name}

SEC("{section}")
int {name}(void *context)
{{
	return *(volatile int *)4096;
}}
"""
INVALID: Final = "invalid mem access"  # the verifier's own words for it


def broken(folder: Path, name: str) -> Path:
    """An object in which no verifier takes this program."""
    source, target = folder / "broken.bpf.c", folder / "broken.bpf.o"
    source.write_text(BROKEN.format(name=name, section=section_of(name)))
    subprocess.run(
        [
            *("clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3"),
            *(f"-D__TARGET_ARCH_{ARCH}", "-I", "bpf", "-I", "bpf/include"),
            *("-idirafter", f"/usr/include/{platform.machine()}-linux-gnu"),
            *("-c", source, "-o", target),
        ],
        cwd=ROOT,
        check=True,
    )
    return target


def section_of(name: str) -> str:
    bpf = Libbpf().open(settings().object_path.read_bytes(), "deetune")
    try:
        return bpf.programs[name].section.lstrip("?")
    finally:
        bpf.close()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The programs of each load, as they are loaded."""
    seen: list[set[str]] = []
    load = BpfObject.load

    def spied(bpf: BpfObject) -> None:
        seen.append({name for name, one in bpf.programs.items() if one.autoload})
        load(bpf)

    monkeypatch.setattr(BpfObject, "load", spied)
    return seen


def test_where_all_is_taken_one_load_is_all(loads: list[set[str]]) -> None:
    kernel = Kernel.open(settings())
    try:
        assert loads == [set(kernel.tried.programs)]
        assert kernel.tried.refused == ()
        assert set(kernel.cost()) == set(kernel.tried.programs)
    finally:
        kernel.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    with Actor() as client, Actor() as server:
        listener, address = server.listen()
        yield Ends(client.connect(address), listener.accept())


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_program_that_is_refused_costs_only_itself(
    name: str, tmp_path: Path, ends: Ends
) -> None:
    kernel = Kernel.open(settings(object_path=broken(tmp_path, name)))
    try:
        (one,) = kernel.tried.refused
        assert one.program == name
        assert one.refusal is not None
        assert str(one.refusal).startswith(f"{name} cannot be loaded: ")
        assert INVALID in one.refusal.reason
        assert one.refusal.reason.endswith(one.refusal.log[-1])
        assert name not in kernel.tried.programs
        assert name not in kernel.cost()
        watch = Watch(kernel)
        ends.call(get(), OK)
        for actor, role in (
            (ends.client.actor, Role.CLIENT),
            (ends.server.actor, Role.SERVER),
        ):
            assert watch.calls(actor.pid) == {http(role): ONCE}
        assert kernel.read_traffic()
        kernel.own_idle()
        if name != "dt_read_open":
            watch.wait_for_balance()
    finally:
        kernel.close()


def test_a_rung_whose_doors_are_refused_is_passed_over(tmp_path: Path) -> None:
    """The next one is taken, or refused with its own reason: some kernels know no fexit."""
    path = broken(tmp_path, "dt_sock_recv")
    outcomes, error = opened(path)
    reasons = {one.rung: (one.program, one.refusal) for one in outcomes}
    first, refusal = reasons.pop(Rung.SOCKET_TRACEPOINTS)
    assert first == "dt_sock_recv"
    assert refusal is not None
    assert INVALID in refusal.reason
    if error is None:
        assert not reasons
        return
    ((second, _),) = reasons.values()
    assert second == "dt_inet_send"
    for one in outcomes:
        assert f"rung {one.rung:d}: {one.refusal}" in str(error)
    assert "uname -r" in error.hint


def opened(path: Path) -> tuple[tuple[Outcome, ...], NothingTaken | None]:
    """What was refused, and the error, if another rung was not taken either."""
    try:
        kernel = Kernel.open(settings(object_path=path))
    except NothingTaken as error:
        return error.outcomes, error
    kernel.close()
    return kernel.tried.passed_over, None


def test_what_every_rung_needs_ends_the_start(tmp_path: Path) -> None:
    path = broken(tmp_path, "dt_tcp_destroy")
    before = own_programs()
    with pytest.raises(NothingTaken) as caught:
        Kernel.open(settings(object_path=path))
    assert caught.value.outcomes[0].program == "dt_tcp_destroy"
    assert own_programs() == before


def own_programs() -> set[str]:
    """The descriptors of BPF programs, maps and links that this process holds."""
    held = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            held.add(f"{one.name} {one.readlink()}")
    return {one for one in held if "bpf" in one}


# The commands, in processes that may not do all


@pytest.fixture(scope="module")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of programs/refuse.c."""
    return compiled(tmp_path_factory.mktemp("refuse"), "refuse.c")


def check(*before: str | Path) -> tuple[int, dict[str, Any]]:
    done = deetune(before, "check", "--json")
    return done.returncode, json.loads(done.stdout)


def deetune(
    before: Sequence[str | Path], *words: str
) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    return subprocess.run(
        [*map(str, before), sys.executable, "-m", "deetune_otel", *words],
        env=environ | {"DEETUNE_WEB_PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def setpriv(*dropped: str) -> list[str]:
    listed = ",".join(f"-{name}" for name in dropped)
    return [str(program("setpriv", "util-linux")), f"--bounding-set={listed}"]


def without_btf() -> list[str]:
    """In a mount namespace that does not have the kernel's."""
    # /sys alone is made private: in a chroot / is no mount, and cannot be
    script = (
        'mount --make-private /sys && mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    )
    return ["unshare", "-m", "--propagation", "unchanged", "sh", "-c", script, "sh"]


def test_what_may_not_be_run_is_done_without(refuse: Path) -> None:
    code, said = check(refuse, str(PROG_TEST_RUN))
    assert (code, said["usable"]) == (0, True)
    refused = {
        one["name"]: one for one in said["kernel"]["programs"] if not one["taken"]
    }
    assert refused.keys() == {"dt_read_open", "dt_read_traffic", "dt_sweep"}
    for name, one in refused.items():
        assert one["refused"]["why"] == (
            f"{name} cannot be run: operation not permitted"
        )
        assert one["lost"] in {part.lost for part in PARTS}
    said_of = [one["what"] for one in said["kernel"]["missing"]]
    assert [one["refused"]["why"] + "." for one in refused.values()] == said_of[:3]


def test_a_running_agent_says_what_it_does_without(
    refuse: Path, tmp_path: Path
) -> None:
    """Once in the log, and on /status; what is not refused goes on."""
    port = free_port()
    settings = (f"web.port={port}", "recording.socket=null", "agent.interval_s=0.2")
    flags = [word for one in settings for word in ("--set", one)]
    agent = [sys.executable, "-m", "deetune_otel", "run", *flags]
    url = f"http://127.0.0.1:{port}"
    with Child(
        [refuse, str(PROG_TEST_RUN), *agent], log=tmp_path / "run.log"
    ) as running:
        running.wait_ready(lambda: is_ok(f"{url}/healthz"), "the agent is well")
        status = get_json(f"{url}/status")
        assert status["rung"]["number"] in set(Rung)
        refused = {one["program"]: one for one in status["refused"]}
        assert refused.keys() == {"dt_read_open", "dt_read_traffic", "dt_sweep"}
        assert f"deetune_agent_rung {status['rung']['number']:d}" in _metrics(url)
        assert get_json(f"{url}/status")["unexpected_errors"] == {}
        running.signal(signal.SIGTERM)
        assert running.wait(10) == 0
        log = running.log_text()
    for name, one in refused.items():
        assert one["lost"] in {part.lost for part in PARTS if name in part.programs}
        assert log.count(f"{one['why']}. {one['lost']}") == 1
    assert log.count("rung: ") == 1


def _metrics(url: str) -> str:
    """Without labels, as there is one agent."""
    return re.sub(r"\{[^}]*\}", "", fetched(f"{url}/metrics")).replace(".0\n", "\n")


def test_what_may_not_be_attached_ends_the_start(refuse: Path) -> None:
    """Where links cannot be made, tp_btf programs can be loaded all the same."""
    code, said = check(refuse, f"{RAW_TRACEPOINT_OPEN},28")
    assert (code, said["usable"], said["kernel"]["rung"]) == (3, False, None)
    first = said["kernel"]["programs"][0]
    assert first["rung"] == 1
    assert "cannot be attached: operation not permitted" in first["refused"]["why"]
    assert first["refused"]["why"] in said["kernel"]["missing"][0]["what"]
    done = deetune((refuse, f"{RAW_TRACEPOINT_OPEN},28"), "run")
    assert done.returncode == 3
    assert first["refused"]["why"] in done.stderr


@pytest.mark.parametrize("dropped", [("bpf", "sys_admin"), ("perfmon", "sys_admin")])
def test_without_the_rights_check_and_run_say_which(dropped: tuple[str, str]) -> None:
    code, said = check(*setpriv(*dropped))
    assert (code, said["usable"]) == (3, False)
    # Maps may be made with CAP_BPF alone: then it is seen which program is refused.
    assert bool(said["kernel"]["programs"]) == (dropped[0] == "perfmon")
    missing = said["kernel"]["missing"][0]
    assert f"no CAP_{dropped[0].upper()}" in missing["what"]
    done = deetune(setpriv(*dropped), "run")
    assert done.returncode == 3
    assert missing["what"] in done.stderr


def test_the_two_rights_are_enough() -> None:
    code, said = check(*setpriv("sys_admin", "sys_ptrace", "sys_resource", "net_admin"))
    assert (code, said["usable"]) == (0, True)
    assert all(one["taken"] for one in said["kernel"]["programs"])
    assert all(not one["fatal"] for one in said["kernel"]["missing"])


def test_where_nothing_can_be_tried_it_says_so(refuse: Path) -> None:
    for before in ([str(refuse), str(MAP_CREATE)], without_btf()):
        done = deetune(before, "check")
        assert done.returncode == 3, done.stderr
        assert "hooks         none: nothing could be tried" in done.stdout
        assert "missing       nothing" not in done.stdout
        assert deetune(before, "run").returncode == 3
    assert "no BTF" in done.stdout
