# SPDX-License-Identifier: Apache-2.0
"""Which processes are recorded: by service, pid, command, container and cgroup; or by what they
listen on.

Of several values of a condition one must hold, of several conditions all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import psutil
from cachetools import LRUCache
from opentelemetry.semconv._incubating.attributes.container_attributes import (
    CONTAINER_ID,
    CONTAINER_NAME,
)
from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_EXECUTABLE_NAME,
)

from deetune_otel.identity.ports import listening_ports
from deetune_otel.model import Owner, Service

__all__ = ["Listening", "OwnerChoice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerChoice:
    """Called with an owner and its service. `cgroup_of` gives a cgroup's path by its number."""

    services: tuple[str, ...] = ()  # patterns
    pids: frozenset[int] = frozenset()  # and their children
    commands: tuple[str, ...] = ()  # patterns of the thread's or the executable's name
    containers: tuple[str, ...] = ()  # patterns of names, or beginnings of ids
    cgroups: tuple[str, ...] = ()  # patterns of paths
    cgroup_of: Callable[[int], str] = str
    _paths: LRUCache[int, str] = field(default_factory=lambda: LRUCache(4096))

    def __call__(self, owner: Owner, service: Service) -> bool:
        return (
            (not self.services or _matches(self.services, service.name))
            and (not self.pids or bool(self.pids & _pids(owner)))
            and (
                not self.commands or _matches(self.commands, *_commands(owner, service))
            )
            and (not self.containers or self._is_container(service))
            and (not self.cgroups or _matches(self.cgroups, self._cgroup(owner)))
        )

    def _is_container(self, service: Service) -> bool:
        identity = str(service.attributes.get(CONTAINER_ID, ""))
        name = str(service.attributes.get(CONTAINER_NAME, ""))
        return bool(identity) and (
            any(identity.startswith(one) for one in self.containers)
            or _matches(self.containers, name)
        )

    def _cgroup(self, owner: Owner) -> str:
        path = self._paths.get(owner.cgroup_id)
        if path is None:
            text = self.cgroup_of(owner.cgroup_id)
            path = text.strip().rpartition(":")[2]
            self._paths[owner.cgroup_id] = path
        return path


class Listening:
    """Processes that listen on a TCP port, in whatever network, or on a Unix socket.

    Each is looked at once: who serves holds the socket from before its first request.
    """

    def __init__(self, port: int, path: str = "") -> None:
        self._port = port
        self._path = path
        self._known: LRUCache[Owner, bool] = LRUCache(65_536)

    def __call__(self, owner: Owner, service: Service) -> bool:  # noqa: ARG002 -- as any choice
        found = self._known.get(owner)
        if found is None:
            found = self._known[owner] = self._listens(owner.local_pid)
        return found

    def _listens(self, pid: int) -> bool:
        if not pid:  # in a pid namespace that is not below ours
            return False
        try:
            if self._path:
                sockets = psutil.Process(pid).net_connections("unix")
                return any(str(one.laddr) == self._path for one in sockets)
            folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
            try:
                return self._port in listening_ports(folder)
            finally:
                os.close(folder)
        except (OSError, psutil.Error):
            return False


def _matches(patterns: tuple[str, ...], *names: str) -> bool:
    return any(fnmatchcase(name, one) for name in names for one in patterns)


def _pids(owner: Owner) -> frozenset[int]:
    known = {owner.process.pid, owner.local_pid, owner.parent_pid} - {0}
    return frozenset(known)


def _commands(owner: Owner, service: Service) -> tuple[str, str]:
    executable = str(service.attributes.get(PROCESS_EXECUTABLE_NAME, ""))
    return owner.comm, executable.rpartition("/")[2]
