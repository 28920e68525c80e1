# SPDX-License-Identifier: Apache-2.0
"""Files as docker, podman, containerd and CRI-O leave them, below a root of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deetune_otel.identity.container_metadata import (
    ContainerMetadata,
    read_container_metadata,
)

A = "3f4e1c0d9b8a7f6e5d4c3b2a190817263544536271809fafbecdd0e1f2031425"
B = "b7c1a9d2e3f40516273849506a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f7"
DOCKER = f"var/lib/docker/containers/{A}/config.v2.json"
STORAGE = "var/lib/containers/storage/overlay-containers"
CONTAINERD = f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{A}/config.json"
CRIO = f"run/containers/storage/overlay-containers/{A}/userdata/config.json"


def write(root: Path, path: str, document: object) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        document if isinstance(document, str) else json.dumps(document), "utf-8"
    )


def test_docker(tmp_path: Path) -> None:
    labels = {"com.docker.compose.service": "web", "com.docker.compose.project": "shop"}
    write(
        tmp_path,
        DOCKER,
        {
            "ID": A,
            "Name": "/shop-web-1",
            "Config": {"Image": "shop/web:1.2", "Labels": labels},
        },
    )
    assert read_container_metadata(A, tmp_path) == ContainerMetadata(
        name="shop-web-1", image="shop/web:1.2", labels=labels
    )


@pytest.mark.parametrize("home", ["var/lib", "home/alice/.local/share"])
def test_podman(tmp_path: Path, home: str) -> None:
    storage = f"{home}/containers/storage/overlay-containers"
    write(
        tmp_path,
        f"{storage}/containers.json",
        [
            {"id": B, "names": ["other"]},
            {
                "id": A,
                "names": ["orders"],
                "metadata": json.dumps(
                    {"image-name": "images.example/shop/orders:latest"}
                ),
            },
        ],
    )
    write(
        tmp_path,
        f"{storage}/{A}/userdata/config.json",
        {"annotations": {"io.container.manager": "libpod"}},
    )
    assert read_container_metadata(A, tmp_path) == ContainerMetadata(
        name="orders",
        image="images.example/shop/orders:latest",
        labels={"io.container.manager": "libpod"},
    )


def test_containerd(tmp_path: Path) -> None:
    annotations = {
        "io.kubernetes.cri.container-name": "web",
        "io.kubernetes.cri.image-name": "shop/web:1.2",
        "io.kubernetes.cri.sandbox-name": "web-7d4b9c6f5d-x2x7k",
    }
    write(tmp_path, CONTAINERD, {"annotations": annotations})
    assert read_container_metadata(A, tmp_path) == ContainerMetadata(
        name="web", image="shop/web:1.2", labels=annotations
    )


def test_crio(tmp_path: Path) -> None:
    annotations = {
        "io.kubernetes.container.name": "web",
        "io.kubernetes.cri-o.ImageName": "shop/web:1.2",
    }
    write(tmp_path, CRIO, {"annotations": annotations})
    write(tmp_path, f"{STORAGE}/containers.json", [{"id": A, "names": ["k8s_web_x"]}])
    found = read_container_metadata(A, tmp_path)
    assert found is not None
    assert (found.name, found.labels) == ("web", annotations)


@pytest.mark.parametrize("identity", [A, "", "../../etc", "a/b", "*", A[:-1]])
def test_a_container_that_nobody_knows(tmp_path: Path, identity: str) -> None:
    write(tmp_path, DOCKER.replace(A, B), {"Name": "/other"})
    assert read_container_metadata(identity, tmp_path) is None


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["id", "names", "metadata", "Name", "Config", "Labels", "annotations"]
            ),
            st.one_of(inner, st.just(A)),
            max_size=4,
        ),
    ),
    max_leaves=8,
).map(json.dumps)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([DOCKER, f"{STORAGE}/containers.json", CONTAINERD]),
    text=st.one_of(JSON, st.text(st.characters(codec="utf-8")), st.just("[" * 100_000)),
)
def test_never_raises(tmp_path: Path, path: str, text: str) -> None:
    write(tmp_path, path, text)
    read_container_metadata(A, tmp_path)
