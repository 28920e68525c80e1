# SPDX-License-Identifier: Apache-2.0
"""Who telemetry speaks of: a service as the SDK's Resource, and us as its scope."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from cachetools import LRUCache
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes.container_attributes import (
    CONTAINER_ID,
)
from opentelemetry.semconv._incubating.attributes.service_attributes import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAMESPACE,
)
from opentelemetry.semconv._incubating.attributes.telemetry_attributes import (
    TELEMETRY_DISTRO_NAME,
    TELEMETRY_DISTRO_VERSION,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
)
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME
from opentelemetry.semconv.schemas import Schemas

if TYPE_CHECKING:
    from deetune_otel.model import Service

__all__ = [
    "SCHEMA_URL",
    "Resources",
    "ServiceKey",
    "service_key",
    "without_process",
]

DISTRIBUTION: Final = "deetune-otel"
SCOPE: Final = "deetune_otel"
# As container runtimes show an id.
_CONTAINER_DIGITS: Final = 12
SCHEMA_URL: Final = Schemas.V1_44_0.value
# More services than one host runs; beyond it a resource is made again at each use.
_MAX_CACHED: Final = 2048


class ServiceKey(NamedTuple):
    """What tells services apart: OpenTelemetry's triplet."""

    namespace: str
    name: str
    instance_id: str


def service_key(service: Service) -> ServiceKey:
    return ServiceKey(service.namespace, service.name, service.instance_id)


def without_process(service: Service) -> Service:
    """The service of processes that are not told apart, in one container or outside of any."""
    container = str(service.attributes.get(CONTAINER_ID, ""))
    return replace(
        service,
        instance_id=container[:_CONTAINER_DIGITS],
        attributes={
            name: value
            for name, value in service.attributes.items()
            if not name.startswith("process.")
        },
    )


class Resources:
    """Makes a service's resource once and keeps it as long as the service stays the same."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._made: LRUCache[ServiceKey, tuple[Service, Resource]] = LRUCache(
            _MAX_CACHED
        )
        self.scope = InstrumentationScope(SCOPE, version, SCHEMA_URL)

    def of(self, service: Service) -> Resource:
        key = service_key(service)
        known = self._made.get(key)
        if known is not None and known[0] == service:
            return known[1]
        resource = Resource(self._attributes(service), SCHEMA_URL)
        self._made[key] = (service, resource)
        return resource

    def _attributes(self, service: Service) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {
            SERVICE_NAME: service.name,
            TELEMETRY_SDK_NAME: DISTRIBUTION,
            TELEMETRY_SDK_VERSION: self._version,
            # The observed program's, not ours; "generic" is the word for "not known".
            TELEMETRY_SDK_LANGUAGE: "generic",
            TELEMETRY_DISTRO_NAME: DISTRIBUTION,
            TELEMETRY_DISTRO_VERSION: self._version,
        }
        if service.namespace:
            attributes[SERVICE_NAMESPACE] = service.namespace
        if service.instance_id:
            attributes[SERVICE_INSTANCE_ID] = service.instance_id
        return attributes | service.attributes
