# SPDX-License-Identifier: Apache-2.0
"""What a person sees: golden text at the widths of real terminals."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from deetune_otel.cli.terminal import View, plain_lines
from deetune_otel.model import Ledger, LedgerLine, Protocol, Role
from deetune_otel.topology.snapshot import (
    EdgeView,
    Ends,
    OperationView,
    ServiceView,
    Snapshot,
    Stats,
)

SECOND = 10**9


def stats(count: int = 100, **changes: Any) -> Stats:
    values: dict[str, Any] = {
        "count": count,
        "errors": 0,
        "rate": count / 10,
        "error_ratio": 0.0,
        "mean_s": 0.00123,
        "p50_s": 0.0025,
        "p90_s": 0.0045,
        "p99_s": 0.0049,
        "request_bytes": 10 * count,
        "response_bytes": 20 * count,
    }
    return Stats(**values | changes)


def edge(client: str, server: str, protocol: Protocol, total: Stats) -> EdgeView:
    return EdgeView(
        client=client,
        server=server,
        protocol=protocol,
        ends=Ends.BOTH,
        now=total,
        total=total,
        server_now=None,
        server_total=None,
    )


def service(name: str, *operations: tuple[str, Role, Stats]) -> ServiceView:
    return ServiceView(
        name=name,
        found_by="script",
        instances=1,
        now=stats(),
        total=stats(),
        operations=tuple(
            OperationView(
                name=operation, protocol=Protocol.HTTP, role=role, now=one, total=one
            )
            for operation, role, one in operations
        ),
    )


SLOW = stats(40, mean_s=0.3011, p50_s=0.31, p90_s=0.42, p99_s=0.497)
FAILING = stats(
    83, errors=5, error_ratio=5 / 83, mean_s=0.0119, p50_s=0.0083, p90_s=0.02, p99_s=1.5
)
BOTH_FAIL = stats(12000, errors=3, error_ratio=3 / 12000, p99_s=10.0)
NEVER = stats(0, mean_s=None, p50_s=None, p90_s=None, p99_s=None)


def view(**changes: Any) -> View:
    snapshot = Snapshot(
        start_unix_ns=0,
        time_unix_ns=12 * SECOND,
        interval_s=1.0,
        services=(
            service(
                "shop",
                ("GET /products/{id}", Role.SERVER, stats(561)),
                ("GET /search", Role.SERVER, SLOW),
                ("POST /checkout", Role.SERVER, FAILING),
                ("POST /orders", Role.CLIENT, stats(1000)),
            ),
            service("redis-server", ("GET", Role.SERVER, BOTH_FAIL)),
        ),
        edges=(
            edge("customers", "nginx", Protocol.HTTP, BOTH_FAIL),
            edge("nginx", "shop", Protocol.HTTP, FAILING),
            edge("shop", "postgres", Protocol.UNKNOWN, SLOW),
            edge("shop", "127.0.0.1:9", Protocol.CONNECT, NEVER),
        ),
    )
    values: dict[str, Any] = {
        "snapshot": snapshot,
        "ledger": ledger(),
        "host": "debian",
        "hooks": "rung 1",
        "agent_cpu": 0.0123,
        "agent_memory_bytes": 61_400_000,
    }
    return View(**values | changes)


def ledger(counted: int = 12_345, **lost: int) -> Ledger:
    zero = LedgerLine(0, 0)
    return Ledger(
        seen=LedgerLine(12_345 + sum(lost.values()), 0),
        counted=LedgerLine(counted, 0),
        open=zero,
        lost={cause: LedgerLine(count, 0) for cause, count in lost.items()},
        noted={},
    )


def drawn(shown: View, width: int = 100, height: int = 40) -> str:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=False
    )
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


WIDE = """\
debian · rung 1 · 12 s · 12,345 exchanges counted · ledger ✓ · agent 1.2% of a core, 61 MB

client            → server         protocol  req/s   calls   errors     mean     p50     p90     p99
customers         → nginx          http      1,200  12,000  < 0.1 %  1.23 ms  < 5 ms  < 5 ms  > 10 s
nginx             → shop           http        8.3      83    6.0 %    12 ms    8 ms   20 ms   1.5 s
shop              → postgres       unknown     4.0      40      0 %   301 ms  310 ms  420 ms  497 ms
shop              → 127.0.0.1:9    connect     0.0       0      0 %        -       -       -       -

service         operation                    req/s   calls   errors     mean     p50     p90     p99
redis-server    GET                          1,200  12,000  < 0.1 %  1.23 ms  < 5 ms  < 5 ms  > 10 s
shop            GET /search                    4.0      40      0 %   301 ms  310 ms  420 ms  497 ms
shop            POST /checkout                 8.3      83    6.0 %    12 ms    8 ms   20 ms   1.5 s
shop            GET /products/{id}            56.1     561      0 %  1.23 ms  < 5 ms  < 5 ms  < 5 ms
"""
NARROW = """\
debian · rung 1 · 12 s · 12,345 exchanges counted · ledger ✓
· agent 1.2% of a core, 61 MB

client         → server      req/s   errors     mean     p99
customers      → nginx       1,200  < 0.1 %  1.23 ms  > 10 s
nginx          → shop          8.3    6.0 %    12 ms   1.5 s
shop           → postgres      4.0      0 %   301 ms  497 ms
shop           → 127.0.0.1…    0.0      0 %        -       -

service    operation         req/s   errors     mean     p99
redis-se…  GET               1,200  < 0.1 %  1.23 ms  > 10 s
shop       GET /search         4.0      0 %   301 ms  497 ms
shop       POST /checkout      8.3    6.0 %    12 ms   1.5 s
shop       GET /products/{…   56.1      0 %  1.23 ms  < 5 ms
"""


@pytest.mark.parametrize(("width", "golden"), [(100, WIDE), (60, NARROW)])
def test_golden(width: int, golden: str) -> None:
    assert drawn(view(), width) == golden.rstrip("\n")


def test_operations_are_ordered_by_the_time_they_took_in_all() -> None:
    lines = drawn(view()).splitlines()
    shown = [line.split()[:3] for line in lines if line.startswith("shop  ")][-3:]
    assert [words[2] for words in shown] == ["/search", "/checkout", "/products/{id}"]


@pytest.mark.parametrize("width", [40, 60, 76, 80, 99, 100, 132, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(view(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("nginx" in line for line in lines)


def many(count: int) -> View:
    shown = view()
    edges = tuple(
        edge("customers", f"server-{number:03}", Protocol.HTTP, stats(number))
        for number in range(count)
    )
    operations = [
        (f"GET /{number}", Role.SERVER, stats(number)) for number in range(50)
    ]
    snapshot = Snapshot(
        start_unix_ns=0,
        time_unix_ns=shown.snapshot.time_unix_ns,
        interval_s=1.0,
        services=(service("shop", *operations),),
        edges=edges,
    )
    return view(snapshot=snapshot)


@pytest.mark.parametrize("height", [24, 30, 50])
def test_what_does_not_fit_is_said_and_the_busiest_stay(height: int) -> None:
    text = drawn(many(60), height=height)
    assert len(text.splitlines()) <= height
    assert "server-059" in text
    assert "server-001" not in text
    assert text.count("… ") == 2
    assert all(line.endswith(" more") for line in text.splitlines() if "… " in line)


def test_a_ledger_that_does_not_balance_says_by_how_much() -> None:
    text = drawn(view(ledger=ledger(12_300)))
    assert "ledger ≈ +45 exchanges, +0 bytes" in text
    assert "✓" not in text


def test_losses_have_their_names() -> None:
    text = drawn(view(ledger=ledger(midstream=7, unparsed=0)))
    assert "ledger ✓ · 7 midstream" in text
    assert "unparsed" not in text


def test_errors_and_slowness_have_colours_on_a_terminal_that_has_them() -> None:
    console = Console(
        file=io.StringIO(), width=100, force_terminal=True, color_system="standard"
    )
    with console.capture() as capture:
        console.print(view())
    text = capture.get()
    assert re.search(r"\x1b\[1;31m *6\.0 %", text)
    assert re.search(r"\x1b\[33m *301 ms", text)


def test_plain_lines() -> None:
    assert plain_lines(view()) == [
        "debian · rung 1 · 12 s · 12,345 exchanges counted · ledger ✓ · agent 1.2% of a core, 61 MB",
        "  customers -> nginx (http): 1,200/s, < 0.1 % errors, mean 1.23 ms, p99 > 10 s",
        "  nginx -> shop (http): 8.3/s, 6.0 % errors, mean 12 ms, p99 1.5 s",
        "  shop -> postgres (unknown): 4.0/s, 0 % errors, mean 301 ms, p99 497 ms",
        "  shop -> 127.0.0.1:9 (connect): 0.0/s, 0 % errors, mean -, p99 -",
    ]


def test_plain_lines_are_the_busiest() -> None:
    lines = plain_lines(many(60))
    assert len(lines) == 22
    assert "server-059" in lines[1]
    assert lines[-1] == "  … 40 more"
