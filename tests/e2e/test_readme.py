# SPDX-License-Identifier: Apache-2.0
"""The README's lines about recording and replaying, as they are printed there, beside the demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.etree import ElementTree as ET

import pytest
from tests.process import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

README: Final = Path(__file__).resolve().parents[2] / "README.md"
# What the shop's next build does otherwise (demo/services/shop_next.py), and nothing else.
DIFFERENT: Final = ("$.price", "status", "downstream EXISTS")


class Demo(NamedTuple):
    said: str
    folder: Path  # where the commands are run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("readme")
    with Child(
        [sys.executable, "-m", "deetune_otel", "demo", "--no-table"],
        log=folder / "demo.log",
    ) as child:
        child.wait_ready(
            lambda: "customers -> nginx (http)" in child.log_text(),
            "the demo shows its map",
            timeout_s=60,
        )
        yield Demo(child.log_text(), folder)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    section = README.read_text().split("## Record, replay, compare\n", 1)[1]
    (block,) = re.findall(r"```sh\n(.*?)```", section.split("\n## ", 1)[0], re.DOTALL)
    return [re.sub(r"\s+# .*", "", line) for line in block.splitlines()]


def entered(line: str, demo: Demo) -> subprocess.CompletedProcess[str]:
    """In a shell, where the commands of this environment are found first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=demo.folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demo_prints_what_the_readme_says(demo: Demo, lines: list[str]) -> None:
    assert " 127.0.0.1:8081 " in demo.said, "is something else listening on 8081?"
    printed = re.findall(
        r"^  \S*deetune (re(?:cord|play) .*)$", demo.said, re.MULTILINE
    )
    said = [line.removeprefix("deetune ") for line in lines]
    assert len(printed) == 2
    assert all(any(one.startswith(line) for one in said) for line in printed)


def test_what_is_entered_finds_what_the_next_build_does_otherwise(
    demo: Demo, lines: list[str]
) -> None:
    record, show, replay, pytest_ = lines

    done = entered(record, demo)
    assert done.returncode == 0, done.stdout + done.stderr
    done = entered(show, demo)
    assert done.returncode == 0, done.stderr
    assert "GET /products/{id}" in done.stdout

    done = entered(replay, demo)
    assert done.returncode == 1, done.stdout + done.stderr
    found = re.findall(
        r"^  ([A-Z]+ /\S*): (\S+(?: EXISTS)?) ", done.stdout, re.MULTILINE
    )
    assert set(found) == {("GET /products/{id}", place) for place in DIFFERENT}
    assert (demo.folder / "report.html").stat().st_size
    suite = ET.parse(demo.folder / "report.xml").getroot()
    assert int(suite.get("failures", "0")) > 0

    done = entered(pytest_, demo)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"\d+ failed, \d+ passed", done.stdout), done.stdout
    found = re.findall(
        r"^  ([A-Z]+ /\S*): (\S+(?: EXISTS)?) ", done.stdout, re.MULTILINE
    )
    assert set(found) == {("GET /products/{id}", place) for place in DIFFERENT}
    assert re.search(r"the calls of [\d,]+ exchanges: compared", done.stdout)
