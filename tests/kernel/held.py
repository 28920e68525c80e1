# SPDX-License-Identifier: Apache-2.0
"""What a process holds of the kernel's BPF programs, maps and links, and what the kernel still has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.programs import program

__all__ = ["held", "still_there"]

Ids = dict[str, set[int]]  # by kind, as bpftool calls it


def held() -> Ids:
    """By this process's descriptors."""
    ids: Ids = {"prog": set(), "map": set(), "link": set()}
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = path.read_text().splitlines()
        except OSError:  # the listing's own descriptor
            continue
        for line in lines:
            kind, _, number = line.partition("_id:")
            if kind in ids:
                ids[kind].add(int(number))
    return ids


def still_there(ids: Ids) -> Ids:
    """What of these the kernel still has."""
    found = {}
    for kind, numbers in ids.items():
        said: Any = json.loads(
            subprocess.run(
                [program("bpftool", "bpftool"), "-j", kind, "show"],
                check=True,
                capture_output=True,
            ).stdout
        )
        found[kind] = numbers & {one["id"] for one in said}
    return {kind: some for kind, some in found.items() if some}
