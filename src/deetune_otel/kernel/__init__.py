# SPDX-License-Identifier: Apache-2.0
"""The kernel side, seen from user space; the only package that knows libbpf."""

from __future__ import annotations

from deetune_otel.kernel.errors import (
    KernelClosed,
    KernelError,
    KernelUnavailable,
    RecordError,
)
from deetune_otel.kernel.features import Facts, Features, Missing, judge, probe
from deetune_otel.kernel.rungs import PARTS, Rung
from deetune_otel.kernel.session import Kernel, KernelSettings, ProgramCost
from deetune_otel.kernel.trying import NothingTaken, Outcome, Refusal, Tried

__all__ = [
    "PARTS",
    "Facts",
    "Features",
    "Kernel",
    "KernelClosed",
    "KernelError",
    "KernelSettings",
    "KernelUnavailable",
    "Missing",
    "NothingTaken",
    "Outcome",
    "ProgramCost",
    "RecordError",
    "Refusal",
    "Rung",
    "Tried",
    "judge",
    "probe",
]
