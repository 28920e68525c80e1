# SPDX-License-Identifier: Apache-2.0
"""What is known of this kernel and this process without trying, and what each missing thing costs.

It explains a refusal, and what is worth a word though nothing is refused; what the programs may
do is found by trying them (`trying`). `probe` gathers facts (it reads files and asks libbpf),
`judge` draws the conclusions and is pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deetune_otel.kernel.btf import is_btf
from deetune_otel.kernel.libbpf import Libbpf, LibbpfMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CAPABILITIES",
    "Facts",
    "Features",
    "Missing",
    "Paths",
    "judge",
    "probe",
]

# Bits of /proc/PID/status (linux/capability.h).
CAPABILITIES: Final = {
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Something that is not there, in words for the person who has to do something about it."""

    what: str
    costs: str
    remedy: str
    fatal: bool  # the agent cannot observe without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found, not yet judged."""

    btf: bool
    capabilities: frozenset[str]  # those of CAPABILITIES that are effective
    libbpf_version: str | None  # "v1.1"; None: not installed
    unprivileged_bpf_disabled: int | None  # the sysctl; None: not readable
    lockdown: str  # "none", "integrity", "confidentiality"; "": not readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Facts, and what is missing (first what explains why nothing can be observed)."""

    facts: Facts
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the kernel tells about itself."""

    btf: Path = Path("/sys/kernel/btf/vmlinux")
    status: Path = Path("/proc/self/status")
    unprivileged_bpf_disabled: Path = Path("/proc/sys/kernel/unprivileged_bpf_disabled")
    lockdown: Path = Path("/sys/kernel/security/lockdown")


def probe(paths: Paths | None = None) -> Features:
    """Looks around, some milliseconds; never raises, what cannot be read is missing."""
    paths = paths or Paths()
    try:
        version: str | None = Libbpf().version
    except LibbpfMissing:
        version = None
    disabled = _read(paths.unprivileged_bpf_disabled).strip()
    return judge(
        Facts(
            btf=is_btf(paths.btf),
            capabilities=_capabilities(_read(paths.status)),
            libbpf_version=version,
            unprivileged_bpf_disabled=int(disabled) if disabled.isdigit() else None,
            lockdown=_chosen(_read(paths.lockdown)),
        )
    )


def judge(facts: Facts) -> Features:
    """What is missing."""
    missing = (
        *_missing_kernel(facts),
        *_missing_rights(facts),
        *_missing_library(facts),
    )
    return Features(
        facts=facts,
        missing=tuple(sorted(missing, key=lambda one: not one.fatal)),
    )


def _missing_kernel(facts: Facts) -> Iterator[Missing]:
    if not facts.btf:
        yield Missing(
            what="This kernel does not describe its own data (no BTF in /sys/kernel/btf/vmlinux).",
            costs="Nothing can be observed: the programs cannot be fitted to this kernel.",
            remedy="Use a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian 12, Ubuntu 22.04, "
            "RHEL 9 and later have it); in a container, mount /sys of the host.",
            fatal=True,
        )
        return
    if facts.lockdown == "confidentiality":
        yield Missing(
            what="The kernel is locked down (lockdown=confidentiality).",
            costs="Nothing can be observed: no program may read the kernel's memory.",
            remedy="Boot with lockdown=integrity, or without lockdown.",
            fatal=True,
        )


def _missing_rights(facts: Facts) -> Iterator[Missing]:
    held = facts.capabilities
    needed = [
        name
        for name in ("CAP_BPF", "CAP_PERFMON")
        if name not in held and "CAP_SYS_ADMIN" not in held
    ]
    if needed:
        yield Missing(
            what=f"The agent may not load BPF programs (no {' and no '.join(needed)}).",
            costs="Nothing can be observed.",
            remedy="Start it as root, or give it CAP_BPF and CAP_PERFMON (systemd: "
            "AmbientCapabilities=; container: --cap-add, or --privileged).",
            fatal=True,
        )
    if "CAP_SYS_PTRACE" not in held:
        yield Missing(
            what="The agent may not look at other users' processes (no CAP_SYS_PTRACE).",
            costs="Their services are named by the short command name: no OTEL_SERVICE_NAME, "
            "no script, no path of the executable.",
            remedy="Start it as root, or give it CAP_SYS_PTRACE.",
            fatal=False,
        )
    if "CAP_SYS_ADMIN" not in held:
        yield Missing(
            what="The agent may not switch on the kernel's BPF statistics (no CAP_SYS_ADMIN).",
            costs="What the agent itself costs in the kernel is not measured.",
            remedy="Start it as root, give it CAP_SYS_ADMIN, or set the sysctl "
            "kernel.bpf_stats_enabled=1.",
            fatal=False,
        )


def _missing_library(facts: Facts) -> Iterator[Missing]:
    if facts.libbpf_version is None:
        yield Missing(
            what="The library libbpf.so.1 is not installed.",
            costs="Nothing can be observed: it is what loads the programs.",
            remedy=LibbpfMissing.HINT,
            fatal=True,
        )


def _capabilities(status: str) -> frozenset[str]:
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            held = int(value, 16)
            return frozenset(
                capability
                for capability, bit in CAPABILITIES.items()
                if held >> bit & 1
            )
    return frozenset()


def _chosen(choices: str) -> str:
    """Of "none [integrity] confidentiality"."""
    _, _, after = choices.partition("[")
    return after.partition("]")[0]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
