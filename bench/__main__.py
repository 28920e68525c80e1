# SPDX-License-Identifier: Apache-2.0
"""script/bench: what deetune costs on this machine, as ratios measured side by side.

It loads nothing but loopback, ends by itself, and needs what the agent needs: root and a kernel
that can be observed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import phases
from bench.plan import FULL, INTERVAL_S, PARTS, QUICK
from bench.results import Results, markdown, text, to_json
from bench.workloads import BenchError, build
from deetune_otel.kernel import KernelUnavailable, probe

_CANNOT_OBSERVE: Final = 3  # as deetune's own exit code
_PAGE: Final = Path(__file__).parents[1] / "docs" / "overhead.md"
_BEGIN: Final = "<!-- script/bench --update writes from here -->\n"
_END: Final = "<!-- to here -->\n"


def main() -> int:
    arguments = _parse()
    refusal = _refusal()
    if refusal:
        print(f"bench: error: {refusal}", file=sys.stderr)
        return _CANNOT_OBSERVE
    results = Results(
        machine=_machine(),
        settings={"interval_s": INTERVAL_S, "quick": arguments.quick},
    )
    began_s = time.monotonic()
    try:
        build()
        with tempfile.TemporaryDirectory(prefix="deetune-bench-") as folder:
            phases.run(
                results,
                QUICK if arguments.quick else FULL,
                arguments.only,
                Path(folder),
                lambda what: print(f"bench: {what}", file=sys.stderr),
            )
    except (AssertionError, BenchError) as error:  # the first: a server did not start
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    except KernelUnavailable as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return _CANNOT_OBSERVE
    results.seconds = time.monotonic() - began_s
    if arguments.json:
        print(json.dumps(to_json(results), indent=2, ensure_ascii=False))
    elif arguments.markdown:
        print(markdown(results))
    else:
        print(text(results))
    if arguments.update:
        _update(markdown(results))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="What deetune costs on this machine: under 3 minutes, loopback alone.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="about 30 s; rougher numbers"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument(
        "--update", action="store_true", help="write the table into docs/overhead.md"
    )
    parser.add_argument(
        "--only",
        metavar="PART[,PART]",
        type=_parts,
        default=frozenset(PARTS),
        help="; ".join(f"{name}: {what}" for name, what in PARTS.items()),
    )
    return parser.parse_args()


def _parts(value: str) -> frozenset[str]:
    wanted = frozenset(value.split(","))
    unknown = wanted - PARTS.keys()
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}"
        )
    return wanted


def _refusal() -> str:
    """Why nothing can be measured here; "" if it can."""
    missing = [one for one in probe().missing if one.fatal]
    return "\n".join(f"{one.what} {one.costs}\nhint: {one.remedy}" for one in missing)


def _machine() -> dict[str, str | int | float]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _update(table: str) -> None:
    page = _PAGE.read_text()
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"bench: error: {_PAGE} has no place for the table")
    _PAGE.write_text(f"{before}{begin}\n{table}\n\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
