# SPDX-License-Identifier: Apache-2.0
"""bpf/l7/http_path.h against config/http_path.py: what is one operation in one is in the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cases.paths import APART, KEPT, NAMED, TOGETHER
from tests.host.engine import Chunk, Host
from tests.host.feeding import operations_agree
from tests.strategies import fold, targets

from deetune_otel.config.routes import kept_segments
from deetune_otel.protocols import http
from deetune_otel.protocols.routes import Routes

OK = Chunk(is_request=False, data=b"HTTP/1.1 204 OK\r\n\r\n")
PATHS = (*APART, *(path for path, _ in NAMED))


def requests(paths: Iterable[str]) -> list[Chunk]:
    return [
        chunk
        for path in paths
        for chunk in (
            Chunk(
                is_request=True, data=f"GET {path} HTTP/1.1\r\n\r\n".encode("latin-1")
            ),
            OK,
        )
    ]


def bytewise(chunks: Iterable[Chunk]) -> list[Chunk]:
    return [
        chunk._replace(data=chunk.data[i : i + 1])
        for chunk in chunks
        for i in range(len(chunk.data))
    ]


def test_real_paths(host: Host) -> None:
    for chunks in (requests(PATHS), bytewise(requests(PATHS))):
        seen = host.feed(chunks, kept=kept_segments(()))
        operations_agree(
            seen.exchanges, (fold(path, kept_segments(())) for path in PATHS)
        )


def test_names_are_operations_of_their_own(host: Host) -> None:
    seen = host.feed(requests(APART), kept=kept_segments(()))
    assert len({exchange.signature for exchange in seen.exchanges}) == len(APART)


@pytest.mark.parametrize("paths", TOGETHER, ids=lambda paths: paths[0])
def test_one_operation(host: Host, paths: tuple[str, ...]) -> None:
    seen = host.feed(requests(paths))
    assert len({exchange.signature for exchange in seen.exchanges}) == 1


def test_kept_segments(host: Host) -> None:
    others = ("2010-04-02", "2fa1235", "43.json", "order-124", "a(8)")
    paths = [f"/x/{segment}/y" for segment in (*KEPT, *others)]
    paths += [f"/x/{segment};a=b" for segment in KEPT]
    seen = host.feed(requests(paths), kept=KEPT)
    operations_agree(seen.exchanges, (fold(path, frozenset(KEPT)) for path in paths))


def agree(host: Host, paths: Sequence[str], kept: frozenset[str]) -> None:
    """Equal signatures for equal folds alone, and one name for one signature."""
    seen = host.feed(requests(paths), kept=kept)
    operations_agree(seen.exchanges, (fold(path, kept) for path in paths))
    names = {
        (x.signature, http.operation(x.head, Routes()).name) for x in seen.exchanges
    }
    assert len(names) == len({signature for signature, _ in names})
    # What goes up to be named is one sample of each.
    sampled = [operation.signature for operation in seen.operations]
    assert sorted(sampled) == sorted({x.signature for x in seen.exchanges})


def twins(path: str, digits: str) -> list[str]:
    """Others of the same fold, if anything of it is an identifier."""
    return [fold(path).replace("\0", digits), fold(path).replace("\0", "A1B2" + digits)]


@pytest.mark.timeout(400)  # making a failure small may take five minutes
@given(
    paths=st.lists(targets().filter(lambda t: len(t) < 200), min_size=1, max_size=8),
    digits=st.text("0123456789", min_size=2, max_size=9),
)
def test_name_is_a_function_of_the_signature(
    host: Host, paths: list[str], digits: str
) -> None:
    more = [twin for path in paths for twin in twins(path, digits)]
    agree(host, [*paths, *more], kept_segments(()))


@pytest.mark.timeout(400)
@given(
    st.lists(
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF), max_size=60).map(
            lambda path: f"/{path}"
        ),
        max_size=4,
    )
)
def test_any_bytes(host: Host, paths: list[str]) -> None:
    agree(host, paths, frozenset())
