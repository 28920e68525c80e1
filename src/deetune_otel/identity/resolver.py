# SPDX-License-Identifier: Apache-2.0
"""Owners (as the kernel saw them) -> services, remembered by pid and start time.

A process is looked at when it is first asked for, then again after 1 s, 2 s, 4 s and so
on up to about a minute: one read of /proc/PID/stat and cmdline, one stat of its executable
(under 0.1 ms). Only when these differ (an exec lays out memory anew, a server writes
its title) is it named again; fork, socket, exec thus ends in the right name within
a second. A process that ended keeps the name it had; one that had ended
before it was ever looked at is named the same way by what the kernel side saw of it (its command
line, its executable's and its directory's name), and by its container or unit where its cgroup is
still there; only what its environment or /proc alone would tell is missing.

A process that is put into another cgroup (a container's, another unit's) looks as before,
and the kernel side tells a process's cgroup only once. So the text of its cgroup file is
compared once a second, for as long as it is asked for; what was counted in the
meantime goes to the new place, what was counted before stays with the old one.

Workers of a prefork server have their parent's command line, or a title that says whose
they are, and so its name. Helpers that a runtime starts by exec (Python's
multiprocessing: uvicorn's workers) have neither: they are named by the nearest ancestor
that is no helper, if it runs the same executable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cachetools import LRUCache
from opentelemetry.semconv._incubating.attributes.container_attributes import (
    CONTAINER_ID,
)
from opentelemetry.semconv._incubating.attributes.host_attributes import (
    HOST_ID,
    HOST_NAME,
)
from opentelemetry.semconv._incubating.attributes.os_attributes import OS_TYPE
from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_PID,
)

from deetune_otel.config.schema import ServiceRule
from deetune_otel.identity.cgroup_tree import CgroupTree
from deetune_otel.identity.container import Cgroup, parse_cgroup
from deetune_otel.identity.container_metadata import (
    ContainerMetadata,
    read_container_metadata,
)
from deetune_otel.identity.process import ProcessFacts, ProcessReader, facts_told
from deetune_otel.identity.service import command_of, identify
from deetune_otel.model import NewOwner, Owner, ProcessKey, Service

__all__ = ["Resolver", "read_host_id"]

# Twice the kernel side's default of owners: ended ones linger until forgotten.
_PROCESSES: Final = 2048
_CONTAINERS: Final = 512
_TOLD: Final = 1024  # 1 KB each
_FIRST_CHECK_S: Final = 1.0
_LONGEST_CHECK_S: Final = 64.0
# 8 µs each: under 1 % of a processor for all the processes of the kernel side's bound.
_CGROUP_CHECK_S: Final = 1.0
_ID_DIGITS: Final = 12  # of a container's id, as its runtime shows it
# multiprocessing inside a worker inside a server; more is not seen in the wild
_ANCESTORS: Final = 4


@dataclass(slots=True)
class _Known:
    """A named process, and when to look whether it still is what it was."""

    service: Service
    fingerprint: int | None  # None: ended, nothing can change
    cgroup: str  # the text of its cgroup file
    check_at_s: float
    interval_s: float
    cgroup_check_at_s: float


class Resolver:
    """Names processes; may be asked from several threads, and never raises."""

    def __init__(  # noqa: PLR0913 - all but the first are named
        self,
        rules: Sequence[ServiceRule],
        *,
        host_name: str,
        host_id: str = "",
        root: Path = Path("/"),
        reader: ProcessReader | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`root` is the host's root directory, where runtimes keep their files."""
        self._rules = rules
        self._with_ports = any(rule.match.port is not None for rule in rules)
        self._host_name = host_name
        self._host: dict[str, str | int] = {HOST_NAME: host_name, OS_TYPE: "linux"}
        if host_id:
            self._host[HOST_ID] = host_id
        self._root = root
        self._reader = reader or ProcessReader()
        self._cgroups = CgroupTree()
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._known: LRUCache[ProcessKey, _Known] = LRUCache(_PROCESSES)
        self._told: LRUCache[ProcessKey, NewOwner] = LRUCache(_TOLD)
        self._containers: LRUCache[str, ContainerMetadata | None] = LRUCache(
            _CONTAINERS
        )

    def service(self, owner: Owner) -> Service:
        """Who this process is; the same object as long as nothing changed."""
        with self._lock:
            now_s = self._clock_s()
            known = self._known.get(owner.process)
            if known is None:
                known = self._name(owner, now_s)
                self._known[owner.process] = known
            elif known.fingerprint is not None:
                self._check(owner, known, now_s)
            return known.service

    def hear(self, told: NewOwner) -> None:
        """What names a process that is gone before it can be looked at."""
        with self._lock:
            self._told[told.owner.process] = told

    def knows(self, owner: Owner) -> bool:
        """Whether it was named, or could be even if it has ended."""
        with self._lock:
            return owner.process in self._known or owner.process in self._told

    def forget(self, owner: Owner) -> None:
        """Drop what is remembered of a process that is gone for good."""
        with self._lock:
            self._told.pop(owner.process, None)
            self._known.pop(owner.process, None)

    def _name(self, owner: Owner, now_s: float) -> _Known:
        # The fingerprint first: an exec between the two readings is found at the check.
        fingerprint = self._reader.fingerprint(owner)
        facts = self._reader.read(owner, with_ports=self._with_ports)
        if facts is None:
            fingerprint = None
            told = self._told.get(owner.process) or NewOwner(owner, b"", "", "")
            facts = facts_told(told, cgroup=self._cgroups.text(owner.cgroup_id))
        return _Known(
            service=self._placed(self._identify(owner, facts), owner.process.pid),
            fingerprint=fingerprint,
            cgroup=facts.cgroup,
            check_at_s=now_s + _FIRST_CHECK_S,
            interval_s=_FIRST_CHECK_S,
            cgroup_check_at_s=now_s + _CGROUP_CHECK_S,
        )

    def _check(self, owner: Owner, known: _Known, now_s: float) -> None:
        """Name it again if it became something else; if it ended it stays what it was."""
        changed = False
        if now_s >= known.cgroup_check_at_s:
            known.cgroup_check_at_s = now_s + _CGROUP_CHECK_S
            cgroup = self._reader.glance_at_cgroup(owner)
            changed = bool(cgroup) and cgroup != known.cgroup
        if now_s >= known.check_at_s:
            known.interval_s = min(2 * known.interval_s, _LONGEST_CHECK_S)
            known.check_at_s = now_s + known.interval_s
            fingerprint = self._reader.fingerprint(owner)
            if fingerprint is None:
                known.fingerprint = None
                return
            changed |= fingerprint != known.fingerprint or self._with_ports
        if changed:
            self._name_again(owner, known, now_s)

    def _name_again(self, owner: Owner, known: _Known, now_s: float) -> None:
        now = self._name(owner, now_s)
        known.fingerprint = now.fingerprint
        if now.fingerprint is not None:
            known.cgroup = now.cgroup
            if now.service != known.service:
                known.service = now.service

    def _identify(self, owner: Owner, facts: ProcessFacts) -> Service:
        cgroup = parse_cgroup(facts.cgroup)
        return identify(
            facts,
            cgroup=cgroup,
            container=self._container(cgroup),
            rules=self._rules,
            named_by=self._named_by(owner, facts),
        )

    def _named_by(self, owner: Owner, facts: ProcessFacts) -> ProcessFacts:
        """The nearest of this process and its ancestors that is no runtime's helper."""
        named_by = facts
        for generation in range(1, _ANCESTORS + 1):
            if not command_of(named_by).is_helper:
                break
            parent = self._reader.read_parent(owner, generation=generation)
            if parent is None or parent.executable != facts.executable:
                return facts
            named_by = parent
        return named_by

    def _container(self, cgroup: Cgroup) -> ContainerMetadata | None:
        identity = cgroup.container_id
        if not identity:
            return None
        if identity not in self._containers:
            self._containers[identity] = read_container_metadata(identity, self._root)
        return self._containers[identity]

    def _placed(self, service: Service, pid: int) -> Service:
        """The service as this instance on this host.

        The container is a part of the instance: a resource's attributes do not change, so
        a process that moves becomes another one.
        """
        container_id = str(service.attributes.get(CONTAINER_ID, ""))[:_ID_DIGITS]
        place = f"{self._host_name}:{pid}"
        return replace(
            service,
            instance_id=f"{place}:{container_id}" if container_id else place,
            attributes=service.attributes | self._host | {PROCESS_PID: pid},
        )


def read_host_id(root: Path = Path("/")) -> str:
    """The machine's id, as the conventions want it for host.id; "" where it has none."""
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        try:
            if identity := (root / name).read_text("ascii").strip():
                return identity
        except (OSError, UnicodeDecodeError):
            continue
    return ""
