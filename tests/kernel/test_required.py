# SPDX-License-Identifier: Apache-2.0
"""Where the kernel is required, a test that could not load anything is no success."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.programs import program

pytestmark = pytest.mark.kernel

ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("required", "outcome"), [("0", "skipped"), ("1", "error")])
def test_without_the_rights(required: str, outcome: str) -> None:
    said = _run_without_rights("tests/kernel/test_load.py", required=required)
    summary = said.splitlines()[-1]
    assert f" {outcome} in " in summary
    assert " passed" not in summary
    assert ("skipped where the kernel is required" in said) == (required == "1")


def _run_without_rights(path: str, *, required: str) -> str:
    """The end of what pytest says, as a root that may do nothing special."""
    done = subprocess.run(
        [
            *(program("setpriv", "util-linux"), "--bounding-set=-all"),
            *("--inh-caps=-all", "--no-new-privs", sys.executable, "-m", "pytest"),
            *("-x", "-m", "kernel", "-p", "no:cacheprovider", path),
        ],
        cwd=ROOT,
        env={**os.environ, "DEETUNE_REQUIRE_KERNEL": required},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == (1 if required == "1" else 0), done.stdout + done.stderr
    return done.stdout
