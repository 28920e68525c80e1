# SPDX-License-Identifier: Apache-2.0
"""Any file of recorded traffic → exchanges, one after the other, whatever its name.

What it is its first bytes say: pcapng (ours, or anybody's), pcap, NDJSON, HAR or GoReplay's, plain
or in zstd or gzip. A file whose writer was killed is read up to where it ends, and that is said; one that breaks the
rules of its format raises, after all that stands before. How far a file grows when it is
decompressed is bounded, and so is what is built of it at a time.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Final

import zstandard

from deetune_otel.archive.capture import Capture
from deetune_otel.archive.dialogues import Dialogues
from deetune_otel.archive.errors import Damaged, Empty, NotARecording
from deetune_otel.archive.manifests import from_text
from deetune_otel.recording import ndjson
from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.gor import from_gor
from deetune_otel.recording.har_entries import entries_in
from deetune_otel.recording.har_import import from_har
from deetune_otel.recording.operations import operation_name
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
from deetune_otel.recording.records import records

if TYPE_CHECKING:
    from pathlib import Path

    from deetune_otel.recording.model import Manifest, RecordedExchange

__all__ = ["Recording", "read"]

_Read = Callable[[int], bytes]

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_GZIP: Final = b"\x1f\x8b"
# tcpdump -w writes windows of 8 MB at most; ours are smaller.
_MAX_WINDOW: Final = 128 * 1024 * 1024
# What grows more is made to: recordings, captures and HAR files shrink to a fiftieth at best.
MAX_GROWTH: Final = 200
ALWAYS_BYTES: Final = 64 * 1024 * 1024
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

    def __init__(self, path: Path, read: _Read) -> None:
        self.path = path
        self.manifest: Manifest | None = None
        self._capture = Capture()
        self._dialogues = Dialogues()
        self._said: list[str] = []
        self._passed: Counter[str] = Counter()  # blocks of pcapng
        self._left_out: Counter[str] = Counter()  # entries and records of other formats
        self._cut = 0  # packets that were captured in part
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
            *(f"{count:,} {what}" for what, count in sorted(self._left_out.items())),
            *self._cut_short(),
            *(f"{count:,} packets {what}" for what, count in sorted(passed.items())),
            *(
                f"{count:,} {what}"
                for what, count in sorted(self._dialogues.problems.items())
                if count
            ),
        ]

    def _cut_short(self) -> Iterator[str]:
        if self._cut:
            yield (
                f"{self._cut:,} packets were cut short when they were captured (snaplen), and "
                f"what they held is missing: `tcpdump -s 0` takes them whole"
            )
        if count := self._dialogues.begun_before:
            yield (
                f"{count:,} connections began before the capture did: what was under way then "
                "is left out"
            )

    @property
    def unreadable_connections(self) -> int:
        """With bytes of no protocol that is known here."""
        return self._dialogues.unreadable_connections

    def __iter__(self) -> Iterator[RecordedExchange]:
        """Raises Damaged."""
        damage = ""
        try:
            yield from map(_named, self._exchanges())
        except CutShort as error:
            self._said.append(f"{error}: its writer was killed, or it is a part")
        except BadInput as error:
            damage = str(error)
        for event in self._capture.end():
            yield from map(_named, self._dialogues.feed(event))
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
                yield from from_har(entries_in(self._chunks()), self._left_out)
            case "gor":
                yield from from_gor(self._chunks(), self._left_out)
            case _:
                yield from self._from_lines()

    def _chunks(self) -> Iterator[bytes]:
        return iter(lambda: self._read(_CHUNK_BYTES), b"")

    def _from_lines(self) -> Iterator[RecordedExchange]:
        """The last line has no end: a part of one is a file that is cut short."""
        lines = records(self._chunks(), b"\n", max_bytes=MAX_LINE_BYTES)
        last, number = next(lines), 1
        for line in lines:
            yield from _from_line(last, number)
            last, number = line, number + 1
        try:
            yield from _from_line(last, number)
        except BadInput as error:
            raise CutShort(str(error)) from None

    def _taken(self, block: Packet | Statistics | Passed) -> Iterator[RecordedExchange]:
        if isinstance(block, Packet):
            self._cut += len(block.data) < block.bytes
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
def read(path: Path) -> Iterator[Recording]:
    """Raises OSError, Empty and NotARecording, and while it is read Damaged.

    What has no known protocol is given, too, as raw bytes.
    """
    with path.open("rb") as file:
        yield Recording(path, _plain(file, path))


def _plain(file: IO[bytes], path: Path) -> _Read:
    """Through the compression. Its errors become CutShort and BadInput."""
    magic = file.read(4)
    file.seek(0)
    if magic == _ZSTD:
        stream = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
            file, read_across_frames=True
        )
        return _bounded(_whole(stream.read), file)
    if magic[:2] == _GZIP:
        return _bounded(_whole(gzip.GzipFile(fileobj=file, mode="rb").read), file)
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


def _bounded(read: _Read, file: IO[bytes]) -> _Read:
    """What comes of a compressed file, as long as it has not grown too much."""
    total = 0

    def bounded(count: int) -> bytes:
        nonlocal total
        data = read(count)
        total += len(data)
        if total > max(ALWAYS_BYTES, MAX_GROWTH * file.tell()):
            raise BadInput(
                f"it grows more than {MAX_GROWTH} times when it is decompressed, and to more "
                f"than {ALWAYS_BYTES:,} bytes: decompress it yourself if you trust it"
            )
        return data

    return bounded


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


def _from_line(line: bytes | None, number: int) -> Iterator[RecordedExchange]:
    if line is None:
        raise BadInput(f"line {number} has more than {MAX_LINE_BYTES:,} bytes")
    if not line.strip():
        return
    try:
        yield ndjson.from_line(line.decode())
    except (BadInput, UnicodeDecodeError) as error:
        raise BadInput(f"line {number}: {error}") from None


def _named(one: RecordedExchange) -> RecordedExchange:
    """Other people's have no names of operations."""
    if one.operation:
        return one
    return replace(one, operation=operation_name(one.request))


def _format(path: Path, head: bytes) -> str:
    if head.startswith(PCAPNG_MAGIC):
        return "pcapng"
    if head[:4] in PCAP_MAGICS:
        return "pcap"
    for name, pattern in (("har", _HAR), ("gor", _GOR), ("ndjson", _NDJSON)):
        if pattern.match(head):
            return name
    raise NotARecording(path, "no format that is read begins like this", hint=_HINT)
