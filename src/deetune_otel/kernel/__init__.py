# SPDX-License-Identifier: Apache-2.0
"""The kernel side, seen from user space; the only package that knows libbpf."""

from __future__ import annotations

from deetune_otel.kernel.errors import (
    KernelClosed,
    KernelError,
    KernelUnavailable,
    RecordError,
)
from deetune_otel.kernel.features import Facts, Features, Missing, Rung, judge, probe
from deetune_otel.kernel.session import Kernel, KernelSettings, ProgramCost

__all__ = [
    "Facts",
    "Features",
    "Kernel",
    "KernelClosed",
    "KernelError",
    "KernelSettings",
    "KernelUnavailable",
    "Missing",
    "ProgramCost",
    "RecordError",
    "Rung",
    "judge",
    "probe",
]
