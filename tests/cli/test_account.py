# SPDX-License-Identifier: Apache-2.0
"""Every line of a manifest that is not empty is said."""

from __future__ import annotations

from deetune_otel.cli.account import account
from deetune_otel.recording.model import Manifest


def test_every_way_out_has_a_line() -> None:
    manifest = Manifest(
        started_ns=0,
        ended_ns=5_000_000_000,
        ended_because="time",
        seen=21,
        captured=6,
        filtered=1,
        sampled_out=2,
        over_bound=3,
        unfinished=4,
        lost={"ring_full": 5},
        incomplete=2,
        missing_bytes={"limit": 1000},
        redactions={"email": 7},
        files=("a", "b"),
        other_protocols={"unknown": 8, "dns": 1, "connect": 2},
    )
    assert list(account(manifest, {"path": 1})) == [
        "6 of 21 exchanges in a, b: 0 B, 5 s, ended by time",
        "  1 not chosen (1 by path)",
        "  2 sampled out",
        "  3 over a bound",
        "  4 open when the recording began or ended",
        "  5 lost: ring_full",
        (
            "  beside these, not recorded by their protocol: 2 failed connects, 1 dns, "
            "8 that are not understood"
        ),
        "  2 of those captured are incomplete (1,000 bytes limit)",
        "redacted: email 7",
    ]


def test_what_was_not_redacted_is_said() -> None:
    assert list(account(Manifest(is_redacted=False), {}))[-1] == "NOT redacted"
