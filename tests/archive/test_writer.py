# SPDX-License-Identifier: Apache-2.0
"""Files are private, whole after a kill, bounded by rotation, and what Wireshark dissects."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.exchanges import EXCHANGE, numbered
from tests.process import wait_until

from deetune_otel.archive.reading import read
from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.model import Protocol, Transport
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpResponse,
    Manifest,
    Missing,
    MissingBecause,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)

if TYPE_CHECKING:
    from pathlib import Path

COMMAND: Final = replace(
    EXCHANGE,
    id="00000000000000bb",
    connection=Connection(
        id="00000000000000bc",
        protocol=Protocol.REDIS,
        transport=Transport.UNIX,
        client=Endpoint("", 0),
        server=Endpoint("/run/redis.sock", 0),
    ),
    request=RedisCommand(arguments=(b"SET", b"k", b"v")),
    response=RedisReply(value=redis.Simple("OK")),
    operation="SET",
)


def read_back(path: Path) -> tuple[list[RecordedExchange], Manifest | None]:
    with read(path) as recording:
        found = list(recording)
    return found, recording.manifest


def dissected(path: Path, *words: str) -> list[dict[str, Any]]:
    """The packets' layers, as tshark says."""
    done = subprocess.run(
        ["tshark", "-r", path, "-T", "json", *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [one["_source"]["layers"] for one in json.loads(done.stdout)]


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_is_its_owners_alone_and_ends_with_the_manifest(
    tmp_path: Path, *, compress: bool
) -> None:
    path = tmp_path / "a.pcapng"
    with RecordingWriter(path, compress=compress) as writer:
        assert path.stat().st_mode & 0o777 == 0o600
        writer.write(EXCHANGE)
        writer.close(Manifest(seen=1, captured=1, selection="all"))
        writer.close(Manifest(seen=7))
    found, manifest = read_back(path)
    assert found == [EXCHANGE]
    assert manifest is not None
    assert (manifest.seen, manifest.selection, manifest.files) == (
        1,
        "all",
        (path.name,),
    )
    assert writer.bytes == path.stat().st_size


def test_a_file_that_exists_is_replaced_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        RecordingWriter(path)
    assert path.read_text() == "mine"
    with RecordingWriter(path, overwrite=True) as writer:
        writer.write(EXCHANGE)
    assert read_back(path)[0] == [EXCHANGE]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_is_never_followed(tmp_path: Path, *, overwrite: bool) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "a").symlink_to(target)
    with pytest.raises(FileExistsError):
        RecordingWriter(tmp_path / "a", overwrite=overwrite)
    assert target.read_text() == "mine"


def test_rotation_keeps_the_newest_files_and_each_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = RecordingWriter(path, rotate_bytes=20_000, keep=3)
    for i in range(200):
        writer.write(numbered(i, connections=3))
    writer.close(Manifest(captured=200))
    names = sorted(one.name for one in tmp_path.iterdir())
    assert sorted(writer.files) == names
    assert len(names) == 3
    assert writer.files[-1] == "a.pcapng"
    found: list[RecordedExchange] = []
    for name in writer.files:
        assert (tmp_path / name).stat().st_size < 40_000
        some, manifest = read_back(tmp_path / name)
        assert manifest is not None
        found += some
    assert found == [numbered(i, connections=3) for i in range(200)][-len(found) :]
    assert len(found) > 20


KILLED: Final = """
    import sys
    from pathlib import Path
    from tests.exchanges import numbered
    from deetune_otel.archive.writer import RecordingWriter
    writer = RecordingWriter(Path(sys.argv[1]), compress=sys.argv[2] == "zst")
    for i in range(1_000_000):
        writer.write(numbered(i))
        if i % 100 == 99:
            writer.flush()
            print(i + 1, flush=True)
"""


@pytest.mark.parametrize("form", ["plain", "zst"])
def test_a_kill_costs_only_what_was_not_flushed(tmp_path: Path, form: str) -> None:
    path, said = tmp_path / "a", tmp_path / "said"
    with (
        said.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), path, form],
            stdout=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process,
    ):
        wait_until(lambda: len(said.read_text().split()) >= 5, "some are flushed")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    flushed = int(said.read_text().split()[-1])
    found, manifest = read_back(path)
    assert manifest is None
    assert len(found) >= flushed
    complete = [one for one in found if one.is_complete]
    assert complete == [numbered(i) for i in range(len(complete))]


FULL: Final = """
    import resource, signal, sys
    from pathlib import Path
    from tests.exchanges import numbered
    from deetune_otel.archive.writer import RecordingWriter
    from deetune_otel.recording.model import Manifest
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = RecordingWriter(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    try:
        for i in range(1000):
            writer.write(numbered(i))
            if i % 10 == 9:
                writer.flush()
    except OSError as error:
        print(error.errno, writer.flushed)
    try:
        writer.close(Manifest())
    except OSError as error:
        print(error.errno)
"""


def test_a_full_disk_leaves_whole_blocks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), tmp_path / "a"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    error, flushed = done.stdout.split()[:2]
    assert int(error) == errno.EFBIG
    found, _ = read_back(tmp_path / "a")
    assert found == [numbered(i) for i in range(int(flushed))]
    assert found


def test_no_room_for_the_first_byte_leaves_nothing() -> None:
    with pytest.raises(OSError, match=r"."):
        RecordingWriter(__import__("pathlib").Path("/proc/self/a.pcapng"))


@pytest.mark.parametrize("size", [0, 1, 2000, 16 << 20])
def test_tshark_dissects_http(tmp_path: Path, size: int) -> None:
    body = b"x" * size
    large = replace(
        EXCHANGE,
        response=HttpResponse(
            status=200, reason="OK", headers=(("Content-Length", str(size)),), body=body
        ),
    )
    path = tmp_path / "a.pcapng"
    with RecordingWriter(path) as writer:
        writer.write(large)
        writer.write(numbered(1))
    requests = dissected(path, "-Y", "http.request")
    assert len(requests) == 2
    assert "/orders?a=b" in json.dumps(requests[0]["http"])
    responses = dissected(path, "-Y", "http.response")
    assert len(responses) == 2
    assert dissected(path, "-Y", "_ws.malformed || tcp.analysis.flags") == []
    trace = f'frame.comment contains "trace_id={EXCHANGE.trace_id}"'
    assert len(dissected(path, "-Y", trace)) == 4
    assert (
        dissected(
            path, "-o", "tcp.check_checksum:TRUE", "-Y", "tcp.checksum.status == 0"
        )
        == []
    )


def test_tshark_dissects_redis(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with RecordingWriter(path) as writer:
        writer.write(COMMAND)
    assert len(dissected(path, "-Y", "resp")) == 2
    (first,) = dissected(path, "-Y", 'frame.comment contains "/run/redis.sock"')
    assert "resp" in first


def test_tshark_sees_a_gap(tmp_path: Path) -> None:
    cut = replace(
        EXCHANGE,
        response=HttpResponse(
            status=200,
            headers=(("Content-Length", "1000"),),
            body=b"ab",
            missing=(Missing(1, 998, MissingBecause.LOST),),
        ),
    )
    path = tmp_path / "a.pcapng"
    with RecordingWriter(path) as writer:
        writer.write(cut)
        writer.write(numbered(1))
    assert dissected(
        path, "-Y", "tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment"
    )
    assert read_back(path)[0][0].response == cut.response


def test_tcpdump_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with RecordingWriter(path) as writer:
        writer.write(EXCHANGE)
    done = subprocess.run(
        ["tcpdump", "-nr", path], check=True, capture_output=True, text=True, timeout=30
    )
    assert "10.0.0.1.40000 > 10.0.0.2.8080" in done.stdout
    assert "POST /orders?a=b" in done.stdout
