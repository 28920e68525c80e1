# SPDX-License-Identifier: Apache-2.0
"""`deetune demo`: the shop, a load on it, and the agent in this process.

The load starts after the agent and ends before it, so that both counted the same requests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from deetune_otel.agent import status
from deetune_otel.agent.agent import Agent
from deetune_otel.cli import output
from deetune_otel.cli.errors import CommandError, ExitCode
from deetune_otel.cli.interrupts import Interrupts
from deetune_otel.cli.rows import By, arranged, rows
from deetune_otel.cli.terminal import megabytes, plain_lines, rows_table
from deetune_otel.config import load
from deetune_otel.demo.program import DemoError
from deetune_otel.demo.stack import Customers, opened
from deetune_otel.kernel import features
from deetune_otel.model import Protocol
from deetune_otel.topology.carry import to_json
from deetune_otel.topology.model import NodeKind
from deetune_otel.web.server import WebServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import ConsoleOptions, RenderableType

    from deetune_otel.model import Ledger
    from deetune_otel.topology.model import NodeDetails, ServiceMap

__all__ = ["Demo"]

REFRESH_S: Final = 1.0
PLAIN_EVERY: Final = 5  # refreshes; lines of a log stay, so there are fewer of them
RATE: Final = 80.0
MOST_RATE: Final = 1000.0
SETTLE_S: Final = 5.0
FRONT_DOOR: Final = ("customers", "nginx")
WINDOW_S: Final = 30.0  # what the table is of: long enough for a p99
WHOLE_S: Final = 86_400.0  # all that the map remembers
LEAST_ROWS: Final = 4
CHROME: Final = 12  # lines beside the rows: headlines, titles, what did not fit

# Telemetry goes out only where the standard OTEL_* variables say so.
FLAGS: Final = {"agent.interval_s": f"{REFRESH_S:g}", "agent.log_level": "warning"}


class Demo:
    """Show a small shop of real programs under load, and the map that deetune draws of it.

    The map is a page on this machine: its address is the first line and stays on the screen.
    nginx, two Python services, Redis and PostgreSQL are started in a folder of their own, on
    free ports of 127.0.0.1, and put under a steady load. None of them knows of deetune. The next
    build of one service waits beside them: two commands, which are printed, record what the
    customers ask for and replay it there. All of it ends with the demo: by Ctrl-C, or after --for
    SECONDS.
    """

    EXAMPLES = """\
  deetune demo                               until Ctrl-C
  deetune demo --for 30 --json >seen.json    what was seen, and what the load counted itself
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 deetune demo
                                             the same, and a Collector gets spans and metrics"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--for",
            dest="seconds",
            metavar="SECONDS",
            type=_positive,
            help="end after this much load (default: at Ctrl-C)",
        )
        parser.add_argument(
            "--rate",
            type=_rate,
            default=RATE,
            help=f"requests a second, to {MOST_RATE:g} (default: {RATE:g})",
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="print what was seen as one JSON document, and nothing else, on standard "
            "output; the rest goes to standard error",
        )
        parser.add_argument(
            "--no-table",
            action="store_true",
            help=f"lines every {PLAIN_EVERY} seconds instead of a live table",
        )

    def run(self, args: argparse.Namespace) -> int:
        _check_kernel()
        console = output.console(stderr=args.json, soft_wrap=True)
        shown = _Shown()
        try:
            with Interrupts() as interrupts:
                seen = _show(args, console, interrupts, shown)
        except DemoError as error:
            raise CommandError(str(error)) from error
        finally:
            console.print("Everything that the demo started has ended.")
            if shown.url:
                console.print(f"map: {shown.url} was live until now", style="bold")
        if args.json:
            json.dump(seen, sys.stdout, indent=2)
            print()
        return ExitCode.OK


def _show(
    args: argparse.Namespace, console: Console, interrupts: Interrupts, shown: _Shown
) -> dict[str, Any]:
    def say(text: str) -> None:
        console.print(f"{text} …", style="dim")

    def begin(step: str) -> None:
        interrupts.check()
        say(step)

    with opened(begin) as shop, _running_agent(begin) as agent:
        watcher = _Watcher(agent, _commands(shop.next_build))
        shown.url = watcher.url
        with shop.customers(rate=args.rate) as customers:
            _watch(watcher, customers, args, console, interrupts)
            say("waiting for the last answers")
            counted = customers.finish()
        last = watcher.last_look()
        document = watcher.document(last)
    console.print()
    console.print("\n".join(_summary(last, counted)))
    return {**document, "load": counted}


@contextmanager
def _running_agent(say: Callable[[str], None]) -> Iterator[Agent]:
    say("starting the agent")
    config = load(environ=os.environ, flags=FLAGS).config
    agent = Agent(config)
    try:
        agent.start()
    except WebServerError:  # another agent runs here: any free port will do
        agent = Agent(replace(config, web=replace(config.web, port=0)))
        agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def _watch(
    watcher: _Watcher,
    customers: Customers,
    args: argparse.Namespace,
    console: Console,
    interrupts: Interrupts,
) -> None:
    """Shows what is seen every second until the time is over or a signal comes."""
    end = time.monotonic() + (args.seconds or float("inf"))
    is_table = console.is_terminal and not args.no_table
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    refreshes = 0
    if is_table:
        live.start()
    else:
        console.print(f"map: {watcher.url}", style="bold")
        console.print("\n".join(watcher.hints), markup=False, highlight=False)
    try:
        while (left := end - time.monotonic()) > 0:
            if interrupts.wait(min(REFRESH_S, left)):
                break
            customers.check()
            refreshes += 1
            if is_table:
                live.update(watcher.look(), refresh=True)
            elif refreshes % PLAIN_EVERY == 0:
                console.print("\n".join(watcher.look().lines()), markup=False)
    finally:
        if is_table:
            live.stop()


@dataclass(slots=True)
class _Shown:
    """What a person was told to look at."""

    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What there is to see at one time; rich draws it, or `lines` say it."""

    url: str
    hints: tuple[str, ...]  # what to do next
    map: ServiceMap
    services: tuple[NodeDetails, ...]
    ledger: Ledger
    agent_cpu: float  # share of one core
    agent_memory_bytes: int

    @property
    def uptime_s(self) -> float:
        return (self.map.time_unix_ns - self.map.start_unix_ns) / 1e9

    def lines(self) -> Iterator[str]:
        yield self._headline().plain
        edges = arranged(rows(self.map, By.EDGE), "rate")
        yield from (f"  {line}" for line in plain_lines(edges))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        width, room = options.max_width, max(2 * LEAST_ROWS, console.height - CHROME)
        edges = arranged(rows(self.map, By.EDGE), "rate")
        served = arranged(rows(self.map, By.OPERATION, self.services), "time")
        for_edges = min(len(edges), max(LEAST_ROWS, room * 3 // 5))
        yield Text(f"map: {self.url}", style="bold")
        for hint in self.hints:
            yield Text(hint, style="dim", no_wrap=True, overflow="fold")
        yield self._headline()
        yield Text()
        yield rows_table(edges, by=By.EDGE, width=width, room=for_edges)
        yield Text()
        yield rows_table(served, by=By.OPERATION, width=width, room=room - for_edges)

    def _headline(self) -> Text:
        text = Text(overflow="fold")
        text.append(f"{self.uptime_s:.0f} s · ")
        text.append(f"{self.ledger.counted.exchanges:,} exchanges counted · ")
        missing = self.ledger.difference
        if any(missing):
            # Its lines are read one after the other while traffic goes on.
            text.append(
                f"ledger ≈ {missing.exchanges:+,} exchanges, {missing.bytes:+,} bytes",
                style="yellow",
            )
        else:
            text.append("ledger ✓", style="green")
        for cause, line in self.ledger.lost.items():
            if line.exchanges:
                text.append(f" · {line.exchanges:,} {cause}", style="yellow")
        text.append(f" · agent {self.agent_cpu:.1%} of a core, ")
        text.append(megabytes(self.agent_memory_bytes))
        return text


class _Watcher:
    """Looks at the agent from outside: its map, its ledger, what it uses."""

    def __init__(self, agent: Agent, hints: tuple[str, ...]) -> None:
        self._agent = agent
        self.hints = hints
        self._process = psutil.Process()
        self._process.cpu_percent()  # the next call tells what was used since this one
        self.url = f"{agent.url}/"

    def look(self, window_s: float = WINDOW_S) -> _Look:
        shown = self._agent.service_map(window_s=window_s)
        details = (
            self._agent.node_details(one.id, window_s=window_s)
            for one in shown.nodes
            if one.kind is NodeKind.SERVICE and one.served
        )
        return _Look(
            url=self.url,
            hints=self.hints,
            map=shown,
            services=tuple(one for one in details if one is not None),
            ledger=self._agent.ledger(),
            agent_cpu=self._process.cpu_percent() / 100,
            agent_memory_bytes=self._process.memory_info().rss,
        )

    def last_look(self) -> _Look:
        """At all until now, with a ledger that balances, if need be later.

        Its lines are read one after the other: while other programs of the host have
        traffic, they seldom fit.
        """
        now_unix_ns = time.time_ns()
        deadline = time.monotonic() + SETTLE_S
        while True:
            look = self.look(WHOLE_S)
            is_whole = look.map.time_unix_ns > now_unix_ns
            if is_whole and not any(look.ledger.difference):
                return look
            if time.monotonic() > deadline:
                return look
            time.sleep(REFRESH_S / 10)

    def document(self, look: _Look) -> dict[str, Any]:
        """The map, its edges' and nodes' details by id, and the ledger."""
        shown = look.map
        edges = (
            (one.id, self._agent.edge_details(one.id, window_s=WHOLE_S))
            for one in shown.edges
        )
        return {
            **to_json(shown, with_pairs=False),
            "edge_details": {
                of: to_json(one, window_s=shown.window_s, with_pairs=False)
                for of, one in edges
                if one is not None
            },
            "node_details": {
                one.node.id: to_json(one, window_s=shown.window_s)
                for one in look.services
            },
            "ledger": status.ledger(look.ledger),
        }


def _commands(target: str) -> tuple[str, ...]:
    """What to enter in another terminal: today's traffic against the shop's next build."""
    beside = Path(sys.executable).with_name("deetune")
    command = "deetune"
    if shutil.which(command) is None and beside.exists():
        here = Path.cwd()
        command = str(
            beside.relative_to(here) if beside.is_relative_to(here) else beside
        )
    return (
        "record the shop, and replay that against its next build, in another terminal:",
        f"  {command} record --service shop --path '/products/*' --for 30s -o shop.pcapng",
        f"  {command} replay shop.pcapng --target {target} --report report.html",
    )


def _check_kernel() -> None:
    """Says what is missing before anything is started."""
    for missing in features.probe().missing:
        if missing.fatal:
            raise CommandError(
                missing.what,
                hint=f"{missing.remedy} (`deetune check` says more)",
                code=ExitCode.UNAVAILABLE,
            )


def _summary(look: _Look, load: dict[str, Any]) -> Iterator[str]:
    shown, ledger = look.map, look.ledger
    services = sum(one.kind is NodeKind.SERVICE for one in shown.nodes)
    yield (
        f"{services} services, {len(shown.edges)} edges, "
        f"{ledger.counted.exchanges:,} exchanges counted in {look.uptime_s:.0f} s."
    )
    answered = sum(one["count"] for one in load["operations"] if one["status"])
    client, server = _seen_at_the_front_door(shown)
    yield f"The customers counted {answered:,} answers; deetune counted {client:,} at their"
    yield f"end of the connections and {server:,} at nginx's."
    if any(ledger.difference):
        exchanges, size = ledger.difference
        yield f"The ledger, read while traffic went on, differs by {exchanges:+,} exchanges"
        yield f"and {size:+,} bytes."
    else:
        yield "The ledger balances, in exchanges and in bytes."


def _seen_at_the_front_door(shown: ServiceMap) -> tuple[int, int]:
    """Calls of customers to nginx, as counted at the client's and the server's end."""
    names = {node.id: node.name for node in shown.nodes}
    for edge in shown.edges:
        if (names[edge.client], names[edge.server]) == FRONT_DOOR:
            for one in edge.calls:
                if one.protocol is Protocol.HTTP:
                    server = one.at_server
                    return one.calls.count, server.count if server else 0
    return 0, 0


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return seconds


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= MOST_RATE:
        raise argparse.ArgumentTypeError(f"must be up to {MOST_RATE:g}, got {text}")
    return rate
