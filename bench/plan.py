# SPDX-License-Identifier: Apache-2.0
"""How much is measured: every bound on count and time, and what we aim at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["AIMS", "FULL", "INTERVAL_S", "PARTS", "QUICK", "Plan"]

PARTS: Final = {
    "file": "read(/dev/zero): what every other system call of the machine pays",
    "pingpong": "1 KB HTTP request and response, two processes on one core",
    "nginx": "nginx under wrk, 16 connections kept alive",
    "redis": "redis-benchmark GET, 16 connections, -P 1 and -P 16",
    "kernel": "kernel time a side of a request, by the kernel's BPF statistics",
    "rates": "the agent's CPU time at two request rates and at rest",
    "memory": "the agent's resident memory, OTLP over HTTP and over gRPC",
    "recording": "nginx under wrk while another service is recorded, it, and all of them",
    "load": "loading the programs, and starting the agent",
}

# A fifth of the default's 10 s, so that short phases hold several readings and exports: what the
# agent itself uses is overstated here.
INTERVAL_S: Final = 2.0

# The largest value that is still as good as we want it, by the name of what is measured.
KERNEL_NS_A_SIDE: Final = 500.0
MEMORY_MB: Final = 80.0
# As fast as it goes is tens of times the low rate, and so would be a cost per request.
FLAT: Final = 1.25
AIMS: Final = {
    "kernel.pingpong": KERNEL_NS_A_SIDE,
    "kernel.nginx": KERNEL_NS_A_SIDE,
    "kernel.redis_1": KERNEL_NS_A_SIDE,
    "kernel.redis_16": KERNEL_NS_A_SIDE,
    "rates.growth": FLAT,
    "memory.http": MEMORY_MB,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Seconds and counts of one run."""

    rounds: int  # each without and with the agent
    rounds_s: float  # no new round is begun after so long
    file_s: float
    pingpong_s: float
    wrk_s: int  # wrk takes whole seconds
    redis_requests: dict[int, int]  # by pipeline depth
    kernel_runs: int  # of each load, with the kernel's statistics on
    window_s: float  # for each request rate
    loads: int
    low_per_s: int = 1_000


FULL: Final = Plan(
    rounds=6,
    rounds_s=85,
    file_s=0.3,
    pingpong_s=1.0,
    wrk_s=2,
    redis_requests={1: 60_000, 16: 500_000},
    kernel_runs=3,
    window_s=4 * INTERVAL_S,
    loads=3,
)
QUICK: Final = Plan(
    rounds=2,
    rounds_s=12,
    file_s=0.1,
    pingpong_s=0.3,
    wrk_s=1,
    redis_requests={1: 10_000, 16: 100_000},
    kernel_runs=1,
    window_s=INTERVAL_S,
    loads=1,
)
