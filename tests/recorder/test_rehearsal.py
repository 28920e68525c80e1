# SPDX-License-Identifier: Apache-2.0
"""What a rehearsal counts is what a file would hold."""

from __future__ import annotations

from pathlib import Path

from deetune_otel.archive.writer import RecordingWriter
from deetune_otel.model import Protocol
from deetune_otel.recorder.rehearsal import Rehearsal
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    Process,
    RecordedExchange,
)


def test_its_bytes_are_those_of_a_file(tmp_path: Path) -> None:
    exchange = RecordedExchange(
        id="00000000000000ee",
        connection=Connection(
            id="00000000000000aa",
            protocol=Protocol.HTTP,
            client=Endpoint("10.1.2.3", 5000),
            server=Endpoint("10.9.0.1", 8080),
            server_process=Process("shop"),
        ),
        request=HttpRequest(method="GET", target="/", headers=(("Host", "x"),)),
        response=HttpResponse(status=204, has_no_body=True),
        request_start_ns=1,
        request_end_ns=2,
        response_start_ns=3,
        response_end_ns=4,
        operation="GET /",
    )
    rehearsal = Rehearsal()
    writer = RecordingWriter(tmp_path / "a.pcapng")
    before = writer.bytes
    for _ in range(3):
        rehearsal.write(exchange)
        writer.write(exchange)
    rehearsal.flush()
    writer.flush()
    assert rehearsal.bytes == writer.bytes - before
    assert rehearsal.operations == {("shop", "GET /"): 3}
