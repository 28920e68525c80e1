# SPDX-License-Identifier: Apache-2.0
"""Exchanges as a Parquet file, for questions about a month of traffic (DuckDB, Spark, pandas).

One row an exchange, with the columns of NDJSON; `request` and `response` are its JSON. Needs
pyarrow, the extra `parquet`: ImportError without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from deetune_otel.recording.ndjson import to_line

if TYPE_CHECKING:
    from pathlib import Path

    from deetune_otel.recording.model import RecordedExchange

__all__ = ["write_parquet"]

# Held in memory at a time.
ROWS: Final = 10_000

_TEXT: Final = (
    *("exchange", "trace_id", "span_id", "service.name", "service.peer.name"),
    "operation",
    *("network.protocol.name", "network.transport", "client.address"),
    *("server.address", "http.request.method", "url.path", "url.query"),
    *("db.system.name", "db.operation.name", "error.type", "connection"),
    *("cause", "cause_method", "client.service.name", "server.service.name"),
)
_NUMBERS: Final = (
    *("client.port", "server.port", "http.response.status_code", "duration_ns"),
    "calls",
)
_TIMES: Final = ("start_time", "end_time")
_LISTS: Final = ("incomplete", "redactions")
_JSON: Final = ("request", "response")


def write_parquet(exchanges: Iterable[RecordedExchange], path: Path) -> int:
    """How many were written. Raises OSError and ImportError."""
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 -- an extra
    from pyarrow import parquet  # noqa: PLC0415

    schema = pa.schema(
        [
            *((name, pa.string()) for name in _TEXT),
            *((name, pa.int64()) for name in _NUMBERS),
            *((name, pa.timestamp("ns", tz="UTC")) for name in _TIMES),
            *((name, pa.list_(pa.string())) for name in _LISTS),
            *((name, pa.string()) for name in _JSON),
        ]
    )
    count = 0
    rows = map(_row, exchanges)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(rows, ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _row(exchange: RecordedExchange) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_line(exchange))
    for end in ("client", "server"):
        process = found[f"{end}.process"]
        found[f"{end}.service.name"] = process["service"] if process else None
    found["start_time"] = found["start_time_unix_nano"] or None
    found["end_time"] = found["end_time_unix_nano"] or None
    for name in _JSON:
        found[name] = (
            json.dumps(found[name], ensure_ascii=False) if found[name] else None
        )
    return dict(_columns(found))


def _columns(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in (*_TEXT, *_NUMBERS, *_TIMES, *_LISTS, *_JSON):
        value = found.get(name)
        yield name, None if value == "" else value
