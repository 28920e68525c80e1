# SPDX-License-Identifier: Apache-2.0
"""`deetune replay`: a recording, a target, and what differs."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deetune_otel.cli import output
from deetune_otel.cli.errors import CommandError, ExitCode, UsageError
from deetune_otel.cli.recording import opened
from deetune_otel.cli.replaying import Replaying
from deetune_otel.cli.selecting import add_selection, duration_ns, selection_of
from deetune_otel.comparison.judging import (
    JudgeRules,
    Outcome,
    RulesError,
)
from deetune_otel.comparison.reports import document, html, junit, markdown
from deetune_otel.comparison.reports.report import Report
from deetune_otel.comparison.rules import from_text
from deetune_otel.replay.options import Mode, ReplayOptions, Target
from deetune_otel.replay.plan import planned
from deetune_otel.replay.rewrite import Rewrites, field_path
from deetune_otel.replay.safety import is_loopback

__all__ = ["Replay"]

REFRESH_S: Final = 0.25
PLAIN_S: Final = 10.0
MOST_CLUSTERS: Final = 20
_DEFAULTS: Final = ReplayOptions()


class Replay:
    """Send recorded requests to a test instance, and say what it answers differently.

    By default each recorded connection is replayed in its order, only reads are sent, and only to
    this machine. Exchanges of which bytes are missing are never judged. What differs inside the
    recording already, and what looks like an id or a time on both sides, does not count; what was
    ignored is listed.

    Exit codes: 0 nothing differs, 1 something does, 3 the target does not answer, 4 the recording
    is damaged.
    """

    EXAMPLES = """\
  deetune replay orders.pcapng --target 127.0.0.1:8081 --report report.html --junit report.xml
  deetune replay orders.pcapng --target 127.0.0.1:8081 --mode recorded --speed 2
                                             twice as fast as it was recorded
  deetune replay orders.pcapng --target 127.0.0.1:8081 --path '/orders/*' --allow-writes
  deetune replay redis.pcapng --target 127.0.0.1:6380 --twice"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="a recording, or a capture")
        parser.add_argument(
            "--target",
            metavar="HOST:PORT",
            type=_target,
            required=True,
            help="where requests go; unix:PATH is a Unix socket",
        )
        _add_how(parser)
        _add_rewrites(parser)
        _add_safety(parser)
        reports = parser.add_argument_group("what is written")
        for flag, text in (
            ("--report", "one HTML page that needs nothing else"),
            ("--junit", "JUnit XML, for CI"),
            ("--json", "everything, for programs"),
            ("--markdown", "for a comment on a change"),
        ):
            reports.add_argument(flag, metavar="FILE", type=Path, help=text)
        parser.add_argument(
            "--rules",
            metavar="FILE",
            type=Path,
            help="what counts as a difference (docs/comparison.md)",
        )
        parser.add_argument(
            "--downstream",
            action=argparse.BooleanOptionalAction,
            default=None,
            help="watch which calls the test instance makes, and compare them, too; needs root "
            "(default: where the recording has them)",
        )
        parser.add_argument(
            "--twice",
            action="store_true",
            help="replay twice: what differs between the two does not count",
        )
        add_selection(parser)

    def run(self, args: argparse.Namespace) -> int:
        target: Target = args.target
        if not target.path and not is_loopback(target.host) and not args.allow_remote:
            raise UsageError(
                f"{target} is not on this machine",
                hint="--allow-remote sends recorded requests there nevertheless",
            )
        if args.ramp and not args.rate:
            raise UsageError("--ramp needs --rate", hint="--rate 200 --ramp 30s")
        rules = _rules(args.rules)
        with opened(args.file) as file:
            exchanges = list(file)
        for problem in file.problems:
            print(f"deetune: {file.path.name}: {problem}", file=sys.stderr)
        is_redacted = file.manifest is not None and file.manifest.is_redacted
        plan = planned(
            exchanges,
            selection=selection_of(args),
            allows_writes=args.allow_writes,
            limit=args.limit,
        )
        if not plan.count:
            reasons = ", ".join(f"{n:,} {why}" for why, n in plan.skipped.most_common())
            raise UsageError(
                f"nothing to send in {args.file}: {reasons or 'it holds no exchange'}",
                hint="`deetune recording show` says what is in it",
            )
        if len(services := plan.services()) > 1:
            named = ", ".join(f"{name} ({n:,})" for name, n in services.most_common())
            raise UsageError(
                f"{args.file} has requests to several services: {named}",
                hint="--service NAME (or --protocol) chooses whose requests the target gets",
            )
        replaying = Replaying(
            plan,
            target,
            _options(args),
            rules=rules,
            exchanges=exchanges,
            watches=args.downstream,
            is_quiet=args.quiet,
            repeats=args.twice,
            covers=is_redacted,
        )
        return _reported(args, replaying)


def _reported(args: argparse.Namespace, replaying: Replaying) -> int:
    """Its reports and its exit code."""
    report = replaying.run(args.file.name)
    _write(args, report)
    _say(report)
    carried, missing = replaying.carried
    if carried or missing:
        print(f"  {carried:,} values carried over from answers, {missing:,} not given")
    if replaying.failure:
        raise CommandError(
            replaying.failure,
            hint="the replay stopped there; what came before is in the reports",
            code=ExitCode.UNAVAILABLE,
        )
    if replaying.is_interrupted:
        return ExitCode.INTERRUPTED
    outcomes = report.outcomes()
    differs = outcomes[Outcome.DIFFERENT] + outcomes[Outcome.FAILED]
    return ExitCode.FAILED if differs else ExitCode.OK


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how it is sent")
    how.add_argument(
        "--mode",
        choices=[one.value for one in Mode],
        default=_DEFAULTS.mode,
        help="sessions: each connection in its order (default); recorded: at the recorded "
        "times, whether or not answers have come; fast: as fast as answers come",
    )
    how.add_argument(
        "--speed",
        metavar="N",
        type=_positive,
        default=1.0,
        help="of --mode recorded: 2 is twice as fast",
    )
    how.add_argument(
        "--rate", metavar="N", type=_positive, default=0.0, help="a second, at most"
    )
    how.add_argument(
        "--ramp",
        metavar="TIME",
        type=duration_ns,
        default=0,
        help="with --rate: until it is reached, growing evenly from nothing",
    )
    how.add_argument(
        "--loop", metavar="N", type=_count, default=1, help="so many times (default: 1)"
    )
    how.add_argument(
        "--limit", metavar="N", type=_count, default=0, help="only the first ones"
    )
    how.add_argument(
        "--connections",
        metavar="N",
        type=_count,
        default=_DEFAULTS.connections,
        help=f"at a time (default: {_DEFAULTS.connections})",
    )
    how.add_argument(
        "--timeout",
        metavar="TIME",
        type=duration_ns,
        default=round(_DEFAULTS.timeout_s * 1e9),
        help=f"of one request (default: {_DEFAULTS.timeout_s:g}s)",
    )
    how.add_argument(
        "--carry",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ids, cookies and tokens of the test instance's answers into later requests",
    )
    how.add_argument("--quiet", action="store_true", help="no progress")


def _add_rewrites(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is changed in every HTTP request")
    group.add_argument("--set-host", metavar="NAME", default="", help="the Host header")
    for flag, metavar, kind, text in (
        (
            "--set-header",
            "NAME: VALUE",
            _header,
            "in place of the recorded one (credentials are redacted)",
        ),
        ("--set-query", "NAME=VALUE", _pair, "a parameter of the query"),
        ("--set-field", "PATH=VALUE", _field, "of a JSON body: '$.items[*].price=5'"),
        ("--rewrite-path", "REGEX=TEXT", _path, "'^/v1/=/v2/'"),
    ):
        group.add_argument(
            flag, metavar=metavar, type=kind, action="append", default=[], help=text
        )


def _add_safety(parser: argparse.ArgumentParser) -> None:
    safety = parser.add_argument_group("what is allowed")
    safety.add_argument(
        "--allow-writes",
        action="store_true",
        help="also send what may change something (POST, SET, …)",
    )
    safety.add_argument(
        "--allow-remote",
        action="store_true",
        help="the target may be on another machine",
    )


def _options(args: argparse.Namespace) -> ReplayOptions:
    return ReplayOptions(
        mode=Mode(args.mode),
        speed=args.speed,
        rate=args.rate,
        ramp_s=args.ramp / 1e9,
        loops=args.loop,
        connections=args.connections,
        timeout_s=args.timeout / 1e9,
        carries=args.carry,
        rewrites=Rewrites(
            host=args.set_host,
            paths=tuple(args.rewrite_path),
            headers=tuple(args.set_header),
            query=tuple(args.set_query),
            fields=tuple(args.set_field),
        ),
    )


def _rules(path: Path | None) -> JudgeRules:
    if path is None:
        return JudgeRules()
    try:
        return from_text(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the rules {path}: {error}") from None
    except RulesError as error:
        raise UsageError(
            f"the rules {path}: {error}", hint="docs/comparison.md has their keys"
        ) from None


def _write(args: argparse.Namespace, report: Report) -> None:
    """Beside their names first: never a half one. They show live answers: mode 0600."""
    forms: tuple[tuple[Path | None, Callable[[Report], str]], ...] = (
        (args.report, html),
        (args.junit, junit),
        (args.json, lambda one: json.dumps(document(one), indent=2) + "\n"),
        (args.markdown, markdown),
    )
    for path, form in forms:
        if path is None:
            continue
        with output.replacing(path) as part:
            part.write_text(form(report), encoding="utf-8")


def _say(report: Report) -> None:
    outcomes = report.outcomes()
    print(
        f"{report.sent:,} sent to {report.target}: "
        + ", ".join(f"{count:,} {one}" for one, count in outcomes.items())
    )
    for one in report.clusters[:MOST_CLUSTERS]:
        print(f"  {one.say()}")
    if len(report.clusters) > MOST_CLUSTERS:
        print(f"  and {len(report.clusters) - MOST_CLUSTERS:,} more kinds of findings")
    for why, count in report.not_judged().items():
        print(f"  {count:,} not judged: {why}")
    for what, count in report.calls.items():
        print(f"  {count:,} with their calls {what}")
    for why, count in Counter(report.skipped).most_common():
        print(f"  {count:,} not sent: {why}")
    if ignored := sum(one.times for one in report.ignored()):
        print(f"  {ignored:,} differences ignored as noise (the reports list them)")


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(c in text for c in "\r\n"):
        raise argparse.ArgumentTypeError(
            f"expected a header such as 'Authorization: Bearer …', got {text!r}"
        )
    return name.strip(), value.strip()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _field(text: str) -> tuple[tuple[str | int, ...], object]:
    """A value that is no JSON is a text."""
    path, value = _pair(text)
    try:
        steps = field_path(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    try:
        return steps, json.loads(value)
    except ValueError:
        return steps, value


def _path(text: str) -> tuple[re.Pattern[str], str]:
    pattern, replacement = _pair(text)
    try:
        found = re.compile(pattern)
        found.sub(replacement, "")
    except re.error as error:
        raise argparse.ArgumentTypeError(f"no regular expression: {error}") from None
    return found, replacement


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected more than 0, got {text!r}")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a count, got {text!r}")
    return int(text)
