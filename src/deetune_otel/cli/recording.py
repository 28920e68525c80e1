# SPDX-License-Identifier: Apache-2.0
"""`deetune recording`: what is in a file, and other files made of it."""

from __future__ import annotations

import argparse
import heapq
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from deetune_otel import __version__
from deetune_otel.archive.errors import ArchiveError
from deetune_otel.archive.reading import Recording as File
from deetune_otel.archive.reading import read
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.cli import output
from deetune_otel.cli.account import account
from deetune_otel.cli.errors import CommandError, ExitCode, UsageError
from deetune_otel.cli.selecting import add_selection, selection_of
from deetune_otel.cli.terminal import duration, megabytes
from deetune_otel.recording.har_export import to_har
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Manifest,
    RawMessage,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.recording.ndjson import to_line
from deetune_otel.recording.readback import why_not_written
from deetune_otel.recording.summary import OperationKey, OperationSummary, Summary
from deetune_otel.redaction.censor import CannotRedact
from deetune_otel.redaction.encodings import decoded
from deetune_otel.redaction.scan import WARNING, Finding, scan

__all__ = ["Recording", "opened"]

MOST_OPERATIONS: Final = 30
MOST_FINDINGS: Final = 50
FORMATS: Final = ("ndjson", "har", "parquet")


class Recording:
    """Look into recordings, export, scan, filter and merge them.

    Takes what `deetune record` writes, and captures by tcpdump, HAR, NDJSON and GoReplay's files
    as well; what a file is its content says.
    """

    EXAMPLES = """\
  deetune recording show orders.pcapng       what is in it, and what is not
  deetune recording export orders.pcapng --format ndjson | jq .operation
  deetune recording scan capture.pcap        is there a secret in it?
  deetune recording filter orders.pcapng --status 5xx -o failed.pcapng
  deetune recording merge a.pcapng b.pcapng -o both.pcapng"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        words = parser.add_subparsers(
            dest="what", metavar="WHAT", required=True, title="what to do"
        )
        show = words.add_parser("show", help="services, operations, statuses, gaps")
        show.add_argument("file", type=Path)
        show.add_argument("--json", action="store_true", help="as one JSON document")
        export = words.add_parser("export", help="as NDJSON, HAR or Parquet")
        export.add_argument("file", type=Path)
        export.add_argument("--format", choices=FORMATS, default="ndjson")
        _add_output(export, "default: standard output")
        scanned = words.add_parser("scan", help="what still looks like a secret")
        scanned.add_argument("file", type=Path)
        scanned.add_argument("--json", action="store_true", help="a line a finding")
        for name, text in (
            ("filter", "only the chosen exchanges, as a new recording"),
            ("merge", "several recordings as one, by time"),
        ):
            word = words.add_parser(name, help=text)
            nargs = {"nargs": "+"} if name == "merge" else {}
            word.add_argument("files" if nargs else "file", type=Path, **nargs)  # type: ignore[arg-type]
            _add_output(word, "needed")
            if name == "filter":
                add_selection(word)

    def run(self, args: argparse.Namespace) -> int:
        return _DO[args.what](args)


@contextmanager
def opened(path: Path) -> Iterator[File]:
    """A recording; what is wrong with it ends the command, after what could be read."""
    try:
        with read(path) as file:
            yield file
    except ArchiveError as error:
        raise CommandError(
            str(error), hint=error.hint, code=ExitCode.DAMAGED
        ) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read {path}: {reason}") from None


def _add_output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help=default)
    parser.add_argument(
        "--force", action="store_true", help="replace the file if it exists"
    )


def _show(args: argparse.Namespace) -> int:
    summary = Summary()
    with opened(args.file) as file:
        try:
            summary.add_all(file)
        finally:  # of a damaged file, too, is shown what there is
            if args.json:
                json.dump(_document(file, summary), sys.stdout, indent=2)
                print()
            else:
                print("\n".join(_lines(file, summary)))
    return ExitCode.OK


def _lines(file: File, summary: Summary) -> Iterator[str]:
    seconds = (summary.last_ns - summary.first_ns) / 1e9
    since = datetime.fromtimestamp(summary.first_ns / 1e9, UTC)
    yield (
        f"{file.path.name}: {file.format}, {summary.count:,} exchanges on "
        f"{len(summary.connections):,} connections"
    )
    if summary.count:
        yield f"from {since:%Y-%m-%d %H:%M:%S} UTC, {seconds:,.1f} s, {megabytes(summary.body_bytes)} of messages"
    yield ""
    yield from _operations(summary)
    if summary.incomplete:
        yield ""
        yield "incomplete, and never judged by a replay: " + _counts(summary.incomplete)
    if summary.missing_bytes:
        yield "bytes missing: " + _counts(summary.missing_bytes)
    if summary.redactions:
        yield "exchanges with something redacted: " + _counts(summary.redactions)
    yield ""
    if file.manifest is None:
        yield "There is no manifest: what was left out or lost nobody knows."
    else:
        manifest = file.manifest
        yield f"recorded by {manifest.product or 'an unknown program'} on {manifest.host or 'an unknown host'}: {manifest.selection or 'everything'}"
        yield from account(manifest, {})
    for problem in file.problems:
        yield f"problem: {problem}"
    if file.unreadable_connections:
        yield f"problem: {file.unreadable_connections:,} connections of unknown protocols"


def _operations(summary: Summary) -> Iterator[str]:
    ordered = sorted(summary.operations.items(), key=lambda one: -one[1].count)
    shown = ordered[:MOST_OPERATIONS]
    if not shown:
        return
    names = [(_who(key), key.operation or str(key.protocol)) for key, _ in shown]
    widths = [max(len(row[i]) for row in names) for i in range(2)]
    for (who, operation), (_, one) in zip(names, shown, strict=True):
        yield (
            f"{one.count:>9,}  {who:<{widths[0]}}  {operation:<{widths[1]}}  "
            f"{_times(one)}  {_counts(one.outcomes)}"
        )
    if len(ordered) > MOST_OPERATIONS:
        yield f"          and {len(ordered) - MOST_OPERATIONS:,} more operations (--json has all)"


def _who(key: OperationKey) -> str:
    return f"{key.client or '·'} → {key.server or '·'}"


def _times(one: OperationSummary) -> str:
    p50, p99 = (duration(one.quantile_ns(share) / 1e9) for share in (0.5, 0.99))
    return f"p50 {p50} p99 {p99}"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _document(file: File, summary: Summary) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "format": file.format,
        "exchanges": summary.count,
        "connections": len(summary.connections),
        "start_time_unix_nano": summary.first_ns,
        "end_time_unix_nano": summary.last_ns,
        "operations": [
            {
                **key._asdict(),
                "count": one.count,
                "outcomes": dict(one.outcomes),
                "p50_ns": one.quantile_ns(0.5),
                "p99_ns": one.quantile_ns(0.99),
            }
            for key, one in sorted(summary.operations.items())
        ],
        "incomplete": dict(summary.incomplete),
        "missing_bytes": dict(summary.missing_bytes),
        "redactions": dict(summary.redactions),
        "manifest": asdict(file.manifest) if file.manifest else None,
        "problems": file.problems,
        "unreadable_connections": file.unreadable_connections,
    }


def _export(args: argparse.Namespace) -> int:
    if args.format == "parquet":
        return _export_parquet(args)
    passed = Counter[str]()
    creator = f"deetune {__version__}"
    with opened(args.file) as file:
        parts = (
            to_har(_http_only(file, passed), creator=creator, decode=_plain)
            if args.format == "har"
            else (f"{to_line(one)}\n" for one in file)
        )
        if args.output is None:
            for part in parts:
                sys.stdout.write(part)
        else:
            # Half a character, which JSON may hold, is written as JSON escapes it.
            with (
                _replacing(args) as path,
                path.open("w", encoding="utf-8", errors="backslashreplace") as out,
            ):
                out.writelines(parts)
    for problem in file.problems:
        _warn(problem)
    for protocol, count in passed.items():
        _warn(f"{count:,} exchanges of {protocol}: HAR has no place for them")
    return ExitCode.OK


def _plain(body: bytes, coding: str) -> bytes | None:
    try:
        return decoded(body, coding)
    except CannotRedact:
        return None


def _http_only(
    exchanges: Iterable[RecordedExchange], passed: Counter[str]
) -> Iterator[RecordedExchange]:
    for one in exchanges:
        if isinstance(one.request, HttpRequest):
            yield one
        else:
            passed[one.protocol] += 1


def _export_parquet(args: argparse.Namespace) -> int:
    from deetune_otel.archive.parquet import write_parquet  # noqa: PLC0415

    if args.output is None:
        raise UsageError("Parquet is no text: name a file", hint="-o FILE.parquet")
    try:
        with opened(args.file) as file, _replacing(args) as path:
            write_parquet(file, path)
    except ImportError:
        raise CommandError(
            "Parquet needs pyarrow", hint="pip install 'deetune-otel[parquet]'"
        ) from None
    return ExitCode.OK


def _scan(args: argparse.Namespace) -> int:
    found: Counter[Finding] = Counter()
    exchanges = 0
    with opened(args.file) as file:
        for one in file:
            exchanges += 1
            for finding in scan(one):
                found[finding] += 1
                if args.json:
                    print(json.dumps({"exchange": one.id, **finding._asdict()}))
    warnings = sum(times for one, times in found.items() if one.rule == WARNING)
    count = found.total() - warnings
    if not args.json:
        for finding, times in found.most_common(MOST_FINDINGS):
            print(
                f"{times:>9,}  {finding.rule}  {finding.place}  {finding.sample_masked}"
            )
        if len(found) > MOST_FINDINGS:
            print(
                f"           and {len(found) - MOST_FINDINGS:,} more (--json has all)"
            )
        print(
            f"{count:,} values that look like secrets in {exchanges:,} exchanges"
            if count
            else f"nothing that looks like a secret in {exchanges:,} exchanges"
        )
        if warnings:
            print(
                f"{warnings:,} values look random and are taken by no rule ({WARNING}):"
                " they may be identifiers, or secrets"
            )
    return ExitCode.FAILED if count else ExitCode.OK


def _filter(args: argparse.Namespace) -> int:
    selection = selection_of(args)
    if selection.is_empty:
        raise UsageError("nothing chooses", hint="--status 5xx, --path '/orders/*', …")
    with opened(args.file) as file:
        chosen = (one for one in file if selection.why_not(one) is None)
        written = _write(args, chosen, f"{args.file.name}: {selection.says()}", [file])
    print(f"{written:,} exchanges in {args.output}")
    return ExitCode.OK


def _merge(args: argparse.Namespace) -> int:
    with ExitStack() as stack:
        files = [stack.enter_context(opened(path)) for path in args.files]
        merged = heapq.merge(*files, key=attrgetter("request_start_ns"))
        names = " and ".join(path.name for path in args.files)
        written = _write(args, _once(merged), names, files)
    print(f"{written:,} exchanges in {args.output}")
    return ExitCode.OK


def _once(exchanges: Iterable[RecordedExchange]) -> Iterator[RecordedExchange]:
    """The same exchange may be in two files: of two hosts, or of two parts that overlap."""
    seen = set()
    for one in exchanges:
        key = (one.id, one.request_start_ns)
        if key not in seen:
            seen.add(key)
            yield one


def _write(
    args: argparse.Namespace,
    exchanges: Iterable[RecordedExchange],
    says: str,
    files: list[File],
) -> int:
    if args.output is None:
        raise UsageError("no file to write to", hint="-o FILE.pcapng")
    count = incomplete = 0
    left_out = Counter[str]()
    written = _Told()
    first_ns = last_ns = 0
    with _replacing(args) as path:
        writer = RecordingWriter(
            path,
            compress=args.output.suffix == ".zst",
            description=says,
            overwrite=True,
        )
        with writer:
            for one in exchanges:
                if why := why_not_written(one):
                    left_out[why] += 1
                    continue
                writer.write(one)
                written.add(one)
                count += 1
                incomplete += bool(one.incomplete)
                first_ns = min(first_ns or one.request_start_ns, one.request_start_ns)
                last_ns = max(last_ns, one.response_end_ns, one.request_end_ns)
            writer.close(
                Manifest(
                    product=f"deetune {__version__}",
                    host=os.uname().nodename,
                    selection=says,
                    started_ns=first_ns,
                    ended_ns=last_ns,
                    ended_because="copied",
                    seen=count,
                    captured=count,
                    incomplete=incomplete,
                    is_redacted=all(
                        file.manifest is not None and file.manifest.is_redacted
                        for file in files
                    ),
                )
            )
        _check(path, written)
    for file in files:
        for problem in file.problems:
            _warn(f"{file.path.name}: {problem}")
    for why, times in left_out.items():
        _warn(f"{times:,} exchanges that no recording can hold, left out: {why}")
    return count


class _Told:
    """How many exchanges, and which, in any order."""

    def __init__(self) -> None:
        self.count = self.sum = 0

    def add(self, one: RecordedExchange) -> None:
        self.count += 1
        self.sum += hash((one.id, one.request_start_ns, one.request.missing))
        for message in (one.request, one.response):
            match message:
                case HttpRequest(body=said) | HttpResponse(body=said):
                    self.sum += hash(said)
                case RedisCommand(arguments=said) | RawMessage(data=said):
                    self.sum += hash(said)
                case RedisReply(value=said):
                    self.sum += hash(said)


def _check(path: Path, written: _Told) -> None:
    """Reads it back: what cannot be read is not given to anybody."""
    found = _Told()
    with opened(path) as file:
        for one in file:
            found.add(one)
    if (found.count, found.sum) != (written.count, written.sum) or file.problems:
        what = "; ".join(file.problems) or "others than were written"
        raise CommandError(
            f"what was written does not read back, and was removed: {found.count:,} of "
            f"{written.count:,} exchanges, {what}",
            hint="please report this, with the file if you may",
        )


@contextmanager
def _replacing(args: argparse.Namespace) -> Iterator[Path]:
    """A file beside it, which takes its place when the block is through: never a half one."""
    target: Path = args.output
    if target.exists() and not args.force:
        raise UsageError(
            f"{target} exists already", hint="--force replaces it, -o names another"
        )
    with output.replacing(target) as path:
        yield path


def _warn(problem: str) -> None:
    print(f"deetune: {problem}", file=sys.stderr)


_DO: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "show": _show,
    "export": _export,
    "scan": _scan,
    "filter": _filter,
    "merge": _merge,
}
