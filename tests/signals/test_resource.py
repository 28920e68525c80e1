# SPDX-License-Identifier: Apache-2.0
"""The resource carries who the service is and who measured it."""

from __future__ import annotations

from deetune_otel.model import Service
from deetune_otel.signals.resource import Resources

SHOP = Service(
    name="shop", namespace="web", instance_id="h:1", attributes={"process.pid": 1}
)


def test_attributes() -> None:
    resource = Resources("1.2.3").of(SHOP)
    assert dict(resource.attributes) == {
        "service.name": "shop",
        "service.namespace": "web",
        "service.instance.id": "h:1",
        "process.pid": 1,
        "telemetry.sdk.name": "deetune-otel",
        "telemetry.sdk.version": "1.2.3",
        "telemetry.sdk.language": "generic",
        "telemetry.distro.name": "deetune-otel",
        "telemetry.distro.version": "1.2.3",
    }
    assert resource.schema_url.startswith("https://opentelemetry.io/schemas/")


def test_what_identity_knows_wins() -> None:
    known = Service(name="shop", attributes={"telemetry.sdk.language": "go"})
    attributes = Resources("1").of(known).attributes
    assert attributes["telemetry.sdk.language"] == "go"
    assert "service.namespace" not in attributes


def test_made_once_and_again_when_the_service_changed() -> None:
    resources = Resources("1")
    first = resources.of(SHOP)
    assert resources.of(SHOP) is first
    moved = Service(
        name="shop", namespace="web", instance_id="h:1", attributes={"process.pid": 2}
    )
    assert resources.of(moved).attributes["process.pid"] == 2


def test_scope() -> None:
    scope = Resources("1.2.3").scope
    assert (scope.name, scope.version) == ("deetune_otel", "1.2.3")
    assert scope.schema_url
