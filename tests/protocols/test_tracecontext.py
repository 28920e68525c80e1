# SPDX-License-Identifier: Apache-2.0
"""Trace headers: the formats' own examples, and everything close to them that is wrong."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.protocols.tracecontext import TraceContext, parse

TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN = 0x00F067AA0BA902B7
W3C = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def sw8(trace: str, segment: str, span: str = "3", sample: str = "1") -> str:
    tail = "-".join(map(b64, ["svc", "inst", "/ep", "addr:80"]))
    return f"sw8: {sample}-{b64(trace)}-{b64(segment)}-{span}-{tail}"


UUID = "56a5e1c519ae4c76a2b8b11d92cead7f"

VALID = [
    (f"traceparent: {W3C}-01", TraceContext(TRACE, SPAN, sampled=True)),
    (f"Traceparent:{W3C}-00\r\n", TraceContext(TRACE, SPAN, sampled=False)),
    (f"traceparent: cc{W3C[2:]}-01-more", TraceContext(TRACE, SPAN, sampled=True)),
    (
        "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90",
        TraceContext(
            0x80F198EE56343BA864FE8B2A57D3EFF7, 0xE457B5A2E4D86BD1, sampled=True
        ),
    ),
    (
        "b3: A3CE929D0E0E4736-00F067AA0BA902B7-0",
        TraceContext(TRACE % 2**64, SPAN, sampled=False),
    ),
    ("b3: a3ce929d0e0e4736-00f067aa0ba902b7", TraceContext(TRACE % 2**64, SPAN, None)),
    ("X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736", TraceContext(TRACE, None, None)),
    # The Collector's SkyWalking receiver: trace UUID, span id = upper half XOR lower half of
    # the segment UUID with the span's index in its first four bytes.
    (
        sw8("de5980b8-fce3-4a37-aab9-b4ac3af7eedd", UUID),
        TraceContext(
            0xDE5980B8FCE34A37AAB9B4AC3AF7EEDD,
            0x55A5E1C519AE4C76 ^ 0xA2B8B11D92CEAD7F,
            sampled=True,
        ),
    ),
    (
        sw8(f"{UUID}.12.258", f"{UUID}.12.258", "0", "0"),
        TraceContext(
            0x56A5E1C515AE4C76A0B9B11D92CEAD7F,
            0x56A5E1C515AE4C76 ^ 0xA0B9B11D92CEAD7F,
            sampled=False,
        ),
    ),
]


@pytest.mark.parametrize(("line", "context"), VALID)
def test_valid(line: str, context: TraceContext) -> None:
    assert parse(line.encode()) == context


INVALID = [
    "",
    "traceparent",
    "host: 00",
    f"traceparent: {W3C}",
    f"traceparent: {W3C}-01-more",
    f"traceparent: ff{W3C[2:]}-01",
    f"traceparent: {W3C.upper()}-01",
    f"traceparent: {W3C}-1",
    f"traceparent: {W3C} -01",
    f"traceparent: 00-{'0' * 32}-00f067aa0ba902b7-01",
    f"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    "b3: 0",
    "b3: 1",
    "b3: a3ce929d0e0e4736",
    f"x-b3-traceid: {'0' * 16}",
    "x-b3-traceid: xyz",
    "sw8: 1-a-b-3",
    sw8("not a uuid", UUID),
    sw8(UUID, UUID, sample="2"),
    sw8(UUID, UUID, span="x"),
    sw8(UUID, UUID).replace("1-", "1-!!", 1),
]


@pytest.mark.parametrize("line", INVALID)
def test_invalid(line: str) -> None:
    assert parse(line.encode()) is None


def test_sw8_without_a_segment_still_names_the_trace() -> None:
    context = parse(sw8(UUID, "short").encode())
    assert context == TraceContext(int(UUID, 16), None, sampled=True)


lines = st.binary(max_size=96) | st.builds(
    lambda case, at, junk: case[0].encode()[:at] + junk + case[0].encode()[at:],
    st.sampled_from(VALID),
    st.integers(0, 100),
    st.binary(max_size=40) | st.text("0123456789", max_size=40).map(str.encode),
)


@given(line=lines)
def test_any_bytes_give_a_valid_context_or_none(line: bytes) -> None:
    context = parse(line)
    if context is not None:
        assert 0 < context.trace_id < 2**128
        assert context.span_id is None or 0 < context.span_id < 2**64
