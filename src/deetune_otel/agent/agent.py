# SPDX-License-Identifier: Apache-2.0
"""The wiring: kernel → names → counts, spans, the service map → queues, /metrics, /status, the page.

Three threads beside the exporters' and the web server's. One polls the ring: it names processes
while they live and turns kept exchanges into spans. One reads the counts every interval and
exports them. Whoever asks for a map or for metrics in between reads anew, if the last reading
is older than half a second.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import ExitStack
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

import psutil
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.resources import OTELResourceDetector

from deetune_otel import __version__
from deetune_otel.agent import status
from deetune_otel.agent.count_reader import CountReader
from deetune_otel.agent.exporters import Exporters
from deetune_otel.agent.map_service import MapService, zone_of
from deetune_otel.agent.process_registry import ProcessRegistry
from deetune_otel.agent.reaper import Reaper
from deetune_otel.agent.reporting import Reporter, Sums
from deetune_otel.agent.span_builder import SpanBuilder
from deetune_otel.agent.span_limits import SpanLimiter
from deetune_otel.config.http_path import segment_hash
from deetune_otel.export.otlp import left_out
from deetune_otel.identity.process import ProcessReader
from deetune_otel.identity.resolver import Resolver, read_host_id
from deetune_otel.identity.usage import Usage
from deetune_otel.kernel import Kernel, KernelSettings
from deetune_otel.kernel.recording import MOST_RULES, RecordingRules
from deetune_otel.model import (
    BlindBytes,
    DnsAnswer,
    Exchange,
    NewOwner,
    OperationSample,
    Owner,
    Role,
    Service,
)
from deetune_otel.netlink.namespaces import current
from deetune_otel.protocols.routes import Routes
from deetune_otel.recorder.recorder import Recorder
from deetune_otel.recording.codecs import CODECS
from deetune_otel.recording.selection import SampleBy
from deetune_otel.signals.agent import AgentReading
from deetune_otel.signals.exemplars import Exemplars
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.signals.traces import TraceResolver
from deetune_otel.topology.graph import Graph
from deetune_otel.topology.zones import Zones
from deetune_otel.web.api import MapSources
from deetune_otel.web.server import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.metrics.export import MetricsData

    from deetune_otel.config import Config
    from deetune_otel.kernel.records import Record
    from deetune_otel.model import Ledger
    from deetune_otel.recorder.recorder import Plan, Sink
    from deetune_otel.redaction.redactor import Redactor
    from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap

__all__ = ["Agent", "kernel_settings"]

# A reading of this age is fresh: who asks again gets the same one.
FRESH_S: Final = 0.5
# Idle cost against the age of a span; new processes and operations wake the poll at once.
POLL_MS: Final = 200
# Exporters may take this long at the end: a supervisor that waits 5 s sees a clean exit.
FLUSH_S: Final = 3.0
# Above the bound there are spans at this rate alone; below this share of it, all again.
SHEDDING_SPANS: Final = 1
RESUME_AT: Final = 0.9
# Of each service where no backend takes spans: the map shows failed and slow exchanges.
EXAMPLE_SPANS: Final = 5
# Longest bodies that come faster than they are read, and memory for them at the most.
BODIES_AT_ONCE: Final = 6
MOST_RING: Final = 256 << 20
OWN_NAME: Final = "deetune"
# New processes, as a part of the bound, after which the next reading does not wait.
CROWDED_PART: Final = 8
# Programs whose blind bytes are told apart.
MAX_BLIND: Final = 256

_log = logging.getLogger(__name__)


class Agent:
    """From `start` to `stop`; everything else may be called from any thread in between.

    After `stop`, the map and `ledger` are those of the end.
    """

    def __init__(
        self, config: Config, environ: Mapping[str, str] | None = None
    ) -> None:
        self._config = config
        self._environ = os.environ if environ is None else environ
        self._stopping = Event()
        self._reading = Lock()  # one reading of the kernel's counts at a time
        self._taking = Lock()  # what was polled is taken before anybody else polls
        self._shedding = False
        self._met = 0  # processes since the last reading
        self._errors: dict[str, int] = {}  # unexpected ones, by thread
        self._blind: dict[str, list[int]] = {}  # bytes sent and received, by program
        self._threads: list[Thread] = []
        self._last_ledger: Ledger | None = None
        self._process = psutil.Process()

    def start(self) -> None:
        """Load, attach and run.

        Raises KernelUnavailable, ConfigError (of what OTLP cannot do) or WebServerError; nothing
        stays behind then.
        """
        with ExitStack() as stack:
            self._start_unix_ns, self._start_s = time.time_ns(), time.monotonic()
            self._exporters = Exporters(self._config, self._environ)
            stack.callback(self._exporters.close, 0.0)
            self._kernel_settings = kernel_settings(
                self._config, spans_per_second=self._spans_per_second
            )
            self._kernel = Kernel.open(self._kernel_settings)
            stack.callback(self._kernel.close)
            self._wire()
            stack.callback(self._map_service.close)
            self._time_unix_ns = self._counting.read(spans_per_second=0)
            self._read_at_s = time.monotonic()
            self._web = self._open_web()
            stack.pop_all()
        for name, loop in (("poll", self._poll), ("read", self._read)):
            thread = Thread(target=self._guarded, args=(name, loop), name=name)
            thread.start()
            self._threads.append(thread)
        self._say_what_is_done()

    def stop(self) -> None:
        """Detach, count the rest, flush the exporters (3 s at most); again does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._web is not None:
            self._web.close()
        for thread in self._threads:
            thread.join()
        self._kernel.detach()
        # At once: of a connection that ends from now on nobody tells what was open.
        last_ledger = self._kernel.read_ledger()
        self._hear()
        self._exporters.put_spans(self._tracing.flush())
        with self._reading:
            self._read_counts(is_last=True)
            self._last_ledger = last_ledger
        self._export()
        self._map_service.close()
        self._kernel.close()
        self._exporters.close(FLUSH_S)
        _log.info(
            "stopped; exchanges seen: %d, counted: %d; spans made: %d",
            last_ledger.seen.exchanges,
            last_ledger.counted.exchanges,
            self._tracing.made,
        )

    @property
    def url(self) -> str:
        """Of the page, /metrics and /status; "" where they are not served."""
        return self._web.url if self._web else ""

    def service_map(self, *, window_s: float, with_pairs: bool = False) -> ServiceMap:
        """At most half a second old; `with_pairs` tells other agents our connections."""
        self._refresh()
        return self._map_service.service_map(
            window_s=window_s,
            now_unix_ns=self._time_unix_ns,
            with_pairs=with_pairs,
            ledger=self.ledger(),
            url=self.url,
        )

    def edge_details(self, edge_id: str, *, window_s: float) -> EdgeDetails | None:
        """None where the map of this window has no such edge."""
        self._refresh()
        return self._map_service.graph.edge_details(
            edge_id, window_s=window_s, now_unix_ns=self._time_unix_ns
        )

    def node_details(self, node_id: str, *, window_s: float) -> NodeDetails | None:
        self._refresh()
        return self._map_service.graph.node_details(
            node_id, window_s=window_s, now_unix_ns=self._time_unix_ns
        )

    def ledger(self) -> Ledger:
        """Balances when no traffic flows."""
        return self._last_ledger or self._kernel.read_ledger()

    def understood(self) -> list[tuple[Owner, Service]]:
        """Processes of which it is known whether their calls can be tied to what they answer."""
        return [
            (one, self._identity.service(one))
            for one in self._names.owners()
            if self._kernel.is_understood(one.id)
        ]

    def record(
        self,
        plan: Plan,
        *,
        redactor: Redactor | None,
        sink: Sink,
        free_bytes: Callable[[], int],
    ) -> Recorder:
        """Begin a recording; its caller runs it. One at a time: RuntimeError."""
        self._names.refresh()
        selection, sampling = plan.selection, plan.sampling
        rules = RecordingRules(
            roles=frozenset(Role(one) for one in selection.directions)
            or frozenset({Role.CLIENT, Role.SERVER}),
            protocols=selection.protocols or frozenset(CODECS),
            with_raw=plan.with_raw,
            ports=selection.ports if len(selection.ports) <= MOST_RULES else (),
            peers=selection.peers if len(selection.peers) <= MOST_RULES else (),
            keep_fraction=sampling.fraction
            if sampling.by is SampleBy.CONNECTION
            else 1.0,
            body_limit=plan.body_limit,
            ring_bytes=_ring_bytes(plan.body_limit),
        )
        sees_all = (
            not (selection.directions or selection.protocols)
            and not (rules.ports or rules.peers)
            and rules.keep_fraction >= 1
        )
        return Recorder(
            plan,
            kernel=self._kernel.record(rules),
            people=self._names,
            read_cause=self._kernel.read_cause,
            polls=self._kernel.polls,
            read_protocols=lambda: self._names.by_protocol(self._kernel.read_series()),
            redactor=redactor,
            sink=sink,
            free_bytes=free_bytes,
            sees_all=sees_all,
        )

    def metrics(self) -> MetricsData:
        """Cumulative, for /metrics; not for two callers at once."""
        self._refresh()
        return self._scraped.build(self._own_reading(), self._processes())

    def health(self) -> list[str]:
        """What keeps the agent from observing; empty when all is well."""
        problems = [
            f"the {thread.name} thread has ended"
            for thread in self._threads
            if not thread.is_alive()
        ]
        age_s = time.monotonic() - self._read_at_s
        if age_s > 3 * self._config.agent.interval_s + FRESH_S:
            problems.append(f"the last reading of the kernel is {age_s:.0f} s old")
        return problems

    def status(self) -> dict[str, Any]:
        """What was lost, what it costs, how full everything is: plain values."""
        self._refresh()
        ledger, tracing = self.ledger(), self._tracing
        uptime_s = time.monotonic() - self._start_s
        return {
            "version": __version__,
            "uptime_s": round(uptime_s, 3),
            **status.tried(self._kernel.tried),
            "left_out": {"pid": os.getpid(), "why": "the agent's own process"},
            "ledger": status.ledger(ledger),
            "cost": status.cost(
                self._kernel.cost(),
                cpu_time_ns=time.process_time_ns(),
                memory_bytes=self._process.memory_info().rss,
            ),
            "shedding": ["spans"] if self._shedding else [],
            "spans": {
                "per_second_and_service": self._config.spans.per_second,
                "made": tracing.made,
                "over_budget": ledger.noted["spans_budget"].exchanges,
                "ring_full": ledger.noted["spans_ring_full"].exchanges,
                "without_edge": tracing.without_edge,
                "decided_early": tracing.released_early,
                "ambiguous_causes": tracing.ambiguous_causes,
            },
            "export": status.exports(self._exporters.report()),
            "names": {
                "processes": len(self._names.owners()),
                "operations": self._names.operations(),
                "waiting_for_a_name": self._counting.unnamed,
            },
            "maps": status.maps(
                self._kernel_settings,
                series=self._counting.series,
                edges=len(self._names.edges()),
                owners=len(self._names.owners()),
            ),
            "blind_bytes": {
                program: {"sent": sent, "received": received}
                for program, (sent, received) in sorted(self._blind.items())
            },
            "unexpected_errors": dict(self._errors),
        }

    def _wire(self) -> None:
        config, kernel = self._config, self._kernel
        reader, host_name = ProcessReader(), socket.gethostname()
        self._identity = Resolver(
            config.services.rules,
            host_name=host_name,
            host_id=read_host_id(),
            reader=reader,
        )
        self._names = ProcessRegistry(
            kernel,
            service_of=self._identity.service,
            routes=Routes(config.routes.patterns, config.routes.max_per_service),
        )
        self._sums = Sums(
            accumulators=Accumulators(start_unix_ns=self._start_unix_ns),
            exemplars=Exemplars(),
            resources=Resources(__version__),
            lock=Lock(),
        )
        own = _own_service(host_name)
        graph = Graph(
            host=host_name,
            version=__version__,
            start_unix_ns=self._start_unix_ns,
            zone=zone_of(config.topology, own.attributes),
            zones=Zones(config.topology.zones),
            wall_clock_offset_ns=time.time_ns() - time.monotonic_ns(),
            own_netns=current(),
        )
        self._map_service = MapService(
            config.topology,
            kernel=kernel,
            names=self._names,
            graph=graph,
            interval_s=config.agent.interval_s,
        )
        self._steering = SpanLimiter(kernel)
        self._counting = CountReader(
            kernel,
            names=self._names,
            sums=self._sums,
            graph=graph,
            joining=self._map_service.joining,
            identity=self._identity,
            reaper=Reaper(lambda owner: reader.local_pid(owner) is not None),
            steering=self._steering,
            hear=self._hear,
        )
        own_addresses = _addresses()
        self._tracing = SpanBuilder(
            names=self._names,
            resolver=TraceResolver(
                is_local=lambda address: (
                    address in own_addresses or address in self._names.local_addresses
                ),
                read_cause=kernel.read_cause,
                hold_ns=int(config.spans.hold_s * 1e9),
            ),
            sums=self._sums,
            graph=graph,
            trace_url=config.web.trace_url or "",
        )
        self._exported, self._scraped = (
            Reporter(
                self._sums,
                temporality,
                own=own,
                edge_totals=graph.edges_total,
                usage=Usage(reader=reader) if config.resources.enabled else None,
            )
            for temporality in (
                self._exporters.temporality,
                AggregationTemporality.CUMULATIVE,
            )
        )

    def _open_web(self) -> WebServer | None:
        if not self._config.web.enabled:
            return None
        return WebServer(
            self._config.web,
            metrics=self.metrics,
            status=self.status,
            health=self.health,
            of_map=MapSources(
                service_map=lambda window_s, with_pairs: self.service_map(
                    window_s=window_s, with_pairs=with_pairs
                ),
                edge_details=lambda id_, window_s: self.edge_details(
                    id_, window_s=window_s
                ),
                node_details=lambda id_, window_s: self.node_details(
                    id_, window_s=window_s
                ),
            ),
        )

    @property
    def _spans_per_second(self) -> int:
        """Of each service."""
        if not self._config.spans.enabled:
            return 0
        wanted = self._config.spans.per_second
        return wanted if self._exporters.take_spans else min(wanted, EXAMPLE_SPANS)

    def _guarded(self, name: str, loop: Callable[[], None]) -> None:
        """An unexpected error costs one round, is counted, and is logged once a kind."""
        said: set[str] = set()
        while not self._stopping.is_set():
            try:
                loop()
            except Exception as error:  # noqa: BLE001 - observing goes on
                self._errors[name] = self._errors.get(name, 0) + 1
                kind = f"{type(error).__name__}: {error}"
                if kind not in said and len(said) < 100:
                    said.add(kind)
                    _log.exception("the %s thread goes on after an error", name)
                self._stopping.wait(FRESH_S)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            with self._taking:
                self._take(self._kernel.poll(POLL_MS))
            if self._met >= self._config.kernel.max_owners // CROWDED_PART:
                self._refresh()  # those of them that ended make room
            if spans := self._tracing.release():
                self._exporters.put_spans(spans)

    def _hear(self) -> None:
        with self._taking:
            while records := self._kernel.poll(0):
                self._take(records)

    def _take(self, records: list[Record]) -> None:
        exchanges = []
        for record in records:
            match record:
                case Exchange():
                    exchanges.append(record)
                case OperationSample():
                    self._names.learn(record)
                case NewOwner():
                    self._met += 1
                    self._identity.hear(record)
                    self._names.meet(record.owner)
                case BlindBytes():
                    self._note_blind(record)
                case DnsAnswer():
                    self._map_service.joining.learn(record)
        self._tracing.take(exchanges)

    def _note_blind(self, record: BlindBytes) -> None:
        program = self._names.program(record.owner_id)
        if program not in self._blind and len(self._blind) >= MAX_BLIND:
            program = "other"
        total = self._blind.setdefault(program, [0, 0])
        total[0] += record.sent_bytes
        total[1] += record.received_bytes

    def _read(self) -> None:
        interval_s = self._config.agent.interval_s
        due_s = time.monotonic() + interval_s
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + interval_s, time.monotonic())
            self._refresh()
            self._mind_memory()
            self._export()

    def _refresh(self) -> None:
        with self._reading:
            age_s = time.monotonic() - self._read_at_s
            if age_s >= FRESH_S and not self._stopping.is_set():
                self._read_counts()

    def _read_counts(self, *, is_last: bool = False) -> None:
        spans, self._met = self._spans_per_second, 0
        self._time_unix_ns = self._counting.read(
            spans_per_second=min(spans, SHEDDING_SPANS) if self._shedding else spans,
            is_last=is_last,
        )
        self._read_at_s = time.monotonic()

    def _export(self) -> None:
        if self._exporters.take_metrics:
            self._exporters.put_metrics(
                self._exported.build(self._own_reading(), self._processes())
            )

    def _processes(self) -> list[tuple[Owner, Service]]:
        return [(one, self._identity.service(one)) for one in self._names.owners()]

    def _own_reading(self) -> AgentReading:
        costs = {} if self._last_ledger else self._kernel.cost()
        dropped: dict[str, int] = {}
        for outlet in self._exporters.report():
            lost = sum(outlet.stats.dropped.values())
            dropped[outlet.signal] = dropped.get(outlet.signal, 0) + lost
        return AgentReading(
            start_unix_ns=self._start_unix_ns,
            time_unix_ns=self._time_unix_ns,
            ledger=self.ledger(),
            rung=int(self._kernel.tried.rung),
            dropped=dropped,
            spans=self._tracing.made,
            ambiguous_causes=self._tracing.ambiguous_causes,
            spans_released_early=self._tracing.released_early,
            overflowed=self._sums.accumulators.overflowed,
            cpu_time_ns=time.process_time_ns(),
            memory_bytes=self._process.memory_info().rss,
            program_runs={name: one.runs for name, one in costs.items() if one.runs},
            program_time_ns={
                name: one.run_time_ns for name, one in costs.items() if one.runs
            },
        )

    def _mind_memory(self) -> None:
        """Above its bound the agent gives up spans, all but errors' and few of those."""
        recording = self._config.recording
        flight_mb = recording.flight_mb if recording.flight else 0
        limit = (self._config.limits.memory_mb + flight_mb) << 20
        used = self._process.memory_info().rss
        if not self._shedding and used > limit:
            self._shedding = True
            _log.warning(
                "memory is %d MiB, over limits.memory_mb: hardly any spans until it is less",
                used >> 20,
            )
        elif self._shedding and used < limit * RESUME_AT:
            self._shedding = False
            _log.info("memory is %d MiB: spans as before", used >> 20)

    def _say_what_is_done(self) -> None:
        tried = self._kernel.tried
        _log.info(
            "observing all processes but the agent's own; rung: %d, pid left out: %d",
            tried.rung,
            os.getpid(),
        )
        for one in tried.passed_over:
            _log.info("rung %d is not taken: %s", one.rung, one.refusal)
        for one in tried.refused:
            _log.warning("%s. %s", one.refusal, one.part.lost)
        for outlet in self._exporters.report():
            _log.info("sending %s to %s", outlet.signal, outlet.endpoint)
        for signal, why in left_out(self._config.otlp, self._environ).items():
            _log.info("sending no %s over OTLP: %s", signal, why)
        if self._web is not None:
            _log.info("the service map is at %s/", self._web.url)


def _ring_bytes(body_limit: int) -> int:
    """Of a recording: a few of the longest bodies at once, and 32 MiB at least."""
    wanted = min(max(BODIES_AT_ONCE * body_limit, 1), MOST_RING)
    return max(RecordingRules().ring_bytes, 1 << (wanted - 1).bit_length())


def kernel_settings(config: Config, *, spans_per_second: int) -> KernelSettings:
    """What a configuration asks of the kernel side."""
    kernel = config.kernel
    return KernelSettings(
        observe_unix=kernel.observe_unix,
        observe_own=kernel.observe_own,
        observe_udp=kernel.observe_udp,
        netns=current() if kernel.network_namespaces == "own" else 0,
        slow_ns=int(config.spans.slow_s * 1e9),
        spans_per_second=spans_per_second,
        kept_segments=tuple(map(segment_hash, config.routes.kept_segments)),
        operations_per_owner=kernel.operations_per_service,
        max_owners=kernel.max_owners,
        max_edges=kernel.max_edges,
        max_series=kernel.max_series,
        max_connections=kernel.max_connections,
        ring_bytes=kernel.ring_bytes,
    )


def _own_service(host_name: str) -> Service:
    """Who we are; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES of our own environment count."""
    given = {
        key: value
        for key, value in OTELResourceDetector().detect().attributes.items()
        if isinstance(value, str | int)
    }
    return Service(
        name=str(given.pop("service.name", OWN_NAME)),
        namespace=str(given.pop("service.namespace", "")),
        instance_id=str(given.pop("service.instance.id", f"{host_name}:{os.getpid()}")),
        attributes={"host.name": host_name, "process.pid": os.getpid(), **given},
        found_by="agent",
    )


def _addresses() -> frozenset[str]:
    """This host's own, in the agent's network namespace, at the start."""
    return frozenset(
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
    )
