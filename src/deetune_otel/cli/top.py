# SPDX-License-Identifier: Apache-2.0
"""`deetune top`: what is broken or busy now, live, in a plain terminal; or as data for scripts."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any, Final

from rich.screen import Screen

from deetune_otel.cli import output
from deetune_otel.cli.browsing import Browsing, followed, pressed, scrolled
from deetune_otel.cli.errors import ExitCode, UsageError
from deetune_otel.cli.feed import Answer, Feed, Question, ask
from deetune_otel.cli.interrupts import Interrupts
from deetune_otel.cli.keys import Terminal
from deetune_otel.cli.rows import SORTS, By, Row, arranged, matching, to_json
from deetune_otel.cli.screen import footer, headline, room_for_rows, screen
from deetune_otel.cli.terminal import Look, rows_table
from deetune_otel.cli.times import time_s
from deetune_otel.cli.watching import Watched, add_url_argument, watching
from deetune_otel.web.client import AgentError

__all__ = ["Top"]

WINDOW_S: Final = 60.0
EVERY_S: Final = 2.0
# An agent of our own has seen nothing yet when it has started.
FIRST_LOOK_S: Final = 5.0
# How long the age of a problem on the screen may be behind.
CLOCK_S: Final = 1.0
PIPE_WIDTH: Final = 160  # all columns: nobody reads a pipe on a small screen


class Top:
    """Show live which calls fail, which are slow and which are many.

    Asks the agent that runs on this host, or --url; without one it observes by itself, which
    needs root. First stands what is most surely broken: the share of calls and connects that
    failed, but not for a single failure. Ends with q or Ctrl-C.
    """

    EXAMPLES = """\
  deetune top                                what is broken now? (? shows the keys)
  deetune top --sort p99 --filter shop       what is slow around the shop?
  deetune top --by service                   services instead of calls between them
  ssh -t HOST deetune top                    on another host
  deetune top --once --json | jq '.rows[] | select(.error_ratio > 0.05)'
                                             for scripts"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_url_argument(parser)
        parser.add_argument(
            "--window",
            metavar="TIME",
            type=time_s,
            default=WINDOW_S,
            help=f"of how long, up to now: 30s, 10m, 1h (default: {WINDOW_S:g}s)",
        )
        parser.add_argument(
            "--every",
            metavar="TIME",
            type=time_s,
            default=EVERY_S,
            help=f"how often the agent is asked (default: {EVERY_S:g}s)",
        )
        parser.add_argument(
            "--sort", choices=SORTS, default="errors", help="default: errors"
        )
        parser.add_argument(
            "--by", choices=list(By), type=By, default=By.EDGE, help="default: edge"
        )
        parser.add_argument(
            "--filter",
            metavar="TEXT",
            default="",
            help="only rows with all of these words in a name or a protocol",
        )
        parser.add_argument(
            "--once", action="store_true", help="print one table, and end"
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="with --once one JSON document; without, one a line as time goes on",
        )

    def run(self, args: argparse.Namespace) -> int:
        is_live = not (args.once or args.json)
        if is_live:
            _check_terminal()
        with watching(args.url, say=_say) as watched:
            if is_live:
                _Live(args, watched).run()
            elif args.once:
                _once(args, watched)
            else:
                _stream(args, watched)
        return ExitCode.OK


def _once(args: argparse.Namespace, watched: Watched) -> None:
    if watched.is_own:
        seconds = min(args.window, FIRST_LOOK_S)
        _say(f"watching for {seconds:g} s …")
        time.sleep(seconds)
    answer = ask(watched.source, Question(args.window, args.by))
    found = _arranged(answer, args.sort, args.filter)
    if args.json:
        json.dump(_document(answer, found, args), sys.stdout, indent=2)
        print()
        return
    console = output.console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    if answer.map is not None:
        console.print(headline(answer.map))
    look = Look(sort=args.sort)
    console.print(
        rows_table(found, by=args.by, width=console.width, room=len(found), look=look)
    )
    if answer.left_out:
        _say(f"{answer.left_out} less busy services are left out")


def _stream(args: argparse.Namespace, watched: Watched) -> None:
    """A line for each answer; an agent that is away for a while is waited for."""
    problem = ""
    question = Question(args.window, args.by)
    with Interrupts() as interrupts:
        while True:
            try:
                answer = ask(watched.source, question)
            except AgentError as error:
                if not problem:
                    _say(f"{error}; asking again every {args.every:g} s")
                problem = str(error)
            else:
                problem = ""
                found = _arranged(answer, args.sort, args.filter)
                print(json.dumps(_document(answer, found, args)), flush=True)
            if interrupts.wait(args.every):
                return


class _Live:
    """The screen: keys and answers change it, whichever comes."""

    def __init__(self, args: argparse.Namespace, watched: Watched) -> None:
        self._args = args
        self._watched = watched
        self._state = Browsing(
            window_s=args.window, sort=args.sort, by=args.by, filter=args.filter
        )
        self._console = output.console()
        self._first = 0

    def run(self) -> None:
        with (
            Terminal() as terminal,
            Feed(
                self._watched.source,
                self._question(),
                every_s=self._args.every,
                news=terminal.wake,
            ) as feed,
        ):
            answer = feed.answer
            while not self._state.is_over:
                if not self._state.is_held or _is_other(answer, self._question()):
                    answer = feed.answer
                found = self._found(answer)
                self._state = followed(self._state, found)
                columns, lines = terminal.size()
                terminal.draw(self._drawn(answer, found, columns, lines))
                page = room_for_rows(lines, self._state) - 1
                for key in terminal.wait(CLOCK_S):
                    self._state = pressed(self._state, key, found, page=page)
                feed.want(self._question())

    def _found(self, answer: Answer) -> list[Row]:
        state = self._state
        if answer.question.by is not state.by:
            return []
        return _arranged(
            answer, state.sort, state.filter, is_reversed=state.is_reversed
        )

    def _question(self) -> Question:
        state = self._state
        return Question(
            state.window_s,
            state.by,
            state.selected.id if state.has_details and state.selected else "",
        )

    def _drawn(
        self, answer: Answer, found: list[Row], columns: int, lines: int
    ) -> list[str]:
        """As many lines as the screen has, each as wide as the screen."""
        state, console = self._state, self._console
        self._first = scrolled(
            found, state, first=self._first, room=room_for_rows(lines, state)
        )
        body = screen(
            state,
            answer,
            found,
            name=self._watched.name,
            first=self._first,
            now_s=time.monotonic(),
            width=columns,
            height=lines,
        )
        drawn: list[str] = []
        for part, height in ((body, lines - 1), (footer(state), 1)):
            if height > 0:
                console.width, console.height = columns, height
                with console.capture() as capture:
                    console.print(Screen(part), end="")
                drawn += capture.get().split("\n")
        return drawn


def _is_other(answer: Answer, question: Question) -> bool:
    """A held picture is let go for something else that was asked for."""
    return answer.question != question


def _arranged(
    answer: Answer, sort: str, text: str, *, is_reversed: bool = False
) -> list[Row]:
    return arranged(matching(answer.rows, text), sort, is_reversed=is_reversed)


def _document(
    answer: Answer, found: list[Row], args: argparse.Namespace
) -> dict[str, Any]:
    """`window_s` is less than what was asked for while the agent is younger."""
    shown = answer.map
    assert shown is not None  # noqa: S101 - `ask` gives one or raises
    return {
        "time_unix_ns": shown.time_unix_ns,
        "window_s": shown.window_s,
        "hosts": [one.host for one in shown.agents],
        "exchanges_lost": sum(one.exchanges_lost for one in shown.agents),
        "by": args.by,
        "sort": args.sort,
        "services_left_out": answer.left_out,
        "rows": [to_json(row) for row in found],
    }


def _check_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "this is not a terminal",
            hint="over ssh: ssh -t; for scripts: --once, --json",
        )
    if os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError(
            "this terminal cannot move its cursor (TERM)", hint="--once prints a table"
        )


def _say(line: str) -> None:
    print(f"deetune: {line}", file=sys.stderr)
