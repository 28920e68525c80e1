# SPDX-License-Identifier: Apache-2.0
"""Real containers: each is known by its own id, with exact counts at both ends of its calls.

The agent runs on the machine, outside of them, and is told nothing about them. Their runtime is
bare runc, which keeps no names: the programs' own are the services', the ids tell them apart.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from tests.backends.fetch import get_json
from tests.e2e.agent import Agent
from tests.e2e.containers import PYTHON, Container, Host, new_id
from tests.process import free_port, wait_for_equal, wait_until
from tests.programs import APPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backends.prometheus import Sample

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

APP: Final = APPS / "contained.py"
DURATIONS: Final = {
    f"http_{role}_request_duration_seconds_count": role for role in ("client", "server")
}
VISITS: Final = 17
SHORT_LIVES: Final = 12
POD: Final = "5b3c1d9e-77aa-4a10-9b1c-0f6f1f0f9a3d"


class Scene(NamedTuple):
    host: Host
    agent: Agent
    server: Container
    server_id: str
    port: int  # the server's
    published: int  # free, for the host


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A host with one server in a container, watched from before its first call."""
    with Agent.start(tmp_path, {}) as agent, Host(tmp_path / "host") as host:
        identity, port = new_id(), free_port()
        server = host.run(
            [PYTHON, APP, "serve", port],
            cgroup=f"system.slice/docker-{identity}.scope",
            service="stock",
        )
        server.wait_for_lines(1)
        yield Scene(host, agent, server, identity, port, free_port())


def test_each_container_is_known_by_its_id(scene: Scene) -> None:
    """Four runtimes' ways to name control groups; the visitor's path is a pod's."""
    host, server, port = scene.host, scene.server, scene.port
    paths = {
        "containerd": f"kubepods/burstable/pod{POD}/cri-containerd-{{}}",
        "cri-o": "kubepods.slice/crio-{}.scope",
        "docker": "docker/{}",
        "podman": "machine.slice/libpod-{}.scope",
    }
    ids = {runtime: new_id() for runtime in paths}
    for runtime, path in paths.items():
        cgroup = path.format(ids[runtime])
        host.run(
            [PYTHON, APP, "visit", server.address, port, VISITS],
            cgroup=cgroup,
            service="visitor",
        )
    expected = {("client", identity): VISITS for identity in ids.values()}
    expected["server", scene.server_id] = VISITS * len(paths)
    _wait_for_calls(scene, expected)
    for runtime, identity in ids.items():
        resource = _resource(scene.agent, identity)
        assert resource["container_runtime_name"] == runtime
        in_pod = runtime == "containerd"
        assert resource.get("k8s_pod_uid") == (POD if in_pod else None)
        assert {name for name in resource if name.startswith("k8s_")} <= {"k8s_pod_uid"}
        assert resource["job"] == "visitor"
    calls = VISITS * len(paths)
    wait_for_equal(
        lambda: _edges(scene),
        {"service:/visitor": Seen("both", calls, ())},
        "one edge between the two services",
    )
    assert _containers(scene, "service:/visitor") == set(ids.values())
    assert _containers(scene, "service:/stock") == {scene.server_id}
    scene.agent.wait_for_balance()


def test_a_published_port_leads_to_the_container(scene: Scene) -> None:
    """From a neighbour, whose own address is translated as well, and from the host."""
    host, server, port = scene.host, scene.server, scene.port
    host.publish(scene.published, server, port)
    identity = new_id()
    host.run(
        [PYTHON, APP, "visit", host.address, scene.published, VISITS],
        cgroup=f"docker/{identity}",
        service="visitor",
    )
    host.run_here([PYTHON, APP, "once", host.address, scene.published])
    _wait_for_calls(
        scene,
        {
            ("client", identity): VISITS,
            ("client", ""): 1,
            ("server", scene.server_id): VISITS + 1,
        },
    )
    via = (f"{host.address}:{scene.published}",)
    wait_for_equal(
        lambda: _edges(scene),
        {
            "service:/visitor": Seen("both", VISITS, via),
            "service:/contained": Seen("both", 1, via),
        },
        "the edges lead to the container, not to the host's port",
    )


def test_a_process_that_moves_counts_where_it_is(scene: Scene) -> None:
    host, server, port = scene.host, scene.server, scene.port
    before, after = new_id(), new_id()
    visitor = host.run(
        [PYTHON, APP, "visit", server.address, port, VISITS],
        cgroup=f"docker/{before}",
        service="visitor",
    )
    _wait_for_calls(
        scene, {("client", before): VISITS, ("server", scene.server_id): VISITS}
    )
    host.move(visitor.pid, f"docker/{after}")
    wait_until(lambda: _resource(scene.agent, after), "the agent noticed")
    os.kill(visitor.pid, signal.SIGUSR1)
    _wait_for_calls(
        scene,
        {
            ("client", before): VISITS,
            ("client", after): VISITS,
            ("server", scene.server_id): 2 * VISITS,
        },
    )


def test_containers_that_end_at_once_are_known(scene: Scene) -> None:
    """Each lives for one request, tens of milliseconds, and is deleted."""
    host, server, port = scene.host, scene.server, scene.port
    ids = [new_id() for _ in range(SHORT_LIVES)]
    for identity in ids:
        host.run(
            [PYTHON, "-S", "-E", APP, "once", server.address, port],
            cgroup=f"docker/{identity}",
            service="visitor",
        )
    expected = {("client", identity): 1 for identity in ids}
    expected["server", scene.server_id] = SHORT_LIVES
    _wait_for_calls(scene, expected)


def _wait_for_calls(scene: Scene, expected: dict[tuple[str, str], int]) -> None:
    """Wait until the calls at the scene's ports are exactly these, and no others."""
    wait_for_equal(lambda: _calls(scene), expected, "every container has its calls")


def _calls(scene: Scene) -> dict[tuple[str, str], int]:
    """HTTP calls by role and container; of those who are in none under ""."""
    scene.agent.check_alive()
    page = scene.agent.metrics()
    containers = {
        (resource["job"], resource.get("instance")): resource.get("container_id", "")
        for resource in _resources(page)
    }
    ports = {str(scene.port), str(scene.published)}
    calls: Counter[tuple[str, str]] = Counter()
    for name, labels, value in page:
        role = DURATIONS.get(name)
        if role and labels.get("server_port") in ports:
            container = containers[labels["job"], labels.get("instance")]
            calls[role, container] += int(value)
    return dict(calls)


class Seen(NamedTuple):
    """An edge of the service map into the server."""

    ends: str
    calls: int
    via: tuple[str, ...]


def _edges(scene: Scene) -> dict[str, Seen]:
    """All that lead to the server, by who calls."""
    return {
        edge["client"]: Seen(
            edge["ends"], sum(one["total"] for one in edge["calls"]), tuple(edge["via"])
        )
        for edge in _map(scene)["edges"]
        if edge["server"] == "service:/stock"
    }


def _containers(scene: Scene, node_id: str) -> set[str]:
    """Those that the map says a service's processes are in."""
    (node,) = (one for one in _map(scene)["nodes"] if one["id"] == node_id)
    return {instance["container_id"] for instance in node["instances"]}


def _map(scene: Scene) -> Any:
    return get_json(f"{scene.agent.url}/api/map")


def _resources(page: list[Sample]) -> list[dict[str, str]]:
    return [sample.labels for sample in page if sample.name == "target_info"]


def _resource(agent: Agent, container_id: str) -> dict[str, str]:
    """What is said of a container's only process; empty when it is not known."""
    found = [
        resource
        for resource in _resources(agent.metrics())
        if resource.get("container_id") == container_id
    ]
    assert len(found) <= 1, found
    return found[0] if found else {}
