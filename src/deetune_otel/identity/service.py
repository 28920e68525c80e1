# SPDX-License-Identifier: Apache-2.0
"""Facts about a process -> the service that it is. Pure.

The sources are asked in this order, and the first that has a name gives it:

1. the target itself: OTEL_SERVICE_NAME, then service.name in OTEL_RESOURCE_ATTRIBUTES
2. the operator: the rules of the configuration
3. its container: Kubernetes' or Compose's label, else the container's name
4. its systemd unit, unless that unit starts other people's programs (cron, sshd)
5. its command line, as a person would call it

A container whose runtime tells us nothing is named by its command line too: replicas
then share a name. Its id's first digits are taken only where nothing but an
interpreter is known, for they change at every start.

`process.command` is the program and the script, jar or module it runs, nothing else:
arguments carry passwords. Of the target's own attributes all are kept but those that
we know better: what the process, host and container are, and `service.instance.id`,
which several worker processes would share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote

from opentelemetry.semconv._incubating.attributes.container_attributes import (
    CONTAINER_ID,
    CONTAINER_IMAGE_NAME,
    CONTAINER_NAME,
    CONTAINER_RUNTIME_NAME,
)
from opentelemetry.semconv._incubating.attributes.k8s_attributes import (
    K8S_CONTAINER_NAME,
    K8S_NAMESPACE_NAME,
    K8S_POD_NAME,
    K8S_POD_UID,
)
from opentelemetry.semconv._incubating.attributes.process_attributes import (
    PROCESS_COMMAND,
    PROCESS_EXECUTABLE_NAME,
)
from opentelemetry.semconv._incubating.attributes.service_attributes import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAMESPACE,
)
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME

from deetune_otel.config.schema import ServiceMatch, ServiceRule
from deetune_otel.identity.command import CommandName, name_command
from deetune_otel.identity.container import Cgroup
from deetune_otel.identity.container_metadata import ContainerMetadata
from deetune_otel.identity.process import ProcessFacts
from deetune_otel.model import Service

__all__ = ["UNKNOWN_SERVICE", "clean", "command_of", "identify"]

UNKNOWN_SERVICE: Final = "unknown_service"  # the conventions' word
_TEXT_LENGTH: Final = 255  # backends cut longer ones, each at another place
_TARGET_ATTRIBUTES: Final = 64
_OURS: Final = (SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID)
_OUR_PREFIXES: Final = ("telemetry.", "process.", "host.", "os.")

_NAME_LABELS: Final = (
    "io.kubernetes.container.name",
    "io.kubernetes.cri.container-name",
    "com.docker.swarm.service.name",
    "com.docker.compose.service",
)
_NAMESPACE_LABELS: Final = (
    "io.kubernetes.pod.namespace",
    "io.kubernetes.cri.sandbox-namespace",
    "com.docker.stack.namespace",
    "com.docker.compose.project",
)
_KUBERNETES_LABELS: Final = {
    K8S_CONTAINER_NAME: _NAME_LABELS[:2],
    K8S_NAMESPACE_NAME: _NAMESPACE_LABELS[:2],
    K8S_POD_NAME: ("io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name"),
    K8S_POD_UID: ("io.kubernetes.pod.uid", "io.kubernetes.cri.sandbox-uid"),
}
# Names of containers that say nothing, so that the pod's workload is the name.
_SHARED_CONTAINER_NAMES: Final = frozenset(
    {"app", "application", "container", "main", "server", "service", "web", "worker"}
)
# What Kubernetes puts behind a workload's name, in its alphabet without vowels:
# -<template hash>-<random>, -<random>, -<ordinal>.
_POD_SUFFIX: Final = re.compile(
    r"(-[bcdf-hj-np-tvwxz2456789]{8,10}|-\d+)?"
    r"(-[bcdf-hj-np-tvwxz2456789]{5}|-\d+)$"
)
# Units whose processes are other programs than the unit.
_LAUNCHER_UNITS: Final = frozenset({
    "anacron", "atd", "containerd", "cri-o", "cron", "crond", "crio", "docker", "k3s",
    "kubelet", "podman", "rc-local", "runsvdir", "ssh", "sshd", "supervisor",
    "supervisord", "systemd-udevd", "tmux", "waagent",
})  # fmt: skip
_LAUNCHER_TEMPLATES: Final = frozenset({"getty", "serial-getty", "ssh", "sshd", "user"})


def identify(
    facts: ProcessFacts,
    *,
    cgroup: Cgroup,
    container: ContainerMetadata | None = None,
    rules: Iterable[ServiceRule] = (),
    named_by: ProcessFacts | None = None,
) -> Service:
    """The service that a living process is, without its instance and its host.

    `named_by` is the process whose command line names this one: the parent of a
    runtime's helper process, else itself.
    """
    program = named_by or facts
    command = command_of(program)
    given = _given_attributes(facts.otel_resource_attributes)
    labels = container.labels if container else {}
    namespace = given.get(SERVICE_NAMESPACE, "")
    name, found_by = _given_name(facts, given)
    if not name and (rule := _first_match(rules, program)):
        name, found_by = clean(rule.name), "rule"
        namespace = namespace or rule.namespace
    if not name:
        name, found_by = _found_name(cgroup, container, command, facts)
    return Service(
        name=name or UNKNOWN_SERVICE,
        namespace=clean(namespace or _first(labels, _NAMESPACE_LABELS)),
        attributes=_kept(given) | _known_attributes(facts, cgroup, container),
        found_by=found_by,
    )


def command_of(facts: ProcessFacts) -> CommandName:
    """What the command line says."""
    return name_command(
        facts.arguments,
        executable=facts.executable,
        working_directory=facts.working_directory,
        comm=facts.comm,
    )


def clean(text: str) -> str:
    """Text fit for telemetry: printable, single spaces, bounded; may be empty."""
    printable = "".join(
        character if character.isprintable() else " "
        for character in text[: 4 * _TEXT_LENGTH]
    )
    return " ".join(printable.split())[:_TEXT_LENGTH].rstrip()


def _given_name(facts: ProcessFacts, given: Mapping[str, str]) -> tuple[str, str]:
    if name := clean(facts.otel_service_name):
        return name, "OTEL_SERVICE_NAME"
    if name := given.get(SERVICE_NAME, ""):
        return name, "OTEL_RESOURCE_ATTRIBUTES"
    return "", ""


def _given_attributes(text: str) -> dict[str, str]:
    """`key=value,key=value` with percent-encoded values; what is malformed is left."""
    attributes: dict[str, str] = {}
    for pair in text.split(",")[:_TARGET_ATTRIBUTES]:
        key, equals, value = pair.partition("=")
        key = clean(unquote(key))
        if equals and key:
            attributes[key] = clean(unquote(value.strip().strip('"')))
    return attributes


def _kept(given: Mapping[str, str]) -> dict[str, str | int]:
    return {
        key: value
        for key, value in given.items()
        if key not in _OURS and not key.startswith(_OUR_PREFIXES)
    }


def _first_match(
    rules: Iterable[ServiceRule], facts: ProcessFacts
) -> ServiceRule | None:
    return next((rule for rule in rules if _matches(rule.match, facts)), None)


def _matches(match: ServiceMatch, facts: ProcessFacts) -> bool:
    """Whether all that the rule names fits."""
    cgroups = (line.split(":", 2)[-1] for line in facts.cgroup.splitlines())
    return (
        (match.exe is None or fnmatchcase(facts.executable, match.exe))
        and (
            match.command is None
            or fnmatchcase(" ".join(facts.arguments), match.command)
        )
        and (
            match.cgroup is None
            or any(fnmatchcase(path, match.cgroup) for path in cgroups)
        )
        and (match.port is None or match.port in facts.listening_ports)
    )


def _found_name(
    cgroup: Cgroup,
    container: ContainerMetadata | None,
    command: CommandName,
    facts: ProcessFacts,
) -> tuple[str, str]:
    if name := _container_name(container):
        return name, "container"
    if name := _unit_name(cgroup.unit):
        return name, "systemd"
    if command.is_bare_interpreter and cgroup.container_id:
        return cgroup.container_id[:12], "container"
    if name := clean(command.name):
        return name, command.found_by
    return clean(facts.comm), "comm"


def _container_name(container: ContainerMetadata | None) -> str:
    if not container:
        return ""
    pod = _first(container.labels, _KUBERNETES_LABELS[K8S_POD_NAME])
    name = _first(container.labels, _NAME_LABELS) or container.name
    if pod and name in _SHARED_CONTAINER_NAMES | {""}:
        name = _POD_SUFFIX.sub("", pod) or pod
    return clean(name)


def _unit_name(unit: str) -> str:
    """`postgresql@15-main` stays; of `worker@1` and `worker@2` the number goes."""
    template, at, instance = unit.partition("@")
    if unit in _LAUNCHER_UNITS or (at and template in _LAUNCHER_TEMPLATES):
        return ""
    return clean(template if not instance or instance.isdecimal() else unit)


def _known_attributes(
    facts: ProcessFacts, cgroup: Cgroup, container: ContainerMetadata | None
) -> dict[str, str | int]:
    executable = facts.executable.removesuffix(" (deleted)").rpartition("/")[2]
    return _cleaned(
        {
            PROCESS_EXECUTABLE_NAME: executable or facts.comm,
            PROCESS_COMMAND: command_of(facts).command,
        }
        | _place(cgroup, container)
    )


def _place(cgroup: Cgroup, container: ContainerMetadata | None) -> dict[str, str]:
    """Container and pod; "" for what is not known."""
    known = {
        CONTAINER_ID: cgroup.container_id,
        CONTAINER_RUNTIME_NAME: cgroup.runtime,
        K8S_POD_UID: cgroup.pod_uid,
    }
    if container:
        known[CONTAINER_NAME] = container.name
        known[CONTAINER_IMAGE_NAME] = _image_name(container.image)
        for attribute, names in _KUBERNETES_LABELS.items():
            known[attribute] = _first(container.labels, names) or known.get(
                attribute, ""
            )
    return known


def _cleaned(attributes: Mapping[str, str]) -> dict[str, str | int]:
    return {key: text for key, value in attributes.items() if (text := clean(value))}


def _image_name(image: str) -> str:
    """`registry:5000/shop/web:1.2@sha256:...` without tag and digest."""
    name = image.partition("@")[0]
    directory, slash, last = name.rpartition("/")
    return f"{directory}{slash}{last.partition(':')[0]}"


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
