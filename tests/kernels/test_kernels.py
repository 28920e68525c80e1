# SPDX-License-Identifier: Apache-2.0
"""The ladder on kernels of Debian's suites, in virtual machines, and on the machine's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.kernel.budgets import VERIFIED_INSTRUCTIONS
from tests.kernels.kernels import FEXIT, HERE, KERNELS, TRACEPOINTS, Tried
from tests.kernels.traffic import CALLS, OLDER, STEPS, Step, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
REPORTS: Final = ROOT / "build" / "kernels"
LADDER: Final = (sys.executable, "-m", "tests.kernels.ladder")
GUEST_S: Final = 400  # an emulated processor: some 50 s where nothing else runs


@pytest.mark.kernels
@pytest.mark.timeout(GUEST_S + 100)
@pytest.mark.parametrize("tried", KERNELS, ids=lambda tried: tried.name)
def test_a_kernel_of_debian(tried: Tried, capsys: pytest.CaptureFixture[str]) -> None:
    fetched = _run("script/fetch-kernel", tried.suite)
    if fetched.returncode:
        pytest.skip(f"no kernel of {tried.suite}: {fetched.stderr}")
    done = _run("script/run-on-kernel", fetched.stdout.strip(), *LADDER)
    found = _report(done, tried.name)
    with capsys.disabled():
        sys.stdout.write(f"\n{_summary(found)}\n")
    assert found["release"].startswith(f"{tried.series}.")
    _judge(found, tried)
    if not tried.refused:
        # Nobody else has sockets there.
        rows = list(_rows(found["counted"]))
        assert found["ledger"]["counted"] == [
            sum(row[0] for row in rows),
            sum(row[1] + row[2] for row in rows),
        ]
        assert found["ledger"]["open"] == [0, 0]


@pytest.mark.kernel
@pytest.mark.timeout(120)
def test_this_kernel() -> None:
    _judge(_report(_run(*LADDER), "here"), HERE)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "RUN_SECONDS": str(GUEST_S)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _report(done: subprocess.CompletedProcess[str], name: str) -> dict[str, Any]:
    """What the ladder printed; a virtual machine has one output for it and for errors."""
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, f"status {done.returncode}:\n{said}"
    line = done.stdout.splitlines()[-1]
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.json").write_text(f"{line}\n")
    found: dict[str, Any] = json.loads(line)
    return found


def _summary(found: dict[str, Any]) -> str:
    seconds = ", ".join(f"{name} {n:g} s" for name, n in found["seconds"].items())
    first = f"{found['release']} ({seconds})"
    if found["refused"]:
        return f"{first}\n    refused: {found['refused'].splitlines()[0]}"
    programs = ", ".join(
        f"{name} {one['verified_instructions']}"
        for name, one in found["programs"].items()
    )
    return f"{first}\n    verified instructions: {programs}"


def _judge(found: dict[str, Any], tried: Tried) -> None:
    """Each call is counted at each end, or its absence was expected; all is accounted for."""
    if tried.refused:
        assert re.search(tried.refused, found["refused"] or "it was not refused")
        check = found["check"]
        assert (check["code"], check["usable"]) == (3, False)
        first = tried.refused.partition("\n")[0]
        assert any(re.search(first, what) for what in check["missing"])
        return
    assert found["refused"] is None
    assert found["without"] == []
    assert tried.hooks == (TRACEPOINTS | FEXIT) & set(found["programs"])
    expected, lost = _expected(found["told"], tried)
    ledger = found["ledger"]
    assert ledger["difference"] == [0, 0]
    skipped = {
        name: one["recursion_misses"]
        for name, one in found["programs"].items()
        if one["recursion_misses"]
    }
    assert ledger["noted"].get("not_run", [0, 0])[0] == sum(skipped.values())
    if skipped and tried.misses_runs:
        assert _apart(found["counted"], expected) <= sum(skipped.values()), skipped
    else:
        skipped.pop("dt_tcp_connect", None)  # harmless: docs/troubleshooting.md
        assert not skipped
        assert found["counted"] == expected
        assert {name: line[1] for name, line in ledger["lost"].items()} == lost
        assert not any(line[0] for line in ledger["lost"].values())
    assert found["counted_after_detach"] == found["counted"]
    verified = {
        name: one["verified_instructions"] for name, one in found["programs"].items()
    }
    assert max(verified.values()) <= VERIFIED_INSTRUCTIONS, verified
    assert found["held"]["prog"] >= len(verified)
    assert found["held"]["link"] >= 4


def _expected(
    told: dict[str, Told], tried: Tried
) -> tuple[dict[str, Told], dict[str, int]]:
    """What is counted, and the ledger's bytes that are in no exchange."""
    expected: dict[str, Told] = json.loads(json.dumps(told))
    server = expected["server"]
    lost: Counter[str] = Counter()
    for step in OLDER:
        if step.in_flight:  # its answer, at both ends
            lost["midstream"] += 2 * len(CALLS[step.protocol](0)[2])
    for step in _waiting() if tried.misses_waiting_reads else ():
        request, outcome, answer = CALLS[step.protocol](step.before)
        _take_away(server, step, outcome, [1, len(request), len(answer)])
        line = "unanswered" if step.protocol == "dns" else "midstream"
        lost[line] += len(answer)
    for step in STEPS:
        if step.by_sendfile and tried.misses_sendfile:
            _without_bodies(server, step)
    return expected, dict(lost)


def _without_bodies(server: Told, step: Step) -> None:
    for number in range(step.calls):
        request, outcome, answer = CALLS[step.protocol](number)
        head = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        if number + 1 < step.calls:
            _take_away(server, step, outcome, [0, 0, len(answer) - len(head)])
        else:
            _take_away(server, step, outcome, [1, len(request), len(answer)])
            name = f"server {step.protocol} {outcome} closed"
            server[step.name][name] = [1, len(request), len(head)]


def _take_away(server: Told, step: Step, outcome: int, what: list[int]) -> None:
    row = server[step.name][f"server {step.protocol} {outcome} complete"]
    row[:] = (one - less for one, less in zip(row, what, strict=True))


def _waiting() -> Iterator[Step]:
    """Where a server is waiting for a request when the agent comes."""
    yield from (step for step in OLDER if not step.in_flight)
    yield from (step for step in STEPS if step.transport == "udp")


def _apart(counted: dict[str, Told], expected: dict[str, Told]) -> int:
    """At how many ends of how many steps something else was counted."""
    return sum(
        counted[end].get(step) != expected[end].get(step)
        for end in expected
        for step in expected[end].keys() | counted[end].keys()
    )


def _rows(told: dict[str, Told]) -> Iterator[list[int]]:
    for steps in told.values():
        for calls in steps.values():
            yield from calls.values()
