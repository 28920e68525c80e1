# SPDX-License-Identifier: Apache-2.0
"""A recording from its files to its account, by whichever agent, for whoever listens."""

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
from typing import Final, Protocol, Self

import yaml
from rich.console import Console
from rich.live import Live

from deetune_otel import __version__
from deetune_otel.agent.agent import Agent
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.cli.account import account
from deetune_otel.cli.errors import CommandError, ExitCode, UsageError
from deetune_otel.cli.interrupts import Interrupts
from deetune_otel.cli.terminal import megabytes
from deetune_otel.recorder.recorder import Ended, Plan, Progress, Recorder
from deetune_otel.recorder.rehearsal import Rehearsal
from deetune_otel.recording.model import Manifest
from deetune_otel.redaction.policy import Policy, PolicyError, from_document
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import Tokens

__all__ = ["STEP_S", "Talk", "Terminal", "policy_of", "redactor_of", "take"]

STEP_S: Final = 0.02
REFRESH_S: Final = 0.5
PLAIN_S: Final = 5.0
KEY_BYTES: Final = 32
MOST_SHOWN: Final = 20
# Services in an error.
MOST_NAMED: Final = 20


class Talk(Protocol):
    """Who listens: a terminal, or a command that asked a running agent."""

    def warn(self, line: str) -> None: ...
    def tell(self, line: str) -> None: ...  # beside the result
    def say(self, line: str) -> None: ...  # the result
    def show(self, line: str) -> None: ...  # how it goes; replaces the line before

    def wait(self, seconds: float) -> bool:
        """Whether it shall end, within the time at the latest."""
        ...


class Terminal:
    """A person, or a file."""

    def __init__(self, console: Console, interrupts: Interrupts) -> None:
        self._console = console
        self._interrupts = interrupts
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._is_live = False
        self._shown_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def warn(self, line: str) -> None:
        self._console.print(line, style="bold red", markup=False)

    def tell(self, line: str) -> None:
        self._console.print(line, style="bold", markup=False)

    def say(self, line: str) -> None:
        self._live.stop()
        print(line)

    def show(self, line: str) -> None:
        if self._console.is_terminal:
            if not self._is_live:
                self._is_live = True
                self._live.start()
            self._live.update(line, refresh=True)
        elif time.monotonic() - self._shown_s >= PLAIN_S:
            self._shown_s = time.monotonic()
            self._console.print(line, markup=False)

    def wait(self, seconds: float) -> bool:
        return self._interrupts.wait(seconds)


def take(
    args: argparse.Namespace,
    plan: Plan,
    redactor: tuple[Redactor, bytes] | None,
    agent: Agent,
    talk: Talk,
) -> int:
    """The exit code. `redactor` is what `redactor_of` gave. Raises CommandError."""
    for warning in _warnings(args):
        talk.warn(warning)
    redacts = redactor[0] if redactor else None
    if args.dry_run:
        rehearsal = Rehearsal()
        recorder = agent.record(
            plan, redactor=redacts, sink=rehearsal, free_bytes=lambda: sys.maxsize
        )
        manifest = _watch(recorder, plan, talk)
        _say_rehearsal(talk, rehearsal, manifest, recorder)
        _check_captured(manifest, recorder, plan)
        return ExitCode.OK
    path = args.output or Path(time.strftime("recording-%Y%m%d-%H%M%S.pcapng"))
    with _files(args, path, plan, redactor) as writer:
        recorder = agent.record(
            plan,
            redactor=redacts,
            sink=writer,
            free_bytes=lambda: shutil.disk_usage(path.absolute().parent).free,
        )
        manifest = replace(
            _watch(recorder, plan, talk),
            product=f"deetune {__version__}",
            files=writer.files,
            host=os.uname().nodename,
        )
        is_full = _close(writer, manifest)
        _say(talk, path, replace(manifest, bytes=writer.bytes), recorder.filtered)
    if manifest.ended_because == Ended.DISK or is_full:
        raise CommandError(
            f"the recording ended early: the disk of {path} is full",
            hint=f"what is in the file is whole; --free keeps less room (now "
            f"{megabytes(plan.bounds.free_bytes)}), --output names another disk",
        )
    _check_captured(manifest, recorder, plan)
    return ExitCode.OK


def _check_captured(manifest: Manifest, recorder: Recorder, plan: Plan) -> None:
    """A recording of nothing is a mistake that somebody wants to hear of: in CI it is the last chance."""
    if manifest.captured:
        return
    services = recorder.services
    names = ", ".join(sorted(services)[:MOST_NAMED])
    if len(services) > MOST_NAMED:
        names += f" and {len(services) - MOST_NAMED:,} more"
    seen = (
        f"the services that were seen are {names}" if names else "no service was seen"
    )
    if not any(services.values()):
        raise CommandError(
            f"nothing was recorded: no process is {plan.says}", hint=seen
        )
    if not manifest.seen:
        raise CommandError(
            "nothing was recorded: who was chosen neither called nor was called",
            hint=f"--for takes longer; {seen}",
        )
    left_out = ", ".join(
        f"{count:,} by {why}" for why, count in recorder.filtered.items()
    )
    raise CommandError(
        f"nothing was recorded of {manifest.seen:,} exchanges that were seen",
        hint=f"left out were {left_out}"
        if left_out
        else "`deetune record --dry-run` says more",
    )


def redactor_of(args: argparse.Namespace) -> tuple[Redactor, bytes] | None:
    """With its key. None: nothing is redacted. Raises UsageError."""
    if args.no_redaction:
        return None
    key = secrets.token_bytes(KEY_BYTES)
    return Redactor(policy_of(args.redaction), Tokens(key), keeps_raw=args.raw), key


def policy_of(path: Path | None) -> Policy:
    """Of a file; the default without one. Raises UsageError."""
    if path is None:
        return Policy.default()
    try:
        return from_document(yaml.safe_load(path.read_text("utf-8")))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read the policy {path}: {reason}") from None
    except (PolicyError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the policy {path}: {error}", hint="docs/redaction.md has its keys"
        ) from None


def _warnings(args: argparse.Namespace) -> Iterator[str]:
    if args.no_redaction:
        yield "NOT REDACTED: passwords, tokens and personal data will be in the file."
    if args.raw:
        yield "--raw: protocols that are not understood are recorded as they are, NOT REDACTED."


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


def _watch(recorder: Recorder, plan: Plan, talk: Talk) -> Manifest:
    """Runs it until a bound is reached, or it shall end."""
    talk.tell(f"recording {plan.says}; Ctrl-C ends it")
    shown_s = time.monotonic()
    try:
        while not recorder.step():
            now_s = time.monotonic()
            if now_s - shown_s >= REFRESH_S:
                shown_s = now_s
                talk.show(_line(recorder.progress, plan))
            if talk.wait(STEP_S):
                break
    finally:
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


def _say(talk: Talk, path: Path, manifest: Manifest, filtered: dict[str, int]) -> None:
    for line in account(manifest, filtered):
        talk.say(line)
    if manifest.captured:
        talk.say(f"\ndeetune recording show {path}")
        talk.say(f"deetune replay {path} --target HOST:PORT")


def _say_rehearsal(
    talk: Talk, rehearsal: Rehearsal, manifest: Manifest, recorder: Recorder
) -> None:
    seconds = (manifest.ended_ns - manifest.started_ns) / 1e9
    talk.say(
        f"{manifest.captured:,} of {manifest.seen:,} exchanges would be recorded in "
        f"{seconds:.0f} s: {megabytes(round(rehearsal.bytes / max(seconds, 0.1) * 60))} a minute"
    )
    shown = rehearsal.operations.most_common(MOST_SHOWN)
    for (service, operation), count in shown:
        talk.say(f"  {count:>9,}  {service}  {operation}")
    if len(rehearsal.operations) > MOST_SHOWN:
        talk.say(f"  and {len(rehearsal.operations) - MOST_SHOWN:,} more operations")
    for line in list(account(manifest, recorder.filtered))[1:]:
        talk.say(line)
    talk.say("Nothing was written.")
