# SPDX-License-Identifier: Apache-2.0
"""script/lab: how right the service map is, against what the programs counted themselves.

Everything happens in network namespaces of its own and is gone at the end; `down` removes what a
lab that was killed may have left.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Final

from deetune_otel.kernel import probe
from lab.net import LabError, remove_stale
from lab.report import Row, markdown, text, to_json
from lab.scenarios import SCENARIOS, title
from lab.scoring import score_edges
from lab.stage import Lab

_CANNOT_OBSERVE: Final = 3  # as deetune's own exit code
_IMPERFECT: Final = 4
_PAGE: Final = Path(__file__).parents[1] / "docs" / "accuracy.md"
_BEGIN: Final = "<!-- script/lab --write writes from here -->\n"
_END: Final = "<!-- to here -->\n"


def main() -> int:
    """0: every edge and every count was right; 4: not all; 1, 3: nothing could be said."""
    arguments = _parse()
    for name in remove_stale():
        print(f"lab: removed {name}, left by a lab that was killed", file=sys.stderr)
    if arguments.command == "down":
        return 0
    refusal = _refusal()
    if refusal:
        print(f"lab: error: {refusal}", file=sys.stderr)
        return _CANNOT_OBSERVE
    try:
        rows = [_play(name, arguments.map) for name in arguments.only]
    except (AssertionError, LabError) as error:  # the first: a program did not start
        print(f"lab: error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(to_json(rows), indent=2, ensure_ascii=False))
    else:
        print(text(rows))
    if arguments.write:
        _write(markdown(rows, kernel=platform.release()))
    return 0 if all(row.score.is_perfect for row in rows) else _IMPERFECT


def _play(name: str, folder: Path | None) -> Row:
    began_s = time.monotonic()
    scenario = SCENARIOS[name]
    print(f"lab: {name}: {title(scenario)}", file=sys.stderr)
    with Lab() as lab:
        scenario(lab)
        found = lab.scored()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.json").write_text(json.dumps(lab.map(), indent=2))
        row = Row(
            name=name,
            title=title(scenario),
            agents=len(lab.agents),
            score=found,
            addresses=score_edges(lab.truth().keys(), lab.by_address()),
            seconds=time.monotonic() - began_s,
        )
    for wrong in found.wrong:
        print(f"    {wrong}", file=sys.stderr)
    return row


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/lab",
        description="How right the service map is: about two minutes, in namespaces of its own.",
        epilog="scenarios: "
        + "; ".join(f"{name}: {title(one)}" for name, one in SCENARIOS.items()),
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("up", "down"),
        default="up",
        help="down: remove what a killed lab left, and do nothing else",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--write", action="store_true", help="write the table into docs/accuracy.md"
    )
    parser.add_argument(
        "--map", type=Path, metavar="FOLDER", help="keep every scenario's map there"
    )
    parser.add_argument(
        "--only",
        metavar="NAME[,NAME]",
        type=_names,
        default=list(SCENARIOS),
        help="these scenarios",
    )
    return parser.parse_args()


def _names(value: str) -> list[str]:
    wanted = value.split(",")
    unknown = set(wanted) - SCENARIOS.keys()
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}"
        )
    return wanted


def _refusal() -> str:
    """Why nothing can be observed here; "" if it can."""
    missing = [one for one in probe().missing if one.fatal]
    return "\n".join(f"{one.what} {one.costs}\nhint: {one.remedy}" for one in missing)


def _write(table: str) -> None:
    page = _PAGE.read_text()
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"lab: error: {_PAGE} has no place for the table")
    _PAGE.write_text(f"{before}{begin}\n{table}\n\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
