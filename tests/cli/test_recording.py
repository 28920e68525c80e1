# SPDX-License-Identifier: Apache-2.0
"""`deetune recording`: what it shows, makes and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pytest
from tests.exchanges import EXCHANGE, numbered

from deetune_otel.archive.reading import read
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.cli import main, recording
from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Manifest,
    Missing,
    MissingBecause,
    RawMessage,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.recording.ndjson import to_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COMMAND = replace(
    EXCHANGE,
    id="00000000000000bb",
    connection=replace(
        EXCHANGE.connection, id="00000000000000bc", protocol=Protocol.REDIS
    ),
    request=RedisCommand(arguments=(b"GET", b"k")),
    response=RedisReply(value=redis.Error("WRONGTYPE no")),
    operation="GET",
)
CUT = replace(
    numbered(7),
    response=HttpResponse(
        status=500,
        headers=(("Content-Length", "10"),),
        missing=(Missing(0, 10, MissingBecause.LIMIT),),
    ),
    incomplete=("limit",),
)


def written(path: Path, exchanges: Iterable[RecordedExchange]) -> str:
    with RecordingWriter(path) as writer:
        for one in exchanges:
            writer.write(one)
        writer.close(
            Manifest(
                product="deetune 1",
                host="h",
                selection="service shop",
                seen=9,
                captured=8,
                lost={"ring_full": 1},
                redactions={"name": 3},
            )
        )
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(
        tmp_path / "a.pcapng", [*(numbered(i) for i in range(5)), COMMAND, CUT]
    )


def ids(path: Path) -> list[str]:
    with read(path) as recording:
        return [one.id for one in recording]


def test_show_says_what_is_in_it(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recording", "show", file]) == 0
    said = capsys.readouterr().out
    assert "a.pcapng: pcapng, 7 exchanges on 2 connections" in said
    assert "front door → shop  POST /orders" in said
    assert "201 5, 500 1" in said
    assert "WRONGTYPE 1" in said
    assert "incomplete, and never judged by a replay: limit 1" in said
    assert "bytes missing: limit 10" in said
    assert "exchanges with something redacted: name 7" in said
    assert "recorded by deetune 1 on h: service shop" in said
    assert "8 of 9 exchanges" in said
    assert "1 lost: ring_full" in said


def test_show_as_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recording", "show", "--json", file]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exchanges"] == 7
    (http, command) = found["operations"]
    assert http["outcomes"] == {"201": 5, "500": 1}
    assert command["protocol"] == "redis"
    assert found["manifest"]["seen"] == 9


def test_what_is_left_of_a_damaged_file_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [to_line(numbered(i)) for i in range(3)]
    (tmp_path / "b").write_text("\n".join([*lines, "{broken", *lines]))
    assert main(["recording", "show", str(tmp_path / "b")]) == 4
    said = capsys.readouterr()
    assert "3 exchanges" in said.out
    assert "POST /orders" in said.out
    assert f"{tmp_path / 'b'}: line 4" in said.err


@pytest.mark.parametrize("content", [b"", b"hello"])
@pytest.mark.parametrize("what", ["show", "export", "scan"])
def test_what_is_no_recording_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, what: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert main(["recording", what, str(path)]) == 4
    assert str(path) in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recording", "show", "/none.pcapng"]) == 2
    assert "cannot read /none.pcapng: no such file" in capsys.readouterr().err


def test_export_as_lines_reads_back(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recording", "export", file]) == 0
    lines = capsys.readouterr().out
    (tmp_path / "b").write_text(lines)
    with read(tmp_path / "a.pcapng") as one, read(tmp_path / "b") as other:
        assert list(one) == list(other)


def test_export_as_har_says_what_it_leaves_out(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.har"
    assert main(["recording", "export", file, "--format", "har", "-o", str(out)]) == 0
    assert len(json.loads(out.read_text())["log"]["entries"]) == 6
    assert "1 exchanges of redis" in capsys.readouterr().err
    assert out.stat().st_mode & 0o777 == 0o600


def test_export_as_parquet_opens_in_duckdb(file: str, tmp_path: Path) -> None:
    out = tmp_path / "b.parquet"
    words = ["--format", "parquet", "-o", str(out)]
    assert main(["recording", "export", file, *words]) == 0
    rows = duckdb.execute(
        'select "url.path", "http.response.status_code", count(*), max(duration_ns) '
        f"from '{out}' group by all order by all"
    ).fetchall()
    assert rows == [("/orders", 201, 5, 3), ("/orders", 500, 1, 3), (None, None, 1, 3)]
    assert main(["recording", "export", file, "--format", "parquet"]) == 2


def test_nothing_is_written_over(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    out.write_text("mine")
    for what in ("export", "merge"):
        assert main(["recording", what, file, "-o", str(out)]) == 2
        assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["recording", "merge", file, "-o", str(out), "--force"]) == 0
    assert len(ids(out)) == 7


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text('{"exchange": 1}\n')
    out = tmp_path / "out"
    assert main(["recording", "merge", str(broken), "-o", str(out)]) == 4
    assert [one.name for one in tmp_path.iterdir()] == ["broken"]


def test_scan_finds_secrets_and_nothing_in_a_redacted_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaky = replace(EXCHANGE, response=HttpResponse(status=200, body=b"a@example.com"))
    path = written(tmp_path / "b", [leaky, replace(leaky, id="0" * 16)])
    assert main(["recording", "scan", path]) == 1
    said = capsys.readouterr().out
    assert "email  response body" in said
    assert "example" not in said, "a sample is masked"
    assert main(["recording", "scan", "--json", path]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0])["rule"] == "email"
    clean = written(tmp_path / "c", [EXCHANGE])
    assert main(["recording", "scan", clean]) == 0
    assert "nothing that looks like a secret in 1 exchanges" in capsys.readouterr().out


def test_scan_warns_of_what_looks_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = b"it is aB3dE5gH7jK9mN1pQ3sTuV5x, or not"
    path = written(
        tmp_path / "b",
        [replace(EXCHANGE, response=HttpResponse(status=200, body=body))],
    )
    assert main(["recording", "scan", path]) == 0
    said = capsys.readouterr().out
    assert "looks_random  response body  aB…5x" in said
    assert "nothing that looks like a secret" in said
    assert "1 values look random" in said


def test_filter_keeps_what_was_chosen(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.pcapng.zst"
    assert main(["recording", "filter", file, "--status", "5xx", "-o", str(out)]) == 0
    assert ids(out) == [CUT.id]
    assert "1 exchanges in" in capsys.readouterr().out
    assert main(["recording", "filter", file, "-o", str(tmp_path / "c")]) == 2
    assert main(["recording", "filter", file, "--status", "5xx"]) == 2


def test_merge_orders_by_time_and_takes_each_once(tmp_path: Path) -> None:
    one = written(tmp_path / "a", [numbered(i) for i in (0, 2, 4)])
    other = written(tmp_path / "b", [numbered(i, connections=2) for i in (1, 2, 5)])
    out = tmp_path / "c"
    assert main(["recording", "merge", one, other, "-o", str(out)]) == 0
    assert ids(out) == [numbered(i).id for i in (0, 1, 2, 4, 5)]


def test_merge_goes_on_behind_a_body_that_was_cut(tmp_path: Path) -> None:
    """On the connection of that one, which the other file has as well."""
    gap = Missing(2, 1000, MissingBecause.LIMIT)
    headers = (("Content-Length", "1002"),)
    cut = numbered(0)
    assert isinstance(cut.response, HttpResponse)
    cut = replace(cut, response=replace(cut.response, headers=headers, missing=(gap,)))
    one = written(tmp_path / "a", [cut, numbered(1)])
    other = written(tmp_path / "b", [numbered(2), numbered(3)])
    out = tmp_path / "c"
    assert main(["recording", "merge", one, other, "-o", str(out)]) == 0
    with read(out) as merged:
        assert [each.response for each in merged] == [
            cut.response,
            *(numbered(i).response for i in (1, 2, 3)),
        ]


ODD = replace(
    COMMAND,
    id="00000000000000cc",
    response=RedisReply(value=redis.Simple("\r\n+more")),
)


def test_what_cannot_be_read_back_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text(f"{to_line(numbered(0))}\n{to_line(ODD)}\n")
    out = tmp_path / "b"
    assert main(["recording", "merge", str(tmp_path / "a"), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "1 exchanges in" in said.out
    assert "1 exchanges that no recording can hold, left out" in said.err
    assert ids(out) == [numbered(0).id]


def test_success_is_what_was_read_back(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever goes wrong on the way, a file that is not right is never left."""
    monkeypatch.setattr(recording, "why_not_written", lambda _: "")
    (tmp_path / "a").write_text(f"{to_line(numbered(0))}\n{to_line(ODD)}\n")
    out = tmp_path / "b"
    assert main(["recording", "merge", str(tmp_path / "a"), "-o", str(out)]) == 1
    assert "does not read back" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_every_command_finds_the_same_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = replace(
        EXCHANGE,
        id="00000000000000dd",
        connection=replace(
            EXCHANGE.connection, id="00000000000000de", protocol=Protocol.UNKNOWN
        ),
        request=RawMessage(data=b"?"),
        response=RawMessage(data=b"!"),
        operation="",
    )
    path = written(tmp_path / "a", [numbered(0), COMMAND, raw])
    assert main(["recording", "show", "--json", path]) == 0
    assert json.loads(capsys.readouterr().out)["exchanges"] == 3
    assert main(["recording", "export", path]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert main(["recording", "merge", path, "-o", str(tmp_path / "b")]) == 0
    assert len(ids(tmp_path / "b")) == 3
    words = ["--port", "8080"]
    out = str(tmp_path / "c")
    assert main(["recording", "filter", path, *words, "-o", out]) == 0
    assert len(ids(tmp_path / "c")) == 3


@pytest.mark.parametrize("kind", ["har", "ndjson"])
def test_the_mark_of_missing_bytes_survives_every_way(
    tmp_path: Path, kind: str
) -> None:
    gap = (Missing(0, 4, MissingBecause.LOST),)
    cut = replace(
        EXCHANGE,
        request=HttpRequest(method="GET", target="/", missing=gap),
        incomplete=("lost",),
    )
    path = written(tmp_path / "a", [cut])
    out = str(tmp_path / "b")
    assert main(["recording", "export", path, "--format", kind, "-o", out]) == 0
    assert main(["recording", "merge", out, "-o", str(tmp_path / "c")]) == 0
    with read(tmp_path / "c") as file:
        (one,) = file
    assert (one.request.missing, one.incomplete) == (gap, ("lost",))
