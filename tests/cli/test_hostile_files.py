# SPDX-License-Identifier: Apache-2.0
"""Any JSON in any place of any file: a result, or one line that says what is wrong with it.

And what a command made of it is read again, by every other one alike.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.exchanges import EXCHANGE, any_exchange

from deetune_otel.archive.reading import read
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.cli import main
from deetune_otel.recording import pcapng
from deetune_otel.recording.har_export import to_har
from deetune_otel.recording.model import Manifest, RecordedExchange
from deetune_otel.recording.ndjson import to_line

_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [1 << 62, 1 << 64, -1, 10**30, "\r\nX: y", "\ud800", "\x00", 1e308]
    )
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@st.composite
def _changed(draw: st.DrawFn, whole: Any) -> Any:
    """With something else in one place."""
    inner = whole
    while True:
        keys: Any = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        key = draw(st.sampled_from(keys))
        value = inner[key]
        if not isinstance(value, dict | list) or not value or draw(st.booleans()):
            break
        inner = value
    if draw(st.integers(0, 9)) == 0 and isinstance(inner, dict):
        del inner[key]
    else:
        inner[key] = draw(_ANY)
    return whole


def _har(one: RecordedExchange) -> Any:
    text = "".join(to_har([one], creator="deetune 1", decode=lambda *_: None))
    return json.loads(text)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    one = draw(any_exchange() | st.just(EXCHANGE))
    if draw(st.booleans()):
        return json.dumps(draw(_changed(_har(EXCHANGE)))).encode()
    lines = [draw(_changed(json.loads(to_line(one)))) for _ in range(2)]
    return "\n".join(map(json.dumps, lines)).encode() + b"\n"


@given(files())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_json_in_any_place(capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a").write_bytes(data)
        a, b, c = (str(folder / one) for one in "abc")
        shown = main(["recording", "show", "--json", a])
        said = capsys.readouterr()
        assert shown in {0, 2, 4}
        assert "should not happen" not in said.err
        if shown != 0:
            assert len(said.err.splitlines()) <= 2
            return
        count = json.loads(said.out)["exchanges"]
        for words in (
            ["show", a],
            ["scan", a],
            ["export", a, "-o", b],
            ["export", a, "--format", "har", "-o", f"{b}.har"],
            ["merge", a, "-o", c],
        ):
            code = main(["recording", *words])
            said = capsys.readouterr()
            assert code in {0, 1}, (words, said.err)
            assert "should not happen" not in said.err, words
        for made in (b, f"{b}.har", c):
            if Path(made).stat().st_size == 0:  # no lines: nothing was in it
                assert count == 0
                continue
            with read(Path(made)) as file:
                found = len(list(file))
            assert file.problems == []
            assert found <= count


@given(st.data())
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_manifest_and_any_comment(
    capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a"
        with RecordingWriter(path) as writer:
            writer.write(EXCHANGE)
            manifest = Manifest(seen=3, lost={"ring_full": 1}, files=("a",))
            writer.close(manifest)
        whole = path.read_bytes()
        begin = whole.rindex(b'{"version"')
        end = whole.rindex(b"}") + 1
        found = data.draw(_changed(json.loads(whole[begin:end])))
        text = json.dumps(found)
        path.write_bytes(
            whole[: whole.rindex(b"\x05\x00\x00\x00", 0, begin)]
            + pcapng.statistics(1, text, received=1, dropped=0)
        )
        comment = data.draw(
            st.text(max_size=20)
            | st.integers().map(lambda n: f"times_ns={n},1,1,1")
            | st.integers().map(lambda n: f"request_bytes={n}")
            | st.integers().map(lambda n: f"request_gaps={n}:{n}:lost")
            | st.integers().map(lambda n: f"client_port={n}")
        )
        changed = f"{_comment(whole)} {comment}"
        packet = pcapng.packet(1, b"", changed)
        with path.open("ab") as file:
            file.write(packet)
        for words in (["show"], ["show", "--json"], ["export"]):
            code = main(["recording", *words, str(path)])
            said = capsys.readouterr()
            assert code in {0, 4}
            assert "should not happen" not in said.err


def _comment(whole: bytes) -> str:
    begin = whole.index(b"exchange=")
    return whole[begin : whole.index(b"connection=", begin)].decode()


@pytest.mark.parametrize(
    "data",
    [
        b'{"log":' + b"[" * 100_000,
        b'{"log":{"entries":[' + b'{"a":' * 100_000,
        b'{"log":{"entries":[' + b"[" * 400 + b"]" * 400 + b"]}}",
        b'{"exchange":' + b"[" * 100_000,
        b'{"log":{"entries":{}}}',
        b'{"log":{"entries":[1]}}',
        b'{"log":{"entries":[{},]}}',
        b'{"log":{"entries":[]}',
        b'{"log":{"pages":[]}}',
        b'{"log":[{"entries":[]}]}',
    ],
    ids=range(10),
)
def test_what_is_no_document_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    (tmp_path / "a").write_bytes(data + b"\n")
    assert main(["recording", "show", str(tmp_path / "a")]) == 4
    said = capsys.readouterr().err
    assert "should not happen" not in said
    assert str(tmp_path / "a") in said
