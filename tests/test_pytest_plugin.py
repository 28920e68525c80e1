# SPDX-License-Identifier: Apache-2.0
"""The plugin in sessions of pytest of their own, against servers that answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest
from tests.exchanges import EXCHANGE, numbered
from tests.process import free_port
from tests.replay.servers import answering, listening

from deetune_otel import pytest_plugin
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.recording.model import HttpRequest, HttpResponse, RecordedExchange
from deetune_otel.replay.options import Target

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
ROOT: Final = Path(__file__).parents[1]
NAME: Final = "deetune_otel.pytest_plugin"
# An installed one is found by pytest itself, as by its users'.
IS_INSTALLED: Final = any(
    one.value == NAME for one in entry_points(group="pytest11", name="deetune")
)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest with these words; ten reads and a write are in orders.pcapng."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    flags = () if IS_INSTALLED else ("-p", NAME)
    write(pytester.path / "orders.pcapng", [*(get(i) for i in range(10)), EXCHANGE])
    return lambda *words: pytester.runpytest_subprocess(*flags, *map(str, words))


def replayed(run: Run, target: Target | str, *words: str) -> pytest.RunResult:
    return run(
        "--deetune-recording", "orders.pcapng", "--deetune-target", target, *words
    )


def write(path: Path, exchanges: Iterable[RecordedExchange]) -> None:
    with RecordingWriter(path, overwrite=True) as writer:
        for one in exchanges:
            writer.write(one)


def get(number: int, *, connections: int = 1) -> RecordedExchange:
    body = b'{"id": %d, "items": [{"price": 5}]}' % number
    return replace(
        numbered(number, connections=connections),
        request=HttpRequest(method="GET", target=f"/orders/{number}"),
        response=HttpResponse(
            status=200,
            reason="OK",
            headers=(
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            ),
            body=body,
        ),
        operation="GET /orders/{id}",
    )


def shop(head: bytes, *, dear: tuple[int, ...] = ()) -> bytes:
    """As recorded, but for the price of the dear ones."""
    number = int(head.split()[1].rpartition(b"/")[2])
    price = 6 if number in dear else 5
    body = b'{"id": %d, "items": [{"price": %d}]}' % (number, price)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
        + body
    )


def said(result: pytest.RunResult) -> str:
    return f"{result.stdout.str()}\n{result.stderr.str()}"


def name(number: int) -> str:
    return f"orders.pcapng::GET /orders/{{id}} [{number + 1}]"


def test_the_same_passes_and_writes_are_not_collected(run: Run) -> None:
    with answering(shop) as (target, heard):
        result = replayed(run, target, "-v")
    result.assert_outcomes(passed=10)
    assert result.ret == 0
    assert len(heard) == 10
    assert all(one.startswith(b"GET ") for one in heard)
    text = said(result)
    assert f"{name(3)} PASSED" in text
    assert f"deetune: 10 exchanges of orders.pcapng → {target}" in text
    assert "deetune: 1 not sent: a write (--deetune-allow-writes)" in text


def test_what_differs_fails_and_says_where_without_a_traceback(run: Run) -> None:
    with answering(lambda head: shop(head, dear=(3, 7))) as (target, _):
        result = replayed(run, target, "--junitxml=report.xml")
        again = replayed(run, target, "--lf")
        one = run(
            name(7), "--deetune-recording=orders.pcapng", f"--deetune-target={target}"
        )
    result.assert_outcomes(passed=8, failed=2)
    assert result.ret == 1
    text = said(result)
    for number in (3, 7):
        assert f"FAILED {name(number)}" in text
        assert (
            f"\nGET /orders/{number}\n  GET /orders/{{id}}: $.items[0].price 5 → 6\n"
            in text
        )
    assert EXCHANGE.trace_id in text
    assert "Traceback" not in text
    assert "def " not in text
    cases = ET.parse("report.xml").getroot().iter("testcase")
    failed = [one.get("name") for one in cases if one.find("failure") is not None]
    assert failed == [name(3).partition("::")[2], name(7).partition("::")[2]]
    again.assert_outcomes(failed=2)
    one.assert_outcomes(failed=1)


def test_some_are_chosen(run: Run) -> None:
    with answering(shop) as (target, heard):
        replayed(run, target, "-k", "orders and 7").assert_outcomes(
            passed=1, deselected=9
        )
        assert [one.split()[1] for one in heard] == [b"/orders/6"]
        result = replayed(run, target, "-m", "not deetune", "--strict-markers")
        result.assert_outcomes(deselected=10)
    assert len(heard) == 1


def test_writes_are_sent_when_allowed(run: Run) -> None:
    def created(head: bytes) -> bytes:
        if head.startswith(b"GET"):
            return shop(head)
        return b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"

    # its body is no head: the last one on its connection
    with answering(created, per_connection=11) as (target, heard):
        replayed(run, target, "--deetune-allow-writes").assert_outcomes(passed=11)
    assert sum(one.startswith(b"POST") for one in heard) == 1


def test_a_recorded_connection_is_one_connection_in_its_order(
    run: Run, pytester: pytest.Pytester
) -> None:
    write(pytester.path / "orders.pcapng", [get(i, connections=2) for i in range(10)])
    pytester.makeconftest(
        """
        def pytest_collection_modifyitems(items):
            items.reverse()
        """
    )
    connections: list[list[int]] = []

    def serve(connection: socket.socket) -> None:
        connections.append([])
        with connection.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"GET "):
                    connections[-1].append(int(line.split()[1].rpartition(b"/")[2]))
                    head = line
                elif line == b"\r\n":
                    connection.sendall(shop(head))

    with listening(serve) as target:
        replayed(run, target).assert_outcomes(passed=10)
    assert connections == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_what_cannot_be_judged_is_skipped_with_the_reason(
    run: Run, pytester: pytest.Pytester
) -> None:
    some = [get(0), replace(get(1), incomplete=("lost",))]
    other = replace(
        get(2),
        request=HttpRequest(method="GET", target="/health/2"),
        operation="GET /health",
    )
    write(pytester.path / "orders.pcapng", [*some, other])
    (pytester.path / "rules.yaml").write_text(
        "operations:\n  GET /health:\n    skip: true\n"
    )
    with answering(shop) as (target, _):
        result = replayed(run, target, "--deetune-rules", "rules.yaml", "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    assert "recorded incompletely: lost" in said(result)
    assert "a rule skips this operation" in said(result)


def test_rules_say_what_counts_and_what_did_not_is_said(
    run: Run, pytester: pytest.Pytester
) -> None:
    rules = pytester.path / "rules.yaml"
    rules.write_text("bodies:\n  ignore:\n    - $.items[*].price\n")
    with answering(lambda head: shop(head, dear=(3,))) as (target, _):
        result = replayed(run, target, f"--deetune-rules={rules}")
    result.assert_outcomes(passed=10)
    assert "deetune: 1 differences did not count" in said(result)


def test_nobody_listens_is_said_once(run: Run) -> None:
    target = f"127.0.0.1:{free_port()}"
    result = replayed(run, target)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said(result).count(f"{target} does not listen (refused)") == 1
    assert "Traceback" not in said(result)
    result.assert_outcomes()


def test_a_target_that_stops_answering_ends_it(
    run: Run, pytester: pytest.Pytester
) -> None:
    write(pytester.path / "orders.pcapng", [get(i) for i in range(60)])
    with answering(b"", per_connection=1) as (target, _):
        result = replayed(run, target)
    result.assert_outcomes(failed=20)
    assert f"{target}: 20 requests in a row failed, the last one with 'closed'" in said(
        result
    )
    assert "GET /orders/{id}: no answer (closed)" in said(result)


def test_a_projects_configuration_names_them(
    run: Run, pytester: pytest.Pytester
) -> None:
    """They are collected where no files are named, from any folder."""
    pytester.makepyfile(test_own="def test_own(): pass")
    (pytester.path / "rules.yaml").write_text("bodies:\n  ignore: [$.items]\n")
    with answering(lambda head: shop(head, dear=(3,))) as (target, heard):
        pytester.makepyprojecttoml(
            f"""
            [tool.pytest.ini_options]
            deetune_recording = "orders.pcapng"
            deetune_target = "{target}"
            deetune_rules = "rules.yaml"
            """
        )
        run().assert_outcomes(passed=11)
        run("test_own.py").assert_outcomes(passed=1)
        assert len(heard) == 10
        run("orders.pcapng").assert_outcomes(passed=10)
        pytester.mkdir("below")
        os.chdir("below")
        run().assert_outcomes(passed=10)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--deetune-recording=none"], "cannot read the recording"),
        (["--deetune-recording=damaged"], "what stands before was read"),
        (["--deetune-recording=text"], "no format that is read begins like this"),
        (["--deetune-recording=empty"], "the file is empty"),
        (["--deetune-recording=writes"], "nothing to send"),
        (["--deetune-target=here"], "an address such as 127.0.0.1:8081"),
        (["--deetune-target=127.0.0.1:0"], "an address such as 127.0.0.1:8081"),
        (["--deetune-target="], "hint: --deetune-target"),
        (["--deetune-target=192.0.2.1:80"], "hint: --deetune-allow-remote"),
        (["--deetune-rules=none"], "No such file or directory"),
        (["--deetune-rules=bad"], "line 1: nothing: no such setting"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_hint(
    run: Run, pytester: pytest.Pytester, words: list[str], says: str
) -> None:
    good = (pytester.path / "orders.pcapng").read_bytes()
    (pytester.path / "damaged").write_bytes(good[:2000] + b"\xff" * 400)
    (pytester.path / "text").write_bytes(b"hello")
    (pytester.path / "empty").write_bytes(b"")
    (pytester.path / "bad").write_text("nothing: true\n")
    write(pytester.path / "writes", [EXCHANGE])
    result = replayed(run, f"127.0.0.1:{free_port()}", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says in said(result)
    assert "Traceback" not in said(result)


def test_without_a_recording_it_does_nothing(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_own():
            ours = {one for one in sys.modules if one.startswith("deetune_otel.")}
            assert ours <= {"deetune_otel.pytest_plugin"}
        """
    )
    run().assert_outcomes(passed=1)


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import pytest, sys; had = {{*sys.modules}}; import {NAME}; print(*{{*sys.modules}} - had)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    # those of email are the version's, which the package looks up
    found = {one for one in done.stdout.split() if not one.startswith("email.")}
    assert found == {"deetune_otel", NAME}


def test_pytest_finds_it_where_it_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for found, value in project["entry-points"]["pytest11"].items():
        assert EntryPoint(found, value, "pytest11").load() is pytest_plugin
