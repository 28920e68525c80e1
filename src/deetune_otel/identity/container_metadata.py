# SPDX-License-Identifier: Apache-2.0
"""A container's name, image and labels, from the files its runtime keeps about it.

No runtime's socket is needed, so no right to steer containers: docker keeps
`config.v2.json`, podman and CRI-O their storage's `containers.json` and the OCI bundle,
containerd the OCI bundle with Kubernetes' words as annotations. Where a file is not
readable the container simply has no name. Files have bounds: they are not ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["ContainerMetadata", "read_container_metadata"]

_DOCKER: Final = "var/lib/docker/containers/{id}/config.v2.json"
_STORAGES: Final = (
    "var/lib/containers/storage",
    "home/*/.local/share/containers/storage",
)
_BUNDLES: Final = (
    "run/containerd/io.containerd.runtime.v2.task/*/{id}/config.json",
    "run/containers/storage/overlay-containers/{id}/userdata/config.json",
    "var/lib/containers/storage/overlay-containers/{id}/userdata/config.json",
    "home/*/.local/share/containers/storage/overlay-containers/{id}/userdata/config.json",
)  # fmt: skip
_ANNOTATED_NAMES: Final = (
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
    "io.kubernetes.cri-o.ContainerName",
    "nerdctl/name",
)
_ANNOTATED_IMAGES: Final = (
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
)
_FILE_BYTES: Final = 4 * 1024 * 1024  # containers.json lists all of a host's containers


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerMetadata:
    """What a runtime says of a container; "" where it does not."""

    name: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def read_container_metadata(container_id: str, root: Path) -> ContainerMetadata | None:
    """What the runtimes' files below `root` say; None when none knows the container.

    `root` is the host's root directory: `/`, or `/proc/1/root` from a container that
    sees the host's pids.
    """
    if not re.fullmatch(r"[0-9a-f-]+", container_id):
        return None  # it becomes part of a path
    return (
        _from_docker(container_id, root)
        or _from_storage(container_id, root)
        or _from_bundle(container_id, root)
    )


def _from_docker(container_id: str, root: Path) -> ContainerMetadata | None:
    document = _read_object(root / _DOCKER.format(id=container_id))
    if not document:
        return None
    config = _object(document.get("Config"))
    return ContainerMetadata(
        name=_string(document.get("Name")).lstrip("/"),
        image=_string(config.get("Image")),
        labels=_labels(config.get("Labels")),
    )


def _from_storage(container_id: str, root: Path) -> ContainerMetadata | None:
    """Podman names its containers in a list; their labels stand in the bundle."""
    for storage in _STORAGES:
        for path in _paths(root, f"{storage}/overlay-containers/containers.json"):
            for entry in _list(_read_json(path)):
                container = _object(entry)
                if container.get("id") != container_id:
                    continue
                names = _list(container.get("names"))
                details = _object(_parse(_string(container.get("metadata"))))
                bundle = _from_bundle(container_id, root)
                return ContainerMetadata(
                    name=(bundle.name if bundle else "")
                    or _string(names[0] if names else ""),
                    image=_string(details.get("image-name")),
                    labels=bundle.labels if bundle else {},
                )
    return None


def _from_bundle(container_id: str, root: Path) -> ContainerMetadata | None:
    for pattern in _BUNDLES:
        for path in _paths(root, pattern.format(id=container_id)):
            labels = _labels(_read_object(path).get("annotations"))
            return ContainerMetadata(
                name=_first(labels, _ANNOTATED_NAMES),
                image=_first(labels, _ANNOTATED_IMAGES),
                labels=labels,
            )
    return None


def _paths(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(pattern))


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _read_object(path: Path) -> dict[str, object]:
    return _object(_read_json(path))


def _read_json(path: Path) -> object:
    try:
        with path.open("rb") as file:
            return _parse(file.read(_FILE_BYTES))
    except OSError:
        return None


def _parse(text: str | bytes) -> object:
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _labels(value: object) -> dict[str, str]:
    return {
        name: label for name, label in _object(value).items() if isinstance(label, str)
    }
