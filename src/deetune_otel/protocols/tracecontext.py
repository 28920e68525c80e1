# SPDX-License-Identifier: Apache-2.0
"""Trace context from a raw header line: W3C traceparent, B3, SkyWalking's sw8.

What breaks its format's rules is no context: a wrong parent is worse than none.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["TraceContext", "parse"]


class TraceContext(NamedTuple):
    """Where a request belongs, by its sender's word."""

    trace_id: int  # 128 bits, never 0
    span_id: int | None  # 64 bits, never 0; None: the header names only the trace
    sampled: bool | None  # None: the header does not say


# https://www.w3.org/TR/trace-context/#traceparent-header: lower case only; a later version may
# append fields, version ff is forbidden.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
# https://github.com/openzipkin/b3-propagation#single-header
_B3: Final = re.compile(
    r"(?P<trace>[0-9a-f]{32}|[0-9a-f]{16})-(?P<span>[0-9a-f]{16})"
    r"(?:-(?P<sampled>[01d])(?:-[0-9a-f]{16})?)?"
)
_B3_TRACE: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}")
_SW_UUID: Final = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
)
_SW_ID: Final = re.compile(r"([0-9a-f]{32})\.([0-9]{1,9})\.([0-9]{1,19})")


def parse(line: bytes) -> TraceContext | None:
    """`traceparent: 00-…`, with or without its CRLF. None for anything that is not valid."""
    name, colon, value = line.partition(b":")
    read = _READERS.get(name.strip().lower())
    if not colon or read is None or not value.isascii():
        return None
    return read(value.strip().decode("ascii"))


def _traceparent(value: str) -> TraceContext | None:
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match["version"] == "00" and match["more"]):
        return None
    return _context(
        match["trace"], match["span"], sampled=bool(int(match["flags"], 16) & 1)
    )


def _b3(value: str) -> TraceContext | None:
    match = _B3.fullmatch(value.lower())
    if match is None:
        return None
    sampled = match["sampled"]
    return _context(
        match["trace"],
        match["span"],
        sampled=None if sampled is None else sampled != "0",
    )


def _b3_trace_id(value: str) -> TraceContext | None:
    match = _B3_TRACE.fullmatch(value.lower())
    if match is None or int(match[0], 16) == 0:
        return None
    return TraceContext(int(match[0], 16), None, None)


def _sw8(value: str) -> TraceContext | None:
    """SkyWalking's ids in the translation of the OpenTelemetry Collector's receiver.

    So the spans of a SkyWalking agent that go through it join ours. Of the eight fields the
    first four count: sample, trace id, segment id, index of the span in its segment.
    """
    fields = value.split("-")
    if len(fields) != 8 or fields[0] not in {"0", "1"} or not fields[3].isdigit():
        return None
    index = int(fields[3]) & 0xFFFF_FFFF
    trace_id = _sw_id(_base64(fields[1]), 0)
    segment_id = _sw_id(_base64(fields[2]), index)
    if not trace_id:
        return None
    span_id = (segment_id >> 64) ^ (segment_id & (1 << 64) - 1)
    return TraceContext(trace_id, span_id or None, fields[0] == "1")


def _sw_id(text: str, index: int) -> int:
    """128 bits: the UUID, mixed with the span's index, thread number and sequence; 0: invalid."""
    if match := _SW_ID.fullmatch(text):
        start, thread, sequence = match.groups()
    elif _SW_UUID.fullmatch(text):
        start, thread, sequence = text.replace("-", ""), "0", "0"
    else:
        return 0
    mixed_in = (
        index.to_bytes(4, "little")
        + int(thread).to_bytes(4, "little")
        + int(sequence).to_bytes(8, "little")
    )
    return int(start, 16) ^ int.from_bytes(mixed_in, "big")


def _base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _context(trace: str, span: str, *, sampled: bool | None) -> TraceContext | None:
    trace_id, span_id = int(trace, 16), int(span, 16)
    return TraceContext(trace_id, span_id, sampled) if trace_id and span_id else None


_READERS: Final[Mapping[bytes, Callable[[str], TraceContext | None]]] = {
    b"traceparent": _traceparent,
    b"b3": _b3,
    b"x-b3-traceid": _b3_trace_id,
    b"sw8": _sw8,
}
