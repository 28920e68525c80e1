# SPDX-License-Identifier: Apache-2.0
"""`deetune record`: an agent of its own, a recorder, a live line, and the account at the end."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from deetune_otel.agent.agent import Agent
from deetune_otel.agent.control import ControlClient, ControlError
from deetune_otel.cli import output
from deetune_otel.cli import settings as options
from deetune_otel.cli.errors import CommandError, ExitCode, UsageError
from deetune_otel.cli.interrupts import Interrupts
from deetune_otel.cli.selecting import add_selection, byte_count, selection_of
from deetune_otel.cli.taking import STEP_S, Talk, Terminal, redactor_of, take
from deetune_otel.cli.times import time_s
from deetune_otel.config.schema import RecordingSettings
from deetune_otel.identity.cgroup_tree import CgroupTree
from deetune_otel.recorder.owners import OwnerChoice
from deetune_otel.recorder.recorder import Bounds, Plan
from deetune_otel.recording.selection import SampleBy, Sampling, Selection

__all__ = ["Record", "plan_of"]

FOR_S: Final = 60.0
_DEFAULTS: Final = Bounds()


class Record:
    """Record real traffic of chosen services into a file that Wireshark opens and replay sends.

    Secrets are replaced before anything is written; docs/redaction.md has the rules. Every bound
    holds at once, and each has a default. The file is whole after any kill. At the end stands an
    account: what was captured, left out, cut and lost, and why.

    Needs root, as `deetune run` does. The recorded services notice nothing.
    """

    EXAMPLES = """\
  deetune record --service shop-frontend --path '/orders/*' --for 60s -o orders.pcapng
                                             what a service was asked, and what it asked others
  deetune record --service shop --dry-run    what would be recorded, and how much
  deetune record --port 6379 --sample 0.1 -o redis.pcapng.zst
                                             a tenth of the connections, compressed
  deetune record --attach --service shop     by the agent that runs already
  deetune record --status error --slower-than 500ms --for 1h
                                             only what failed, and was slow"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            type=Path,
            help="written here (default: recording-DATE-TIME.pcapng); .zst compresses it",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="write nothing; say what would match, how much, and what would be redacted",
        )
        parser.add_argument(
            "--force", action="store_true", help="replace the file if it exists"
        )
        parser.add_argument(
            "--attach",
            metavar="SOCKET",
            type=Path,
            nargs="?",
            const=Path(RecordingSettings().socket or ""),
            help="have the running agent record, with its names and no second start "
            f"(default: {RecordingSettings().socket})",
        )
        parser.add_argument(
            "--flight",
            action="store_true",
            help="with --attach: write what its flight recorder holds, now",
        )
        who = parser.add_argument_group("whose", "All that is given must hold.")
        for flag, metavar, text, kind in (
            ("--pid", "PID", "of this process and its children", int),
            ("--command", "PATTERN", "of processes with this name", str),
            ("--container", "NAME|ID", "of this container", str),
            ("--cgroup", "PATTERN", "of processes in this control group", str),
        ):
            who.add_argument(
                flag,
                metavar=metavar,
                nargs="+",
                action="extend",
                default=[],
                type=kind,
                help=text,
            )
        add_selection(parser)
        sampling = parser.add_argument_group("how many of them")
        sampling.add_argument(
            "--sample",
            metavar="SHARE",
            type=_share,
            default=1.0,
            help="more than 0, at most 1 (default: all)",
        )
        sampling.add_argument(
            "--sample-by",
            metavar="WHAT",
            default="connection",
            help="connection, trace, or what carries the session, which then stays whole: "
            "cookie:NAME, header:NAME, query:NAME, argument:N (default: connection)",
        )
        _add_bounds(parser)
        redaction = parser.add_argument_group("redaction")
        redaction.add_argument(
            "--redaction",
            metavar="FILE",
            type=Path,
            help="rules of your own (docs/redaction.md)",
        )
        redaction.add_argument(
            "--no-redaction",
            action="store_true",
            help="keep every secret, readable for who has the file",
        )
        redaction.add_argument(
            "--raw",
            action="store_true",
            help="also record protocols that are not understood; they are NOT redacted",
        )
        options.add_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        if args.attach is not None:
            return _attached(args)
        if args.flight:
            raise UsageError(
                "--flight needs --attach", hint="deetune record --attach --flight"
            )
        plan, redactor = plan_of(args), redactor_of(args)
        console = output.console(stderr=True, soft_wrap=True)
        with (
            Interrupts() as interrupts,
            Terminal(console, interrupts) as talk,
            _agent(args, console) as agent,
        ):
            return take(args, plan, redactor, agent, talk)


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    bounds = parser.add_argument_group("until", "Whatever comes first.")
    bounds.add_argument(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=time_s,
        default=FOR_S,
        help=f"30s, 5m, 1h (default: {FOR_S:g}s; Ctrl-C ends it in order)",
    )
    bounds.add_argument(
        "--max-bytes",
        metavar="SIZE",
        type=byte_count,
        default=_DEFAULTS.bytes,
        help=f"of the files (default: {_DEFAULTS.bytes >> 20}M)",
    )
    bounds.add_argument(
        "--max-exchanges",
        metavar="N",
        type=_count,
        default=_DEFAULTS.exchanges,
        help=f"default: {_DEFAULTS.exchanges:,}",
    )
    bounds.add_argument(
        "--max-rate",
        metavar="N",
        type=_count,
        default=_DEFAULTS.per_second,
        help="exchanges a second; what is above is left out and counted "
        f"(default: {_DEFAULTS.per_second:,})",
    )
    bounds.add_argument(
        "--max-body",
        metavar="SIZE",
        type=byte_count,
        default=64 << 10,
        help="longer bodies are cut (default: 64k)",
    )
    bounds.add_argument(
        "--free",
        metavar="SIZE",
        type=byte_count,
        default=_DEFAULTS.free_bytes,
        help=f"that the disk keeps (default: {_DEFAULTS.free_bytes >> 20}M)",
    )
    bounds.add_argument(
        "--rotate",
        metavar="SIZE",
        type=byte_count,
        help="begin a new file after so much; of orders.pcapng the full ones are orders.1.pcapng, …",
    )
    bounds.add_argument(
        "--keep", metavar="N", type=_count, help="with --rotate: the newest files only"
    )


def plan_of(args: argparse.Namespace) -> Plan:
    selection = selection_of(args)
    if args.keep and not args.rotate:
        raise UsageError("--keep needs --rotate", hint="--rotate 100M --keep 5")
    owners = OwnerChoice(
        services=selection.services,
        pids=frozenset(args.pid),
        commands=tuple(args.command),
        containers=tuple(args.container),
        cgroups=tuple(args.cgroup),
        cgroup_of=CgroupTree().text,
    )
    return Plan(
        chooses=owners,
        selection=selection,
        sampling=_sampling(args),
        bounds=Bounds(
            seconds=args.seconds,
            bytes=args.max_bytes,
            exchanges=args.max_exchanges,
            per_second=args.max_rate,
            free_bytes=args.free,
        ),
        body_limit=args.max_body,
        with_raw=args.raw,
        says=_says(args, selection),
    )


def _sampling(args: argparse.Namespace) -> Sampling:
    by = args.sample_by
    try:
        if by in (SampleBy.CONNECTION, SampleBy.TRACE):
            return Sampling(by=SampleBy(by), fraction=args.sample)
        return Sampling(by=SampleBy.KEY, fraction=args.sample, key=by)
    except ValueError as error:
        raise UsageError(
            f"--sample-by: {error}", hint="--sample 0.1 --sample-by cookie:session"
        ) from None


def _says(args: argparse.Namespace, selection: Selection) -> str:
    parts = [
        f"{name} {' or '.join(map(str, values))}"
        for name in ("pid", "command", "container", "cgroup")
        if (values := getattr(args, name))
    ]
    if not selection.is_empty or not parts:
        parts.append(selection.says())
    if args.sample < 1:
        parts.append(f"{args.sample:g} of them by {args.sample_by}")
    return ", ".join(parts)


@contextmanager
def _agent(args: argparse.Namespace, console: Console) -> Iterator[Agent]:
    """One of our own that sends nothing and listens nowhere, with the names of the settings."""
    config = options.load_settings(args, os.environ).config
    config = replace(
        config,
        agent=replace(config.agent, interval_s=1.0, log_level="warning"),
        otlp=replace(config.otlp, enabled=False),
        console=replace(config.console, enabled=False),
        spans=replace(config.spans, enabled=False),
        web=replace(config.web, enabled=False),
        topology=replace(config.topology, peers=()),
        # The ring of a recording is the user's to choose, and there are no spans to give up.
        limits=replace(config.limits, memory_mb=65536),
    )
    console.print("starting to watch …", style="dim")
    agent = Agent(config, environ={})
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def _attached(args: argparse.Namespace) -> int:
    """By the running agent: what it says is said here, and Ctrl-C goes there."""
    if args.config or args.assignments:
        raise UsageError(
            "--attach takes no settings",
            hint="the running agent has its own; --config and --set are for one that is started",
        )
    if not args.flight:
        plan_of(args)  # what is wrong is said here
        redactor_of(args)
    console = output.console(stderr=True, soft_wrap=True)
    try:
        with (
            Interrupts() as interrupts,
            Terminal(console, interrupts) as talk,
            ControlClient(args.attach) as agent,
        ):
            agent.ask(words=args.words, folder=str(Path.cwd()))
            return _heard(agent, talk)
    except ControlError as error:
        raise CommandError(
            str(error), hint=error.hint, code=ExitCode.UNAVAILABLE
        ) from None


def _heard(agent: ControlClient, talk: Talk) -> int:
    is_ending = False
    while True:
        if talk.wait(0) and not is_ending:
            is_ending = True
            agent.end()
        message = agent.hear(STEP_S * 5)
        if message is None:
            continue
        for way in ("warn", "tell", "say", "show"):
            if way in message:
                getattr(talk, way)(str(message[way]))
        if "error" in message:
            raise CommandError(
                str(message["error"]),
                hint=str(message.get("hint", "")),
                code=ExitCode(message.get("code", ExitCode.FAILED)),
            )
        if "code" in message:
            return int(message["code"])


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(
            f"expected a share such as 0.1 (a tenth), got {text!r}"
        )
    return share


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a count, got {text!r}")
    return int(text)
