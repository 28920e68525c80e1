# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLC0415 -- see below
"""A plugin of pytest: each exchange of a recording is a test of an instance.

Every session of pytest imports this module, also those that replay nothing: what costs something is
imported where a recording is named, and the hooks of `_Replay` are registered only then.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from deetune_otel.agent.downstream import Watch
    from deetune_otel.comparison.judging import JudgeRules, Verdict
    from deetune_otel.recording.model import RecordedExchange
    from deetune_otel.replay.client import Sent
    from deetune_otel.replay.options import Target
    from deetune_otel.replay.plan import Plan

__all__ = ["pytest_addoption", "pytest_collection", "pytest_configure"]

_VALUES: Final = (
    ("recording", "FILE", "whose exchanges are tests"),
    ("target", "HOST:PORT", "the instance that is tested; unix:PATH is a Unix socket"),
    ("rules", "FILE", "what counts as a difference"),
)
_CALLS: Final = (
    (
        "downstream",
        "store_true",
        "fail where the calls of the target cannot be watched",
    ),
    ("no-downstream", "store_false", "do not compare the calls that the target makes"),
)
_ALLOWED: Final = (
    ("writes", "also send what may change something (POST, SET, …)"),
    ("remote", "the target may be on another machine"),
)
# Sent one after the other before their calls are waited for: what goes on after an answer takes
# a second or two to be known, whether of one exchange or of many.
_ROUND: Final = 200


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("deetune", "replay of a recording: an exchange is a test")
    for name, metavar, text in _VALUES:
        group.addoption(f"--deetune-{name}", metavar=metavar, help=text)
        parser.addini(f"deetune_{name}", f"{text} (--deetune-{name})", default="")
    for name, text in _ALLOWED:
        group.addoption(f"--deetune-allow-{name}", action="store_true", help=text)
    for name, action, text in _CALLS:
        group.addoption(
            f"--deetune-{name}",
            dest="deetune_downstream",
            action=action,
            default=None,
            help=text,
        )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deetune: an exchange of a recording")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """The recording becomes one of the files that are collected. Raises UsageError."""
    config = session.config
    path = _file(config, "recording")
    if path is None:
        return
    here = config.invocation_params.dir
    if path not in {_absolute(here, arg.partition("::")[0]) for arg in config.args}:
        is_default = not config.getoption("deetune_recording")
        if is_default and config.args_source is config.ArgsSource.ARGS:
            return  # other files were asked for
        config.args.append(str(path))
    config.pluginmanager.register(_Replay(config, path))


class _Replay:
    """The hooks of a session that replays; one connection and one event loop for all of it."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        import asyncio

        from deetune_otel.comparison.learning import learn
        from deetune_otel.replay import carry
        from deetune_otel.replay.calls import Downstream
        from deetune_otel.replay.client import Client
        from deetune_otel.replay.options import ReplayOptions

        options = ReplayOptions()
        self._path = path
        self._target = _target(config)
        self._rules = _rules(_file(config, "rules"))
        exchanges, self._problems = _exchanges(path)
        self._learned = learn(exchanges)
        self.plan = _plan(config, path, exchanges)
        self._carrier = carry.Carrier(carry.learn(chain(*self.plan.sessions)))
        self._client = Client(self._target, options, self._carrier)
        # With a factory it leaves the thread's event loop alone, which others' tests may use.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._connection = ""  # the recorded one
        self._failing_after = options.failing_after
        self._failures = 0  # in a row
        self._ignored = 0
        self._downstream = Downstream(exchanges)
        self._wants_calls: bool | None = config.getoption("deetune_downstream")
        self._calls: Counter[str] = Counter()  # exchanges, by what came of theirs
        self._watching = ExitStack()
        self._watch: Watch | None = None
        self._is_begun = False
        self._judged: dict[int, tuple[Sent, Verdict]] = {}  # of a round, by number

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> _Recording | None:
        if file_path != self._path:
            return None
        return _Recording.from_parent(parent, path=file_path, replay=self)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """In their order, whatever shuffled them: what is read may have been written before."""
        mine = (one for one in items if isinstance(one, _Exchange))
        ordered = iter(sorted(mine, key=attrgetter("number")))
        items[:] = [next(ordered) if isinstance(i, _Exchange) else i for i in items]

    def pytest_report_collectionfinish(self) -> list[str]:
        lines = [f"{self.plan.count:,} exchanges of {self._path.name} → {self._target}"]
        for why, count in self.plan.skipped.most_common():
            lines.append(f"{count:,} not sent: {why.replace('(--', '(--deetune-')}")
        return [_printable(f"deetune: {line}") for line in (*lines, *self._problems)]

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        for outcome, count in self._calls.most_common():
            terminalreporter.write_line(
                f"deetune: the calls of {count:,} exchanges: {_printable(outcome)}"
            )
        if self._ignored:
            what = f"deetune: {self._ignored:,} differences did not count"
            terminalreporter.write_line(f"{what}; `deetune replay --report` lists them")

    def pytest_sessionfinish(self) -> None:
        self._watching.close()
        self._runner.run(self._client.close())
        self._runner.close()

    def test(self, item: _Exchange) -> None:
        """Ends as tests end: by returning, or with Failed, Skipped or Exit."""
        from deetune_otel.comparison.judging import Outcome

        if not self._is_begun:
            self._is_begun = True
            self._begin_to_watch()
        if item.number not in self._judged:
            self._send_round(item)
        sent, verdict = self._judged.pop(item.number)
        self._give_up_when_down(sent.answer.failure, item.session)
        self._ignored += len(verdict.ignored)
        if verdict.outcome is Outcome.NOT_JUDGED:
            pytest.skip(_printable(verdict.why_not_judged))
        if verdict.outcome is not Outcome.SAME:
            pytest.fail(_account(verdict, sent), pytrace=False)

    def _begin_to_watch(self) -> None:
        """Which calls the target makes, where that was recorded and is possible."""
        wants = self._wants_calls
        if wants is None:
            wants = self._downstream.is_wanted(chain(*self.plan.sessions))
        if not wants:
            return

        from deetune_otel.agent.downstream import watching_calls
        from deetune_otel.kernel.errors import KernelUnavailable

        try:
            self._watch = self._watching.enter_context(watching_calls(self._target))
        except KernelUnavailable as error:
            why = f"not compared: {error.args[0]}"
            if self._wants_calls:
                pytest.exit(f"calls are {_printable(why)}", pytest.ExitCode.USAGE_ERROR)
            self._calls[why] = self.plan.count

    def _send_round(self, first: _Exchange) -> None:
        """This one; where calls are watched, those that come next as well."""
        from deetune_otel.comparison.judging import judge

        mine = (one for one in first.session.items if isinstance(one, _Exchange))
        coming = (one for one in mine if one.number >= first.number)
        sent: list[Sent] = []
        numbers: list[int] = []
        for item in islice(coming, _ROUND if self._watch is not None else 1):
            sent.append(self._sent(item.exchange))
            numbers.append(item.number)
            if sent[-1].answer.failure:
                break  # whether it goes on is decided when this one is reported
            if self._watch is not None:
                self._watch.get_ready()
        verdicts = [
            judge(one.exchange, one.answer, self._rules, self._learned) for one in sent
        ]
        if self._watch is not None:
            self._watch.wait(sent)
            found = self._downstream.compare(sent, self._watch, self._rules)
            self._calls.update(self._downstream.outcomes)
            both = zip(verdicts, found, strict=True)
            verdicts = [one.with_calls(differs) for one, differs in both]
        aliases = self._carrier.aliases
        for number, one, verdict in zip(numbers, sent, verdicts, strict=True):
            self._judged[number] = one, verdict.with_aliases(aliases)

    def _sent(self, exchange: RecordedExchange) -> Sent:
        if exchange.connection.id != self._connection:
            self._runner.run(self._client.close())
            self._connection = exchange.connection.id
        return self._runner.run(self._client.ask(exchange))

    def _give_up_when_down(self, failure: str, session: pytest.Session) -> None:
        """One clear end instead of as many failures as there are exchanges."""
        if failure in {"refused", "unreachable"}:
            down = (
                f"{self._target} does not listen ({failure}): is the instance running?"
            )
            pytest.exit(down, returncode=pytest.ExitCode.USAGE_ERROR)
        self._failures = self._failures + 1 if failure else 0
        if self._failures >= self._failing_after:
            failed = f"{self._failures} requests in a row failed"
            session.shouldfail = (
                f"{self._target}: {failed}, the last one with {failure!r}"
            )


class _Recording(pytest.File):
    def __init__(self, *, replay: _Replay, **names: Any) -> None:
        super().__init__(**names)
        self._replay = replay

    def collect(self) -> Iterator[_Exchange]:
        from deetune_otel.comparison.findings import operation_of

        seen: Counter[str] = Counter()
        for number, one in enumerate(chain(*self._replay.plan.sessions)):
            # The same in the next recording of the same traffic, which has other ids.
            operation = _printable(operation_of(one)).replace("::", ":")
            seen[operation] += 1
            name = f"{operation} [{seen[operation]}]"
            yield _Exchange.from_parent(
                self,
                name=name,
                # As a text, which is what --lf keeps: pytest 9 reads brackets out of it.
                nodeid=f"{self.nodeid}::{name}",
                number=number,
                exchange=one,
                replay=self._replay,
            )


class _Exchange(pytest.Item):
    def __init__(
        self, *, number: int, exchange: RecordedExchange, replay: _Replay, **names: Any
    ) -> None:
        super().__init__(**names)
        self.number = number
        self.exchange = exchange
        self._replay = replay
        self.add_marker("deetune")

    def runtest(self) -> None:
        self._replay.test(self)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _exchanges(path: Path) -> tuple[list[RecordedExchange], list[str]]:
    """And what of the file could not be read."""
    from deetune_otel.archive.errors import ArchiveError
    from deetune_otel.archive.reading import read

    try:
        with read(path) as file:
            return list(file), file.problems
    except ArchiveError as error:
        raise _usage(str(error), error.hint) from None
    except OSError as error:
        hint = "--deetune-recording, or deetune_recording in pytest's configuration"
        raise _usage(f"cannot read the recording: {error}", hint) from None


def _plan(config: pytest.Config, path: Path, exchanges: list[RecordedExchange]) -> Plan:
    from deetune_otel.recording.selection import Selection
    from deetune_otel.replay.plan import planned

    writes = config.getoption("deetune_allow_writes")
    plan = planned(exchanges, selection=Selection(), allows_writes=writes)
    if not plan.count:
        reasons = ", ".join(f"{n:,} {why}" for why, n in plan.skipped.most_common())
        raise _usage(
            f"nothing to send in {path}: {reasons or 'it holds no exchange'}",
            "`deetune recording show` says what is in it",
        )
    return plan


def _target(config: pytest.Config) -> Target:
    from deetune_otel.replay.options import Target
    from deetune_otel.replay.safety import is_loopback

    text = config.getoption("deetune_target") or config.getini("deetune_target")
    try:
        target = Target.parse(text)
    except ValueError as error:
        raise _usage(
            str(error), "--deetune-target, or deetune_target in pytest's configuration"
        ) from None
    is_here = target.path or is_loopback(target.host)
    if not is_here and not config.getoption("deetune_allow_remote"):
        raise _usage(
            f"{text} is not on this machine",
            "--deetune-allow-remote sends recorded requests there nevertheless",
        )
    return target


def _rules(path: Path | None) -> JudgeRules:
    from deetune_otel.comparison.rules import JudgeRules, from_text

    if path is None:
        return JudgeRules()
    try:
        return from_text(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # among them RulesError
        raise _usage(f"{path}: {error}", "docs/comparison.md has their keys") from None


def _account(verdict: Verdict, sent: Sent) -> str:
    """What differs, for a person: the request, and a line a finding."""
    from deetune_otel.comparison.clusters import Cluster, Example
    from deetune_otel.comparison.reports.report import asked

    lines = [asked(verdict.exchange)]
    for place, kind, expected, actual in verdict.findings:
        one = Cluster(
            operation=verdict.operation,
            place=place,
            kind=kind,
            count=1,
            exchanges=1,
            examples=(Example(verdict.exchange.id, place, expected, actual),),
        )
        lines.append(f"  {one.say()}")
    recorded = verdict.exchange.trace_id or "no trace"
    lines.append(
        f"  exchange {verdict.exchange.id}, recorded as {recorded}, sent as {sent.trace_id}"
    )
    return "\n".join(map(_printable, lines))


def _file(config: pytest.Config, name: str) -> Path | None:
    """A file that an option names from here, or pytest's configuration from its root."""
    if given := config.getoption(f"deetune_{name}"):
        return _absolute(config.invocation_params.dir, given)
    given = config.getini(f"deetune_{name}")
    return _absolute(config.rootpath, given) if given else None


def _absolute(folder: Path, name: str) -> Path:
    return Path(os.path.abspath(folder / name))  # noqa: PTH100 -- as pytest does it


def _usage(message: str, hint: str) -> pytest.UsageError:
    lines = (message, f"hint: {hint}") if hint else (message,)
    return pytest.UsageError("\n".join(map(_printable, lines)))


def _printable(text: str) -> str:
    """What was recorded has no say over a terminal."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)
