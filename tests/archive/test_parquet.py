# SPDX-License-Identifier: Apache-2.0
"""Parquet opens in a second reader, with the names of NDJSON."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
from tests.exchanges import EXCHANGE, numbered

from deetune_otel.archive import parquet
from deetune_otel.archive.parquet import write_parquet

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_rows_are_exchanges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 3)
    path = tmp_path / "a.parquet"
    many = [numbered(i) for i in range(7)]
    assert write_parquet([*many, replace(EXCHANGE, response=None)], path) == 8
    rows = duckdb.execute(
        'select exchange, "service.name", "http.response.status_code", redactions, '
        f"epoch_ns(start_time), response is null from '{path}'"
    ).fetchall()
    assert rows[3] == (
        many[3].id,
        "shop",
        201,
        ["name"],
        many[3].request_start_ns,
        False,
    )
    assert [row[5] for row in rows] == [False] * 7 + [True]


def test_nothing_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert write_parquet([], path) == 0
    assert duckdb.execute(f"select count(*) from '{path}'").fetchall() == [(0,)]
