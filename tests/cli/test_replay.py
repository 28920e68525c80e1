# SPDX-License-Identifier: Apache-2.0
"""`deetune replay` from a file to reports and an exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import pytest
from tests.exchanges import EXCHANGE, numbered
from tests.process import free_port
from tests.replay.servers import answering

from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.cli import main
from deetune_otel.recording.model import HttpRequest, HttpResponse, RecordedExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def get(number: int) -> RecordedExchange:
    body = b'{"id": %d, "price": 5}' % number
    return replace(
        numbered(number),
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


def shop(price: int = 5, failing: int = -1, slow: int = -1) -> Callable[[bytes], bytes]:
    """An answer to each request, as recorded but for what was changed."""

    def answer(head: bytes) -> bytes:
        number = int(head.split()[1].partition(b"?")[0].rpartition(b"/")[2])
        if number == slow:
            return b"nonsense\r\n\r\n"
        body = b'{"id": %d, "price": %d}' % (number, price)
        status = b"503 Busy" if number == failing else b"200 OK"
        return (
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (status, len(body), body)
        )

    return answer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "a.pcapng", [*(get(i) for i in range(10)), EXCHANGE])


def written(path: Path, exchanges: Iterable[RecordedExchange]) -> Path:
    with RecordingWriter(path) as writer:
        for one in exchanges:
            writer.write(one)
    return path


REPORTS: Final = ("--report", "--junit", "--json", "--markdown")


def test_the_same_is_no_difference(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(shop()) as (target, heard):
        assert main(["replay", str(file), "--target", str(target)]) == 0
    said = capsys.readouterr().out
    assert "10 sent" in said
    assert "10 same, 0 different" in said
    assert "1 not sent: a write (--allow-writes)" in said
    assert len(heard) == 10


def test_what_differs_is_reported_in_every_form(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"r{flag}" for flag in REPORTS]
    words = [
        word for pair in zip(REPORTS, map(str, files), strict=True) for word in pair
    ]
    with answering(shop(price=6, failing=3, slow=4)) as (target, _):
        assert main(["replay", str(file), "--target", str(target), *words]) == 1
    said = capsys.readouterr().out
    assert "9 different" in said
    assert "1 failed" in said
    assert "$.price" in said
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
    html, junit, document, markdown = (path.read_text() for path in files)
    assert "$.price" in html
    assert "<script src" not in html
    root = ET.fromstring(junit)
    suites = root if root.tag == "testsuites" else [root]
    assert sum(int(one.get("failures", "0")) for one in suites) >= 9
    assert json.loads(document)
    assert "price" in markdown


def test_writes_are_sent_when_allowed(file: Path) -> None:
    created = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"
    with answering(created) as (target, heard):
        words = ["--target", str(target), "--allow-writes", "--method", "POST"]
        assert main(["replay", str(file), *words]) == 0
    assert [one.split()[0] for one in heard] == [b"POST"]


def test_nobody_listens(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = f"127.0.0.1:{free_port()}"
    assert main(["replay", str(file), "--target", target]) == 3
    assert target in capsys.readouterr().err


def test_a_target_that_fails_ends_it_and_the_reports_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "a.pcapng", [get(i) for i in range(60)])
    report = tmp_path / "r.json"
    with answering(b"", per_connection=1) as (target, _):
        words = ["--target", str(target), "--json", str(report)]
        assert main(["replay", str(path), *words]) == 3
    said = capsys.readouterr()
    assert "20 requests in a row failed" in said.err
    assert "40 not sent: not sent before the replay ended" in said.out
    assert json.loads(report.read_text())


def test_another_machine_needs_a_word(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(file), "--target", "192.0.2.1:80"]) == 2
    assert "--allow-remote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "here"], "an address such as"),
        (["--target", "127.0.0.1:0"], "an address such as"),
        ([], "--target"),
        (["--target", "127.0.0.1:9", "--speed", "0"], "more than 0"),
        (["--target", "127.0.0.1:9", "--set-header", "x"], "a header such as"),
        (["--target", "127.0.0.1:9", "--set-query", "x"], "NAME=VALUE"),
        (["--target", "127.0.0.1:9", "--set-field", "a=1"], "no path such as"),
        (["--target", "127.0.0.1:9", "--rewrite-path", "(=x"], "no regular expression"),
        (["--target", "127.0.0.1:9", "--rules", "/none"], "cannot read the rules"),
        (["--target", "127.0.0.1:9", "--path", "/none"], "nothing to send"),
    ],
)
def test_bad_words_are_said(
    file: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(file), *words]) == 2
    assert said in capsys.readouterr().err


def test_requests_are_changed_as_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a", [get(1)])
    with answering(shop()) as (target, heard):
        words = [
            "--set-host",
            "test",
            "--set-query",
            "a=b",
            "--rewrite-path",
            "^/o=/x/o",
        ]
        main(["replay", str(path), "--target", str(target), *words])
    assert heard[0].startswith(b"GET /x/orders/1?a=b HTTP/1.1\r\n")


def test_a_damaged_recording(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    assert main(["replay", str(tmp_path / "a"), "--target", "127.0.0.1:9"]) == 4


def test_what_differs_between_two_replays_does_not_count(file: Path) -> None:
    count = 0

    def answer(head: bytes) -> bytes:
        nonlocal count
        count += 1
        return shop(price=count)(head)

    with answering(answer) as (target, _):
        assert main(["replay", str(file), "--target", str(target), "--twice"]) == 0
    assert count == 20


def test_secrets_of_the_answers_are_in_no_report(file: Path, tmp_path: Path) -> None:
    def answer(_: bytes) -> bytes:
        body = b'{"id": 1, "price": 5, "password": "hunter2hunter2"}'
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"X-Session: hunter2hunter2\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    files = [tmp_path / f"r{flag}" for flag in REPORTS]
    words = [str(one) for pair in zip(REPORTS, files, strict=True) for one in pair]
    with answering(answer) as (target, _):
        assert main(["replay", str(file), "--target", str(target), *words]) == 1
    for one in files:
        assert "$.password" in one.read_text()
        assert "hunter2" not in one.read_text()


def test_an_id_that_the_instance_made_is_carried_into_later_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(number: int) -> bytes:
        return b'{"id": %d, "state": "new"}' % number

    def exchange(at: int, request: HttpRequest, body: bytes) -> RecordedExchange:
        length = ("Content-Length", str(len(body)))
        headers = (("Content-Type", "application/json"), length)
        response = HttpResponse(status=200, reason="OK", headers=headers, body=body)
        return replace(numbered(at), request=request, response=response)

    file = written(
        tmp_path / "a.pcapng",
        [
            exchange(0, HttpRequest(method="POST", target="/orders"), made(1017)),
            exchange(1, HttpRequest(method="GET", target="/orders/1017"), made(1017)),
        ],
    )

    def answer(head: bytes) -> bytes:
        is_known = head.startswith((b"POST /orders ", b"GET /orders/2098 "))
        body = made(2098) if is_known else b'{"error": "no such order"}'
        return (
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (b"200 OK" if is_known else b"404 Not Found", len(body), body)
        )

    words = ["replay", str(file), "--allow-writes", "--target"]
    with answering(answer) as (target, _):
        assert main([*words, str(target)]) == 0, capsys.readouterr().out
        said = capsys.readouterr().out
        assert "1 values carried over from answers, 0 not given" in said
        assert main([*words, str(target), "--no-carry"]) == 1


def test_what_of_a_file_is_not_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    separator = "\n🐵🙈🙉\n"
    cut = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"
    records = [
        "1 a 1 0\nGET /orders/1 HTTP/1.1\r\nHost: h\r\n\r\n",
        f"1 b 2 0\n{cut}",
        "no record",
    ]
    path = tmp_path / "a.gor"
    path.write_text("".join(f"{one}{separator}" for one in records), newline="")
    with answering(shop()) as (target, heard):
        words = ["--target", str(target), "--allow-writes", "--no-downstream"]
        main(["replay", str(path), *words])
    said = capsys.readouterr()
    assert "a.gor: 1 records without GoReplay's first line" in said.err
    assert "1 not sent: a request with missing bytes" in said.out + said.err
    assert len(heard) == 1
