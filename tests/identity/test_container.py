# SPDX-License-Identifier: Apache-2.0
"""Real lines of /proc/PID/cgroup, and that nothing at all makes the reading raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.identity.container import Cgroup, parse_cgroup

A = "3f4e1c0d9b8a7f6e5d4c3b2a190817263544536271809fafbecdd0e1f2031425"
B = "b7c1a9d2e3f40516273849506a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f7"
UID = "2f399ae9-8a5f-4f7c-9c0f-1c2d3e4f5a6b"
UID_ = UID.replace("-", "_")
STATIC_POD = "cd9e5b5a7dd3a1e5e5b8b8c80f1e2d3c"

V2 = {
    "docker, systemd": (
        f"0::/system.slice/docker-{A}.scope",
        {"container_id": A, "runtime": "docker"},
    ),
    "docker, cgroupfs": (f"0::/docker/{A}", {"container_id": A, "runtime": "docker"}),
    "docker, a group of the container's own": (
        f"0::/docker/{A}/init",
        {"container_id": A, "runtime": "docker"},
    ),
    "docker, seen from another cgroup namespace": (
        f"0::/../docker-{A}.scope",
        {"container_id": A, "runtime": "docker"},
    ),
    "docker in docker": (
        f"0::/docker/{A}/docker/{B}",
        {"container_id": B, "runtime": "docker"},
    ),
    "systemd in docker": (
        f"0::/docker/{A}/system.slice/nginx.service",
        {"container_id": A, "runtime": "docker", "unit": "nginx"},
    ),
    "containerd, systemd": (
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/cri-containerd-{A}.scope",
        {"container_id": A, "runtime": "containerd", "pod_uid": UID},
    ),
    "guaranteed pods have no class": (
        f"0::/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{A}.scope",
        {"container_id": A, "runtime": "containerd", "pod_uid": UID},
    ),
    "Kubernetes, cgroupfs": (
        f"0::/kubepods/besteffort/pod{UID}/{A}",
        {"container_id": A, "pod_uid": UID},
    ),
    "a static pod": (
        f"0::/kubepods/burstable/pod{STATIC_POD}/{A}",
        {"container_id": A, "pod_uid": STATIC_POD},
    ),
    "containerd told to use cgroupfs": (
        f"0::/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{A}",
        {"container_id": A, "runtime": "containerd", "pod_uid": UID},
    ),
    "nerdctl": (
        f"0::/system.slice/nerdctl-{A}.scope",
        {"container_id": A, "runtime": "containerd"},
    ),
    "ctr": (f"0::/default/{A}", {"container_id": A, "runtime": "containerd"}),
    "CRI-O": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/crio-{A}.scope",
        {"container_id": A, "runtime": "cri-o", "pod_uid": UID},
    ),
    "CRI-O, a group within": (
        f"0::/kubepods.slice/kubepods-pod{UID_}.slice/crio-{A}.scope/container",
        {"container_id": A, "runtime": "cri-o", "pod_uid": UID},
    ),
    "CRI-O's monitor is not in the container": (
        f"0::/kubepods.slice/kubepods-pod{UID_}.slice/crio-conmon-{A}.scope",
        {"pod_uid": UID},
    ),
    "podman, root": (
        f"0::/machine.slice/libpod-{A}.scope/container",
        {"container_id": A, "runtime": "podman"},
    ),
    "podman, a user's": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
        {"container_id": A, "runtime": "podman"},
    ),
    "podman in a pod": (
        f"0::/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
        {"container_id": A, "runtime": "podman"},
    ),
    "podman, cgroupfs": (
        f"0::/libpod_parent/libpod-{A}",
        {"container_id": A, "runtime": "podman"},
    ),
    "podman, quadlet": (
        f"0::/system.slice/web.service/libpod-payload-{A}",
        {"container_id": A, "runtime": "podman"},
    ),
    "podman's monitor": (f"0::/machine.slice/libpod-conmon-{A}.scope", {}),
    "kind: Kubernetes in docker": (
        f"0::/system.slice/docker-{A}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{B}.scope",
        {"container_id": B, "runtime": "containerd", "pod_uid": UID},
    ),
    "AWS Fargate": (
        f"0::/ecs/{STATIC_POD}/{STATIC_POD}-1234567890",
        {"container_id": f"{STATIC_POD}-1234567890"},
    ),
    "a unit": ("0::/system.slice/nginx.service", {"unit": "nginx"}),
    "a unit's own group": ("0::/system.slice/shop.service/workers", {"unit": "shop"}),
    "an instance": (
        "0::/system.slice/system-postgresql.slice/postgresql@15-main.service",
        {"unit": "postgresql@15-main"},
    ),
    "an escaped instance": (
        r"0::/system.slice/system-foo.slice/foo@bar\x2dbaz.service",
        {"unit": r"foo@bar\x2dbaz"},
    ),
    "a user's unit": (
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service",
        {},
    ),
    "the user's manager": (
        "0::/user.slice/user-1000.slice/user@1000.service/init.scope",
        {},
    ),
    "a session": ("0::/user.slice/user-0.slice/session-3.scope", {}),
    "systemd": ("0::/init.scope", {}),
    "no group": ("0::/", {}),
    "32 hex digits are not a container": (f"0::/process_api/{STATIC_POD}", {}),
    "63 hex digits neither": (f"0::/docker/{A[:-1]}", {}),
    "an unknown program's scope": (f"0::/system.slice/backup-{A}.scope", {}),
}
V1_DOCKER = f"""\
12:pids:/docker/{A}
11:cpu,cpuacct:/docker/{A}
7:memory:/docker/{A}
1:name=systemd:/docker/{A}
0::/system.slice/containerd.service
"""
V1_DOCKER_IN_DOCKER = f"""\
5:memory:/docker/{A}
4:cpu,cpuacct:/docker/{A}/docker/{B}/init
"""
V1_SYSTEMD = """\
9:name=systemd:/system.slice/cron.service
4:memory:/system.slice/cron.service
2:freezer:/
0::/system.slice/cron.service
"""


@pytest.mark.parametrize(("text", "expected"), V2.values(), ids=V2)
def test_unified_hierarchy(text: str, expected: dict[str, str]) -> None:
    found = parse_cgroup(f"{text}\n")
    assert expected == {
        name: value
        for name in ("container_id", "runtime", "pod_uid", "unit")
        if (value := getattr(found, name))
    }


def test_paths_end_at_the_container() -> None:
    assert parse_cgroup(f"0::/machine.slice/libpod-{A}.scope/container").paths == {
        "": f"/machine.slice/libpod-{A}.scope"
    }


def test_one_hierarchy_a_controller() -> None:
    found = parse_cgroup(V1_DOCKER)
    assert (found.container_id, found.runtime, found.unit) == (A, "docker", "")
    assert found.paths == dict.fromkeys(
        ("pids", "cpu", "cpuacct", "memory", "name=systemd"), f"/docker/{A}"
    )


def test_the_innermost_container_of_all_hierarchies() -> None:
    found = parse_cgroup(V1_DOCKER_IN_DOCKER)
    assert found.container_id == B
    assert found.paths == dict.fromkeys(("cpu", "cpuacct"), f"/docker/{A}/docker/{B}")


def test_unit_on_a_hybrid_machine() -> None:
    assert parse_cgroup(V1_SYSTEMD) == Cgroup(unit="cron")


@pytest.mark.parametrize("text", ["", "\n\n", "0::", "x", "0:a", "::::", "0::relative"])
def test_garbage_says_nothing(text: str) -> None:
    assert parse_cgroup(text) == Cgroup()


PART = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["docker", A, f"docker-{B}.scope", f"pod{UID}", "x.service", "..", "user@1.service"]
    ),
)  # fmt: skip
LINE = st.one_of(
    st.text(),
    st.tuples(st.text(max_size=8), st.lists(PART)).map(
        lambda pair: f"1:{pair[0]}:/{'/'.join(pair[1])}"
    ),
)


@given(st.lists(LINE).map("\n".join))
def test_never_raises(text: str) -> None:
    found = parse_cgroup(text)
    assert bool(found.paths) == bool(found.container_id)
    assert all(path.startswith("/") for path in found.paths.values())
