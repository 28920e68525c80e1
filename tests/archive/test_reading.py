# SPDX-License-Identifier: Apache-2.0
"""What was written is read as it was; anything else is read or refused, and never guessed."""

from __future__ import annotations

import gzip
import http.server
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cases.http import METHODS
from tests.exchanges import EXCHANGE, any_exchange, numbered
from tests.process import wait_until

from deetune_otel.archive import reading
from deetune_otel.archive.errors import ArchiveError, Damaged, Empty, NotARecording
from deetune_otel.archive.reading import read
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.model import Protocol
from deetune_otel.recording.har_export import to_har
from deetune_otel.recording.model import (
    HttpRequest,
    HttpResponse,
    Manifest,
    RawMessage,
    RecordedExchange,
    RedisCommand,
)
from deetune_otel.recording.ndjson import to_line
from deetune_otel.recording.operations import operation_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST: Final = Manifest(seen=3, captured=2, lost={"ring_full": 1}, ended_ns=5)


def written(
    path: Path, exchanges: Iterable[RecordedExchange], *, compress: bool = False
) -> Path:
    writer = RecordingWriter(path, compress=compress)
    for one in exchanges:
        writer.write(one)
    writer.close(MANIFEST)
    return path


def operation_of(one: RecordedExchange) -> str:
    return one.operation or operation_name(one.request)


def exchanges_in(path: Path) -> list[RecordedExchange]:
    with read(path) as recording:
        return list(recording)


@given(st.lists(any_exchange(), max_size=4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_as_it_was(
    given_: list[RecordedExchange],
    compress: bool,  # noqa: FBT001
) -> None:
    unique = {
        one.connection.id: replace(one, operation=operation_of(one)) for one in given_
    }
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "a", unique.values(), compress=compress)
        with read(path) as recording:
            found = {one.connection.id: one for one in recording}
    assert found == unique
    assert recording.problems == []
    assert recording.manifest == replace(
        MANIFEST,
        files=("a",),
        bytes=recording.manifest.bytes if recording.manifest else 0,
    )


@given(st.lists(any_exchange(), min_size=2, max_size=5))
@settings(max_examples=60, deadline=None)
def test_whatever_follows_on_a_connection_is_read_as_it_was(
    given_: list[RecordedExchange],
) -> None:
    """Also behind messages of which the end, or all, is missing."""
    first = given_[0].connection
    same = [
        replace(one, connection=first, operation=operation_of(one), id=f"{number:016x}")
        for number, one in enumerate(given_)
        if one.connection.protocol is first.protocol
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "a", same)
        with read(path) as recording:
            found = list(recording)
    assert found == same
    assert recording.problems == []


def test_many_exchanges_of_several_connections_in_their_order(tmp_path: Path) -> None:
    many = [numbered(i, connections=7) for i in range(500)]
    assert exchanges_in(written(tmp_path / "a.pcapng", many)) == many


@pytest.mark.parametrize("compress", [False, True])
def test_a_body_of_16_mb(tmp_path: Path, *, compress: bool) -> None:
    body = bytes(range(256)) * (1 << 16)
    response = HttpResponse(
        status=200,
        headers=(("Content-Length", str(len(body))),),
        body=body,
        wire_bytes=len(body) + 50,
    )
    large = replace(EXCHANGE, response=response)
    path = written(tmp_path / "a", [large, numbered(1)], compress=compress)
    assert exchanges_in(path) == [large, numbered(1)]


def test_a_file_that_is_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    whole = written(tmp_path / "a", [numbered(i) for i in range(5)]).read_bytes()
    seen = set()
    for size in range(300, len(whole), 37):
        (tmp_path / "b").write_bytes(whole[:size])
        with read(tmp_path / "b") as recording:
            found = list(recording)
        complete = [one for one in found if one.is_complete]
        assert complete == [numbered(i) for i in range(len(complete))]
        assert len(found) - len(complete) <= 1
        seen.add(len(complete))
    assert seen == {0, 1, 2, 3, 4, 5}


def test_a_compressed_file_that_is_cut_is_read_up_to_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    writer = RecordingWriter(path, compress=True)
    for i in range(3):
        writer.write(numbered(i))
        writer.flush()
    whole = path.read_bytes()
    (tmp_path / "b").write_bytes(whole[:-20])
    assert exchanges_in(tmp_path / "b")[:2] == [numbered(0), numbered(1)]


def test_a_file_that_breaks_its_format_gives_what_stands_before(tmp_path: Path) -> None:
    whole = bytearray(
        written(tmp_path / "a", [numbered(i) for i in range(5)]).read_bytes()
    )
    at = whole.rindex(b"POST")
    at = whole.rindex(struct.pack("<I", 6), 0, at)
    whole[at + 4 : at + 8] = struct.pack("<I", 13)
    (tmp_path / "b").write_bytes(whole)
    found: list[RecordedExchange] = []
    with read(tmp_path / "b") as recording, pytest.raises(Damaged) as raised:
        found += recording
    assert "impossible length" in str(raised.value)
    assert str(tmp_path / "b") in str(raised.value)
    assert [one.id for one in found][:4] == [numbered(i).id for i in range(4)]


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    with pytest.raises(Empty), read(path):
        pass
    for foreign in (b"hello world", b"\x7fELF....", b"PK\x03\x04", b"a"):
        path.write_bytes(foreign)
        with pytest.raises(NotARecording) as raised, read(path):
            pass
        assert "deetune record" in raised.value.hint
    path.write_bytes(zstandard.compress(b"hello"))
    with pytest.raises(NotARecording), read(path):
        pass
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(Empty), read(path):
        pass
    with pytest.raises(FileNotFoundError), read(tmp_path / "none"):
        pass
    with pytest.raises(IsADirectoryError), read(tmp_path):
        pass


def test_gzip_is_seen_through(tmp_path: Path) -> None:
    path = written(tmp_path / "a", [EXCHANGE])
    (tmp_path / "b").write_bytes(gzip.compress(path.read_bytes()))
    assert exchanges_in(tmp_path / "b") == [EXCHANGE]


def test_other_forms_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    many = [numbered(i) for i in range(300)]
    path.write_text("".join(f"{to_line(one)}\n" for one in many))
    assert exchanges_in(path) == many
    path.write_text(
        "".join(to_har(many[:3], creator="deetune 1", decode=lambda *_: None))
    )
    assert [one.id for one in exchanges_in(path)] == [one.id for one in many[:3]]
    record = b"1 a1 7 0\nGET / HTTP/1.1\r\n\r\n" + "\n🐵🙈🙉\n".encode()
    path.write_bytes(zstandard.compress(record))
    (one,) = exchanges_in(path)
    assert isinstance(one.request, HttpRequest)


def test_lines_that_were_cut_or_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "a"
    line = to_line(EXCHANGE)
    path.write_text(f"{line}\n\n{line[:50]}")
    with read(path) as recording:
        assert list(recording) == [EXCHANGE]
    assert "line 3" in recording.problems[0]
    path.write_text(f"{line}\n{line[:50]}\n{line}\n")
    with read(path) as recording, pytest.raises(Damaged, match="line 2"):
        list(recording)
    path.write_text('{"log": {"entries": [')
    with read(path) as recording, pytest.raises(Damaged, match="no JSON"):
        list(recording)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_raises_nothing_else(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        compress = data.draw(st.booleans())
        whole = bytearray(
            written(
                Path(folder) / "a", [numbered(0), numbered(1)], compress=compress
            ).read_bytes()
        )
        for _ in range(data.draw(st.integers(1, 8))):
            at = data.draw(st.integers(0, len(whole) - 1))
            whole[at : at + data.draw(st.integers(0, 4))] = data.draw(
                st.binary(max_size=4)
            )
            if not whole:
                break
        (Path(folder) / "b").write_bytes(whole)
        with suppress(ArchiveError):
            exchanges_in(Path(folder) / "b")


@contextmanager
def captured(folder: Path, port: int) -> Iterator[Path]:
    """What tcpdump sees of this port while the block runs."""
    path = folder / "capture.pcap"
    with subprocess.Popen(
        ["tcpdump", "-i", "lo", "-U", "-s", "0", "-w", path, f"tcp port {port}"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "listening on lo" in line, line
            yield path
            last = -1

            def is_quiet() -> bool:
                nonlocal last
                size, last = last, path.stat().st_size
                return size == last > 24

            wait_until(is_quiet, "tcpdump has written all", timeout_s=10)
        finally:
            process.terminate()
            process.communicate(timeout=10)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(data)))
        self.end_headers()
        self.wfile.write(data * 2)

    def log_message(self, *_: object) -> None:
        """Nothing."""


POSTS: Final = """
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for i in range(5):
    c.request("POST", f"/{i}", body=b"x" * (10 ** i))
    assert len(c.getresponse().read()) == 2 * 10 ** i
c.close()
"""


def test_a_capture_of_tcpdump_is_read(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with captured(tmp_path, server.server_port) as path:
            subprocess.run(
                [sys.executable, "-c", POSTS, str(server.server_port)],
                check=True,
                timeout=30,
            )
    finally:
        server.shutdown()
        server.server_close()
    with read(path) as recording:
        found = list(recording)
    assert recording.format == "pcap"
    assert recording.unreadable_connections == 0
    assert [one.is_complete for one in found] == [True] * 5
    for i, one in enumerate(found):
        assert isinstance(one.request, HttpRequest)
        assert isinstance(one.response, HttpResponse)
        assert (one.request.target, one.request.body) == (f"/{i}", b"x" * 10**i)
        assert one.response.body == b"x" * (2 * 10**i)
        assert one.connection.server.port == server.server_port
    assert len({one.id for one in found}) == 5


def _pcap(packets: Iterable[bytes]) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)
    return head + b"".join(
        struct.pack("<IIII", 1, number, len(data), len(data)) + data
        for number, data in enumerate(packets)
    )


def _packet(
    data: bytes,
    sequence: int,
    *,
    from_client: bool,
    port: int = 6379,
    flags: int = 0x18,
) -> bytes:
    ends = [socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")]
    ports = [50_000, port]
    if not from_client:
        ends.reverse()
        ports.reverse()
    tcp = struct.pack("!HHIIBBHHH", *ports, sequence, 0, 5 << 4, flags & ~0x10, 0, 0, 0)
    size = 40 + len(data)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, 6, 0)
    return ip + b"".join(ends) + tcp + data


def test_redis_in_a_capture_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(
        _pcap(
            [
                _packet(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 1, from_client=True),
                _packet(b"$1\r\nv\r\n", 1, from_client=False),
            ]
        )
    )
    (one,) = exchanges_in(tmp_path / "a")
    assert one.protocol is Protocol.REDIS
    assert isinstance(one.request, RedisCommand)
    assert one.request.arguments == (b"GET", b"k")


@pytest.mark.parametrize("method", METHODS, ids=bytes.decode)
def test_http_in_a_capture_is_known_by_its_first_line(
    tmp_path: Path, method: bytes
) -> None:
    asked = method + b" /a HTTP/1.1\r\nHost: x\r\n\r\n"
    packets = [
        _packet(asked, 1, from_client=True, port=80),
        _packet(b"HTTP/1.1 204 None\r\n\r\n", 1, from_client=False, port=80),
    ]
    (tmp_path / "a").write_bytes(_pcap(packets))
    (one,) = exchanges_in(tmp_path / "a")
    assert isinstance(one.request, HttpRequest)
    assert one.request.method == method.decode()
    assert one.is_complete


@pytest.mark.parametrize(
    "line",
    [
        *(b"FOO bar baz\r\n", b"FOO /a HTTP/2.0\r\n", b"HTTP/1.1 200 OK\r\n"),
        b"get k\r\n",
    ],
)
def test_what_only_looks_like_http_in_a_capture(tmp_path: Path, line: bytes) -> None:
    packets = [_packet(line, 1, from_client=True, port=80)]
    (tmp_path / "a").write_bytes(_pcap(packets))
    with read(tmp_path / "a") as recording:
        (one,) = recording
    assert one.request == RawMessage(data=line)
    assert recording.unreadable_connections == 1


def test_what_nobody_knows_is_counted_and_given_raw(tmp_path: Path) -> None:
    packets = [
        _packet(b"\x01\x02", 1, from_client=True, port=9),
        _packet(b"\x03", 1, from_client=False, port=9),
        _packet(b"\x04", 3, from_client=True, port=9),
    ]
    (tmp_path / "a").write_bytes(_pcap(packets))
    with read(tmp_path / "a") as recording:
        first, second = recording
    assert recording.unreadable_connections == 1
    assert first.request == RawMessage(data=b"\x01\x02")
    assert first.response == RawMessage(data=b"\x03")
    assert (second.request, second.response) == (RawMessage(data=b"\x04"), None)


def test_a_lost_packet_makes_its_exchange_incomplete_alone(tmp_path: Path) -> None:
    asked = b"GET / HTTP/1.1\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    packets = []
    for i in range(3):
        packets += [
            _packet(asked, 1 + i * len(asked), from_client=True),
            _packet(answer, 1 + i * (len(answer) + 4), from_client=False),
            _packet(
                b"body", 1 + i * (len(answer) + 4) + len(answer), from_client=False
            ),
        ]
    del packets[5]  # the second body
    (tmp_path / "a").write_bytes(_pcap(packets))
    found = exchanges_in(tmp_path / "a")
    assert [one.incomplete for one in found] == [(), ("lost",), ()]


def test_packets_of_other_kinds_are_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_pcap([b"\x45" + bytes(30), b"\x00"]))
    with read(tmp_path / "a") as recording:
        assert list(recording) == []
    assert recording.problems == ["1 packets neither IPv4 nor IPv6", "1 packets no TCP"]


def _cut(packets: list[bytes], size: int) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, size, 101)
    return head + b"".join(
        struct.pack("<IIII", 1, number, len(data[:size]), len(data)) + data[:size]
        for number, data in enumerate(packets)
    )


def test_a_short_snaplen_is_said_and_marked(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"y" * 900
    packets = [
        _packet(b"", 0, from_client=True, port=80, flags=2),
        _packet(b"GET / HTTP/1.1\r\n\r\n", 1, from_client=True, port=80),
        _packet(answer, 1, from_client=False, port=80),
        _packet(b"GET /2 HTTP/1.1\r\n\r\n", 19, from_client=True, port=80),
    ]
    (tmp_path / "a").write_bytes(_cut(packets, 200))
    with read(tmp_path / "a") as recording:
        one, other = recording
    assert one.incomplete == ("cut",)
    assert isinstance(one.response, HttpResponse)
    assert one.response.missing[0].bytes == len(answer) + 40 - 200
    assert isinstance(other.request, HttpRequest)
    assert other.request.target == "/2", "what follows is read"
    (problem,) = recording.problems
    assert "1 packets were cut short when they were captured (snaplen)" in problem
    (tmp_path / "a").write_bytes(_cut(packets, 50))
    with read(tmp_path / "a") as recording:
        assert not any(isinstance(one.request, HttpRequest) for one in recording)
    assert "3 packets were cut short" in recording.problems[0]


def test_a_capture_that_began_later_says_so(tmp_path: Path) -> None:
    packets = [
        _packet(b"rest of an answer", 1, from_client=False, port=80),
        _packet(b"GET / HTTP/1.1\r\n\r\n", 1, from_client=True, port=80),
        _packet(b"HTTP/1.1 204 None\r\n\r\n", 18, from_client=False, port=80),
    ]
    (tmp_path / "a").write_bytes(_pcap(packets))
    with read(tmp_path / "a") as recording:
        before, one = recording
    assert isinstance(before.request, RawMessage)
    assert one.is_complete
    assert recording.problems == [
        "1 connections began before the capture did: what was under way then is left out"
    ]
    assert recording.unreadable_connections == 0


@pytest.mark.parametrize("pack", [zstandard.compress, gzip.compress])
@pytest.mark.parametrize(
    "begin", [b'{"log":{"entries":[[]', b'{"a":1}\n', b"1 a 1\nGET / HTTP/1.1\r\n\r\n"]
)
def test_what_grows_too_much_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Any, begin: bytes
) -> None:
    monkeypatch.setattr(reading, "ALWAYS_BYTES", 1024 * 1024)
    path = tmp_path / "a"
    path.write_bytes(pack(begin + b" " * 64 * 1024 * 1024))
    tracemalloc.start()
    with read(path) as recording, pytest.raises(Damaged) as raised:
        list(recording)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "grows more than 200 times" in str(raised.value) or "line 1" in str(
        raised.value
    )
    assert most < 40 * 1024 * 1024


def test_what_becomes_too_many_values_is_not_built(tmp_path: Path) -> None:
    """Little when it is compressed, and gigabytes as values."""
    path = tmp_path / "a"
    many = b"[]," * 2_000_000
    path.write_bytes(zstandard.compress(b'{"log":{"entries":[[' + many + b"1]]}}"))
    assert path.stat().st_size < 2000
    with read(path) as recording, pytest.raises(Damaged, match="more than 1,000,000"):
        list(recording)
    path.write_bytes(zstandard.compress(b'{"a":[' + many + b"1]}\n"))
    with read(path) as recording, pytest.raises(Damaged, match="more than 1,000,000"):
        list(recording)


def test_entries_that_are_left_out_are_said(tmp_path: Path) -> None:
    whole = json.loads(
        "".join(to_har([EXCHANGE] * 2, creator="d", decode=lambda *_: None))
    )
    whole["log"]["entries"][0]["request"]["url"] = "data:,x"
    (tmp_path / "a").write_text(json.dumps(whole))
    with read(tmp_path / "a") as recording:
        assert len(list(recording)) == 1
    assert recording.problems == ["1 entries of data: URLs, which are no HTTP"]


def test_names_of_operations_are_the_metrics(tmp_path: Path) -> None:
    bare = [replace(numbered(i), operation="") for i in range(2)]
    (tmp_path / "a").write_text("".join(f"{to_line(one)}\n" for one in bare))
    assert {one.operation for one in exchanges_in(tmp_path / "a")} == {"POST /orders"}
