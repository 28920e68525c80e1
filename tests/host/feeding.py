# SPDX-License-Identifier: Apache-2.0
"""Every way to feed one case: what is counted may not depend on how the bytes come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Final

from tests.cases.case import Case, Expected
from tests.host.engine import Call, Chunk, Counted, Host, Seen

from deetune_otel.model import LedgerLine, Role

__all__ = ["BOTH", "WAYS", "feed_case", "operations_agree", "splits"]

BOTH: Final = (Role.CLIENT, Role.SERVER)
_WINDOW: Final = 512  # of the kernel's reads
_ALL_SPLITS_BELOW: Final = 1200  # longer messages are split near the window's edges
_IOVECS: Final = (0, 1, 2, 0, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)


def _whole(case: Case) -> Iterator[Chunk]:
    for turn in case.turns:
        if turn.request:
            yield Chunk(is_request=True, data=turn.request)
        if turn.response:
            yield Chunk(is_request=False, data=turn.response)


def _bytewise(case: Case) -> Iterator[Chunk]:
    for chunk in _whole(case):
        for i in range(len(chunk.data)):
            yield chunk._replace(data=chunk.data[i : i + 1])


def _iovecs(case: Case) -> Iterator[Chunk]:
    for chunk in _whole(case):
        yield chunk._replace(iovecs=_IOVECS, call=Call.VECTOR)


def _messages(case: Case) -> Iterator[Chunk]:
    for chunk in _whole(case):
        yield chunk._replace(iovecs=(1,) * 60, call=Call.MESSAGE)


def _larger_buffers(case: Case) -> Iterator[Chunk]:
    for chunk in _whole(case):
        yield chunk._replace(spare=4096)


def _windows(case: Case) -> Iterator[Chunk]:
    """Chunks of all sizes around the window's."""
    sizes = cycle((_WINDOW - 1, 1, _WINDOW, _WINDOW + 1, 7))
    for chunk in _whole(case):
        at = 0
        while at < len(chunk.data):
            size = next(sizes)
            yield chunk._replace(data=chunk.data[at : at + size])
            at += size


def _pipelined(case: Case) -> Iterator[Chunk]:
    if case.in_turns:
        yield from _whole(case)
        return
    requests = b"".join(turn.request for turn in case.turns)
    responses = b"".join(turn.response for turn in case.turns)
    yield Chunk(is_request=True, data=requests)
    if responses:
        yield Chunk(is_request=False, data=responses)


WAYS: Final = {
    "whole": _whole,
    "byte by byte": _bytewise,
    "in iovecs": _iovecs,
    "in iovecs of one byte": _messages,
    "in larger buffers": _larger_buffers,
    "around the window": _windows,
    "pipelined": _pipelined,
}


def splits(case: Case) -> Iterator[list[Chunk]]:
    """Each message cut in two at each point."""
    chunks = list(_whole(case))
    for i, chunk in enumerate(chunks):
        size = len(chunk.data)
        for at in range(1, size):
            if size > _ALL_SPLITS_BELOW and min(at % _WINDOW, -at % _WINDOW) > 2:
                continue
            halves = [
                chunk._replace(data=chunk.data[:at]),
                chunk._replace(data=chunk.data[at:]),
            ]
            yield [*chunks[:i], *halves, *chunks[i + 1 :]]


def plain(counted: Counted, operation: str) -> Expected:
    return Expected(
        counted.protocol,
        operation,
        counted.outcome,
        counted.end,
        counted.request_bytes,
        counted.response_bytes,
        counted.request_body_bytes,
        counted.response_body_bytes,
    )


def operations_agree(exchanges: Iterable[Counted], operations: Iterable[str]) -> None:
    """One operation, one signature, and the other way round."""
    pairs = {
        (exchange.signature, operation)
        for exchange, operation in zip(exchanges, operations, strict=True)
    }
    assert len({signature for signature, _ in pairs}) == len(pairs), pairs
    assert len({operation for _, operation in pairs}) == len(pairs), pairs


def feed_case(host: Host, case: Case, chunks: Iterable[Chunk], role: Role) -> Seen:
    """The chunks of a case, however cut: exactly its exchanges, nothing open, nothing else lost."""
    seen = host.feed(chunks, role, closed=case.closed)
    expected = case.expected
    names = [e.operation for e in expected]
    assert len(seen.exchanges) == len(expected), seen
    assert [
        plain(*pair) for pair in zip(seen.exchanges, names, strict=True)
    ] == expected
    operations_agree(seen.exchanges, names)
    assert seen.open == LedgerLine(0, 0)
    assert set(seen.lost) == set(case.lost)
    assert sum(line.bytes for line in seen.lost.values()) == case.lost_bytes
    assert not any(line.exchanges for line in seen.lost.values())
    return seen
