# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.redaction.censor import CannotRedact
from deetune_otel.redaction.encodings import decoded, encoded

CODINGS = ["", "identity", "gzip", "x-gzip", "deflate", "zstd", "GZIP", "gzip, zstd"]


@pytest.mark.parametrize("names", CODINGS)
@given(data=st.binary())
def test_there_and_back(names: str, data: bytes) -> None:
    assert decoded(encoded(data, names), names) == data


def test_as_others_write_it() -> None:
    raw = zlib.compressobj(wbits=-15)
    assert decoded(raw.compress(b"abc") + raw.flush(), "deflate") == b"abc"
    assert decoded(gzip.compress(b"ab") + gzip.compress(b"c"), "gzip") == b"abc"
    big = bytes(range(256)) * 1000
    assert decoded(zstandard.compress(big), "zstd") == big


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "more", "other", "empty"])
def test_what_is_damaged_is_refused(coding: str, damage: str) -> None:
    good = encoded(b"hello " * 100, coding)
    data = {
        "cut": good[:-3],
        "more": good + b"secret",
        "other": b"secret",
        "empty": b"",
    }
    if damage == "empty" and coding != "zstd":
        assert decoded(b"", coding) == b""
        return
    with pytest.raises(CannotRedact):
        decoded(data[damage], coding)


@pytest.mark.parametrize("names", ["br", "compress", "gzip, br", "gzip,gzip,gzip"])
def test_what_is_not_known_is_refused(names: str) -> None:
    with pytest.raises(CannotRedact):
        decoded(b"x", names)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_growth_is_bounded(coding: str) -> None:
    with pytest.raises(CannotRedact, match="grows"):
        decoded(encoded(bytes(40_000_000), coding), coding)
