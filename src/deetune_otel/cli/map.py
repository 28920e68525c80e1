# SPDX-License-Identifier: Apache-2.0
"""`deetune map`: gets a map (from one agent, several, files), and writes it down in one form."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from rich.text import Text

from deetune_otel.cli import output
from deetune_otel.cli.errors import CommandError, ExitCode, UsageError
from deetune_otel.cli.times import time_s
from deetune_otel.cli.watching import (
    add_url_argument,
    agent_errors_explained,
    watching,
)
from deetune_otel.topology import changes, dot, mermaid, text
from deetune_otel.topology.carry import MapFormatError, from_json, to_json
from deetune_otel.topology.merge import MergeError, merge
from deetune_otel.topology.model import Node, ServiceMap
from deetune_otel.topology.writing import name_of
from deetune_otel.web.client import AgentClient

__all__ = ["Map"]

WINDOW_S: Final = 60.0
WATCH_S: Final = 5.0
FORMATS: Final = ("text", "json", "dot", "mermaid")
# Agents asked at once: their maps are to be of one moment.
MAX_ASKED: Final = 32
MAX_FILE_BYTES: Final = 256 * 1024 * 1024


class Map:
    """Show who calls whom, how often, how fast, and what fails.

    Asks the agent that runs on this host; where none does, watches for a few seconds by itself,
    which needs root. --from merges the maps of several agents: what two of them saw of the same
    connections, one at each end, becomes one edge, through NAT too.

    With --diff the exit code is diff's: 0 nothing changed, 1 something did, 2 there was trouble.
    What changed is said only where chance does not explain it: docs/map.md has the rules.
    """

    EXAMPLES = """\
  deetune map                                who calls whom, in the last minute
  deetune map --window 10m --service shop    what a service calls, and who calls it
  deetune map --format json -o before.json   keep it, then after a release:
  deetune map --diff before.json             what is new, gone, slower, failing?
  deetune map --from http://10.0.0.1:8127 --from http://10.0.0.2:8127
                                             several hosts in one map
  deetune map --format dot | dot -Tsvg >map.svg
                                             drawn by Graphviz"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_url_argument(parser)
        parser.add_argument(
            "--from",
            dest="sources",
            metavar="URL|FILE",
            nargs="+",
            action="extend",
            default=[],
            help="merge the maps of these agents; a file is a map that was kept as JSON",
        )
        parser.add_argument(
            "--window",
            metavar="TIME",
            type=time_s,
            default=WINDOW_S,
            help=f"of how long, up to now: 90s, 10m, 1h (default: {WINDOW_S:g}s)",
        )
        parser.add_argument(
            "--for",
            dest="watch_s",
            metavar="TIME",
            type=time_s,
            default=WATCH_S,
            help="where no agent runs, watch for this long "
            f"(default: {WATCH_S:g}s; longer finds more)",
        )
        parser.add_argument(
            "--format", choices=FORMATS, default="text", help="default: text"
        )
        parser.add_argument(
            "--diff",
            metavar="EARLIER.json",
            type=Path,
            help="say what changed since this map, as text or json",
        )
        parser.add_argument(
            "--service",
            dest="services",
            metavar="NAME",
            nargs="+",
            action="extend",
            default=[],
            help="only these, what they call and who calls them; `shop-*` is a pattern",
        )
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            type=Path,
            help="write into this file (default: standard output)",
        )

    def run(self, args: argparse.Namespace) -> int:
        try:
            return _run(args)
        except CommandError as error:
            if args.diff is None or error.code is not ExitCode.FAILED:
                raise
            # 1 is "something changed"
            raise CommandError(
                error.message, hint=error.hint, code=ExitCode.USAGE
            ) from error


def _run(args: argparse.Namespace) -> int:
    if args.diff and args.format not in ("text", "json"):
        raise UsageError(f"--diff has no form {args.format}", hint="text or json")
    if args.sources and args.url:
        raise UsageError("either --url or --from", hint="--from takes several")
    # Before anybody is asked: it may not be there.
    earlier = _read(args.diff) if args.diff else None
    now = _selected(_collected(args), args.services)
    if earlier is None:
        _put(_written(now, args.format), args.output)
        return ExitCode.OK
    earlier = _selected(earlier, args.services, must_match=False)
    found = changes.diff(earlier, now)
    _put(_compared(earlier, now, found, args.format), args.output)
    return int(bool(found))


# Where maps come from


def _collected(args: argparse.Namespace) -> ServiceMap:
    if args.sources:
        return _merged(args.sources, args.window)
    with watching(args.url, say=_say) as watched:
        if watched.is_own:
            _say(f"watching for {args.watch_s:g} s …")
            time.sleep(args.watch_s)
        # what another merge needs, in what may be kept
        return watched.source.service_map(
            window_s=args.window, with_pairs=args.format == "json"
        )


def _merged(sources: Sequence[str], window_s: float) -> ServiceMap:
    def one(source: str) -> ServiceMap:
        if "://" not in source:
            return _read(Path(source))
        return AgentClient(source).service_map(window_s=window_s, with_pairs=True)

    with agent_errors_explained(), ThreadPoolExecutor(MAX_ASKED) as pool:
        maps = list(pool.map(one, sources))
    try:
        return merge(maps)
    except MergeError as error:
        raise CommandError(
            str(error), hint="merge what the agents themselves gave, in one go"
        ) from error


def _read(path: Path) -> ServiceMap:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(
            f"cannot read the map {path}: {reason}",
            hint="an agent's URL begins with http://"
            if "://" not in str(path) and ":" in str(path)
            else "`deetune map --format json -o FILE` keeps one",
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"{path}: over {MAX_FILE_BYTES} bytes is no map")
    try:
        return from_json(ServiceMap, json.loads(content))
    except MapFormatError as error:
        raise CommandError(
            f"{path}: {error}", hint="`deetune map --format json` writes what is read"
        ) from None
    except (ValueError, RecursionError):
        raise CommandError(
            f"{path} is not JSON",
            hint="`deetune map --format json` writes what is read",
        ) from None


# What is kept of one


def _selected(
    one: ServiceMap, patterns: Sequence[str], *, must_match: bool = True
) -> ServiceMap:
    """What matches, with its neighbours."""
    if not patterns:
        return one
    for pattern in patterns if must_match else ():
        if not any(_matches(node, [pattern]) for node in one.nodes):
            known = sorted({name_of(node) for node in one.nodes if node.instances})
            raise CommandError(
                f"no service {pattern!r} was seen",
                hint=f"seen: {', '.join(known)}" if known else "none was seen at all",
            )
    chosen = {node.id for node in one.nodes if _matches(node, patterns)}
    edges = [edge for edge in one.edges if {edge.client, edge.server} & chosen]
    shown = chosen | {end for edge in edges for end in (edge.client, edge.server)}
    return replace(
        one,
        nodes=tuple(node for node in one.nodes if node.id in shown),
        edges=tuple(edges),
    )


def _matches(node: Node, patterns: Iterable[str]) -> bool:
    names = (node.name, name_of(node), node.id)
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


# Writing


def _written(one: ServiceMap, form: str) -> Iterator[str | Text]:
    match form:
        case "json":
            # compact: a map has thousands of numbers
            yield json.dumps(to_json(one), separators=(",", ":"))
        case "dot":
            yield from dot.lines(one)
        case "mermaid":
            yield from mermaid.lines(one)
        case _:
            yield from text.lines(one)


def _compared(
    earlier: ServiceMap, now: ServiceMap, found: list[changes.Change], form: str
) -> Iterator[str]:
    if form == "json":
        yield json.dumps(changes.changes_to_json(earlier, now, found), indent=2)
        return
    # the reader's clock
    then = datetime.fromtimestamp(earlier.time_unix_ns / 1e9).astimezone()
    what = (
        f"{len(found)} change{'' if len(found) == 1 else 's'}" if found else "nothing"
    )
    yield f"{what}{'' if found else ' changed'} since {then:%Y-%m-%d %H:%M:%S %Z}"
    hosts = [", ".join(one.host for one in side.agents) for side in (earlier, now)]
    if hosts[0] != hosts[1]:
        yield f"compared are different agents: {hosts[0]}, then {hosts[1]}"
    yield from changes.lines(found)


def _put(lines: Iterable[str | Text], file: Path | None) -> None:
    if file is None:
        screen = output.console(soft_wrap=True)
        for line in lines:
            if isinstance(line, Text):
                screen.print(line)
            else:
                print(line)
        return
    with output.replacing(file, mode=0o644) as path:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _say(line: str) -> None:
    print(f"deetune: {line}", file=sys.stderr)
