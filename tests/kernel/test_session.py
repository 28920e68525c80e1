# SPDX-License-Identifier: Apache-2.0
"""The kernel side as the rest of the agent has it: opened, asked, limited, forgotten, gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.actor import Actor, Ends
from tests.kernel.conftest import PROGRAMS
from tests.kernel.held import still_there
from tests.kernel.messages import OK, get
from tests.kernel.observe import Calls, Watch, http, settings
from tests.process import wait_until

from deetune_otel.identity.resolver import Resolver
from deetune_otel.kernel import Kernel, KernelSettings
from deetune_otel.kernel.errors import KernelClosed, KernelUnavailable
from deetune_otel.model import NewOwner, Protocol, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.conftest import Watching

pytestmark = pytest.mark.kernel

RUNS: Final = 60
ROOT: Final = Path(__file__).resolve().parents[2]
ONCE: Final = Calls(1, len(get()), len(OK), 0, 3)


def test_a_new_process_is_told_of_at_once(
    watch: Watch, client: Actor, server: Actor, connect: Callable[..., Ends]
) -> None:
    connect().call(get(), OK)
    records = [one for one in watch.records() if isinstance(one, NewOwner)]
    told = {one.owner.local_pid: one for one in records}
    for actor in (client, server):
        owner, command_line, executable, directory = told[actor.pid]
        command = Path(f"/proc/{actor.pid}/cmdline").read_bytes()
        assert command_line == command[:512]
        assert executable == Path(f"/proc/{actor.pid}/exe").readlink().name
        assert directory == Path(f"/proc/{actor.pid}/cwd").readlink().name
        assert owner.parent_pid == os.getpid()
        assert owner.comm == Path(f"/proc/{actor.pid}/comm").read_text().strip()
        assert owner.netns == Path(f"/proc/{actor.pid}/ns/net").stat().st_ino
        assert watch.kernel.read_owners()[owner.id] == owner
        boot_ticks = int(
            Path(f"/proc/{actor.pid}/stat").read_text().rpartition(")")[2].split()[19]
        )
        ticks_a_second = os.sysconf("SC_CLK_TCK")
        assert owner.process.start_ns * ticks_a_second // 10**9 == boot_ticks


def test_runs_of_one_command_have_one_name_ended_or_not(
    watch: Watch, tmp_path: Path
) -> None:
    program = tmp_path / "reconcile-the-ledger"  # more than a comm holds
    shutil.copy("/usr/bin/bash", program)
    names, services = Resolver((), host_name="h"), Counter[str]()

    def name(run: subprocess.Popen[bytes]) -> None:
        (told,) = (
            record
            for record in watch.records()
            if isinstance(record, NewOwner) and record.owner.local_pid == run.pid
        )
        names.hear(told)
        services[names.service(told.owner).name] += 1

    with Actor() as server:
        listener, address = server.listen()
        code = (
            f"exec 3<>/dev/tcp/{address[0]}/{address[1]}; echo x >&3; echo; read -r _"
        )
        for is_alive in (False, True) * (RUNS // 2):
            with subprocess.Popen(
                [program, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as run:
                listener.accept().close()
                assert run.stdout is not None
                run.stdout.readline()
                if is_alive:
                    name(run)
                run.communicate()
            if not is_alive:
                name(run)
    assert services == {"reconcile-the-ledger": RUNS}


def test_owners_that_are_forgotten(watch: Watch) -> None:
    """Their last values are given once; a number given back is used again."""
    with Actor() as client, Actor() as server:
        listener, address = server.listen()
        ends = Ends(client.connect(address), listener.accept())
        ends.call(get(), OK)
        (gone,) = watch.owners({client.pid})
        kept = watch.calls(server.pid)
        client.kill()
        last = watch.kernel.forget_owner(gone)
        assert [value.count for value in last.values()] == [1]
        assert watch.kernel.forget_owner(gone) == {}
        assert watch.calls(client.pid) == {}
        assert watch.edges(client.pid) == []
        assert gone not in watch.kernel.read_owners()
        assert watch.calls(server.pid) == kept == {http(Role.SERVER): ONCE}


def test_detached_it_counts_no_more(watching: Watching) -> None:
    with watching() as watch, Actor() as client, Actor() as server:
        listener, address = server.listen()
        ends = Ends(client.connect(address), listener.accept())
        ends.call(get(), OK)
        watch.kernel.detach()
        ends.call(get(), OK)
        watch.expect_both(client.pid, server.pid, {(Protocol.HTTP, 200): ONCE})


def test_what_the_programs_cost(watch: Watch, connect: Callable[..., Ends]) -> None:
    """Each program with its runs, while it is measured."""
    ends = connect()
    ends.call(get(), OK)
    before = watch.kernel.cost()
    with watch.kernel.measuring_cost():
        for _ in range(10):
            ends.call(get(), OK)
    after = watch.kernel.cost()
    for name in ("dt_sock_send", "dt_sock_recv"):
        assert after[name].runs - before[name].runs >= 20
        assert after[name].run_time_ns > before[name].run_time_ns


class Holder:
    """A process that holds a kernel side; its first line says what is loaded."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAMS / "holder.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        )

    def says(self) -> dict[str, set[int]]:
        assert self.process.stdout is not None
        said: dict[str, list[int]] = json.loads(self.process.stdout.readline())
        return {name: set(ids) for name, ids in said.items()}

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def holder(watch: Watch) -> Iterator[Holder]:
    del watch  # needs the kernel
    one = Holder()
    yield one
    one.process.kill()
    one.process.communicate()


def test_nothing_stays_after_the_close(holder: Holder) -> None:
    """While the process lives on."""
    ids = holder.says()
    assert len(ids["link"]) >= 4
    assert ids["prog"]
    assert ids["map"]
    assert still_there(ids) == ids
    holder.go_on()
    assert holder.says() == {"prog": set(), "map": set(), "link": set()}
    wait_until(lambda: not still_there(ids), "the kernel let all go", timeout_s=10)
    assert holder.process.poll() is None


def test_nothing_stays_after_kill_9(holder: Holder) -> None:
    ids = holder.says()
    assert ids["link"]
    holder.process.send_signal(signal.SIGKILL)
    holder.process.wait()
    wait_until(lambda: not still_there(ids), "the kernel let all go", timeout_s=10)


def test_a_closed_one_says_so(watching: Watching) -> None:
    with watching() as watch:
        kernel = watch.kernel
        watch.wait_for_balance()
        opened = Kernel.open(settings())
    opened.close()
    opened.close()
    for asked in (opened, kernel):
        with pytest.raises(KernelClosed):
            asked.read_series()
        with pytest.raises(KernelClosed):
            asked.poll(0)


@pytest.mark.parametrize("content", [None, b"", b"no object", b"\x7fELF" + bytes(100)])
def test_programs_that_cannot_be_read(
    watch: Watch, tmp_path: Path, content: bytes | None
) -> None:
    """An error with a hint, and nothing loaded."""
    del watch
    path = tmp_path / "deetune.bpf.o"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KernelUnavailable) as caught:
        Kernel.open(KernelSettings(object_path=path))
    assert str(path) in str(caught.value)


def test_limits_that_make_no_sense(watch: Watch) -> None:
    for owner, per_second, fraction in ((1, -1, 1.0), (1, 1, 1.5), (1 << 30, 1, 1.0)):
        with pytest.raises(ValueError, match="no "):
            watch.kernel.set_span_limit(
                owner, per_second=per_second, keep_fraction=fraction
            )
