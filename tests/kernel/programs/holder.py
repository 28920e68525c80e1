# SPDX-License-Identifier: Apache-2.0
"""Holds a kernel side: prints what it has loaded, and closes it when it is told to."""

from __future__ import annotations

import json
import sys

from tests.kernel.held import held
from tests.kernel.observe import settings

from deetune_otel.kernel import Kernel


def say() -> None:
    ids = {kind: sorted(numbers) for kind, numbers in held().items()}
    sys.stdout.write(json.dumps(ids) + "\n")
    sys.stdout.flush()


def main() -> None:
    kernel = Kernel.open(settings())
    say()
    sys.stdin.readline()
    kernel.close()
    say()
    sys.stdin.readline()


if __name__ == "__main__":
    main()
