# SPDX-License-Identifier: Apache-2.0
"""The command line: one module a command, found in the table COMMANDS and imported when asked for.

A command is a class whose docstring is its help: the first line in the list of commands, all of
it on its own page.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol, runtime_checkable

from deetune_otel import __version__
from deetune_otel.cli import output
from deetune_otel.cli.errors import CommandError, ExitCode, UsageError
from deetune_otel.cli.settings import DEFAULT_FILE
from deetune_otel.config import ConfigError
from deetune_otel.kernel.errors import KernelUnavailable

__all__ = ["COMMANDS", "Command", "ExitCode", "load_command", "main", "parsed"]

COMMANDS: Final = {
    "run": "deetune_otel.cli.run:Run",
    "check": "deetune_otel.cli.check:Check",
    "demo": "deetune_otel.cli.demo:Demo",
    "map": "deetune_otel.cli.map:Map",
    "top": "deetune_otel.cli.top:Top",
    "record": "deetune_otel.cli.record:Record",
    "recording": "deetune_otel.cli.recording:Recording",
    "replay": "deetune_otel.cli.replay:Replay",
}

ABOUT: Final = """\
Watches unmodified programs through eBPF and reports OpenTelemetry spans, exact request rates,
errors and latencies, and who calls whom. Nothing is inserted into a program or its traffic."""

EXAMPLES: Final = """\
  deetune check                          can this machine be observed, and with which settings?
  deetune demo                           a small shop with load on it, and what deetune sees of it
  deetune map                            who calls whom, in the last minute
  deetune run --set otlp.endpoint=http://127.0.0.1:4318
                                         observe this host and send to a Collector"""

COMMON: Final = f"""\
exit codes:
  0  the command did what it was asked for
  1  it failed; the message says why
  2  the command line or the configuration is wrong
  3  this kernel, or this user's rights, do not allow to observe
  4  a recording is damaged, empty, or something else

environment:
  DEETUNE_CONFIG                 the configuration file, where --config is not given
  DEETUNE_<SECTION>_<KEY>        any setting, for example DEETUNE_AGENT_INTERVAL_S=5
  OTEL_EXPORTER_OTLP_*           where telemetry goes, as OpenTelemetry defines it
  OTEL_RESOURCE_ATTRIBUTES       added to the agent's own resource

files:
  {DEFAULT_FILE}      the configuration, where neither names another

Every setting: docs/configuration.md, and `deetune check --print-config`."""


@runtime_checkable
class Command(Protocol):
    """What stands behind a word of the command line. `EXAMPLES`, if it has them, end its help."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class Parser(argparse.ArgumentParser):
    """Says errors as all of deetune does: a line and a hint, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    with output.cleaned():
        return _main(sys.argv[1:] if argv is None else list(argv))


def _main(given: list[str]) -> int:
    debug = "--debug" in given
    try:
        code = _run(given)
        sys.stdout.flush()  # where nobody reads, that is known here and not at exit
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`deetune check | head`): nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        if debug:
            raise
        return _explain(error)
    return code


def parsed(argv: list[str]) -> argparse.Namespace:
    """A command's arguments, given by a process of the same version. Raises CommandError."""
    return _parser({argv[0]: load_command(argv[0])}).parse_args(argv)


def load_command(name: str) -> Command:
    """Imports the command's module, which may not be cheap."""
    module, _, cls = COMMANDS[name].partition(":")
    command: Command = getattr(importlib.import_module(module), cls)()
    return command


def _run(argv: list[str]) -> int:
    word = next((one for one in argv if not one.startswith("-")), None)
    if word is not None and word not in COMMANDS:
        near = difflib.get_close_matches(word, COMMANDS, n=1)
        raise UsageError(
            f"unknown command {word!r}"
            + (f"; did you mean {near[0]!r}?" if near else ""),
            hint=f"the commands are {', '.join(COMMANDS)}",
        )
    if word is not None:
        names = [word]
    else:  # only the list of commands needs them all
        names = [] if "--version" in argv else list(COMMANDS)
    commands = {name: load_command(name) for name in names}
    parser = _parser(commands)
    args = parser.parse_args(argv)
    args.words = argv
    if word is None:
        parser.print_help(sys.stderr)
        return ExitCode.USAGE
    return commands[word].run(args)


def _parser(commands: dict[str, Command]) -> Parser:
    parser = Parser(
        prog="deetune",
        description=ABOUT,
        epilog=f"examples:\n{EXAMPLES}\n\n{COMMON}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"deetune {__version__} (Python {platform.python_version()})",
    )
    _add_debug(parser)
    words = parser.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=Parser
    )
    for name, command in commands.items():
        text = _dedent(type(command).__doc__ or "")
        examples = getattr(command, "EXAMPLES", "").strip("\n")
        sub = words.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            epilog=(f"examples:\n{examples}\n\n" if examples else "") + COMMON,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        _add_debug(sub)
    return parser


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show where in the program an error arose",
    )


def _dedent(docstring: str) -> str:
    first, _, rest = docstring.strip().partition("\n")
    return "\n".join([first, *(line.strip() for line in rest.splitlines())]).strip()


def _explain(error: Exception) -> int:
    """One line a problem, and what can be done about it, on standard error."""
    match error:
        case CommandError():
            return _say([error.message], error.hint, error.code)
        case ConfigError():
            hint = "docs/configuration.md and `deetune check --print-config` list every setting"
            return _say([str(one) for one in error.problems], hint, ExitCode.USAGE)
        case KernelUnavailable():
            return _say([error.args[0]], error.hint, ExitCode.UNAVAILABLE)
    what = f"{type(error).__name__}: {error}"
    hint = "this should not happen; --debug shows where it arose"
    return _say([what], hint, ExitCode.FAILED)


def _say(messages: list[str], hint: str, code: int) -> int:
    for message in messages:
        print(f"deetune: error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return code
