# SPDX-License-Identifier: Apache-2.0
"""What a running agent is told to do: to record (`deetune record --attach`), and to keep and write
its flight recorder. One recording at a time: the flight recorder rests while another one is made.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final

from deetune_otel.agent.agent import Agent
from deetune_otel.agent.control import ControlError, ControlServer, Conversation
from deetune_otel.cli import parsed
from deetune_otel.cli.errors import CommandError, UsageError
from deetune_otel.cli.record import plan_of
from deetune_otel.cli.taking import KEY_BYTES, STEP_S, policy_of, redactor_of, take
from deetune_otel.config.schema import RecordingSettings
from deetune_otel.recorder.flight import Flight, forget_old, write_flight
from deetune_otel.recorder.owners import OwnerChoice
from deetune_otel.recorder.recorder import Bounds, Plan
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.tokens import Tokens

__all__ = ["Errands", "check_flight"]

# Who asked waits so long for the file at most.
ANSWER_S: Final = 30.0
LEFT_FREE: Final = 512 << 20
_ENDLESS: Final = Bounds(
    seconds=float("inf"), bytes=sys.maxsize, exchanges=sys.maxsize, free_bytes=0
)

_log = logging.getLogger(__name__)


class _Listener:
    """A command at the other end of the control socket."""

    def __init__(self, conversation: Conversation, stopping: Event) -> None:
        self._conversation = conversation
        self._stopping = stopping

    def warn(self, line: str) -> None:
        self._conversation.send(warn=line)

    def tell(self, line: str) -> None:
        self._conversation.send(tell=line)

    def say(self, line: str) -> None:
        self._conversation.send(say=line)

    def show(self, line: str) -> None:
        self._conversation.send(show=line)

    def wait(self, seconds: float) -> bool:
        return self._conversation.wait(seconds) or self._stopping.is_set()


class Errands:
    """From `start` to `stop`, while the agent runs."""

    def __init__(self, agent: Agent, settings: RecordingSettings) -> None:
        """Raises UsageError of a redaction policy, or of a folder that cannot be written."""
        self._agent = agent
        self._settings = settings
        self._stopping = Event()
        self._recording = Lock()
        self._wanted = Lock()  # one that waits for the flight recorder to rest
        self._pause = Event()
        self._ask = Event()  # write it now ...
        self._asked_because = ""
        self._written = Event()  # ... and it was
        self._last = ""  # its file, or why there is none
        self._control: ControlServer | None = None
        self._flight_thread: Thread | None = None
        if settings.flight:
            self._key = secrets.token_bytes(KEY_BYTES)
            self._policy = _policy(settings)
            self._folder = Path(settings.flight_folder)
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise _no_folder(self._folder, error) from None

    def start(self) -> None:
        """A control socket that cannot be had is logged: the agent observes without it."""
        if self._settings.socket:
            control = ControlServer(Path(self._settings.socket), self._answer)
            try:
                control.start()
            except ControlError as error:
                _log.warning("no control socket: %s (%s)", error, error.hint)
            else:
                self._control = control
        if self._settings.flight:
            self._flight_thread = Thread(target=self._fly, name="flight recorder")
            self._flight_thread.start()

    def stop(self) -> None:
        """Ends recordings in order."""
        self._stopping.set()
        if self._control is not None:
            self._control.close()
        if self._flight_thread is not None:
            self._flight_thread.join()

    def write_flight(self, reason: str) -> str:
        """Has the flight recorder written now; the file's path. "" when it does not run, or the
        disk did not take it.
        """
        if self._flight_thread is None:
            _log.warning("%s: the flight recorder is off (recording.flight)", reason)
            return ""
        self._written.clear()
        self._asked_because = reason
        self._ask.set()
        return self._last if self._written.wait(ANSWER_S) else ""

    def _answer(self, request: dict[str, Any], conversation: Conversation) -> None:
        try:
            words, folder = request["words"], Path(request["folder"])
            args = parsed([str(one) for one in words])
            if args.flight:
                conversation.send(say=self._flight_asked_for())
                conversation.send(code=0)
                return
            name = args.output or Path(time.strftime("recording-%Y%m%d-%H%M%S.pcapng"))
            args.output = folder / name
            if args.redaction is not None:
                args.redaction = folder / args.redaction
            conversation.send(code=self._record(args, conversation))
        except (KeyError, TypeError):
            conversation.send(
                error="request not understood",
                hint="does the agent have another version than this command?",
                code=1,
            )
        except CommandError as error:
            conversation.send(
                error=error.message, hint=error.hint, code=int(error.code)
            )

    def _flight_asked_for(self) -> str:
        path = self.write_flight("asked for")
        if not path:
            raise CommandError(
                "the flight recorder wrote nothing",
                hint="recording.flight turns it on; the agent's log says more",
            )
        return path

    def _record(self, args: Any, conversation: Conversation) -> int:
        if not self._wanted.acquire(blocking=False):
            raise CommandError(
                "the agent is recording already",
                hint="one at a time: end the other one, or record without --attach",
            )
        try:
            plan, redactor = plan_of(args), redactor_of(args)
            self._pause.set()
            with self._recording:
                _log.info("recording %s to %s", plan.says, args.output)
                listener = _Listener(conversation, self._stopping)
                return take(args, plan, redactor, self._agent, listener)
        finally:
            self._pause.clear()
            self._wanted.release()

    def _fly(self) -> None:
        settings = self._settings
        flight = Flight(
            keep_ns=int(settings.flight_s * 1e9),
            keep_bytes=settings.flight_mb << 20,
            on_error=settings.flight_on_error,
            slow_ns=int(settings.flight_slow_s * 1e9),
        )
        while not self._stopping.is_set():
            if self._pause.wait(STEP_S):
                continue
            with self._recording:
                try:
                    self._fly_until_pause(flight)
                except Exception:  # noqa: BLE001 -- observing goes on
                    _log.exception("the flight recorder begins anew after an error")
                    self._stopping.wait(1.0)

    def _fly_until_pause(self, flight: Flight) -> None:
        recorder = self._agent.record(
            Plan(
                chooses=OwnerChoice(services=self._settings.flight_services),
                bounds=_ENDLESS,
                says="the flight recorder",
            ),
            redactor=Redactor(self._policy, Tokens(self._key)),
            sink=flight,
            free_bytes=lambda: sys.maxsize,
        )
        due_s, next_s = float("inf"), 0.0
        try:
            while not (self._pause.is_set() or self._stopping.wait(STEP_S)):
                recorder.step()
                now_s = time.monotonic()
                if flight.reason and due_s == float("inf"):
                    due_s = max(now_s + self._settings.flight_after_s, next_s)
                if self._ask.is_set():
                    self._ask.clear()
                    self._write(flight, self._asked_because)
                    self._written.set()
                elif now_s >= due_s:
                    self._write(flight, flight.reason)
                    due_s, next_s = float("inf"), now_s + self._settings.flight_pause_s
        finally:
            recorder.finish()

    def _write(self, flight: Flight, reason: str) -> None:
        now_ns = time.time_ns()
        exchanges = flight.take(now_ns)
        name = time.strftime("flight-%Y%m%d-%H%M%S", time.localtime(now_ns // 10**9))
        path = self._folder / f"{name}.{now_ns // 10**6 % 1000:03}.pcapng"
        self._last = ""
        try:
            _check_room(self._folder)
            write_flight(exchanges, path, reason=reason, key=self._key)
            forget_old(self._folder, keep=self._settings.flight_files)
        except OSError as error:
            _log.error("the flight recorder cannot write %s: %s", path, error)
            return
        self._last = str(path)
        _log.warning(
            "flight recorder: %s; %d exchanges are in %s", reason, len(exchanges), path
        )


def check_flight(settings: RecordingSettings) -> None:
    """Whether a flight recorder could begin; makes nothing. Raises UsageError."""
    if not settings.flight:
        return
    _policy(settings)
    folder = Path(settings.flight_folder)
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    number = errno.EACCES if there.is_dir() else errno.ENOTDIR
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise _no_folder(folder, OSError(number, os.strerror(number)))


def _policy(settings: RecordingSettings) -> Policy:
    redaction = settings.flight_redaction
    return policy_of(Path(redaction) if redaction else None)


def _no_folder(folder: Path, error: OSError) -> UsageError:
    reason = (error.strerror or str(error)).lower()
    return UsageError(
        f"recording.flight_folder {folder}: {reason}",
        hint="--set recording.flight_folder=FOLDER names one that can be written",
    )


def _check_room(folder: Path) -> None:
    """Raises OSError."""
    if shutil.disk_usage(folder).free < LEFT_FREE:
        raise OSError(f"less than {LEFT_FREE >> 20} MiB are free")
