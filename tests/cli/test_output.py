# SPDX-License-Identifier: Apache-2.0
"""What commands write: nothing that a terminal obeys, and nowhere but where they were told to."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from deetune_otel.cli import main, output
from deetune_otel.cli.errors import CommandError

HOSTILE = {
    "\x1b]0;PWN\x07": r"\u001b]0;PWN\u0007",
    "a\x9b31m": r"a\u009b31m",
    "\x7f\x08\r": r"\u007f\u0008\u000d",
    "\u202eexe.txt": r"\u202eexe.txt",
    "a\u200bb\ufeff": r"a\u200bb\ufeff",
    "a\u2028b\u0085": r"a\u2028b\u0085",
    "\udc80": r"\udc80",
    "\U000e0041": r"\udb40\udc41",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert output.visible(text) == shown


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_what_is_visible_is_printable_and_stays_so(text: str) -> None:
    shown = output.visible(text)
    assert "".join(shown.split("\n")).replace("\t", "").isprintable()
    assert output.visible(shown) == shown


@given(st.text())
def test_a_document_stays_the_same_document(text: str) -> None:
    written = json.dumps({text: text}, ensure_ascii=False, indent=1)
    assert json.loads(output.visible(written)) == {text: text}


def test_both_streams_are_cleaned_and_given_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sys.stdout, sys.stderr
    with output.cleaned():
        sys.stdout.write("\x1b[31mred\n")
        sys.stderr.write("\x9b31mred\n")
        sys.stdout.writelines(["\x07", "\n"])
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("\\u001b[31mred\n\\u0007\n", "\\u009b31mred\n")


def test_a_console_styles_what_it_cleans(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    with output.cleaned():
        console = output.console(force_terminal=True, color_system="standard", width=80)
        console.print(Text("a\x1b[2Jb [bold]c", style="red"))
    assert screen.getvalue() == "\x1b[31ma\\u001b[2Jb [bold]c\x1b[0m\n"


def test_an_error_shows_a_hostile_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recording", "show", str(tmp_path / "\x1b[31m")]) != 0
    said = capsys.readouterr().err
    assert "\\u001b[31m" in said
    assert "\x1b" not in said


def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious, target = tmp_path / "precious", tmp_path / "map.json"
    precious.write_text("mine")
    target.symlink_to(precious)
    with output.replacing(target) as path:
        path.write_text("new")
    assert precious.read_text() == "mine"
    assert not target.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")
    with pytest.raises(ZeroDivisionError), output.replacing(target) as path:
        path.write_text(f"half{1 // 0}")
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["missing/file", "."])
def test_where_nothing_can_be_written_is_said(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(CommandError, match=r"^cannot write .*: .* directory$"),
        output.replacing(tmp_path / name),
    ):
        pass


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd", "/dev/../dev/fd"])
def test_what_is_open_already_is_written_to(tmp_path: Path, folder: str) -> None:
    """As /dev/stdout is, which is a link to such a name: also where it leads to a file."""
    with (tmp_path / "redirected").open("w") as file:
        target = Path(folder, str(file.fileno()))
        with output.replacing(target) as path:
            path.write_text("map")
        assert os.fstat(file.fileno()).st_size == 3
    assert [one.name for one in tmp_path.iterdir()] == ["redirected"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/../dev/stdout", "link/stdout"])
def test_nothing_in_dev_is_replaced(tmp_path: Path, name: str) -> None:
    """The block fails on purpose: nothing could take its place, whatever this gave."""
    (tmp_path / "link").symlink_to("/dev")
    code = (
        "import sys; from pathlib import Path; from deetune_otel.cli import output\n"
        "target = Path(sys.argv[1])\n"
        "with output.replacing(target) as path: sys.exit(0 if path == target else 9)"
    )
    with (tmp_path / "redirected").open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            stdout=file,
            check=False,
        )
    assert done.returncode == 0


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with output.replacing(pipe) as path:
        path.write_text("map")
    reader.join(10)
    assert read == ["map"]
    assert pipe.is_fifo()


def test_a_planted_link_to_a_pipe_is_replaced(tmp_path: Path) -> None:
    pipe, target = tmp_path / "pipe", tmp_path / "map.json"
    os.mkfifo(pipe)
    target.symlink_to(pipe)
    with output.replacing(target) as path:
        path.write_text("map")
    assert not target.is_symlink()
    assert target.read_text() == "map"
