# SPDX-License-Identifier: Apache-2.0
"""The order of the sources, the attributes, and that a service always has a name."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.config.schema import ServiceMatch, ServiceRule
from deetune_otel.identity.container import Cgroup, parse_cgroup
from deetune_otel.identity.container_metadata import ContainerMetadata
from deetune_otel.identity.process import ProcessFacts
from deetune_otel.identity.service import clean, identify

A = "3f4e1c0d9b8a7f6e5d4c3b2a190817263544536271809fafbecdd0e1f2031425"
FACTS = ProcessFacts(
    pid=42,
    parent_pid=1,
    comm="python3",
    executable="/usr/bin/python3.11",
    arguments=("python3", "orders.py", "--token", "s3cret"),
    working_directory="/srv/shop",
    cgroup="1:name=systemd:/\n0::/system.slice/shop-orders.service\n",
    listening_ports=frozenset({8080}),
)
IN_DOCKER = Cgroup(container_id=A, runtime="docker")
COMPOSE = ContainerMetadata(
    name="shop-web-1",
    image="registry:5000/shop/web:1.2@sha256:0",
    labels={"com.docker.compose.service": "web", "com.docker.compose.project": "shop"},
)
POD = {
    "io.kubernetes.cri.sandbox-name": "web-7d4b9c6f5d-x2x7k",
    "io.kubernetes.cri.sandbox-namespace": "prod",
    "io.kubernetes.cri.sandbox-uid": "u-1",
}


def facts(**changes: object) -> ProcessFacts:
    return dataclasses.replace(FACTS, **changes)  # type: ignore[arg-type]


def rule(name: str, namespace: str = "", **match: object) -> ServiceRule:
    return ServiceRule(
        match=ServiceMatch(**match),  # type: ignore[arg-type]
        name=name,
        namespace=namespace,
    )


def test_each_source_stands_in_for_the_one_before() -> None:
    """All of them are there; one after the other is taken away."""
    everything = facts(
        otel_service_name="from-name",
        otel_resource_attributes="service.name=from-attributes",
    )
    cgroup = Cgroup(container_id=A, unit="from-unit")
    rules = [rule("from-rule", command="python3 *")]

    def found(**changes: object) -> tuple[str, str]:
        arguments = {
            "facts": everything,
            "cgroup": cgroup,
            "container": COMPOSE,
            "rules": rules,
        } | changes
        service = identify(arguments.pop("facts"), **arguments)  # type: ignore[arg-type]
        return service.name, service.found_by

    assert found() == ("from-name", "OTEL_SERVICE_NAME")
    everything = dataclasses.replace(everything, otel_service_name=" \n")
    assert found() == ("from-attributes", "OTEL_RESOURCE_ATTRIBUTES")
    everything = FACTS
    assert found() == ("from-rule", "rule")
    rules = []
    assert found() == ("web", "container")
    assert found(container=ContainerMetadata(name="web-1")) == ("web-1", "container")
    assert found(container=None) == ("from-unit", "systemd")
    cgroup = Cgroup(container_id=A)
    assert found(container=None) == ("orders", "script")
    everything = facts(arguments=("python3",))
    assert found(container=None) == (A[:12], "container")
    assert found(container=None, cgroup=Cgroup()) == ("python3.11", "executable")
    everything = facts(arguments=(), executable="", comm="kworker/0:1")
    assert found(container=None, cgroup=Cgroup()) == ("kworker/0:1", "comm")
    everything = facts(arguments=(), executable="", comm="\x01")
    assert found(container=None, cgroup=Cgroup())[0] == "unknown_service"


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"exe": "*/python3*"}, True),
        ({"exe": "python3*"}, False),
        ({"command": "python3 orders.py*"}, True),
        ({"command": "orders.py"}, False),
        ({"cgroup": "*/shop-*.service"}, True),
        ({"cgroup": "/docker/*"}, False),
        ({"port": 8080}, True),
        ({"port": 80}, False),
        ({"exe": "*/python3*", "port": 8080, "command": "*orders*"}, True),
        ({"exe": "*/python3*", "port": 80}, False),
    ],
)
def test_rules_match_all_that_they_name(
    match: dict[str, object], *, fits: bool
) -> None:
    service = identify(FACTS, cgroup=Cgroup(), rules=[rule("named", "shop", **match)])
    assert service.name == ("named" if fits else "orders")
    assert service.namespace == ("shop" if fits else "")


def test_the_first_rule_that_matches_wins() -> None:
    rules = [rule("no", port=1), rule("first", port=8080), rule("second", port=8080)]
    assert identify(FACTS, cgroup=Cgroup(), rules=rules).name == "first"


def test_the_targets_own_attributes() -> None:
    given = facts(
        otel_resource_attributes=(
            "service.name=ord%20ers,service.namespace=shop,service.version=1.2,"
            "deployment.environment.name=prod ,broken,=x,service.instance.id=same,"
            "host.name=lie,process.pid=1,telemetry.sdk.name=lie,os.type=lie,"
            "container.id=lie"
        )
    )
    service = identify(given, cgroup=IN_DOCKER)
    assert (service.name, service.namespace) == ("ord ers", "shop")
    assert service.attributes == {
        "service.version": "1.2",
        "deployment.environment.name": "prod",
        "process.executable.name": "python3.11",
        "process.command": "python3 orders.py",
        "container.id": A,
        "container.runtime.name": "docker",
    }


def test_attributes_without_a_name_are_kept_beside_the_name_found() -> None:
    given = facts(otel_resource_attributes="service.version=3")
    service = identify(given, cgroup=Cgroup())
    assert (service.name, service.found_by) == ("orders", "script")
    assert service.attributes["service.version"] == "3"


def test_compose() -> None:
    service = identify(FACTS, cgroup=IN_DOCKER, container=COMPOSE)
    assert (service.name, service.namespace) == ("web", "shop")
    assert service.attributes["container.name"] == "shop-web-1"
    assert service.attributes["container.image.name"] == "registry:5000/shop/web"


@pytest.mark.parametrize(
    ("pod", "container", "expected"),
    [
        ("web-7d4b9c6f5d-x2x7k", "orders", "orders"),  # the author's word
        ("web-7d4b9c6f5d-x2x7k", "app", "web"),
        ("web-api-7d4b9c6f5d-x2x7k", "main", "web-api"),
        ("agent-x2x7k", "app", "agent"),  # a DaemonSet's
        ("db-0", "app", "db"),
        ("nightly-27912345-x2x7k", "app", "nightly"),
        ("shop-admin", "app", "shop-admin"),  # no suffix: vowels are not in it
        ("0", "app", "0"),
    ],
)
def test_kubernetes(pod: str, container: str, expected: str) -> None:
    labels = POD | {
        "io.kubernetes.cri.sandbox-name": pod,
        "io.kubernetes.cri.container-name": container,
    }
    service = identify(
        FACTS,
        cgroup=Cgroup(container_id=A, pod_uid="from-cgroup"),
        container=ContainerMetadata(labels=labels),
    )
    assert (service.name, service.namespace) == (expected, "prod")
    assert {k: v for k, v in service.attributes.items() if k.startswith("k8s.")} == {
        "k8s.pod.name": pod,
        "k8s.namespace.name": "prod",
        "k8s.container.name": container,
        "k8s.pod.uid": "u-1",
    }


def test_a_pods_uid_is_known_from_its_cgroup() -> None:
    service = identify(FACTS, cgroup=Cgroup(container_id=A, pod_uid="u-2"))
    assert service.attributes["k8s.pod.uid"] == "u-2"


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("nginx", "nginx"),
        ("postgresql@15-main", "postgresql@15-main"),
        ("worker@1", "worker"),  # one of several alike
        ("worker@", "worker"),
        ("cron", "orders"),  # starts other people's programs
        ("sshd@1-10.0.0.1:22", "orders"),
    ],
)
def test_units(unit: str, expected: str) -> None:
    assert identify(FACTS, cgroup=Cgroup(unit=unit)).name == expected


def test_a_helper_is_named_by_its_ancestor() -> None:
    helper = facts(arguments=("python3", "-c", "from multiprocessing.spawn import x"))
    service = identify(helper, cgroup=Cgroup(), named_by=FACTS)
    assert service.name == "orders"
    assert service.attributes["process.command"] == "python3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \n\tb\x00c ", "a b c"),
        ("x" * 300, "x" * 255),
        ("\ud800ö", "ö"),  # a lone surrogate cannot be sent as UTF-8
        ("My Service", "My Service"),
        ("\x1b[31mred", "[31mred"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


ANY_FACTS = st.builds(
    ProcessFacts,
    pid=st.integers(1, 99),
    parent_pid=st.integers(0, 99),
    comm=st.text(max_size=16),
    executable=st.one_of(st.text(), st.just("/usr/bin/python3")),
    arguments=st.lists(st.text(max_size=10), max_size=5).map(tuple),
    otel_service_name=st.text(max_size=10),
    otel_resource_attributes=st.text("=,% a.s\x00", max_size=30),
    cgroup=st.text(max_size=30),
    working_directory=st.text(max_size=10),
)
ANY_CONTAINER = st.none() | st.builds(
    ContainerMetadata,
    name=st.text(max_size=10),
    image=st.text(max_size=10),
    labels=st.dictionaries(st.sampled_from([*POD, *COMPOSE.labels]), st.text()),
)


@given(ANY_FACTS, ANY_CONTAINER)
def test_always_named_and_fit_to_be_sent(
    anything: ProcessFacts, container: ContainerMetadata | None
) -> None:
    service = identify(
        anything, cgroup=parse_cgroup(anything.cgroup), container=container
    )
    assert service.name
    assert service.found_by
    for text in (service.name, service.namespace, *service.attributes.values()):
        assert str(text).isprintable()
        str(text).encode("utf-8")
