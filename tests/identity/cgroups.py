# SPDX-License-Identifier: Apache-2.0
"""Control groups of a test's own, below those of the machine, and gone after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.process import wait_until

__all__ = ["Group", "cgroup"]

MOUNTS = Path("/sys/fs/cgroup")


class Group:
    """A directory in a hierarchy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def number(self, file: str) -> int:
        return int((self.path / file).read_text())


@contextlib.contextmanager
def cgroup(controller: str, name: str) -> Iterator[Group]:
    """A new group in a v1 controller's hierarchy, or in v2's ("unified").

    Skips where this machine does not let us make it. On leaving it waits until the
    group's processes, which the test ended, are gone.
    """
    mount = MOUNTS / controller
    if controller == "unified" and (MOUNTS / "cgroup.controllers").exists():
        mount = MOUNTS
    if not mount.is_dir():
        pytest.skip(f"no {controller} hierarchy")
    made: list[Path] = []
    path = mount
    for part in Path(name).parts:
        path /= part
        try:
            path.mkdir()
            made.append(path)
        except FileExistsError:
            continue
        except OSError as error:
            pytest.skip(f"may not make a group: {error}")
    try:
        yield Group(path)
    finally:
        for folder in reversed(made):
            wait_until(lambda folder=folder: _removed(folder), f"{folder} to be empty")  # type: ignore[misc]


def _removed(folder: Path) -> bool:
    folder.rmdir()  # fails as long as there is somebody in it
    return True
