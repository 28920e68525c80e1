# SPDX-License-Identifier: Apache-2.0
"""`deetune demo`: the shop, a load on it, and the agent in this process.

The load starts after the agent and ends before it, so that both counted the same requests.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import psutil
from rich.console import Console
from rich.live import Live

from deetune_otel.cli.errors import CommandError, ExitCode
from deetune_otel.cli.terminal import View, plain_lines
from deetune_otel.config.schema import AgentSettings, Config, WebSettings
from deetune_otel.demo.program import DemoError
from deetune_otel.demo.stack import Customers, opened
from deetune_otel.kernel import features
from deetune_otel.pipeline import Agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deetune_otel.topology.snapshot import Snapshot

__all__ = ["Demo"]

REFRESH_S: Final = 1.0
PLAIN_EVERY: Final = 5  # refreshes; lines of a log stay, so there are fewer of them
RATE: Final = 80.0
MOST_RATE: Final = 1000.0
SETTLE_S: Final = 5.0
FRONT_DOOR: Final = ("customers", "nginx", "http")

# Telemetry goes out only where the standard OTEL_* variables say so.
CONFIG: Final = Config(
    agent=AgentSettings(interval_s=REFRESH_S, log_level="warning"),
    web=WebSettings(enabled=False),
)


class Demo:
    """Show a small shop of real programs under load, and what deetune sees of it.

    nginx, two Python services, Redis and PostgreSQL are started in a folder of their own, on
    free ports of 127.0.0.1, and put under a steady load. None of them knows of deetune. All of
    it ends with the demo: by Ctrl-C, or after --for SECONDS.
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
        console = Console(stderr=args.json, highlight=False, soft_wrap=True)
        try:
            with _Interrupts() as interrupts:
                seen = _show(args, console, interrupts)
        except DemoError as error:
            raise CommandError(str(error)) from error
        finally:
            console.print("Everything that the demo started has ended.")
        if args.json:
            json.dump(seen, sys.stdout, indent=2)
            print()
        return ExitCode.OK


def _show(
    args: argparse.Namespace, console: Console, interrupts: _Interrupts
) -> dict[str, Any]:
    def say(text: str) -> None:
        console.print(f"{text} …", style="dim")

    def begin(step: str) -> None:
        interrupts.check()
        say(step)

    with opened(begin) as shop, _running_agent(begin) as agent:
        watcher = _Watcher(agent)
        with shop.customers(rate=args.rate) as customers:
            _watch(watcher, customers, args, console, interrupts)
            say("waiting for the last answers")
            load = customers.finish()
        view = watcher.last_view()
    console.print()
    console.print("\n".join(_summary(view, load)))
    return {
        **view.snapshot.to_json(),
        "load": load,
        "ledger": _ledger_json(view),
    }


@contextmanager
def _running_agent(say: Callable[[str], None]) -> Iterator[Agent]:
    say("starting the agent")
    agent = Agent(CONFIG)
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
    interrupts: _Interrupts,
) -> None:
    """Shows the picture every second until the time is over or a signal comes."""
    end = time.monotonic() + (args.seconds or float("inf"))
    is_table = console.is_terminal and not args.no_table
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    refreshes = 0
    if is_table:
        live.start()
    try:
        while (left := end - time.monotonic()) > 0:
            if interrupts.wait(min(REFRESH_S, left)):
                break
            customers.check()
            refreshes += 1
            if is_table:
                live.update(watcher.view(), refresh=True)
            elif refreshes % PLAIN_EVERY == 0:
                console.print("\n".join(plain_lines(watcher.view())), markup=False)
    finally:
        if is_table:
            live.stop()


class _Watcher:
    """Looks at the agent from outside: its picture, its ledger, what it uses."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._process = psutil.Process()
        self._process.cpu_percent()  # the next call tells what was used since this one
        self._hooks = f"rung {int(features.probe().rung)}"

    def view(self) -> View:
        return View(
            snapshot=self._agent.snapshot(),
            ledger=self._agent.ledger(),
            host=platform.node(),
            hooks=self._hooks,
            agent_cpu=self._process.cpu_percent() / 100,
            agent_memory_bytes=self._process.memory_info().rss,
        )

    def last_view(self) -> View:
        """A picture of all until now, and a ledger that balances, if need be later.

        Its lines are read one after the other: while other programs of the host have
        traffic, they seldom fit.
        """
        now_unix_ns = time.time_ns()
        deadline = time.monotonic() + SETTLE_S
        while True:
            view = self.view()
            begin_unix_ns = view.snapshot.time_unix_ns - view.snapshot.interval_s * 1e9
            is_whole = begin_unix_ns > now_unix_ns and not any(view.ledger.difference)
            if is_whole or time.monotonic() > deadline:
                return view
            time.sleep(REFRESH_S / 10)


class _Interrupts:
    """SIGINT and SIGTERM, asked for where the demo can end in order.

    Raised where they come, they could part a program that starts from who ends it.
    """

    def __init__(self) -> None:
        self._came = threading.Event()

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, lambda *_: self._came.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, seconds: float) -> bool:
        """Whether one came, within the time at the latest."""
        return self._came.wait(seconds)

    def check(self) -> None:
        """Raises KeyboardInterrupt when one came."""
        if self._came.is_set():
            raise KeyboardInterrupt


def _check_kernel() -> None:
    """Says what is missing before anything is started."""
    for missing in features.probe().missing:
        if missing.fatal:
            raise CommandError(
                missing.what,
                hint=f"{missing.remedy} (`deetune check` says more)",
                code=ExitCode.UNAVAILABLE,
            )


def _summary(view: View, load: dict[str, Any]) -> Iterator[str]:
    snapshot, ledger = view.snapshot, view.ledger
    yield (
        f"{len(snapshot.services)} services, {len(snapshot.edges)} edges, "
        f"{ledger.counted.exchanges:,} exchanges counted in {view.uptime_s:.0f} s."
    )
    answered = sum(one["count"] for one in load["operations"] if one["status"])
    client, server = _seen_at_the_front_door(snapshot)
    yield f"The customers counted {answered:,} answers; deetune counted {client:,} at their"
    yield f"end of the connections and {server:,} at nginx's."
    if any(ledger.difference):
        exchanges, size = ledger.difference
        yield f"The ledger, read while traffic went on, differs by {exchanges:+,} exchanges"
        yield f"and {size:+,} bytes."
    else:
        yield "The ledger balances, in exchanges and in bytes."


def _seen_at_the_front_door(snapshot: Snapshot) -> tuple[int, int]:
    """Calls of customers to nginx, as counted at the client's and the server's end."""
    for edge in snapshot.edges:
        if (edge.client, edge.server, edge.protocol) == FRONT_DOOR:
            server = edge.server_total
            return edge.total.count, server.count if server else 0
    return 0, 0


def _ledger_json(view: View) -> dict[str, Any]:
    def line(one: Any) -> dict[str, int]:
        return dict(one._asdict())

    ledger = view.ledger
    return {
        "seen": line(ledger.seen),
        "counted": line(ledger.counted),
        "open": line(ledger.open),
        "lost": {cause: line(one) for cause, one in ledger.lost.items()},
        "noted": {cause: line(one) for cause, one in ledger.noted.items()},
        "difference": line(ledger.difference),
    }


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
