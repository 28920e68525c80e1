# SPDX-License-Identifier: Apache-2.0
"""Real cgroups by their numbers, as long as they are there."""

from __future__ import annotations

from pathlib import Path

from tests.identity.cgroups import MOUNTS, cgroup

from deetune_otel.identity.cgroup_tree import CgroupTree


def test_a_cgroup_is_found_by_its_number() -> None:
    tree = CgroupTree()
    with cgroup("unified", "deetune-tree/inner") as group:
        number = group.path.stat().st_ino
        assert tree.text(number) == "0::/deetune-tree/inner\n"
    assert not tree.text(number)


def test_the_root_and_what_there_never_was() -> None:
    mount = MOUNTS if (MOUNTS / "cgroup.controllers").exists() else MOUNTS / "unified"
    tree = CgroupTree()
    assert tree.text(mount.stat().st_ino) == "0::/\n"
    assert not tree.text(0)
    assert not tree.text(2**60)


def test_a_machine_without_the_hierarchy(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text("1 1 0:1 / / rw - ext4 none rw\n")
    assert not CgroupTree(file).text(1)
    assert not CgroupTree(tmp_path / "none").text(1)
