# SPDX-License-Identifier: Apache-2.0
"""Holds a kernel side: prints what it has loaded, and closes it when it is told to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.kernel.observe import settings

from deetune_otel.kernel import Kernel


def loaded() -> dict[str, list[int]]:
    """Ids of what this process's descriptors hold, by kind."""
    ids: dict[str, set[int]] = {"prog_id": set(), "map_id": set(), "link_id": set()}
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = path.read_text().splitlines()
        except OSError:  # the listing's own descriptor
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in ids:
                ids[name].add(int(value))
    return {name: sorted(numbers) for name, numbers in ids.items()}


def main() -> None:
    kernel = Kernel.open(settings())
    sys.stdout.write(json.dumps(loaded()) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()
    kernel.close()
    sys.stdout.write(json.dumps(loaded()) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    main()
