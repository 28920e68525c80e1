# SPDX-License-Identifier: Apache-2.0
"""Exchanges into a pcapng file that is whole after any kill, up to its last flush.

A file is appended to in whole blocks, with zstd in whole frames; when the disk is full it is cut
back to the last of them. It is created for its owner alone and never through a link.

With rotation `orders.pcapng` is always the file being written: when it is full it becomes
`orders.1.pcapng`, the next one `orders.2.pcapng`, so that the numbers go up with time. Every file
stands alone: connections are opened again in it. The last one has the manifest of all.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

import zstandard

from deetune_otel.archive.manifests import to_text
from deetune_otel.recording import pcapng
from deetune_otel.recording.model import Manifest, RecordedExchange
from deetune_otel.recording.segments import Segments

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RecordingWriter"]

APPLICATION: Final = "deetune"
# What a kill may cost, when nobody calls flush(); with zstd a frame pays from about here.
FLUSH_BYTES: Final = 256 * 1024
FRAME_BYTES: Final = 1024 * 1024
LEVEL: Final = 3


class RecordingWriter:
    """Every method may raise OSError; the file is then whole up to the last flush."""

    def __init__(  # noqa: PLR0913 -- what a user may choose
        self,
        path: Path,
        *,
        compress: bool = False,
        rotate_bytes: int | None = None,
        keep: int | None = None,
        description: str = "",
        overwrite: bool = False,
    ) -> None:
        if keep is not None and keep < 1:
            raise ValueError("keep is at least 1: the file being written")
        self.path = path
        self._compressor = zstandard.ZstdCompressor(level=LEVEL) if compress else None
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._overwrite = overwrite
        self._head = pcapng.file_head(application=APPLICATION, description=description)
        self._full: deque[str] = deque()  # names of files that are done, oldest first
        self._number = 0
        self._earlier_bytes = 0  # in them, and in those no longer kept
        self._flushed = 0
        # Of the file being written.
        self._fd = -1
        self._segments = Segments()
        self._buffer = bytearray()
        self._size = 0
        self._waiting = self._in_file = 0  # exchanges
        self._first_ns = self._last_ns = 0
        self._open()

    @property
    def bytes(self) -> int:
        """Written to all files so far; what is not flushed yet is not among them."""
        return self._earlier_bytes + self._size

    @property
    def flushed(self) -> int:
        """Exchanges that are in a file for sure."""
        return self._flushed

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that are there, oldest first."""
        return (*self._full, self.path.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            self.close(Manifest(captured=self._flushed + self._waiting))

    def write(self, exchange: RecordedExchange) -> None:
        """Exchanges of one connection come in their order."""
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        if self._is_full():
            self._rotate()
        for at_ns, packet, comment in self._segments.of(exchange):
            self._buffer += pcapng.packet(at_ns, packet, comment)
        self._waiting += 1
        self._first_ns = min(
            self._first_ns or exchange.request_start_ns, exchange.request_start_ns
        )
        self._last_ns = max(
            self._last_ns, exchange.request_end_ns, exchange.response_end_ns
        )
        if len(self._buffer) >= (FRAME_BYTES if self._compressor else FLUSH_BYTES):
            self.flush()

    def flush(self) -> None:
        """What was written is in the file, and is read whatever becomes of this process."""
        if not self._buffer or self._fd < 0:
            return
        compressor = self._compressor
        data = compressor.compress(self._buffer) if compressor else self._buffer
        count, self._waiting = self._waiting, 0
        self._buffer = bytearray()
        try:
            _write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, self._size, os.SEEK_SET)
            # Sequence numbers are lost with the packets: what follows opens again.
            self._segments = Segments()
            raise
        self._size += len(data)
        self._flushed += count
        self._in_file += count

    def close(self, manifest: Manifest) -> None:
        """Ends the file with the manifest, its `files` and `bytes` filled in. Twice is once."""
        if self._fd < 0:
            return
        try:
            self.flush()
            self._end(manifest)
        finally:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._overwrite and _is_plain_file(self.path):
            self.path.unlink()
        # O_EXCL also refuses a symbolic link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        self._segments = Segments()
        self._buffer = bytearray(self._head)
        self._size = 0
        self._waiting = self._in_file = 0  # exchanges
        self._first_ns = self._last_ns = 0
        try:
            self.flush()
        except OSError:
            os.close(self._fd)
            self._fd = -1
            self.path.unlink(missing_ok=True)
            raise

    def _is_full(self) -> bool:
        return (
            self._rotate_bytes is not None
            and self._size + len(self._buffer) >= self._rotate_bytes
            and self._in_file + self._waiting > 0
        )

    def _rotate(self) -> None:
        self.flush()
        if self._size < (self._rotate_bytes or 0):  # zstd made it small
            return
        self._end(
            Manifest(
                started_ns=self._first_ns,
                ended_ns=self._last_ns,
                ended_because="rotated",
                seen=self._in_file,
                captured=self._in_file,
            )
        )
        os.close(self._fd)
        self._fd = -1
        self._number += 1
        name = _numbered(self.path.name, self._number)
        if self._overwrite:
            self.path.replace(self.path.with_name(name))
        else:
            self.path.with_name(name).hardlink_to(self.path)  # refuses to overwrite
            self.path.unlink()
        self._earlier_bytes += self._size
        self._full.append(name)
        while self._keep is not None and len(self._full) >= self._keep:
            self.path.with_name(self._full.popleft()).unlink(missing_ok=True)
        self._open()

    def _end(self, manifest: Manifest) -> None:
        for at_ns, packet, comment in self._segments.close():
            self._buffer += pcapng.packet(at_ns, packet, comment)
        text = to_text(replace(manifest, files=self.files, bytes=self.bytes))
        self._buffer += pcapng.statistics(
            manifest.ended_ns,
            text,
            received=manifest.seen,
            dropped=sum(manifest.lost.values()),
        )
        self.flush()


def _write_all(fd: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _numbered(name: str, number: int) -> str:
    """`orders.pcapng.zst` → `orders.1.pcapng.zst`."""
    bare = name.removesuffix(".zst")
    stem, dot, suffix = bare.rpartition(".")
    if not stem:
        stem, dot, suffix = bare, "", ""
    return f"{stem}.{number}{dot}{suffix}{name[len(bare) :]}"
