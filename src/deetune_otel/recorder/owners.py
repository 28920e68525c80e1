# SPDX-License-Identifier: Apache-2.0
"""Which processes are recorded: by service, pid, command, container and cgroup.

Of several values of a condition one must hold, of several conditions all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from cachetools import LRUCache
from opentelemetry.semconv._incubating.attributes.container_attributes import (
    CONTAINER_ID,
    CONTAINER_NAME,
)
from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_EXECUTABLE_NAME,
)

from deetune_otel.model import Owner, Service

__all__ = ["OwnerChoice"]


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


def _matches(patterns: tuple[str, ...], *names: str) -> bool:
    return any(fnmatchcase(name, one) for name in names for one in patterns)


def _pids(owner: Owner) -> frozenset[int]:
    known = {owner.process.pid, owner.local_pid, owner.parent_pid} - {0}
    return frozenset(known)


def _commands(owner: Owner, service: Service) -> tuple[str, str]:
    executable = str(service.attributes.get(PROCESS_EXECUTABLE_NAME, ""))
    return owner.comm, executable.rpartition("/")[2]
