# SPDX-License-Identifier: Apache-2.0
"""Finding commands, and how each kind of error ends."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

import pytest

from deetune_otel import __version__, cli
from deetune_otel.cli import ExitCode, main
from deetune_otel.cli.errors import CommandError, UsageError
from deetune_otel.config import ConfigError, Problem
from deetune_otel.kernel.errors import KernelUnavailable


class Raises:
    """Raise what it was made with.

    As a command does whose world is not as it should be.
    """

    EXAMPLES = "  deetune raise"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--count", type=int, default=0, help="a number")

    def run(self, args: argparse.Namespace) -> int:
        if args.count:
            return int(args.count)
        raise self.error


@pytest.fixture
def _raising(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"raise": ""})
    monkeypatch.setattr(cli, "load_command", lambda _: Raises(request.param))


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize(
    ("_raising", "code", "said"),
    [
        (
            CommandError("the disk is full", hint="empty it"),
            1,
            "deetune: error: the disk is full\nhint: empty it\n",
        ),
        (UsageError("no such file"), 2, "deetune: error: no such file\n"),
        (
            ConfigError([Problem("f:1", "a.b", "bad"), Problem("f:2", "c", "worse")]),
            2,
            (
                "deetune: error: f:1: a.b: bad\ndeetune: error: f:2: c: worse\n"
                "hint: docs/configuration.md and `deetune check --print-config` list "
                "every setting\n"
            ),
        ),
        (
            KernelUnavailable("no BTF", "take another kernel"),
            3,
            "deetune: error: no BTF\nhint: take another kernel\n",
        ),
        (
            ZeroDivisionError("division by zero"),
            1,
            (
                "deetune: error: ZeroDivisionError: division by zero\n"
                "hint: this should not happen; --debug shows where it arose\n"
            ),
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
    indirect=["_raising"],
)
def test_an_error_is_a_line_and_a_hint(
    code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["raise"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", said)


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize("_raising", [CommandError("x")], indirect=True)
@pytest.mark.parametrize("argv", [["--debug", "raise"], ["raise", "--debug"]])
def test_debug_lets_the_error_through(argv: list[str]) -> None:
    with pytest.raises(CommandError):
        main(argv)


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize("_raising", [CommandError("x")], indirect=True)
def test_the_exit_code_is_the_commands() -> None:
    assert main(["raise", "--count", "7"]) == 7


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize("_raising", [CommandError("x")], indirect=True)
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["raise", "--cuont", "1"], "unrecognized arguments: --cuont 1"),
        (["raise", "--count", "x"], "argument --count: invalid int value: 'x'"),
        (["rise"], "unknown command 'rise'; did you mean 'raise'?"),
        (["zzz"], "unknown command 'zzz'"),
    ],
)
def test_a_wrong_command_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == ExitCode.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"deetune: error: {said}"
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize("_raising", [CommandError("x")], indirect=True)
def test_a_commands_help_is_its_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["raise", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "\nRaise what it was made with.\n\nAs a command does whose" in text
    assert "\nexamples:\n  deetune raise\n" in text
    assert "\nexit codes:\n" in text
    assert "\nenvironment:\n" in text
    assert "\nfiles:\n" in text


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize("_raising", [CommandError("x")], indirect=True)
def test_without_a_command_the_commands_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == ExitCode.USAGE
    listed = re.search(r"^ +raise +(.*)$", capsys.readouterr().err, re.MULTILINE)
    assert listed is not None
    assert listed[1] == "Raise what it was made with."


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"deetune {__version__} (Python 3.")


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "deetune_otel", "check", "--print-config"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait() == 0
