# SPDX-License-Identifier: Apache-2.0
"""Where commands write: standard output and error, and files.

What a command prints may come from other people's files and traffic. A terminal would obey an
escape sequence in it, so the two streams write every character that is not printable as JSON
does (`\\u001b`): nothing is hidden, and a document stays the same document. A command need not
think of it: `print` is safe, and so is the console from here.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from deetune_otel.cli.errors import CommandError

__all__ = ["cleaned", "console", "raw", "replacing", "visible"]

# Their entries are devices and what this process has open (/dev/stdout, /dev/fd/63): nothing
# takes their place, whatever they lead to. Only root could have planted something there.
_HELD: Final = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))


def visible(text: str) -> str:
    """Printable text, line ends and tabs as they are; everything else as a JSON escape.

    Controls (C0, DEL, C1), bidirectional overrides, invisible characters, line separators and
    lone surrogates: whatever moves the cursor, hides or reorders text, or cannot be encoded.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one in "\n\t" or one.isprintable() else _escaped(one) for one in text
    )


@contextmanager
def cleaned() -> Iterator[None]:
    """Standard output and error write what is `visible`, within the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_VisibleStream(one) for one in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def console(*, stderr: bool = False, **options: Any) -> Console:
    """For text with styles, which are escape sequences of our own. It reads no markup."""
    options = {"highlight": False, "markup": False, "emoji": False} | options
    return _VisibleConsole(file=raw(sys.stderr if stderr else sys.stdout), **options)


def raw(stream: TextIO) -> TextIO:
    """The stream below, for the few places that steer the terminal."""
    return stream.below if isinstance(stream, _VisibleStream) else stream


@contextmanager
def replacing(target: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """A new file beside `target`, which takes its place when the block is through.

    Never a half one, and where `target` is a link, the link is replaced and not what it points to.
    A device or a pipe is written to as it is, and so is /dev/stdout, also where it is redirected to
    a file. Raises CommandError.
    """
    made: Path | None = None
    fd = -1
    try:
        if _is_held(target):
            yield target
            return
        if _is_stream(target):
            fd = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            yield Path(f"/dev/fd/{fd}")
            return
        if target.is_dir():
            raise IsADirectoryError(None, "it is a directory")
        with tempfile.NamedTemporaryFile(
            prefix=f".{target.name}.", dir=target.absolute().parent, delete=False
        ) as file:
            made = Path(file.name)
        yield made
        made.chmod(mode)
        made.replace(target)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"cannot write {target}: {reason}") from error
    finally:
        if fd >= 0:
            os.close(fd)
        if made is not None:
            made.unlink(missing_ok=True)


def _is_held(target: Path) -> bool:
    folder = target.absolute().parent.resolve()
    return target.exists() and folder in [one.resolve() for one in _HELD]


def _is_stream(target: Path) -> bool:
    """A device or a pipe of this very name: a link to one may have been planted, as any other."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


class _VisibleStream:
    """A text stream whose `write` keeps a terminal's obedience for ourselves."""

    def __init__(self, below: TextIO) -> None:
        self.below = below

    def write(self, text: str) -> int:
        self.below.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


class _VisibleConsole(Console):
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{one}" for one in pairs)
