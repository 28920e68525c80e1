# SPDX-License-Identifier: Apache-2.0
"""Judging what is known of a kernel by tables, and reading it from files that stand for its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.kernel.btf_bytes import BtfWriter

from deetune_otel.kernel.errors import KernelUnavailable
from deetune_otel.kernel.features import (
    CAPABILITIES,
    Facts,
    Features,
    Missing,
    Paths,
    judge,
    probe,
)
from deetune_otel.kernel.libbpf import Libbpf, LibbpfMissing

ALL_IS_WELL = Facts(
    btf=True,
    capabilities=frozenset(CAPABILITIES),
    libbpf_version="v1.1",
    unprivileged_bpf_disabled=2,
    lockdown="none",
)


def without(*names: str) -> frozenset[str]:
    return frozenset(CAPABILITIES) - set(names)


def only(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_where_all_is_well_nothing_is_missing() -> None:
    assert judge(ALL_IS_WELL) == Features(facts=ALL_IS_WELL, missing=())


@pytest.mark.parametrize(
    ("facts", "said", "remedy"),
    [
        (replace(ALL_IS_WELL, btf=False), "no BTF", "CONFIG_DEBUG_INFO_BTF"),
        (
            replace(ALL_IS_WELL, lockdown="confidentiality"),
            "locked down",
            "lockdown=integrity",
        ),
        (
            replace(ALL_IS_WELL, libbpf_version=None),
            "libbpf.so.1",
            "apt-get install libbpf1",
        ),
        (
            replace(ALL_IS_WELL, capabilities=only("CAP_BPF", "CAP_SYS_PTRACE")),
            "no CAP_PERFMON",
            "root",
        ),
        (
            replace(ALL_IS_WELL, capabilities=only()),
            "no CAP_BPF and no CAP_PERFMON",
            "root",
        ),
    ],
)
def test_what_explains_that_nothing_is_taken(
    facts: Facts, said: str, remedy: str
) -> None:
    features = judge(facts)
    fatal = [missing for missing in features.missing if missing.fatal]
    assert len(fatal) == 1
    assert said in fatal[0].what
    assert remedy in fatal[0].remedy
    assert features.missing[0] is fatal[0]


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        (without("CAP_SYS_PTRACE"), ["CAP_SYS_PTRACE"]),
        (without("CAP_SYS_ADMIN"), ["CAP_SYS_ADMIN"]),
        # CAP_SYS_ADMIN contains the two that are needed; nothing needs the other two.
        (only("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"), []),
        (without("CAP_NET_ADMIN", "CAP_SYS_RESOURCE"), []),
        (only("CAP_BPF", "CAP_PERFMON"), ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]),
    ],
)
def test_what_only_costs(capabilities: frozenset[str], said: list[str]) -> None:
    features = judge(replace(ALL_IS_WELL, capabilities=capabilities))
    assert not any(missing.fatal for missing in features.missing)
    assert len(features.missing) == len(said)
    for missing, name in zip(features.missing, said, strict=True):
        assert name in missing.what


def test_each_missing_thing_is_told_in_sentences() -> None:
    nothing = Facts(
        btf=False,
        capabilities=frozenset(),
        libbpf_version=None,
        unprivileged_bpf_disabled=None,
        lockdown="",
    )
    missing = judge(nothing).missing
    assert len(missing) >= 4
    assert [one.fatal for one in missing] == sorted(
        (one.fatal for one in missing), reverse=True
    )
    for one in missing:
        assert isinstance(one, Missing)
        assert one.what.endswith(".")
        assert one.costs.endswith(".")
        assert one.remedy


def written(folder: Path, *, status: str, lockdown: str) -> Paths:
    writer = BtfWriter()
    writer.integer("int", 4)
    paths = Paths(
        btf=folder / "vmlinux",
        status=folder / "status",
        unprivileged_bpf_disabled=folder / "unprivileged_bpf_disabled",
        lockdown=folder / "lockdown",
    )
    paths.btf.write_bytes(writer.bytes())
    paths.status.write_text(status)
    paths.unprivileged_bpf_disabled.write_text("1\n")
    paths.lockdown.write_text(lockdown)
    return paths


def test_facts_are_read_from_where_the_kernel_tells_them(tmp_path: Path) -> None:
    status = "Name:\tpython\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000080000\n"
    paths = written(
        tmp_path, status=status, lockdown="none [integrity] confidentiality\n"
    )
    facts = probe(paths).facts
    assert facts.btf
    assert facts.capabilities == {"CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"}
    assert facts.unprivileged_bpf_disabled == 1
    assert facts.lockdown == "integrity"


def test_what_cannot_be_read_is_missing_and_no_error(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    facts = probe(
        Paths(
            btf=nowhere,
            status=nowhere,
            unprivileged_bpf_disabled=nowhere,
            lockdown=nowhere,
        )
    ).facts
    assert facts.btf is False
    assert facts.capabilities == frozenset()
    assert (facts.unprivileged_bpf_disabled, facts.lockdown) == (None, "")


def test_a_file_that_is_no_btf_is_no_btf(tmp_path: Path) -> None:
    paths = written(tmp_path, status="", lockdown="")
    paths.btf.write_bytes(b"something else, and longer than a header of BTF is")
    assert probe(paths).facts.btf is False


def test_a_missing_library_says_how_to_get_it() -> None:
    with pytest.raises(LibbpfMissing) as caught:
        Libbpf("libbpf.so.there_is_no_such")
    assert isinstance(caught.value, KernelUnavailable)
    assert "apt-get install libbpf1" in caught.value.hint
