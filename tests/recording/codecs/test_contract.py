# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from deetune_otel.recording.codecs.contract import Decoded
from deetune_otel.recording.model import RawMessage


def test_what_was_decoded_says_where_it_was() -> None:
    decoded = Decoded(RawMessage(data=b"PING\r\n"), begin=4, end=10)

    assert decoded.end - decoded.begin == decoded.message.wire_bytes
