# SPDX-License-Identifier: Apache-2.0
"""The agent's state as plain dicts for /status. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deetune_otel.agent.exporters import Outlet
    from deetune_otel.kernel import KernelSettings, Outcome, ProgramCost, Tried
    from deetune_otel.model import Ledger

__all__ = ["cost", "exports", "ledger", "maps", "tried"]


def tried(of: Tried) -> dict[str, Any]:
    """How bytes are seen, what a better way was refused for, and what is lost to refusals."""
    return {
        "rung": {
            "number": int(of.rung),
            "description": of.rung.description,
            "passed_over": [_refused(one) for one in of.passed_over],
        },
        "refused": [_refused(one) for one in of.refused],
    }


def _refused(one: Outcome) -> dict[str, Any]:
    return {
        "program": one.program,
        "rung": int(one.rung),
        "why": str(one.refusal),
        "lost": one.part.lost,
    }


def ledger(of: Ledger) -> dict[str, Any]:
    """Read under load it is off by what happened meanwhile; at rest it balances."""
    return {
        "balanced": not any(of.difference),
        "difference": of.difference._asdict(),
        "seen": of.seen._asdict(),
        "counted": of.counted._asdict(),
        "open": of.open._asdict(),
        "lost": {cause: line._asdict() for cause, line in of.lost.items()},
        "noted": {name: line._asdict() for name, line in of.noted.items()},
    }


def cost(
    programs: Mapping[str, ProgramCost], *, cpu_time_ns: int, memory_bytes: int
) -> dict[str, Any]:
    """Runs of the programs are known only where the kernel keeps BPF statistics.

    How often a program was not run, because it was running on that processor, is always known.
    """
    return {
        "cpu_s": cpu_time_ns / 1e9,
        "memory_bytes": memory_bytes,
        "programs": {
            name: {
                "runs": one.runs,
                "time_ns": one.run_time_ns,
                "ns_per_run": round(one.run_time_ns / max(one.runs, 1), 1),
                "not_run": one.recursion_misses,
            }
            for name, one in programs.items()
            if one.runs or one.recursion_misses
        },
    }


def exports(exporters: Iterable[Outlet]) -> dict[str, list[dict[str, Any]]]:
    """By signal; a signal may go to several places."""
    found: dict[str, list[dict[str, Any]]] = {}
    for outlet in exporters:
        found.setdefault(outlet.signal, []).append(outlet.to_json())
    return found


def maps(
    settings: KernelSettings, *, series: int, edges: int, owners: int
) -> dict[str, dict[str, int]]:
    """How full the kernel's maps are."""
    return {
        "series": {"used": series, "maximum": settings.max_series},
        "edges": {"used": edges, "maximum": settings.max_edges},
        "owners": {"used": owners, "maximum": settings.max_owners},
    }
