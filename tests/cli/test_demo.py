# SPDX-License-Identifier: Apache-2.0
"""`deetune demo` as a person or a script runs it: the whole agent over the whole shop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import psutil
import pytest
from tests.cli.tty import Tty
from tests.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "deetune_otel", "demo"]
FRONT = ("customers", "nginx", "http")
ENDED = (
    r"Everything that the demo started has ended\.\n"
    r"map: http://127\.0\.0\.1:\d+/ was live until now\n\Z"
)
EDGES = {
    FRONT,
    ("nginx", "shop", "http"),
    ("nginx", "orders", "http"),
    ("shop", "orders", "http"),
    ("orders", "shop", "http"),
    ("shop", "redis-server", "redis"),
    ("orders", "redis-server", "redis"),
    ("shop", "postgres", "unknown"),
    ("orders", "postgres", "unknown"),
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Where the demos of this module have their folders.

    Short, for a socket's path has 107 bytes, and open to unprivileged servers.
    """
    with TemporaryDirectory(prefix="dt-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def seen(place: Path) -> dict[str, Any]:
    """What --json says of ten seconds."""
    done = subprocess.run(
        [*COMMAND, "--for", "10", "--json"],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        env=at(place),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(ENDED, done.stderr)
    assert left_at(place) == []
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.e2e
def test_who_calls_whom(seen: dict[str, Any]) -> None:
    assert set(calls(seen)) >= EDGES


@pytest.mark.e2e
def test_both_ends_of_the_front_door_counted_what_the_customers_did(
    seen: dict[str, Any],
) -> None:
    answers = [one for one in seen["load"]["operations"] if one["status"]]
    total = sum(one["count"] for one in answers)
    front = calls(seen)[FRONT]
    assert total > 500
    assert front["calls"]["count"] == total
    assert front["total"] == total
    assert front["at_server"]["count"] == total
    # A 4xx says that the caller was wrong, at whichever end.
    for end in (front["calls"], front["at_server"]):
        assert end["errors"] == sum(
            one["count"] for one in answers if one["status"] >= 500
        )
        assert end["client_errors"] == sum(
            one["count"] for one in answers if 400 <= one["status"] < 500
        )


@pytest.mark.e2e
def test_every_operation_is_counted_at_both_ends_under_its_own_name(
    seen: dict[str, Any],
) -> None:
    theirs: Counter[str] = Counter()
    for one in seen["load"]["operations"]:
        theirs[one["operation"]] += one["count"]
    (front,) = (
        one
        for one in seen["edge_details"].values()
        if names_of(seen, one["edge"]) == FRONT[:2]
    )
    for details in (front, served_by(seen, "nginx")):
        ours = {
            one["name"]: one["calls"]["count"]
            for one in details["operations"]
            if one["protocol"] == "http"
        }
        # nginx may serve others on this host
        assert {name: ours.get(name) for name in theirs} == theirs


@pytest.mark.e2e
def test_the_slow_and_the_failing_stand_out(seen: dict[str, Any]) -> None:
    served = {
        one["name"]: one["calls"] for one in served_by(seen, "shop")["operations"]
    }
    assert served["GET /search"]["mean_s"] > 0.3
    assert served["GET /products/{id}"]["mean_s"] < 0.3
    failed = next(
        one["count"]
        for one in seen["load"]["operations"]
        if (one["operation"], one["status"]) == ("POST /checkout", 500)
    )
    assert served["POST /checkout"]["errors"] == failed


@pytest.mark.e2e
def test_the_ledger_balances(seen: dict[str, Any]) -> None:
    assert seen["ledger"]["difference"] == {"exchanges": 0, "bytes": 0}
    assert seen["ledger"]["counted"]["exchanges"] > 500


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals, place: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--no-table"], stdout=subprocess.PIPE, env=at(place)
    ) as demo:
        try:
            output = iter(demo.stdout or ())
            assert any(b"customers -> nginx (http)" in line for line in output)
            demo.send_signal(number)
            rest = b"".join(output)
            assert demo.wait(20) == 0
        finally:
            demo.kill()
    assert b"The ledger balances" in rest
    assert re.search(ENDED.encode(), rest)
    assert left_at(place) == []


@pytest.mark.e2e
def test_in_a_terminal_the_maps_address_is_what_stands_first(place: Path) -> None:
    with Tty([*COMMAND, "--for", "6"], env=at(place)) as tty:
        tty.wait(lambda: "→ nginx" in tty.text and "GET /search" in tty.text)
        line = next(line for line in tty.lines if line.startswith("map: "))
        url = line.removeprefix("map: ")
        assert url.startswith("http://127.0.0.1:")
        with urlopen(Request(url, headers={"Accept": "text/html"})) as page:
            assert b"<html" in page.read()
        assert tty.ended() == 0
        last = next(line for line in reversed(tty.lines) if line)
        assert last == f"map: {url} was live until now"
        assert tty.mode == tty.mode_before


@pytest.mark.e2e
def test_a_signal_while_it_starts_ends_it_too(place: Path) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, env=at(place)) as demo:
        try:
            output = iter(demo.stdout or ())
            assert any(b"starting postgres" in line for line in output)
            demo.send_signal(signal.SIGINT)
            rest = b"".join(output)
            assert demo.wait(20) == 130
        finally:
            demo.kill()
    assert rest.endswith(b"Everything that the demo started has ended.\n")
    assert left_at(place) == []


@pytest.mark.e2e
def test_kill_9_leaves_nothing_behind(place: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--no-table"], stdout=subprocess.PIPE, env=at(place)
    ) as demo:
        try:
            assert demo.stdout is not None
            assert any(b"customers -> nginx" in line for line in demo.stdout)
        finally:
            demo.kill()
    wait_until(lambda: left_at(place) == [], "the shop's programs ended")
    wait_until(lambda: list(place.iterdir()) == [], "its folder is gone")


@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--for", "0", "more than 0"),
        ("--for", "nan", "more than 0"),
        ("--for", "soon", "invalid"),
        ("--rate", "0", "up to 1000"),
        ("--rate", "5000", "up to 1000"),
    ],
)
def test_senseless_numbers_are_refused(flag: str, value: str, why: str) -> None:
    done = subprocess.run(
        [*COMMAND, flag, value], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert why in done.stderr


def names_of(seen: dict[str, Any], edge: dict[str, Any]) -> tuple[str, str]:
    names = {one["id"]: one["name"] for one in seen["nodes"]}
    return names[edge["client"]], names[edge["server"]]


def calls(seen: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The calls of each edge and protocol, by the names of its ends."""
    return {
        (*names_of(seen, edge), one["protocol"]): one
        for edge in seen["edges"]
        for one in edge["calls"]
    }


def served_by(seen: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (
        one for one in seen["node_details"].values() if one["node"]["name"] == name
    )
    return dict(found)


def at(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place)}


def left_at(place: Path) -> list[psutil.Process]:
    """What still runs in a folder of a demo, removed or not."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(f"{place}/"):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
