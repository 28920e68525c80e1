# SPDX-License-Identifier: Apache-2.0
"""`deetune run`: the agent in the foreground, with one log line a thing, for a supervisor."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from concurrent.futures import Future
from threading import Thread
from types import FrameType
from typing import Final

from deetune_otel import __version__
from deetune_otel.agent.agent import Agent
from deetune_otel.cli import settings as options
from deetune_otel.cli.errands import Errands
from deetune_otel.cli.errors import CommandError, ExitCode
from deetune_otel.cli.logs import start_logging
from deetune_otel.web.server import WebServerError

__all__ = ["Run"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_WRITE_FLIGHT: Final = signal.SIGUSR1
# Each would end a process that says nothing about it.
_IGNORED: Final = (signal.SIGHUP, signal.SIGUSR2)
_TAKEN: Final = (*_ENDING, _WRITE_FLIGHT, *_IGNORED)
# Between two looks whether the programs are loaded, which takes seconds.
_LOOK_S: Final = 0.05

_log = logging.getLogger(__name__)


class Run:
    """Observe this host until SIGTERM or SIGINT, and send what was seen.

    Needs root, or CAP_BPF and CAP_PERFMON (and CAP_SYS_PTRACE to name other users' processes).
    The signal detaches, sends what waits, and ends with exit code 0 within 5 seconds; a second
    one ends at once, and so does the first while the programs are being loaded. SIGUSR1 writes what
    the flight recorder holds; SIGHUP is logged and changes nothing. Nothing stays in the kernel,
    also after kill -9. The agent's own process is never observed. What it says of itself is on
    standard error, a line of key=value pairs each.
    """

    EXAMPLES = """\
  deetune run --set otlp.endpoint=http://127.0.0.1:4318
                                             send to a Collector, over HTTP
  deetune run --config deetune.yaml          with a file of settings
  deetune run --set console.enabled=true     print spans and metrics, for a look
  curl 127.0.0.1:8127/status                 what was lost, and what it costs"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        options.add_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        config = options.load_settings(args, os.environ).config
        start_logging(config.agent.log_level, sys.stderr)
        # Blocked before any thread starts, so that the main thread alone takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
        _log.info("deetune %s starts", __version__)
        try:
            agent = Agent(config)
            errands = Errands(agent, config.recording)
            if not _is_started(agent):
                os._exit(ExitCode.OK)  # the kernel drops a half-loaded program with us
            try:
                errands.start()
                _wait(errands)
            finally:
                _end_at_once_on_the_next()
                errands.stop()
                agent.stop()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN)
        return ExitCode.OK


def _is_started(agent: Agent) -> bool:
    """False when a signal asks for the end first. Raises what `_start` raises.

    The kernel verifies for seconds, in which a thread hears nothing: another one waits for it.
    """
    started: Future[None] = Future()

    def start() -> None:
        try:
            _start(agent)
            started.set_result(None)
        except BaseException as error:  # noqa: BLE001 -- it is raised below
            started.set_exception(error)

    Thread(target=start, name="start", daemon=True).start()
    while not started.done():
        taken = signal.sigtimedwait((*_ENDING, *_IGNORED), _LOOK_S)
        if taken is None:
            continue
        if taken.si_signo in _ENDING:
            name = signal.Signals(taken.si_signo).name
            _log.info("%s: nothing was observed yet", name)
            return False
        _ignore(taken.si_signo)
    started.result()
    return True


def _wait(errands: Errands) -> None:
    """For the end; the other signals are errands, or nothing."""
    while True:
        received = signal.Signals(signal.sigwait(_TAKEN))
        if received in _ENDING:
            _log.info("%s: detaching and sending what waits", received.name)
            return
        if received is _WRITE_FLIGHT:
            errands.write_flight("SIGUSR1")
        else:
            _ignore(received)


def _ignore(number: int) -> None:
    _log.warning(
        "%s is ignored: the configuration is read at the start alone; restart to change it",
        signal.Signals(number).name,
    )


def _start(agent: Agent) -> None:
    """KernelUnavailable and ConfigError go on: the command line says what to do about them."""
    try:
        agent.start()
    except WebServerError as error:
        raise CommandError(
            str(error), hint="--set web.port=0 takes any free port"
        ) from error


def _end_at_once_on_the_next() -> None:
    for number in _ENDING:
        signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    os._exit(128 + number)
