# SPDX-License-Identifier: Apache-2.0
"""Any file of recorded traffic → exchanges, one after the other, whatever its name.

What it is its first bytes say: pcapng (ours, or anybody's), pcap, NDJSON, HAR or GoReplay's, plain
or in zstd or gzip. A file whose writer was killed is read up to where it ends, and that is said; one that breaks the
rules of its format raises, after all that stands before.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import zstandard

from deetune_otel.archive.capture import Capture
from deetune_otel.archive.dialogues import Dialogues
from deetune_otel.archive.errors import Damaged, Empty, NotARecording
from deetune_otel.archive.manifests import from_text
from deetune_otel.recording import gor, har, ndjson
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.pcapng import (
    PCAP_MAGICS,
    PCAPNG_MAGIC,
    CutShort,
    Packet,
    Passed,
    Statistics,
    read_pcap,
    read_pcapng,
)

if TYPE_CHECKING:
    from pathlib import Path

    from deetune_otel.recording.model import Manifest, RecordedExchange

__all__ = ["Recording", "read"]

_Read = Callable[[int], bytes]

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_GZIP: Final = b"\x1f\x8b"
# tcpdump -w writes windows of 8 MB at most; ours are smaller.
_MAX_WINDOW: Final = 128 * 1024 * 1024
# A HAR file is one JSON document, and stands in memory as a whole.
MAX_HAR_BYTES: Final = 512 * 1024 * 1024
# An exchange with two bodies of the longest kind, in base64.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = 4096
_HAR: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"log"\s*:')
_NDJSON: Final = re.compile(rb'\s*\{\s*"')
_GOR: Final = re.compile(rb"[123] [0-9a-fA-F]+ \d+(?: -?\d+)?\n")
_HINT: Final = (
    "a recording is pcapng, as `deetune record` writes it; captures by tcpdump, HAR, NDJSON and "
    "GoReplay's files are read, too"
)


class Recording:
    """Iterated once. `manifest` and `problems` are complete when it is through."""

    def __init__(self, path: Path, read: _Read, *, is_raw: bool) -> None:
        self.path = path
        self.manifest: Manifest | None = None
        self._capture = Capture()
        self._dialogues = Dialogues(is_raw=is_raw)
        self._said: list[str] = []
        self._passed: Counter[str] = Counter()
        try:
            head = read(_HEAD_BYTES)
        except BadInput as error:
            raise Damaged(path, str(error)) from error
        if not head:
            raise Empty(path, "the file is empty")
        self.format = _format(path, head)
        self._read = _with(head, read)

    @property
    def problems(self) -> list[str]:
        """What was not read, and why; for a person."""
        passed = self._passed + self._capture.passed
        return [
            *self._said,
            *(f"{count:,} packets {what}" for what, count in sorted(passed.items())),
            *(
                f"{count:,} {what}"
                for what, count in sorted(self._dialogues.problems.items())
                if count
            ),
        ]

    @property
    def unreadable_connections(self) -> int:
        """With bytes of no protocol that is known here."""
        return self._dialogues.unreadable_connections

    def __iter__(self) -> Iterator[RecordedExchange]:
        """Raises Damaged."""
        damage = ""
        try:
            yield from self._exchanges()
        except CutShort as error:
            self._said.append(f"{error}: its writer was killed, or it is a part")
        except BadInput as error:
            damage = str(error)
        for event in self._capture.end():
            yield from self._dialogues.feed(event)
        if damage:
            raise Damaged(
                self.path, damage, hint="what stands before was read; the rest is lost"
            )

    def _exchanges(self) -> Iterator[RecordedExchange]:
        match self.format:
            case "pcapng":
                for block in read_pcapng(self._read):
                    yield from self._taken(block)
            case "pcap":
                for packet in read_pcap(self._read):
                    yield from self._taken(packet)
            case "har":
                yield from har.from_har(self._document())
            case "gor":
                yield from gor.from_gor(iter(lambda: self._read(_CHUNK_BYTES), b""))
            case _:
                yield from self._from_lines()

    def _document(self) -> object:
        data = self._read(MAX_HAR_BYTES + 1)
        if len(data) > MAX_HAR_BYTES:
            raise BadInput(f"a HAR file of more than {MAX_HAR_BYTES:,} bytes")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"no JSON: {error}") from None

    def _from_lines(self) -> Iterator[RecordedExchange]:
        rest, number = b"", 0
        while chunk := self._read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                number += 1
                if line.strip():
                    yield _from_line(line, number)
            if len(rest) > MAX_LINE_BYTES:
                raise BadInput(
                    f"line {number + 1} has more than {MAX_LINE_BYTES:,} bytes"
                )
        if rest.strip():
            try:
                yield _from_line(rest, number + 1)
            except BadInput as error:
                raise CutShort(str(error)) from None

    def _taken(self, block: Packet | Statistics | Passed) -> Iterator[RecordedExchange]:
        if isinstance(block, Packet):
            for event in self._capture.feed(block):
                yield from self._dialogues.feed(event)
        elif isinstance(block, Passed):
            self._passed[block.what] += 1
        elif block.comment.startswith("{"):
            try:
                self.manifest = from_text(block.comment)
            except BadInput as error:
                self._said.append(str(error))


@contextmanager
def read(path: Path, *, is_raw: bool = False) -> Iterator[Recording]:
    """Raises OSError, Empty and NotARecording, and while it is read Damaged.

    `is_raw`: what has no known protocol is given, too, as raw bytes.
    """
    with path.open("rb") as file:
        yield Recording(path, _plain(file, path), is_raw=is_raw)


def _plain(file: IO[bytes], path: Path) -> _Read:
    """Through the compression. Its errors become CutShort and BadInput."""
    magic = file.read(4)
    file.seek(0)
    if magic == _ZSTD:
        stream = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
            file, read_across_frames=True
        )
        return _whole(stream.read)
    if magic[:2] == _GZIP:
        return _whole(gzip.GzipFile(fileobj=file, mode="rb").read)
    if not magic:
        raise Empty(path, "the file is empty")
    return file.read


def _whole(read: _Read) -> _Read:
    """Reads as much as is asked for, as long as there is something."""

    def whole(count: int) -> bytes:
        parts = []
        while count > 0:
            try:
                part = read(count)
            except EOFError:
                raise CutShort("the file ends within its compression") from None
            except (OSError, zlib.error, zstandard.ZstdError) as error:
                raise BadInput(f"its compression is broken: {error}") from error
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    return whole


def _with(first: bytes, read: _Read) -> _Read:
    """`read`, with these bytes before."""
    waiting = [first]

    def joined(count: int) -> bytes:
        if not waiting:
            return read(count)
        have = waiting.pop()
        if len(have) > count:
            waiting.append(have[count:])
            return have[:count]
        return have + read(count - len(have))

    return joined


def _from_line(line: bytes, number: int) -> RecordedExchange:
    try:
        return ndjson.from_line(line.decode())
    except (BadInput, UnicodeDecodeError) as error:
        raise BadInput(f"line {number}: {error}") from None


def _format(path: Path, head: bytes) -> str:
    if head.startswith(PCAPNG_MAGIC):
        return "pcapng"
    if head[:4] in PCAP_MAGICS:
        return "pcap"
    for name, pattern in (("har", _HAR), ("gor", _GOR), ("ndjson", _NDJSON)):
        if pattern.match(head):
            return name
    raise NotARecording(path, "no format that is read begins like this", hint=_HINT)
