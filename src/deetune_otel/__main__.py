# SPDX-License-Identifier: Apache-2.0
"""`python -m deetune_otel` is `deetune`."""

from __future__ import annotations

import sys

from deetune_otel.cli import main

if __name__ == "__main__":
    sys.exit(main())
