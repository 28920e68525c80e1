# SPDX-License-Identifier: Apache-2.0
"""Which processes are recorded."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from deetune_otel.model import Owner, ProcessKey, Service
from deetune_otel.recorder.owners import Listening, OwnerChoice

if TYPE_CHECKING:
    from pathlib import Path

OWNER: Final = Owner(
    id=3,
    process=ProcessKey(4000, 1),
    parent_pid=3999,
    netns=1,
    cgroup_id=77,
    comm="worker",
    local_pid=40,
)
SERVICE: Final = Service(
    name="shop-front",
    attributes={
        "process.executable.name": "nginx",
        "container.id": "abcdef0123456789",
        "container.name": "front_1",
    },
)


def cgroup(number: int) -> str:
    assert number == 77
    return "0::/system.slice/shop.service\n"


@pytest.mark.parametrize(
    ("holds", "does_not"),
    [
        ({"services": ("shop-*",)}, {"services": ("shop",)}),
        ({"pids": {40}}, {"pids": {41}}),
        ({"pids": {4000}}, {"pids": {0}}),
        ({"pids": {3999}}, {"pids": {3998}}),
        ({"commands": ("nginx",)}, {"commands": ("ngin",)}),
        ({"commands": ("work*",)}, {"commands": ("",)}),
        ({"containers": ("abcdef",)}, {"containers": ("bcdef",)}),
        ({"containers": ("front_*",)}, {"containers": ("back_*",)}),
        ({"cgroups": ("*/shop.service",)}, {"cgroups": ("*/other.service",)}),
    ],
)
def test_a_condition(holds: dict[str, Any], does_not: dict[str, Any]) -> None:
    assert OwnerChoice(cgroup_of=cgroup, **holds)(OWNER, SERVICE)
    assert not OwnerChoice(cgroup_of=cgroup, **does_not)(OWNER, SERVICE)


def test_all_conditions_must_hold() -> None:
    assert OwnerChoice()(OWNER, SERVICE)
    assert not OwnerChoice(services=("shop-*",), pids=frozenset({1}))(OWNER, SERVICE)


def test_what_runs_in_no_container_is_in_none() -> None:
    assert not OwnerChoice(containers=("",))(OWNER, Service(name="x"))
    assert not OwnerChoice(containers=("*",))(OWNER, Service(name="x"))


def test_who_listens_on_a_port() -> None:
    ours = OWNER._replace(local_pid=os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert Listening(port)(ours, SERVICE)
        assert not Listening(port)(ours._replace(local_pid=os.getppid()), SERVICE)
    assert not Listening(port)(ours, SERVICE)
    assert not Listening(port)(OWNER._replace(local_pid=0), SERVICE)
    assert not Listening(port)(OWNER._replace(local_pid=2**22 + 1), SERVICE)


def test_who_listens_on_a_unix_socket(tmp_path: Path) -> None:
    ours = OWNER._replace(local_pid=os.getpid())
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert Listening(0, path)(ours, SERVICE)
        assert not Listening(0, path + "x")(ours, SERVICE)
