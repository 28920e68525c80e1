# SPDX-License-Identifier: Apache-2.0
"""The demo's shop, recorded under load and replayed against a second instance of one service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.error import HTTPError

import psutil
import psycopg
import pytest
from tests.process import Child, answers, free_port, wait_until

from deetune_otel.demo.services import shop as shop_service
from deetune_otel.demo.stack import Stack, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Enough of each, among the customers' own.
VISITS: Final = 3


class Recorded(NamedTuple):
    stack: Stack
    path: Path


def deetune(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deetune_otel", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def visit(url: str) -> None:
    with urllib.request.urlopen(url, timeout=10) as answer:
        answer.read()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """The service `shop` among nginx, orders, Redis and PostgreSQL, under its customers' load."""
    folder = tmp_path_factory.mktemp("shop")
    path = folder / "shop.pcapng"
    with opened(lambda _: None) as stack:
        with stack.customers(rate=50):
            recorder = Child(
                [
                    *(sys.executable, "-m", "deetune_otel", "record"),
                    *("--service", "shop", "--for", "2m", "-o", str(path)),
                ],
                log=folder / "recorder.log",
            )
            try:
                wait_until(
                    lambda: "Ctrl-C" in recorder.log_text(), "it records", timeout_s=60
                )
                # Each product twice from the cache and once not: how often varies by itself.
                for _ in range(VISITS):
                    for number in (7, 8, 9):
                        visit(f"{stack.url}/products/{number}")
                wait_until(
                    lambda: path.stat().st_size > 400_000, "the load", timeout_s=60
                )
            finally:
                assert recorder.stop(60) == 0, recorder.log_text()
        yield Recorded(stack, path)


@contextmanager
def second_instance(stack: Stack) -> Iterator[str]:
    """Of the same build, beside the first one, with a database of its own."""
    (first,) = [
        one
        for one in psutil.process_iter()
        if _command(one)[-1:] == [shop_service.__file__]
        and _environment(one).get("PORT") == str(stack.ports.shop)
    ]
    environment = _environment(first)
    database, port = f"second_{free_port()}", free_port()
    with psycopg.connect(
        host=environment["PGHOST"],
        port=environment["PGPORT"],
        user=environment["PGUSER"],
        password=environment["PGPASSWORD"],
        dbname="postgres",
        autocommit=True,
    ) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    with subprocess.Popen(
        [sys.executable, shop_service.__file__],
        env={**environment, "PORT": str(port), "PGDATABASE": database},
    ) as process:
        try:
            wait_until(lambda: answers(port), "the second instance listens")
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _environment(process: psutil.Process) -> dict[str, str]:
    return dict(process.environ())


def test_the_same_build_differs_in_nothing(recorded: Recorded) -> None:
    with second_instance(recorded.stack) as target:
        done = deetune("replay", recorded.path, "--target", target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 different" in done.stdout
    assert "with their calls compared" in done.stdout
    assert "not sent: a write" in done.stdout


def test_a_field_a_status_and_a_call_are_exactly_what_is_reported(
    recorded: Recorded, tmp_path: Path
) -> None:
    kept = os.environ.get("DEETUNE_KEEP_REPORT")  # for the README's picture
    report = Path(kept) if kept else tmp_path / "report.html"
    words = ["--report", report, "--json", tmp_path / "r.json"]
    target = recorded.stack.next_build
    done = deetune("replay", recorded.path, "--target", target, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    clusters = json.loads((tmp_path / "r.json").read_text())["clusters"]
    assert {(one["operation"], one["place"]) for one in clusters} == {
        ("GET /products/{id}", "$.price"),
        ("GET /products/{id}", "downstream EXISTS"),
        ("GET /products/{id}", "status"),
    }, done.stdout
    found: Counter[str] = Counter()
    for one in clusters:
        found[one["place"]] += one["exchanges"]
    assert min(found.values()) >= VISITS
    assert report.stat().st_mode & 0o777 == 0o600
    with pytest.raises(HTTPError):  # the first instance goes on as it was
        visit(f"{recorded.stack.url}/wishlist")
