# SPDX-License-Identifier: Apache-2.0
"""What /status is made of."""

from __future__ import annotations

import json

from deetune_otel.agent import status
from deetune_otel.agent.exporters import Outlet
from deetune_otel.export.queue import DropCause, ExportStats
from deetune_otel.kernel import (
    PARTS,
    KernelSettings,
    Outcome,
    ProgramCost,
    Refusal,
    Rung,
    Tried,
)
from deetune_otel.kernel.trying import Doing
from deetune_otel.model import Ledger, LedgerLine


def test_the_ledger_says_whether_it_balances() -> None:
    lines = {"lost": {"unparsed": LedgerLine(1, 5)}, "noted": {}}
    ledger = Ledger(
        seen=LedgerLine(10, 100),
        counted=LedgerLine(8, 90),
        open=LedgerLine(1, 5),
        **lines,
    )
    assert status.ledger(ledger)["balanced"]
    short = Ledger(
        seen=LedgerLine(11, 100),
        counted=LedgerLine(8, 90),
        open=LedgerLine(1, 5),
        **lines,
    )
    said = status.ledger(short)
    assert not said["balanced"]
    assert said["difference"] == {"exchanges": 1, "bytes": 0}
    assert said["lost"] == {"unparsed": {"exchanges": 1, "bytes": 5}}


def test_programs_show_their_cost_where_it_was_measured() -> None:
    programs = {
        "a": ProgramCost(4, 1000, 0, 50),
        "b": ProgramCost(0, 0, 0, 50),
        "c": ProgramCost(0, 0, 7, 50),
    }
    said = status.cost(programs, cpu_time_ns=2_000_000_000, memory_bytes=7)
    assert said == {
        "cpu_s": 2,
        "memory_bytes": 7,
        "programs": {
            "a": {"runs": 4, "time_ns": 1000, "ns_per_run": 250, "not_run": 0},
            "c": {"runs": 0, "time_ns": 0, "ns_per_run": 0, "not_run": 7},
        },
    }


def test_a_signal_may_go_to_several_places() -> None:
    stats = ExportStats(
        accepted=3,
        sent=1,
        superseded=0,
        dropped=dict.fromkeys(DropCause, 1),
        points_lost=0,
        retries=0,
        depth=0,
        depth_bytes=0,
        failing="",
    )
    exporters = [Outlet(signal="spans", endpoint=to, stats=stats) for to in ("a", "b")]
    said = json.loads(json.dumps(status.exports(exporters)))
    assert [one["endpoint"] for one in said["spans"]] == ["a", "b"]
    assert said["spans"][0]["dropped"]["queue_full"] == 1


def test_maps_show_their_bounds() -> None:
    settings = KernelSettings(max_series=100, max_edges=10, max_owners=5)
    said = status.maps(settings, series=1, edges=2, owners=3)
    assert said["series"] == {"used": 1, "maximum": 100}
    assert said["owners"] == {"used": 3, "maximum": 5}


def test_what_the_kernel_refuses_is_told_with_what_is_lost() -> None:
    """One line a part, and why the better rung was not taken."""
    recv, send, packet = (
        Refusal(program=name, doing=Doing.LOAD, reason="no", number=number)
        for name, number in (("dt_sock_recv", 3), ("dt_unix_send", 1), ("", 0))
    )
    part = {name: one for one in PARTS for name in one.programs}
    better = Outcome(
        program="dt_sock_recv",
        rung=Rung.SOCKET_TRACEPOINTS,
        part=part["dt_sock_recv"],
        refusal=recv,
    )
    outcomes = (
        Outcome(program=name, rung=Rung.FEXIT, part=part[name], refusal=refusal)
        for name, refusal in (
            ("dt_inet_send", None),
            ("dt_unix_send", send),
            ("dt_unix_recv", packet),
        )
    )
    said = status.tried(Tried(rung=Rung.FEXIT, outcomes=(better, *outcomes)))
    assert json.loads(json.dumps(said)) == {
        "rung": {
            "number": 2,
            "description": Rung.FEXIT.description,
            "passed_over": [
                {
                    "program": "dt_sock_recv",
                    "rung": 1,
                    "why": "dt_sock_recv cannot be loaded: no",
                    "lost": part["dt_sock_recv"].lost,
                }
            ],
        },
        "refused": [
            {
                "program": "dt_unix_send",
                "rung": 2,
                "why": "dt_unix_send cannot be loaded: no",
                "lost": part["dt_unix_send"].lost,
            }
        ],
    }
