# SPDX-License-Identifier: Apache-2.0
"""What users install: built from the source distribution alone, run where nothing else is.

The tree is not built in: its BPF object stays as it is. The environment of the wheel has what
the wheel asks for and no more, and its programs find neither a compiler nor any other tool.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.backends.fetch import get_json, is_ok
from tests.process import Child, free_port

# Building compiles the BPF programs, and running loads them.
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src"
OBJECT: Final = "deetune_otel/kernel/bpf/deetune.bpf.o"
METADATA: Final = "deetune_otel-0.1.0.dist-info"


class Built(NamedTuple):
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    sdist = _build("sdist", ROOT, folder)
    (folder / "unpacked").mkdir()
    _run(["tar", "-xf", sdist, "-C", folder / "unpacked"])
    (unpacked,) = (folder / "unpacked").iterdir()
    return Built(sdist, _build("wheel", unpacked, folder))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment's programs."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    pip = folder / "bin" / "pip"
    _run([pip, "--disable-pip-version-check", "install", "-q", built.wheel])
    return folder / "bin"


def test_the_sdist_holds_the_sources_and_no_binary(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for path in (ROOT / "bpf").rglob("*.[ch]"):
        assert str(path.relative_to(ROOT)) in held
    assert {"hatch_build.py", "script/build-bpf", "LICENSE", "bpf/LICENSE"} <= held
    assert not [name for name in held if name.endswith(".o")]


def test_the_wheel_holds_every_file_of_the_package(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        held = {name for name in archive.namelist() if METADATA not in name}
    expected = {
        str(path.relative_to(SOURCE))
        for path in (SOURCE / "deetune_otel").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected | {OBJECT}


def test_the_wheel_is_for_any_python_on_this_machine(built: Built) -> None:
    assert built.wheel.name.endswith(f"-py3-none-linux_{os.uname().machine}.whl")
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    assert {
        f"{METADATA}/licenses/LICENSE",
        f"{METADATA}/licenses/bpf/LICENSE",
    } <= names


def test_an_installed_agent_checks_this_machine(installed: Path) -> None:
    said = _run([installed / "deetune", "check", "--json"], env=_bare(installed))
    assert json.loads(said)


def test_an_installed_agent_observes(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "deetune.yaml"
    file.write_text(f"agent: {{interval_s: 0.5}}\nweb: {{port: {port}}}\n")
    url = f"http://127.0.0.1:{port}"
    agent = Child(
        [
            *("/usr/bin/env", "-i", f"PATH={installed}"),
            *(installed / "deetune", "run", "--config", file),
        ],
        log=tmp_path / "agent.log",
    )
    with agent:
        agent.wait_ready(lambda: is_ok(f"{url}/status"), "the agent runs")
        assert get_json(f"{url}/status")["rung"]["number"] >= 1
        assert agent.stop() == 0, agent.log_text()


def _build(target: str, source: Path, folder: Path) -> Path:
    """hatchling alone, as any frontend calls it: nothing is fetched."""
    before = set(folder.iterdir())
    _run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder],
        cwd=source,
    )
    (made,) = set(folder.iterdir()) - before
    return made


def _bare(installed: Path) -> dict[str, str]:
    return {"PATH": str(installed)}


def _run(
    argv: list[str | Path],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    done = subprocess.run(
        argv, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
    return done.stdout
