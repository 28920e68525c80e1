# SPDX-License-Identifier: Apache-2.0
"""What a person sees: golden text at the widths of real terminals."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console
from tests.topology.maps import calls, edge, network, service_map

from deetune_otel.cli.rows import By, Row, arranged, rows
from deetune_otel.cli.terminal import (
    Look,
    cut,
    duration,
    megabytes,
    plain_lines,
    rows_table,
    sparkline,
    whole_duration,
)
from deetune_otel.model import Protocol

A, NGINX, SHOP, DB = (
    "service:/customers", "service:/nginx", "service:/shop", "address:127.0.0.1:9"
)  # fmt: skip
ROWS = arranged(
    rows(
        service_map(
            [
                edge(A, NGINX, calls(72_000, errors=18, each_s=0.00123)),
                edge(NGINX, SHOP, calls(498, errors=30, each_s=0.0119)),
                edge(SHOP, "service:/postgres", calls(240, protocol=Protocol.UNKNOWN, each_s=0.3011)),
                edge(SHOP, DB, network=network(0, connect_failures={"ECONNREFUSED": 7})),
            ]
        ),
        By.EDGE,
    ),
    "rate",
)  # fmt: skip


def drawn(
    found: list[Row] = ROWS, width: int = 100, room: int = 40, **more: Any
) -> str:
    console = Console(file=io.StringIO(), width=width, **more)
    with console.capture() as capture:
        console.print(
            rows_table(
                found, by=By.EDGE, width=width, room=room, look=Look(sort="rate")
            )
        )
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


WIDE = """\
client                  → server              protocol  req/s▼   errors     mean     p50     p99  4xx  connects  failed  rtt  resent
customers               → nginx               http       1,200  < 0.1 %  1.23 ms  < 5 ms  < 5 ms  0 %         0       0    -       0
nginx                   → shop                http         8.3    6.0 %    12 ms   18 ms   25 ms  0 %         0       0    -       0
shop                    → postgres            unknown      4.0      0 %   301 ms  375 ms  498 ms    -         0       0    -       0
shop                    → 127.0.0.1:9         tcp          0.0    100 %        -       -       -    -         0       7    -       0"""
NARROW = """\
client             → server          req/s▼   errors     p99
customers          → nginx            1,200  < 0.1 %  < 5 ms
nginx              → shop               8.3    6.0 %   25 ms
shop               → postgres           4.0      0 %  498 ms
shop               → 127.0.0.1:9        0.0    100 %       -"""


@pytest.mark.parametrize(("width", "golden"), [(132, WIDE), (60, NARROW)])
def test_golden(width: int, golden: str) -> None:
    assert drawn(width=width) == golden


@pytest.mark.parametrize("width", [20, 40, 60, 76, 80, 99, 100, 132, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 5


@pytest.mark.parametrize("room", [1, 2, 3, 4])
def test_what_does_not_fit_is_said(room: int) -> None:
    _, *lines = drawn(room=room).splitlines()
    assert len(lines) == room
    if room < 4:
        assert lines[-1] == f"… {5 - room} more"


def test_errors_and_slowness_have_colours_on_a_terminal_that_has_them() -> None:
    text = drawn(force_terminal=True, color_system="standard")
    assert re.search(r"\x1b\[1;31m *6\.0 %", text)
    assert re.search(r"\x1b\[33m *301 ms", text)
    assert "\x1b[" in drawn(force_terminal=True, color_system="standard")
    assert "\x1b[3" not in drawn(force_terminal=True, no_color=True)


def test_plain_lines() -> None:
    assert list(plain_lines(ROWS)) == [
        "customers -> nginx (http): 1,200/s, < 0.1 % failed, mean 1.23 ms, p99 < 5 ms",
        "nginx -> shop (http): 8.3/s, 6.0 % failed, mean 12 ms, p99 25 ms",
        "shop -> postgres (unknown): 4.0/s, 0 % failed, mean 301 ms, p99 498 ms",
        "shop -> 127.0.0.1:9 (tcp): 0.0/s, 100 % failed, mean -, p99 -, 7 ECONNREFUSED",
    ]


def test_plain_lines_are_not_endless() -> None:
    *lines, last = plain_lines(ROWS * 10)
    assert len(lines) == 20
    assert last == "… 20 more"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (duration(None), "-"),
        (duration(0.000_052), "52 µs"),
        (duration(0.00123), "1.23 ms"),
        (duration(0.3011), "301 ms"),
        (duration(2.5), "2.5 s"),
        (megabytes(0), "0 B"),
        (megabytes(1234), "1.23 kB"),
        (megabytes(61_400_000), "61.4 MB"),
        (megabytes(5e12), "5.0 TB"),
        (whole_duration(59.6), "60 s"),
        (whole_duration(900), "15 min"),
        (whole_duration(86_400), "24 h"),
        (sparkline([0, None, 5, 10], width=9), "▁ ▅█"),
        (sparkline([0, 0], width=9), "▁▁"),
        (sparkline([1, 2, 4], width=2), "▅█"),
        (sparkline([], width=9), ""),
    ],
)
def test_numbers_for_people(given: str, said: str) -> None:
    assert given == said


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (30, "cart-service-blue-00017"),
        (23, "cart-service-blue-00017"),
        (11, "cart-…00017"),
        (4, "ca…7"),
        (1, "…"),
        (0, ""),
    ],
)
def test_names_are_cut_where_they_are_alike(width: int, shown: str) -> None:
    assert cut("cart-service-blue-00017", width) == shown


def test_wide_characters_are_cut_by_their_cells() -> None:
    assert cut("客户客户客户-1", 8) == "客户…-1"
