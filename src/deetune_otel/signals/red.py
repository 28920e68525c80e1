# SPDX-License-Identifier: Apache-2.0
"""Rate, errors, duration: kernel series become series of attributes, without losing a count.

Once per interval every kernel series brings what was added to it. Kernel series that mean the
same attributes (worker processes of one service, many clients of one server) are summed. Sums
never decrease: they outlive the processes and the kernel's entries they came from.

What is over a bound is counted in a series that says `otel.metric.overflow`; the total of all
series is the total of all deltas, always.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.sdk.metrics.export import AggregationTemporality

from deetune_otel.model import Service
from deetune_otel.protocols import PROTOCOLS, measuring_module
from deetune_otel.protocols.routes import OVERFLOW_ATTRIBUTE
from deetune_otel.signals.resource import ServiceKey, service_key
from deetune_otel.signals.values import ZERO, minus, plus

if TYPE_CHECKING:
    from deetune_otel.model import (
        Edge,
        Operation,
        Protocol,
        Role,
        SeriesKey,
        SeriesValue,
    )

__all__ = [
    "OVERFLOW_SERVICE",
    "Accumulators",
    "Collection",
    "Series",
    "SeriesId",
    "ServiceSeries",
    "identify",
]

# The SDK's own default for one instrument.
MAX_SERIES_PER_SERVICE: Final = 2000
# Service instances at one time. Those that ended are forgotten after LINGER_NS, which is several
# scrapes, and before that where there are many: they never take a living one's place.
MAX_SERVICES: Final = 2000
MAX_ENDED: Final = 500
# Prometheus takes a series for gone after 5 minutes, so a slow scraper still sees the last value.
LINGER_NS: Final = 180 * 10**9

OVERFLOW_SERVICE: Final = Service(name="other", found_by="overflow")

_SIGNATURE_OVERFLOW: Final = 1  # DT_SIGNATURE_OVERFLOW
_OVERFLOW: Final = ((OVERFLOW_ATTRIBUTE, True),)


class SeriesId(NamedTuple):
    """What tells exported series apart."""

    service: ServiceKey
    protocol: Protocol
    role: Role
    attributes: tuple[tuple[str, str | int], ...]  # sorted by name


class Series(NamedTuple):
    id: SeriesId
    value: SeriesValue
    start_unix_ns: int


class ServiceSeries(NamedTuple):
    service: Service
    series: list[Series]


class Collection(NamedTuple):
    """Everything at one time; `services` are distinct by ServiceKey."""

    temporality: AggregationTemporality
    time_unix_ns: int
    services: list[ServiceSeries]


@dataclass(slots=True)
class _Sum:
    start_unix_ns: int
    total: SeriesValue = ZERO
    reported: SeriesValue = ZERO  # of `total`, in delta collections


@dataclass(slots=True)
class _ServiceSums:
    service: Service
    sums: dict[SeriesId, _Sum] = field(default_factory=dict)
    ended_unix_ns: int | None = None


def identify(
    service: Service,
    edge: Edge,
    operation: Operation,
    key: SeriesKey,
) -> SeriesId:
    """The series that an exchange with this key is counted in, but for the caps."""
    outcome = PROTOCOLS[key.protocol].outcome(key, edge.role)
    module = measuring_module(key.protocol, edge.role)
    attributes = (
        operation.attributes | outcome.attributes | module.edge_attributes(edge)
    )
    if edge.overflow or key.signature == _SIGNATURE_OVERFLOW:
        attributes[OVERFLOW_ATTRIBUTE] = True
    return SeriesId(
        service_key(service),
        key.protocol,
        edge.role,
        tuple(sorted(attributes.items())),
    )


class Accumulators:
    """The sums of all services. Not thread-safe: one thread feeds and collects."""

    def __init__(
        self,
        *,
        start_unix_ns: int,
        max_series_per_service: int = MAX_SERIES_PER_SERVICE,
        max_services: int = MAX_SERVICES,
        max_ended: int = MAX_ENDED,
        linger_ns: int = LINGER_NS,
    ) -> None:
        self._max_series = max_series_per_service
        self._max_services = max_services
        self._max_ended = max_ended
        self._linger_ns = linger_ns
        self._interval_unix_ns = start_unix_ns  # end of the last reading of the kernel
        self._delta_unix_ns = start_unix_ns  # end of the last delta collection
        self._services: dict[ServiceKey, _ServiceSums] = {}
        self.overflowed = 0  # exchanges counted in overflow series of ours, since start

    def add(
        self,
        service: Service,
        edge: Edge,
        operation: Operation,
        key: SeriesKey,
        delta: SeriesValue,
    ) -> None:
        """Count what was added to one kernel series since the last interval."""
        if delta == ZERO:  # the kernel adds the count first: its time may come next
            return
        series = identify(service, edge, operation, key)
        sums = self._service_sums(service)
        if sums.service is OVERFLOW_SERVICE:
            series = SeriesId(
                service_key(OVERFLOW_SERVICE), key.protocol, edge.role, _OVERFLOW
            )
            self.overflowed += delta.count
        elif series not in sums.sums and len(sums.sums) >= self._max_series:
            series = series._replace(attributes=_OVERFLOW)
            self.overflowed += delta.count
        known = sums.sums.get(series)
        if known is None:
            # What it holds was counted after the last reading: that is its start.
            known = sums.sums[series] = _Sum(self._interval_unix_ns)
        known.total = plus(known.total, delta)

    def end_interval(self, now_unix_ns: int) -> None:
        """Say that one whole reading of the kernel, made at this time, was added."""
        before_unix_ns, self._interval_unix_ns = self._interval_unix_ns, now_unix_ns
        gone: list[tuple[int, ServiceKey]] = []
        for key, sums in self._services.items():
            if sums.ended_unix_ns is not None:
                # the clock may have been set back
                sums.ended_unix_ns = min(sums.ended_unix_ns, now_unix_ns)
                gone.append((sums.ended_unix_ns, key))
        gone.sort(key=lambda one: one[0])
        excess = len(gone) - self._max_ended
        for number, (ended, key) in enumerate(gone):
            is_old = now_unix_ns - ended >= self._linger_ns
            if is_old or (number < excess and ended < before_unix_ns):
                del self._services[key]

    def forget(self, service: Service) -> None:
        """Let go of a service that ended, once every reader had time for its last values."""
        sums = self._services.get(service_key(service))
        if sums is not None:
            sums.ended_unix_ns = self._interval_unix_ns

    def collect(self, temporality: AggregationTemporality) -> Collection:
        """All sums as of the last `end_interval`; deltas begin where the last deltas ended."""
        delta = temporality is AggregationTemporality.DELTA
        services = [
            ServiceSeries(
                sums.service,
                self._deltas(sums)
                if delta
                else [
                    Series(series, known.total, known.start_unix_ns)
                    for series, known in sums.sums.items()
                ],
            )
            for sums in self._services.values()
        ]
        if delta:
            self._delta_unix_ns = self._interval_unix_ns
        return Collection(
            temporality,
            self._interval_unix_ns,
            [service for service in services if service.series],
        )

    def _deltas(self, sums: _ServiceSums) -> list[Series]:
        deltas = []
        for series, known in sums.sums.items():
            if known.total is known.reported:
                continue
            deltas.append(
                Series(series, minus(known.total, known.reported), self._delta_unix_ns)
            )
            known.reported = known.total
        return deltas

    def _service_sums(self, service: Service) -> _ServiceSums:
        key = service_key(service)
        sums = self._services.get(key)
        if sums is None:
            if len(self._services) >= self._max_services:
                service = OVERFLOW_SERVICE
                key = service_key(service)
            sums = self._services.setdefault(key, _ServiceSums(service))
        sums.ended_unix_ns = None
        if sums.service is not OVERFLOW_SERVICE:
            sums.service = service  # the same one, perhaps better known by now
        return sums
