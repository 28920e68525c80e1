# SPDX-License-Identifier: Apache-2.0
"""Every setting: its name, type, default, range, and the sentence that explains it.

This is the only list. The YAML keys, the environment variables (`DEETUNE_<SECTION>_<KEY>`), the
reference file `config/deetune.yaml` and the strict loader are all derived from these dataclasses.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple

from deetune_otel.config.hosts import is_host, wrong_with_url
from deetune_otel.config.routes import RoutePattern, kept_segments

__all__ = [
    "About",
    "AgentSettings",
    "Config",
    "ConsoleSettings",
    "KernelSettings",
    "LimitSettings",
    "OtlpSettings",
    "RecordingSettings",
    "ResourceSettings",
    "RouteSettings",
    "ServiceMatch",
    "ServiceRule",
    "ServiceSettings",
    "Setting",
    "SettingError",
    "SpanSettings",
    "TopologySettings",
    "WebSettings",
    "about_field",
    "complaint",
    "settings",
]

STANDARD_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
# sun_path of struct sockaddr_un, less the zero at its end.
SOCKET_PATH_BYTES: Final = 107


class SettingError(ValueError):
    """A value of the right type that cannot be used; `key` is the setting within its section."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a setting beside its type and its default."""

    sentence: str
    least: float | None = None
    most: float | None = None
    standard: str = ""  # the OTEL_* variable that decides when the setting is null
    secret: bool = False  # never printed

    @property
    def range(self) -> str:
        """ "from 1 to 65535", or "" where any value will do."""
        if self.least is None or self.most is None:
            return ""
        return f"from {self.least:g} to {self.most:.12g}"


def about(
    sentence: str,
    *,
    least: float | None = None,
    most: float | None = None,
    standard: str = "",
    secret: bool = False,
) -> dict[str, About]:
    """Metadata of a dataclass field."""
    return {
        "about": About(
            sentence=sentence, least=least, most=most, standard=standard, secret=secret
        )
    }


def about_field(of: Field[Any]) -> About:
    known: About = of.metadata["about"]
    return known


def complaint(of: Field[Any], value: object) -> str:
    """What is wrong with a value's size, or "" when it is within the setting's range."""
    known = about_field(of)
    if known.least is None or known.most is None or value is None:
        return ""
    if isinstance(value, int | float) and known.least <= value <= known.most:
        return ""
    return f"must be {known.range}, got {value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Checks the ranges, so that a configuration made in code is as sound as one from a file."""

    def __post_init__(self) -> None:
        for one in fields(self):
            wrong = complaint(one, getattr(self, one.name))
            if wrong:
                raise SettingError(one.name, wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings(Section):
    """The agent as a whole."""

    interval_s: float = field(
        default=10.0,
        metadata=about(
            "Seconds between two readings of the kernel's counts, and so between two exports of metrics.",
            least=0.1,
            most=3600,
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info",
        metadata=about(
            "How much the agent says of itself on standard error: debug, info, warning or error."
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings(Section):
    """What the BPF programs observe, and the sizes of their maps."""

    observe_unix: bool = field(
        default=True,
        metadata=about(
            "Whether calls over Unix stream sockets are observed beside those over TCP."
        ),
    )
    observe_udp: bool = field(
        default=True,
        metadata=about(
            "Whether UDP flows are observed, and DNS look-ups with the names that they gave to addresses."
        ),
    )
    observe_own: bool = field(
        default=False,
        metadata=about(
            "Whether calls of the agent's own endpoint are observed: a scraper's, a browser's, those of deetune's commands on this host."
        ),
    )
    network_namespaces: Literal["all", "own"] = field(
        default="all",
        metadata=about(
            "Whether the programs of all network namespaces are observed (all: a host with its containers) or only those of the agent's own."
        ),
    )
    max_series: int = field(
        default=16384,
        metadata=about(
            "Series (peer, operation and outcome of a process) that are counted apart. A process may have a quarter of what is left; what it does beyond that is counted by peer and protocol, operations together.",
            least=64,
            most=1 << 20,
        ),
    )
    max_edges: int = field(
        default=4096,
        metadata=about(
            "Pairs of process and peer that are told apart. A process may have a quarter of what is left; its further peers are counted together, in its own name.",
            least=16,
            most=1 << 18,
        ),
    )
    max_owners: int = field(
        default=1024,
        metadata=about(
            "Processes with socket traffic that are told apart at one time.",
            least=16,
            most=1 << 16,
        ),
    )
    max_connections: int = field(
        default=1 << 16,
        metadata=about(
            "Open connection ends that are told apart: so many over TCP, and so many over Unix sockets.",
            least=1024,
            most=1 << 22,
        ),
    )
    ring_bytes: int = field(
        default=1 << 20,
        metadata=about(
            "Size of the ring that brings kept exchanges to user space, in bytes: a power of two.",
            least=1 << 16,
            most=1 << 28,
        ),
    )
    operations_per_service: int = field(
        default=200,
        metadata=about(
            "Distinct operations that one process may have; further ones are counted together as overflow.",
            least=1,
            most=1 << 16,
        ),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.ring_bytes & (self.ring_bytes - 1):
            below = 1 << (self.ring_bytes.bit_length() - 1)
            raise SettingError(
                "ring_bytes",
                f"must be a power of two, got {self.ring_bytes}; near it: {below} or {below * 2}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanSettings(Section):
    """Which exchanges become spans. Metrics are exact whatever stands here."""

    enabled: bool = field(
        default=True, metadata=about("Whether spans are made at all.")
    )
    per_second: int = field(
        default=100,
        metadata=about(
            "Spans a second that each service may have, divided among its processes; errors and slow exchanges come first, the rest is chosen alike at both ends of a call.",
            least=0,
            most=100_000,
        ),
    )
    slow_s: float = field(
        default=1.0,
        metadata=about(
            "Seconds from which on an exchange counts as slow and is preferred for a span.",
            least=0.001,
            most=3600,
        ),
    )
    hold_s: float = field(
        default=1.0,
        metadata=about(
            "Seconds that a span waits for the exchange that caused it, so that both end up in one trace.",
            least=0,
            most=60,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMatch(Section):
    """Which processes a rule is for: all that is given must match; text is a shell pattern."""

    exe: str | None = field(
        default=None,
        metadata=about("Path of the executable: `/usr/sbin/nginx`, `*/java`."),
    )
    command: str | None = field(
        default=None,
        metadata=about("The whole command line, words joined by one space."),
    )
    cgroup: str | None = field(
        default=None, metadata=about("Path of the control group: `*/shop-*.service`.")
    )
    port: int | None = field(
        default=None,
        metadata=about("A port that the process listens on.", least=1, most=65535),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if all(getattr(self, one.name) is None for one in fields(self)):
            raise SettingError(
                "", "names nothing to match: give exe, command, cgroup or port"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRule(Section):
    """A name for the processes that match."""

    match: ServiceMatch = field(metadata=about("Which processes."))
    name: str = field(metadata=about("Becomes `service.name`."))
    namespace: str = field(default="", metadata=about("Becomes `service.namespace`."))

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if not self.name:
            raise SettingError("name", "must not be empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings(Section):
    """What processes are called, where their own environment and their container do not say it."""

    rules: tuple[ServiceRule, ...] = field(
        default=(),
        metadata=about(
            "Names for processes; the first rule that matches wins, before anything the agent would find by itself: `[{match: {exe: '*/nginx', port: 80}, name: edge, namespace: shop}]`."
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings(Section):
    """How HTTP paths become route names of few values."""

    patterns: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Known routes such as `/users/{id}/orders`, `/@{user}/*` or `/{file}.json`; tried in order, before the heuristic that replaces what looks like an identifier."
        ),
    )
    max_per_service: int = field(
        default=100,
        metadata=about(
            "Distinct routes that one service may have; further ones are called `/*`.",
            least=1,
            most=10_000,
        ),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        parsed = []
        for index, pattern in enumerate(self.patterns):
            try:
                parsed.append(RoutePattern.parse(pattern))
            except ValueError as error:
                raise SettingError(f"patterns[{index}]", str(error)) from None
        try:
            kept_segments(parsed)
        except ValueError as error:
            raise SettingError("patterns", str(error)) from None

    @property
    def kept_segments(self) -> frozenset[str]:
        """Segments of a path that look like identifiers and are names."""
        return kept_segments(map(RoutePattern.parse, self.patterns))


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpSettings(Section):
    """Where telemetry goes. What is null is left to the standard OTEL_* variables."""

    enabled: bool | None = field(
        default=None,
        metadata=about(
            "Whether telemetry is sent over OTLP; null: it is when an endpoint is known, from here or from the standard variables."
        ),
    )
    protocol: Literal["grpc", "http/protobuf"] | None = field(
        default=None,
        metadata=about(
            "grpc or http/protobuf.", standard="OTEL_EXPORTER_OTLP_PROTOCOL"
        ),
    )
    endpoint: str | None = field(
        default=None,
        metadata=about(
            "URL of the Collector: `http://127.0.0.1:4317` (gRPC), `http://127.0.0.1:4318` (HTTP, where `/v1/traces` and `/v1/metrics` are added).",
            standard="OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    )
    headers: dict[str, str] | None = field(
        default=None,
        metadata=about(
            "Sent with every request; `deetune check` shows their names only.",
            standard="OTEL_EXPORTER_OTLP_HEADERS",
            secret=True,
        ),
    )
    timeout_s: float | None = field(
        default=None,
        metadata=about(
            "Seconds that one request may take.",
            least=0.1,
            most=600,
            standard="OTEL_EXPORTER_OTLP_TIMEOUT",
        ),
    )
    compression: Literal["none", "gzip"] | None = field(
        default=None,
        metadata=about("none or gzip.", standard="OTEL_EXPORTER_OTLP_COMPRESSION"),
    )
    certificate: str | None = field(
        default=None,
        metadata=about(
            "File with the authorities (PEM) that may have signed the Collector's certificate.",
            standard="OTEL_EXPORTER_OTLP_CERTIFICATE",
        ),
    )
    client_certificate: str | None = field(
        default=None,
        metadata=about(
            "File with the agent's own certificate (PEM), for mutual TLS.",
            standard="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ),
    )
    client_key: str | None = field(
        default=None,
        metadata=about(
            "File with the key of the agent's own certificate (PEM).",
            standard="OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ),
    )
    insecure: bool | None = field(
        default=None,
        metadata=about(
            "gRPC without TLS where the endpoint has no scheme that says so.",
            standard="OTEL_EXPORTER_OTLP_INSECURE",
        ),
    )
    temporality: Literal["cumulative", "delta", "lowmemory"] | None = field(
        default=None,
        metadata=about(
            "Whether counts run since the start (cumulative) or since the last export (delta, lowmemory).",
            standard="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        ),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.client_certificate is not None and self.client_key is None:
            raise SettingError("client_key", "is missing beside client_certificate")
        if self.client_key is not None and self.client_certificate is None:
            raise SettingError("client_certificate", "is missing beside client_key")

    def is_on(self, environ: Mapping[str, str]) -> bool:
        """Whether OTLP is exported, given the process's environment."""
        if self.enabled is not None:
            return self.enabled
        return bool(self.endpoint or any(environ.get(k) for k in STANDARD_ENDPOINTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings(Section):
    """Telemetry on standard output, for a look without a backend."""

    enabled: bool = field(
        default=False,
        metadata=about("Whether spans and metrics are printed on standard output."),
    )
    format: Literal["text", "json"] = field(
        default="text",
        metadata=about("text (a line each) or json (OTLP's own JSON, a line each)."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings(Section):
    """The agent's own HTTP endpoint: the service map, /metrics, /healthz, /status."""

    enabled: bool = field(
        default=True, metadata=about("Whether the endpoint is served.")
    )
    host: str = field(
        default="127.0.0.1",
        metadata=about(
            "Address that it listens on; it knows no login, so let it stay on loopback."
        ),
    )
    port: int = field(
        default=8127,
        metadata=about("Port; 0 takes any that is free.", least=0, most=65535),
    )
    trace_url: str | None = field(
        default=None,
        metadata=about(
            "Where the map's links open a trace, with `{trace_id}` in it: `http://127.0.0.1:16686/trace/{trace_id}` (Jaeger); null: no links."
        ),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if not is_host(self.host):
            raise SettingError(
                "host",
                f"{self.host!r} is no address of a host and no name: write 127.0.0.1, ::1, "
                "0.0.0.0; the port is web.port",
            )
        if self.trace_url is not None and "{trace_id}" not in self.trace_url:
            raise SettingError("trace_url", "has no {trace_id} in it")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySettings(Section):
    """What the service map knows beyond what it sees."""

    zone: str | None = field(
        default=None,
        metadata=about(
            "Availability zone of this host; null: `cloud.availability_zone` of OTEL_RESOURCE_ATTRIBUTES, if it is there."
        ),
    )
    zones: dict[str, str] = field(
        default_factory=dict,
        metadata=about(
            "Zone by network, for peers: `10.1.0.0/16: eu-1a`; the longest prefix decides."
        ),
    )
    names: dict[str, str] = field(
        default_factory=dict,
        metadata=about(
            "Name by address or `address:port`, for peers without an agent; wins over what DNS said."
        ),
    )
    conntrack: bool = field(
        default=True,
        metadata=about(
            "Whether the kernel's connection tracking is asked what is behind a translated address."
        ),
    )
    peers: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "URLs of other hosts' agents (`http://10.0.0.7:8127`), asked every interval which service is at the other end of a connection."
        ),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        for network in self.zones:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise SettingError(
                    "zones", f"{network!r} is no network such as 10.1.0.0/16"
                ) from None
        for index, url in enumerate(self.peers):
            wrong = wrong_with_url(url)
            if wrong:
                raise SettingError(
                    f"peers[{index}]", f"{url!r} is no URL of an agent: {wrong}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings(Section):
    """CPU, memory, I/O of the observed processes and containers."""

    enabled: bool = field(
        default=True,
        metadata=about("Whether process.* and container.* metrics are reported."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings(Section):
    """What a running agent records when it is told to, and its flight recorder."""

    socket: str | None = field(
        default="/run/deetune/control.sock",
        metadata=about(
            "Unix socket by which `deetune record --attach` finds the agent, for its owner alone; null: none."
        ),
    )
    flight: bool = field(
        default=False,
        metadata=about(
            "Whether the flight recorder runs: the last minutes of traffic in memory, redacted, written when something happens."
        ),
    )
    flight_services: tuple[str, ...] = field(
        default=(),
        metadata=about("Patterns of the services that it records; empty: all."),
    )
    flight_s: float = field(
        default=120.0,
        metadata=about("Seconds that it remembers.", least=1, most=3600),
    )
    flight_mb: int = field(
        default=64,
        metadata=about(
            "Memory for them in MiB, beside limits.memory_mb; the oldest exchanges go first.",
            least=1,
            most=16384,
        ),
    )
    flight_folder: str = field(
        default="/var/lib/deetune/flights",
        metadata=about("Where it writes."),
    )
    flight_on_error: bool = field(
        default=True,
        metadata=about(
            "Whether it is written when an exchange fails: 5xx, an error of Redis, no answer."
        ),
    )
    flight_slow_s: float = field(
        default=0.0,
        metadata=about(
            "It is written when an exchange takes so many seconds; 0: never for that.",
            least=0,
            most=3600,
        ),
    )
    flight_after_s: float = field(
        default=5.0,
        metadata=about(
            "Seconds that it goes on before it is written, so that what followed is in it.",
            least=0,
            most=600,
        ),
    )
    flight_pause_s: float = field(
        default=60.0,
        metadata=about(
            "Seconds between two files, unless one is asked for.", least=1, most=86400
        ),
    )
    flight_files: int = field(
        default=20,
        metadata=about("Files that are kept, the newest ones.", least=1, most=10000),
    )
    flight_redaction: str | None = field(
        default=None,
        metadata=about("File with redaction rules of your own (docs/redaction.md)."),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        size = len(os.fsencode(self.socket or ""))
        if size > SOCKET_PATH_BYTES:
            raise SettingError(
                "socket",
                f"a socket's path has at most {SOCKET_PATH_BYTES} bytes, this one {size}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings(Section):
    """What the agent itself may use."""

    memory_mb: int = field(
        default=256,
        metadata=about(
            "Resident memory, in MiB, above which the agent sheds load and says so: spans first.",
            least=64,
            most=65536,
        ),
    )
    span_queue: int = field(
        default=4096,
        metadata=about(
            "Spans that wait for a slow or unreachable backend; over it the oldest are dropped and counted.",
            least=1,
            most=1_000_000,
        ),
    )
    metric_queue: int = field(
        default=6,
        metadata=about(
            "Metric exports (one an interval) that wait for a slow or unreachable backend; over it the oldest are dropped and counted.",
            least=1,
            most=1000,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All sections, in the order of the reference file."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    kernel: KernelSettings = field(default_factory=KernelSettings)
    spans: SpanSettings = field(default_factory=SpanSettings)
    services: ServiceSettings = field(default_factory=ServiceSettings)
    routes: RouteSettings = field(default_factory=RouteSettings)
    otlp: OtlpSettings = field(default_factory=OtlpSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    web: WebSettings = field(default_factory=WebSettings)
    topology: TopologySettings = field(default_factory=TopologySettings)
    resources: ResourceSettings = field(default_factory=ResourceSettings)
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)


class Setting(NamedTuple):
    """One leaf of the configuration."""

    section: str
    key: str
    default: object
    about: About

    @property
    def path(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        return f"DEETUNE_{self.section}_{self.key}".upper()


def settings() -> Iterator[Setting]:
    """All settings, section by section."""
    default = Config()
    for section in fields(Config):
        of = getattr(default, section.name)
        for key in fields(of):
            yield Setting(
                section.name, key.name, getattr(of, key.name), about_field(key)
            )
