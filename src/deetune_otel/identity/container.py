# SPDX-License-Identifier: Apache-2.0
"""The text of /proc/PID/cgroup -> container, pod and systemd unit. Pure.

A process has one path in every cgroup hierarchy (one line on v2, a line per
controller on v1, both on hybrid machines). Runtimes put their container's id into one
component of that path, so a path is read component by component, and the innermost
container wins (docker in docker, kind). What manages a container (conmon) has an id in
its path too, but is not in it.

A systemd unit counts only when it is inside the container, or when there is none:
`/system.slice/containerd.service/...` above a container says nothing about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Cgroup", "parse_cgroup"]

_ID: Final = "[0-9a-f]{64}"
_SCOPE_RUNTIMES: Final = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "containerd": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
}
_PARENT_RUNTIMES: Final = {
    "docker": "docker",
    "default": "containerd",  # containerd's own namespaces (ctr, nerdctl, the CRI)
    "k8s.io": "containerd",
    "moby": "docker",
    "ecs": "docker",
    "libpod_parent": "podman",
}
# docker-<id>.scope, libpod-<id>, cri-containerd-<id>.scope
_NAMED = re.compile(rf"(?P<runtime>[a-z-]+?)-(?P<id>{_ID})(?:\.scope)?")
# <id>, libpod's bare form; 32 hex digits and a number are AWS Fargate's
_BARE = re.compile(rf"(?P<id>{_ID}|[0-9a-f]{{32}}-[0-9]{{6,12}})")
# kubepods-burstable-pod<uid>.slice:cri-containerd:<id>: containerd told to use
# cgroupfs on a host whose kubelet uses systemd
_COLONS = re.compile(rf".*:(?P<runtime>[a-z-]+):(?P<id>{_ID})")
# A uid, or the 32 hex digits that static pods have instead.
_POD = re.compile(
    r"(?:^|-)pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
    r"(?:\.slice|$|:)"
)
_UNIT = re.compile(r"(?P<unit>[A-Za-z0-9:_.\\@-]+)\.service")
_USER_MANAGER = re.compile(r"user@[0-9]+\.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """What a process's cgroups say about it; "" where they say nothing."""

    container_id: str = ""
    runtime: str = ""  # "docker", "containerd", "cri-o", "podman"; "" when not told
    pod_uid: str = ""
    unit: str = ""  # "nginx", "postgresql@15-main": without .service
    paths: Mapping[str, str] = field(default_factory=dict)
    """The container's own cgroup by controller ("memory"; "" is v2), if in one."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What one path says, and how deep in it the container stands."""

    container_id: str
    runtime: str
    pod_uid: str
    unit: str
    depth: int
    path: str  # up to the container


def parse_cgroup(text: str) -> Cgroup:
    """What the text of /proc/PID/cgroup says; anything is accepted, garbage says nothing."""
    lines = [
        (controllers, _read_path(path))
        for controllers, path in (_split(line) for line in text.splitlines())
        if path
    ]
    if not lines:
        return Cgroup()
    deepest = max((found for _, found in lines), key=lambda found: found.depth)
    return Cgroup(
        container_id=deepest.container_id,
        runtime=deepest.runtime,
        pod_uid=deepest.pod_uid
        or next((found.pod_uid for _, found in lines if found.pod_uid), ""),
        unit=next(
            (
                found.unit
                for _, found in lines
                if found.unit and found.container_id == deepest.container_id
            ),
            "",
        ),
        paths={
            controller: found.path
            for controllers, found in lines
            if found.container_id and found.container_id == deepest.container_id
            for controller in controllers.split(",")
        },
    )


def _split(line: str) -> tuple[str, str]:
    """(controllers, path) of one `id:controllers:path`; the path may hold colons."""
    parts = line.split(":", 2)
    if len(parts) != 3 or not parts[2].startswith("/"):
        return "", ""
    return parts[1], parts[2]


def _read_path(path: str) -> _Found:
    parts = path.split("/")
    container_id = runtime = pod_uid = unit = ""
    depth = 0
    managed_by_user = False
    for index, part in enumerate(parts):
        if found := _container(part, parts[index - 1] if index else ""):
            container_id, runtime = found
            depth = index
            unit = ""  # those above it are the runtime's
            managed_by_user = False
        if pod := _POD.search(part):
            pod_uid = pod["uid"].replace("_", "-")
        if _USER_MANAGER.fullmatch(part):
            managed_by_user = True
            unit = ""
        elif part.endswith(".scope"):
            unit = ""  # a login session or a runtime's child, not the service above it
        elif service := _UNIT.fullmatch(part):
            unit = "" if managed_by_user else service["unit"]
    path = "/".join(parts[: depth + 1])
    return _Found(container_id, runtime, pod_uid, unit, depth, path)


def _container(part: str, parent: str) -> tuple[str, str] | None:
    """(id, runtime) when this component of a path is a container's."""
    if named := _NAMED.fullmatch(part):
        runtime = _SCOPE_RUNTIMES.get(named["runtime"])
        return (named["id"], runtime) if runtime else None
    if colons := _COLONS.fullmatch(part):
        return colons["id"], _SCOPE_RUNTIMES.get(colons["runtime"], "")
    if bare := _BARE.fullmatch(part):
        return bare["id"], _PARENT_RUNTIMES.get(parent, "")
    return None
