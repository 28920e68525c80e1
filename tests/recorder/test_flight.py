# SPDX-License-Identifier: Apache-2.0
"""What the flight recorder remembers, why it is written, and its files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from tests.exchanges import EXCHANGE

from deetune_otel.archive.reading import read
from deetune_otel.recorder.flight import OWN_BYTES, Flight, forget_old, write_flight
from deetune_otel.recording.model import HttpResponse, RecordedExchange

if TYPE_CHECKING:
    from pathlib import Path

SECOND: Final = 10**9


def at(second: int, *, took: float = 0.1, status: int = 200) -> RecordedExchange:
    start_ns = (1000 + second) * SECOND
    return replace(
        EXCHANGE,
        id=f"{second:016x}",
        response=HttpResponse(status=status, headers=(("Content-Length", "0"),)),
        request_start_ns=start_ns,
        request_end_ns=start_ns,
        response_start_ns=start_ns + int(took * SECOND),
        response_end_ns=start_ns + int(took * SECOND),
    )


def flight(
    *, seconds: int = 10, count: int = 1000, on_error: bool = True, slow_s: float = 0
) -> Flight:
    return Flight(
        keep_ns=seconds * SECOND,
        keep_bytes=count * (OWN_BYTES + 10),
        on_error=on_error,
        slow_ns=int(slow_s * SECOND),
    )


def held(ours: Flight, now: int) -> list[int]:
    return [int(one.id, 16) for one in ours.take((1000 + now) * SECOND)]


def test_it_remembers_the_last_seconds() -> None:
    ours = flight(seconds=10)
    for second in range(30):
        ours.write(at(second))
    assert held(ours, 29) == list(range(19, 30))
    assert held(ours, 35) == list(range(25, 30))
    assert held(ours, 29) == list(range(19, 30))  # they stay


def test_it_forgets_the_oldest_when_memory_is_full() -> None:
    ours = flight(count=5)
    for second in range(9):
        ours.write(at(second))
    assert held(ours, 9) == [4, 5, 6, 7, 8]


def test_they_are_in_the_order_of_their_beginning() -> None:
    ours = flight()
    for second in (3, 1, 2):
        ours.write(at(second))
    assert held(ours, 3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "exchange", "reason"),
    [
        ({}, at(1), ""),
        ({}, at(1, status=404), ""),
        ({}, at(1, status=503), "an error of shop POST /orders"),
        ({"on_error": False}, at(1, status=503), ""),
        ({"slow_s": 2}, at(1, took=1.9), ""),
        ({"slow_s": 2}, at(1, took=2), "2.0 s for shop POST /orders"),
        ({}, replace(at(1), response=None), "an error of shop POST /orders"),
    ],
)
def test_reasons(
    options: dict[str, float], exchange: RecordedExchange, reason: str
) -> None:
    ours = flight(**options)  # type: ignore[arg-type]
    ours.write(exchange)
    ours.write(at(2, status=200))
    assert ours.reason == reason
    ours.take(0)
    assert ours.reason == ""


def test_its_file_is_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "flight-1.pcapng"
    exchanges = [at(second) for second in range(3)]
    write_flight(exchanges, path, reason="a test", key=b"k" * 32)
    with read(path) as file:
        assert [one.id for one in file] == [one.id for one in exchanges]
        manifest = file.manifest
    assert manifest is not None
    assert manifest.selection == "flight recorder: a test"
    assert (manifest.seen, manifest.captured) == (3, 3)
    for one in (path, tmp_path / "flight-1.pcapng.key"):
        assert one.stat().st_mode & 0o777 == 0o600


def test_an_empty_one_is_a_recording_too(tmp_path: Path) -> None:
    path = tmp_path / "flight-1.pcapng"
    write_flight([], path, reason="a test", key=b"k" * 32)
    with read(path) as file:
        assert list(file) == []


def test_the_newest_files_stay(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"flight-{number}.pcapng").touch()
        (tmp_path / f"flight-{number}.pcapng.key").touch()
    (tmp_path / "other.pcapng").touch()
    forget_old(tmp_path, keep=2)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "flight-3.pcapng",
        "flight-3.pcapng.key",
        "flight-4.pcapng",
        "flight-4.pcapng.key",
        "other.pcapng",
    ]
