# SPDX-License-Identifier: Apache-2.0
"""The benchmark: what it prints has its shape, whatever the numbers; refusals say why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import __main__ as command
from bench.plan import AIMS, FULL, PARTS, QUICK
from bench.results import Compared, Measured, Results, Spread, markdown, text, to_json

from deetune_otel.kernel.features import Facts, judge

ROOT = Path(__file__).parents[2]
WITHOUT_RIGHTS = Facts(
    btf=True,
    capabilities=frozenset(),
    libbpf_version="v1.1",
    unprivileged_bpf_disabled=2,
    lockdown="none",
)


def results() -> Results:
    found = Results(
        machine={
            "cpu": "Z80",
            "cpus": 1,
            "kernel": "6.6",
            "python": "3.11",
            "load": 0.5,
        },
        settings={"quick": True},
        rounds=3,
    )
    found.compared.append(
        Compared(
            "nginx.p50",
            "nginx: p50",
            "ns",
            Spread.of([100.0, 90.0, 120.0]),
            Spread.of([110.0, 1500.0, 130.0]),
            Spread.of([1.1, 1.2, 1.05]),
        )
    )
    found.measured += [
        Measured("kernel.nginx", "kernel time", "ns", Spread.of([499.0])),
        Measured("memory.http", "memory", "MB", Spread.of([80.5])),
        Measured("load.programs", "load", "s", Spread.of([1.0, 2.0])),
    ]
    found.notes.append("A remark.")
    return found


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_an_aim_is_met_or_missed_and_says_so() -> None:
    rows = {line.split("|")[1].strip(): line for line in markdown(results()).split("\n")
            if line.startswith("|")}  # fmt: skip
    assert rows["kernel time"].endswith("| ≤ 500 ns: ok |")
    assert rows["memory"].endswith("| ≤ 80.0 MB: missed |")
    assert "ok" not in rows["load"]
    assert "missed" not in rows["load"]
    measured = to_json(results())["measured"]
    assert measured["kernel.nginx"]["ok"] is True
    assert measured["memory.http"]["ok"] is False
    assert "ok" not in measured["load.programs"]


def test_the_table_says_ratio_spread_and_units() -> None:
    row = next(line for line in markdown(results()).split("\n") if "nginx" in line)
    assert row == "| nginx: p50 | 100 ns | 130 ns | 1.100 (1.050 to 1.200) |  |"


def test_both_forms_say_the_machine_and_the_remarks() -> None:
    for said in (text(results()), markdown(results())):
        assert "Z80, 1 CPUs, Linux 6.6" in said
        assert "A remark." in said
        assert "Missed: memory (80.5 MB)." in said
        assert "repeat it on a quiet one" in said


def test_a_quiet_machine_is_not_called_busy() -> None:
    found = results()
    found.machine["load"] = 0.1
    assert "quiet" not in text(found)


def test_it_is_bounded() -> None:
    """Little more than the seconds written in the plans, whatever the machine does."""
    for plan, most_s in ((FULL, 180), (QUICK, 30)):
        assert plan.rounds_s + 3 * plan.window_s < most_s * 0.75
    assert QUICK.rounds < FULL.rounds


def test_without_rights_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])
    monkeypatch.setattr(command, "probe", lambda: judge(WITHOUT_RIGHTS))
    assert command.main() == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "no CAP_BPF" in said.err
    assert "hint: Start it as root" in said.err


def test_an_unknown_part_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "nginx,apache"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no part apache" in capsys.readouterr().err


def test_the_page_has_a_place_for_the_table_and_explains_every_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "overhead.md").read_text()
    assert [name for name in PARTS if f"`{name}`" not in page] == []
    copy = tmp_path / "overhead.md"
    copy.write_text(page)
    monkeypatch.setattr(command, "_PAGE", copy)
    command._update("| the new table |")
    written = copy.read_text()
    assert "| the new table |" in written
    assert "1 KB ping-pong: p50" not in written
    assert written.split(command._BEGIN)[0] == page.split(command._BEGIN)[0]
    assert written.split(command._END)[1] == page.split(command._END)[1]


@pytest.mark.kernel
def test_a_short_run_prints_every_number_of_its_parts() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--quick", "--json"),
            *("--only", "file,pingpong,kernel,load"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["rounds"] == QUICK.rounds
    assert set(found["compared"]) == {
        "file.read",
        "pingpong.throughput",
        "pingpong.p50",
        "pingpong.p99",
    }
    for one in found["compared"].values():
        for side in ("without", "with", "ratio"):
            spread = one[side]
            assert 0 < spread["least"] <= spread["median"] <= spread["most"]
    measured = found["measured"]
    assert {
        "kernel.pingpong",
        "kernel.dt_sock_send",
        "kernel.dt_sock_recv",
        "load.programs",
        "load.agent",
    } <= set(measured)
    assert all(one["median"] > 0 for one in measured.values())
    assert measured["kernel.pingpong"]["aim"] == AIMS["kernel.pingpong"]
    assert re.search(r"saw [1-9][\d,]* exchanges", " ".join(found["notes"]))
