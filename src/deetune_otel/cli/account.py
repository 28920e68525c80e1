# SPDX-License-Identifier: Apache-2.0
"""A recording's manifest as lines for a person: where every exchange went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deetune_otel.cli.terminal import megabytes
from deetune_otel.model import Protocol
from deetune_otel.recording.model import Manifest

__all__ = ["account"]

_OTHERS: Final = {
    Protocol.UNKNOWN.value: "that are not understood",
    Protocol.CONNECT.value: "failed connects",
}


def account(manifest: Manifest, filtered: Mapping[str, int]) -> Iterator[str]:
    """`filtered`: how many were not chosen, by the condition that did not hold."""
    seconds = (manifest.ended_ns - manifest.started_ns) / 1e9
    yield (
        f"{manifest.captured:,} of {manifest.seen:,} exchanges in "
        f"{', '.join(manifest.files) or 'no file'}: {megabytes(manifest.bytes)}, "
        f"{seconds:.0f} s, ended by {manifest.ended_because}"
    )
    reasons = ", ".join(
        f"{count:,} by {why}" for why, count in sorted(filtered.items())
    )
    for count, what in (
        (manifest.filtered, f"not chosen ({reasons})" if reasons else "not chosen"),
        (manifest.sampled_out, "sampled out"),
        (manifest.over_bound, "over a bound"),
        (manifest.unfinished, "open when the recording began or ended"),
        *((count, f"lost: {why}") for why, count in sorted(manifest.lost.items())),
    ):
        if count:
            yield f"  {count:,} {what}"
    if manifest.other_protocols:
        others = ", ".join(
            f"{count:,} {_OTHERS.get(name, name)}"
            for name, count in sorted(manifest.other_protocols.items())
        )
        yield f"  beside these, not recorded by their protocol: {others}"
    if manifest.incomplete:
        gaps = ", ".join(
            f"{size:,} bytes {why}"
            for why, size in sorted(manifest.missing_bytes.items())
        )
        yield f"  {manifest.incomplete:,} of those captured are incomplete ({gaps or 'no response'})"
    if not manifest.is_redacted:
        yield "NOT redacted"
    elif manifest.redactions:
        rules = ", ".join(
            f"{rule} {count:,}" for rule, count in sorted(manifest.redactions.items())
        )
        yield f"redacted: {rules}"
