# SPDX-License-Identifier: Apache-2.0
"""What of a path is an identifier; tests/host/test_http_path.py holds the kernel to it."""

from __future__ import annotations

import random
import string
import uuid
from typing import Final

import pytest
from tests.cases.paths import TOGETHER

from deetune_otel.config.http_path import ANY, folded, is_plain_end, segment_hash


def folded_path(path: str) -> str:
    return "/".join(map(folded, path.partition("?")[0].split("/")))


@pytest.mark.parametrize("paths", TOGETHER, ids=lambda paths: paths[0])
def test_one_operation(paths: tuple[str, ...]) -> None:
    assert len({folded_path(path) for path in paths}) == 1


_ALPHABETS: Final = {
    "hexadecimal, 24": (string.hexdigits[:16], 24),
    "base36, 16": (string.digits + string.ascii_lowercase, 16),
    "Crockford, 26": ("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26),
    "base62, 22": (string.digits + string.ascii_letters, 22),
    "base62, 27": (string.digits + string.ascii_letters, 27),
    "base64url, 21": (string.digits + string.ascii_letters + "-_", 21),
}


@pytest.mark.parametrize(("alphabet", "length"), _ALPHABETS.values(), ids=_ALPHABETS)
def test_few_random_identifiers_pass_for_names(alphabet: str, length: int) -> None:
    """Those without a digit cannot be told; they are bounded by `routes.max_per_service`."""
    chance = random.Random(length)
    names = {
        name
        for _ in range(2000)
        if (name := folded("".join(chance.choices(alphabet, k=length)))) != ANY
    }
    assert len(names) <= 2000 * 0.15


def test_uuids_are_identifiers() -> None:
    chance = random.Random(4)
    names = {
        folded(str(uuid.UUID(int=chance.getrandbits(128), version=4)))
        for _ in range(5000)
    }
    assert len(names) < 10


def test_numbers_behind_a_word_are_at_most_ten_names_and_one() -> None:
    assert len({folded(f"order-{number}") for number in range(5000)}) == 11
    assert {folded(str(number)) for number in range(5000)} == {ANY}


def test_what_ends_where_a_parameter_may_begin() -> None:
    for text in ("", "@", "user-", "ab_cd-", "x.", "f("):
        assert is_plain_end(text)
    for text in ("user", "u-", "user1-", "userId-", "%20", "a.b"):
        assert not is_plain_end(text)


def test_a_hash_is_of_what_is_written_but_for_parameters() -> None:
    assert segment_hash("2010-04-01;a=b") == segment_hash("2010-04-01")
    texts = ("2010-04-01", "2010-04-02", "2010.04-01", "a-b", "ab-", "a.b", "a:b", "")
    assert len({segment_hash(text) for text in texts}) == len(texts)
