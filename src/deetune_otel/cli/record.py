# SPDX-License-Identifier: Apache-2.0
"""`deetune record`: an agent of its own, a recorder, a live line, and the account at the end."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import yaml
from rich.console import Console
from rich.live import Live

from deetune_otel import __version__
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.cli import settings as options
from deetune_otel.cli.account import account
from deetune_otel.cli.errors import CommandError, ExitCode, UsageError
from deetune_otel.cli.interrupts import Interrupts
from deetune_otel.cli.selecting import add_selection, byte_count, selection_of
from deetune_otel.cli.terminal import megabytes
from deetune_otel.cli.times import time_s
from deetune_otel.identity.cgroup_tree import CgroupTree
from deetune_otel.pipeline import Agent
from deetune_otel.recorder.owners import OwnerChoice
from deetune_otel.recorder.recorder import Bounds, Ended, Plan, Progress, Recorder
from deetune_otel.recorder.rehearsal import Rehearsal
from deetune_otel.recording.model import Manifest
from deetune_otel.recording.selection import SampleBy, Sampling, Selection
from deetune_otel.redaction.policy import Policy, PolicyError, from_document
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import Tokens

__all__ = ["Record"]

FOR_S: Final = 60.0
STEP_S: Final = 0.02
REFRESH_S: Final = 0.5
PLAIN_S: Final = 5.0
KEY_BYTES: Final = 32
MOST_SHOWN: Final = 20
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
        plan = _plan(args)
        path = args.output or Path(time.strftime("recording-%Y%m%d-%H%M%S.pcapng"))
        redactor = _redactor(args)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        for warning in _warnings(args):
            console.print(warning, style="bold red")
        with Interrupts() as interrupts, _agent(args, console) as agent:
            if args.dry_run:
                rehearsal = Rehearsal()
                recorder = agent.record(
                    plan,
                    redactor=redactor[0] if redactor else None,
                    sink=rehearsal,
                    free_bytes=lambda: sys.maxsize,
                )
                manifest = _watch(recorder, plan, console, interrupts)
                _say_rehearsal(rehearsal, manifest, recorder)
                return ExitCode.OK
            with _files(args, path, plan, redactor) as writer:
                recorder = agent.record(
                    plan,
                    redactor=redactor[0] if redactor else None,
                    sink=writer,
                    free_bytes=lambda: shutil.disk_usage(path.absolute().parent).free,
                )
                manifest = _watch(recorder, plan, console, interrupts)
                manifest = replace(
                    manifest,
                    product=f"deetune {__version__}",
                    files=writer.files,
                    host=os.uname().nodename,
                )
                is_full = _close(writer, manifest)
                _say(path, replace(manifest, bytes=writer.bytes), recorder.filtered)
        if manifest.ended_because == Ended.DISK or is_full:
            raise CommandError(
                f"the recording ended early: the disk of {path} is full",
                hint=f"what is in the file is whole; --free keeps less room (now "
                f"{megabytes(plan.bounds.free_bytes)}), --output names another disk",
            )
        return ExitCode.OK


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


def _plan(args: argparse.Namespace) -> Plan:
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


def _redactor(args: argparse.Namespace) -> tuple[Redactor, bytes] | None:
    """With its key. None: nothing is redacted."""
    if args.no_redaction:
        return None
    policy = Policy.default()
    if args.redaction is not None:
        try:
            policy = from_document(yaml.safe_load(args.redaction.read_text("utf-8")))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(
                f"cannot read the policy {args.redaction}: {reason}"
            ) from None
        except (PolicyError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the policy {args.redaction}: {error}",
                hint="docs/redaction.md has its keys",
            ) from None
    key = secrets.token_bytes(KEY_BYTES)
    return Redactor(policy, Tokens(key), keeps_raw=args.raw), key


def _warnings(args: argparse.Namespace) -> Iterator[str]:
    if args.no_redaction:
        yield "NOT REDACTED: passwords, tokens and personal data will be in the file."
    if args.raw:
        yield "--raw: protocols that are not understood are recorded as they are, NOT REDACTED."


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
    )
    console.print("starting to watch …", style="dim")
    agent = Agent(config, environ={})
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


@contextmanager
def _files(
    args: argparse.Namespace,
    path: Path,
    plan: Plan,
    redactor: tuple[Redactor, bytes] | None,
) -> Iterator[RecordingWriter]:
    """The recording, and beside it the key of its tokens."""
    key_path = path.with_name(f"{path.name}.key")
    try:
        writer = RecordingWriter(
            path,
            compress=path.suffix == ".zst",
            rotate_bytes=args.rotate,
            keep=args.keep,
            description=plan.says,
            overwrite=args.force,
        )
        if redactor is not None:
            if args.force:
                key_path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(key_path, flags, 0o600), "w") as file:
                file.write(redactor[1].hex() + "\n")
    except FileExistsError as error:
        raise UsageError(
            f"{error.filename} exists already",
            hint="--force replaces it, --output names another",
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"cannot write {path}: {reason}") from None
    with writer:
        yield writer


def _watch(
    recorder: Recorder, plan: Plan, console: Console, interrupts: Interrupts
) -> Manifest:
    """Runs it until a bound is reached or a signal comes."""
    is_live = console.is_terminal
    live = Live(console=console, auto_refresh=False, transient=True)
    shown_s = time.monotonic()
    console.print(f"recording {plan.says}; Ctrl-C ends it", style="bold")
    if is_live:
        live.start()
    try:
        while not recorder.step():
            now_s = time.monotonic()
            if now_s - shown_s >= (REFRESH_S if is_live else PLAIN_S):
                shown_s = now_s
                line = _line(recorder.progress, plan)
                if is_live:
                    live.update(line, refresh=True)
                else:
                    console.print(line, markup=False)
            if interrupts.wait(STEP_S):
                break
    finally:
        if is_live:
            live.stop()
        manifest = recorder.finish()
    return manifest


def _line(now: Progress, plan: Plan) -> str:
    left_s = max(0.0, plan.bounds.seconds - now.seconds)
    rate = now.captured / now.seconds if now.seconds else 0.0
    return " · ".join(
        [
            f"{now.seconds:.0f} s",
            f"{now.captured:,} exchanges",
            f"{rate:,.0f}/s",
            megabytes(now.bytes),
            f"{now.left_out:,} left out",
            f"{now.lost_pieces:,} pieces lost",
            f"{left_s:.0f} s left",
        ]
    )


def _close(writer: RecordingWriter, manifest: Manifest) -> bool:
    """Whether the disk had no room for the manifest."""
    try:
        writer.close(manifest)
    except OSError:
        return True
    return False


def _say(path: Path, manifest: Manifest, filtered: dict[str, int]) -> None:
    for line in account(manifest, filtered):
        print(line)
    if manifest.captured:
        print(f"\ndeetune recording show {path}")
        print(f"deetune replay {path} --target HOST:PORT")


def _say_rehearsal(
    rehearsal: Rehearsal, manifest: Manifest, recorder: Recorder
) -> None:
    seconds = (manifest.ended_ns - manifest.started_ns) / 1e9
    print(
        f"{manifest.captured:,} of {manifest.seen:,} exchanges would be recorded in "
        f"{seconds:.0f} s: {megabytes(round(rehearsal.bytes / max(seconds, 0.1) * 60))} a minute"
    )
    shown = rehearsal.operations.most_common(MOST_SHOWN)
    for (service, operation), count in shown:
        print(f"  {count:>9,}  {service}  {operation}")
    if len(rehearsal.operations) > MOST_SHOWN:
        print(f"  and {len(rehearsal.operations) - MOST_SHOWN:,} more operations")
    for line in list(account(manifest, recorder.filtered))[1:]:
        print(line)
    print("Nothing was written.")


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
