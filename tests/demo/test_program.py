# SPDX-License-Identifier: Apache-2.0
"""Starting, waiting for and ending one program, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.process import wait_until

from deetune_otel.demo import program as program_module
from deetune_otel.demo.program import (
    NotInstalledError,
    Program,
    ProgramError,
    find,
    run,
    running,
    stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def python(
    folder: Path, code: str, *, ready: Callable[[], bool] = lambda: True
) -> Program:
    return Program(
        name="snake",
        command=[sys.executable, "-u", "-c", code],
        folder=folder / "snake",
        ready=ready,
    )


def test_a_program_runs_in_its_folder_until_the_block_is_left(tmp_path: Path) -> None:
    here = tmp_path / "snake" / "here"
    code = "import pathlib, time; pathlib.Path('here').touch(); time.sleep(60)"
    with running(python(tmp_path, code, ready=here.exists)) as process:
        assert process.poll() is None
    assert process.returncode == -signal.SIGTERM


def test_one_that_ends_too_early_is_an_error_with_its_last_words(
    tmp_path: Path,
) -> None:
    code = "import sys; sys.exit('the port is taken')"
    with (
        pytest.raises(ProgramError, match=r"snake ended with .* 1;.*\n.*port is taken"),
        running(python(tmp_path, code, ready=lambda: False)),
    ):
        pass


def test_one_that_never_answers_is_an_error_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_module, "READY_S", 0.3)
    code = "import time; print('thinking'); time.sleep(60)"
    with (
        pytest.raises(ProgramError, match=r"not ready within 0.3 s"),
        running(python(tmp_path, code, ready=lambda: False)),
    ):
        pass
    assert not [p for p in psutil.process_iter() if at(p, tmp_path)]


def test_a_probe_that_is_refused_means_not_yet(tmp_path: Path) -> None:
    answers = iter([ConnectionRefusedError(), None])

    def ready() -> bool:
        if (error := next(answers)) is not None:
            raise error
        return True

    with running(python(tmp_path, "import time; time.sleep(60)", ready=ready)):
        assert next(answers, "asked twice") == "asked twice"


def test_one_that_will_not_end_is_ended_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_module, "STOP_S", 0.3)
    code = (
        "import signal, subprocess, pathlib;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen(['sleep', '60']);"
        "pathlib.Path('child').write_text(str(child.pid)); child.wait()"
    )
    child = tmp_path / "snake" / "child"
    stubborn = python(
        tmp_path, code, ready=lambda: child.exists() and bool(child.read_text())
    )
    with running(stubborn) as process:
        stop(stubborn, process)
        assert process.returncode == -signal.SIGKILL
    wait_until(
        lambda: not [p for p in psutil.process_iter() if at(p, tmp_path)],
        "no process of its group is left",
    )


def test_run_waits_for_the_end(tmp_path: Path) -> None:
    run(python(tmp_path, "import pathlib; pathlib.Path('done').touch()"))
    assert (tmp_path / "snake" / "done").exists()


def test_run_refuses_a_bad_end(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"exit code 3.*\n.*\(nothing\)"):
        run(python(tmp_path, "raise SystemExit(3)"))


def test_what_is_not_installed_says_how_to_install_it() -> None:
    with pytest.raises(NotInstalledError, match="apt-get install nginx-light"):
        find("no-such-server", package="nginx-light")


def test_a_program_sees_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    code = "import os, pathlib; pathlib.Path('names').write_text(' '.join(os.environ))"
    run(python(tmp_path, code))
    assert "OTEL_SERVICE_NAME" not in (tmp_path / "snake" / "names").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
def test_an_unprivileged_program_is_not_root_and_may_write_to_its_folder(
    tmp_path: Path,
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o711)
    who = Program(
        name="who",
        command=["/bin/sh", "-c", "id -u > user; id -G > groups"],
        folder=tmp_path / "who",
        unprivileged=True,
    )
    run(who)
    assert (who.folder / "user").read_text().strip() not in ("", "0")
    assert "0" not in (who.folder / "groups").read_text().split()


def test_it_ends_when_we_are_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, time\n"
        "from deetune_otel.demo.program import Program, running\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "command = ['sleep', '60']\n"
        "sleeper = Program(name='sleep', command=command, folder=folder / 'sleep')\n"
        "with running(sleeper) as process:\n"
        "    (folder / 'pid').write_text(str(process.pid))\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    note = tmp_path / "pid"
    wait_until(lambda: note.exists() and note.read_text(), "the program runs")
    sleeper = psutil.Process(int(note.read_text()))
    parent.kill()
    parent.wait()
    wait_until(lambda: ended(sleeper), "the program ended with its parent")


def at(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd().startswith(str(folder))
    except (psutil.Error, OSError):
        return False


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
