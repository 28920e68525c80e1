# SPDX-License-Identifier: Apache-2.0
"""OTLP by the official exporters: which one, and with what.

A setting decides; where it is null, the signal's own OTEL_EXPORTER_OTLP_TRACES_* or _METRICS_*
variable does, then OTEL_EXPORTER_OTLP_*, then the specification's default. All of it is resolved
here, before anything is sent, and given to the exporters explicitly, because they differ from
the specification and from each other: they warn of a bad value and go on, take the timeout in
seconds, do not know the protocol variable, refuse compression "none" over gRPC and use a client
certificate there only beside a private authority.

The exporters themselves are imported when they are chosen: HTTP costs 10 MB, gRPC 25 MB.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, cast
from urllib.parse import unquote, urlsplit

from deetune_otel.config import ConfigError, Problem
from deetune_otel.config.hosts import is_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from deetune_otel.config.schema import OtlpSettings
    from deetune_otel.export.queue import Exporter

__all__ = [
    "OtlpSettingsError",
    "OtlpTarget",
    "Signal",
    "left_out",
    "metric_exporter",
    "named_exporters",
    "resolve",
    "span_exporter",
    "temporality",
]

DEFAULT_TIMEOUT_S: Final = 10.0
# A value below is surely meant in seconds, as the Python SDK reads the variable.
LEAST_TIMEOUT_MS: Final = 100.0
DEFAULT_ENDPOINTS: Final = {
    "http/protobuf": "http://localhost:4318",
    "grpc": "http://localhost:4317",
}
COMPRESSIONS: Final = {
    "http/protobuf": ("none", "gzip", "deflate"),
    "grpc": ("none", "gzip"),
}
TEMPORALITIES: Final = ("cumulative", "delta", "lowmemory")
EXPORTERS: Final = {
    "http/protobuf": "deetune_otel.export.otlp_http",
    "grpc": "deetune_otel.export.otlp_grpc",
}
# Which port the other protocol usually has.
OTHERS_PORT: Final = {"http/protobuf": 4317, "grpc": 4318}

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")

_log = logging.getLogger(__name__)


class OtlpSettingsError(ConfigError):
    """A value cannot be used; the message begins with the setting or variable it came from."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__([Problem(where, "", message)])


class Signal(StrEnum):
    TRACES = "traces"
    METRICS = "metrics"


# Of OTEL_*_EXPORTER: the specification's ("General SDK Configuration"), but for zipkin, which is
# deprecated. /metrics is there whatever they say: it sends nothing.
NAMED_EXPORTERS: Final = {
    Signal.TRACES: ("otlp", "console", "none"),
    Signal.METRICS: ("otlp", "prometheus", "console", "none"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpTarget:
    """Where one signal goes and how: nothing is left open."""

    signal: Signal
    protocol: str  # a key of EXPORTERS
    endpoint: str = field(repr=False)  # HTTP: whole URL; gRPC: host and port
    shown_endpoint: str  # without user and password
    headers: dict[str, str] = field(repr=False)  # names in lower case
    timeout_s: float
    compression: str
    insecure: bool
    certificate: str | None
    client_certificate: str | None
    client_key: str | None
    origin: dict[str, str]  # field → the setting or variable that decided, if one did

    @property
    def advice(self) -> str:
        """What a person can do when nothing answers."""
        if urlsplit(self.shown_endpoint).port == OTHERS_PORT[self.protocol]:
            other = "grpc" if self.protocol == "http/protobuf" else "http/protobuf"
            return (
                f"Port {OTHERS_PORT[self.protocol]} usually speaks {other}, this is"
                f" {self.protocol}: set otlp.protocol or the port"
            )
        return (
            "Is an OpenTelemetry Collector listening there?"
            " The address is set by otlp.endpoint or OTEL_EXPORTER_OTLP_ENDPOINT"
        )


class _Builder(Protocol):
    def span_exporter(self, target: OtlpTarget, /) -> Exporter[ReadableSpan]: ...
    def metric_exporter(self, target: OtlpTarget, /) -> Exporter[MetricsData]: ...


def span_exporter(target: OtlpTarget) -> Exporter[ReadableSpan]:
    """Raises OtlpSettingsError, where the official exporter does not like its environment."""
    with _its_own_refusals(target):
        return _builder(target).span_exporter(target)


def metric_exporter(target: OtlpTarget) -> Exporter[MetricsData]:
    """Likewise."""
    with _its_own_refusals(target):
        return _builder(target).metric_exporter(target)


@contextmanager
def _its_own_refusals(target: OtlpTarget) -> Iterator[None]:
    """It reads some variables though it is given all: a timeout that is no number ends it."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        raise OtlpSettingsError(
            f"OTEL_EXPORTER_OTLP_{target.signal.upper()}_*",
            f"the exporter ({target.protocol}) does not take them: {error}",
        ) from error


def _builder(target: OtlpTarget) -> _Builder:
    if target.protocol == "grpc":
        # Read once, when it is imported: its core tells standard error of each disconnect.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    return cast("_Builder", importlib.import_module(EXPORTERS[target.protocol]))


def named_exporters(signal: Signal, environ: Mapping[str, str]) -> frozenset[str]:
    """Those of OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER; empty where it says nothing.

    Raises OtlpSettingsError for a name that the specification does not know, or we do not have.
    """
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    listed = (one.strip().lower() for one in environ.get(variable, "").split(","))
    names = frozenset(one for one in listed if one)
    known = NAMED_EXPORTERS[signal]
    for name in sorted(names.difference(known)):
        raise OtlpSettingsError(variable, f"{name!r} is none of {', '.join(known)}")
    if "none" in names and len(names) > 1:
        raise OtlpSettingsError(variable, "'none' stands beside another exporter")
    return names


def left_out(settings: OtlpSettings, environ: Mapping[str, str]) -> dict[Signal, str]:
    """What does not go over OTLP, and why. Raises OtlpSettingsError as `named_exporters`."""
    named = {signal: named_exporters(signal, environ) for signal in Signal}
    if settings.enabled is False:
        return dict.fromkeys(Signal, "otlp.enabled is false")
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return dict.fromkeys(Signal, "OTEL_SDK_DISABLED=true")
    found: dict[Signal, str] = {}
    for signal, names in named.items():
        if names and "otlp" not in names:
            variable = f"OTEL_{signal.upper()}_EXPORTER"
            found[signal] = f"{variable}={environ[variable].strip()}"
        elif not names and not settings.is_on(environ):
            found[signal] = (
                "no endpoint is known (otlp.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT)"
            )
    return found


def resolve(
    settings: OtlpSettings, signal: Signal, environ: Mapping[str, str]
) -> OtlpTarget:
    """Raises OtlpSettingsError for what cannot work whatever the backend does."""
    look = _Lookup(settings, signal, environ)
    protocol = look.choice("protocol", "PROTOCOL", tuple(EXPORTERS)) or _usual_protocol(
        look.text("endpoint", "ENDPOINT") or ""
    )
    url = _endpoint(look, protocol)
    is_http = protocol == "http/protobuf"
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if user and not is_http:
        look.fail("endpoint", "a gRPC endpoint has no user: use headers")
    tls = look.files(protocol)
    return OtlpTarget(
        signal=signal,
        protocol=protocol,
        endpoint=url if is_http else host,
        shown_endpoint=parts._replace(netloc=host).geturl(),
        headers=look.headers(),
        timeout_s=look.timeout_s(),
        compression=look.choice("compression", "COMPRESSION", COMPRESSIONS[protocol])
        or "none",
        insecure=parts.scheme == "http" or (not parts.scheme and look.insecure()),
        certificate=tls.get("certificate"),
        client_certificate=tls.get("client_certificate"),
        client_key=tls.get("client_key"),
        origin=look.origin,
    )


def temporality(settings: OtlpSettings, environ: Mapping[str, str]) -> str:
    """One of TEMPORALITIES."""
    look = _Lookup(settings, Signal.METRICS, environ)
    variable = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    wanted = environ.get(variable, "").strip().lower()
    if wanted not in ("", "explicit_bucket_histogram"):
        _log.warning(
            "%s=%s has no effect: the kernel counts into the conventions' buckets",
            variable,
            wanted,
        )
    preference = look.choice("temporality", "TEMPORALITY_PREFERENCE", TEMPORALITIES)
    return preference or "cumulative"


def _usual_protocol(endpoint: str) -> str:
    """HTTP, but for the port that is registered for gRPC: nothing else answers there."""
    is_grpc = endpoint.removesuffix("/").endswith(f":{OTHERS_PORT['http/protobuf']}")
    return "grpc" if is_grpc else "http/protobuf"


def _endpoint(look: _Lookup, protocol: str) -> str:
    """A URL with a host; over HTTP with the signal's path."""
    value = look.text("endpoint", "ENDPOINT") or DEFAULT_ENDPOINTS[protocol]
    has_scheme = "://" in value
    if not has_scheme and protocol == "http/protobuf":
        look.fail("endpoint", f"{value!r} must begin with http:// or https://")
    try:
        parts = urlsplit(value if has_scheme else f"//{value}")
        port, host = parts.port, parts.hostname
    except ValueError as error:
        look.fail("endpoint", f"{value!r} is no URL: {error}")
    if has_scheme and parts.scheme not in ("http", "https"):
        look.fail("endpoint", f"{value!r} must begin with http:// or https://")
    if not host or port == 0:
        look.fail("endpoint", f"{value!r} names no host to connect to")
    if not is_host(host):
        look.fail(
            "endpoint", f"{value!r}: {host!r} is no address and no name of a host"
        )
    if parts.fragment:
        look.fail("endpoint", f"{value!r} has a #, and nothing behind it is ever sent")
    if protocol == "grpc":
        if parts.path not in ("", "/") or parts.query:
            look.fail(
                "endpoint",
                f"{value!r} has a path, which gRPC has not; is protocol http/protobuf meant?",
            )
        return parts._replace(path="").geturl()
    if look.is_for_one_signal("endpoint"):
        return value
    path = f"{parts.path.removesuffix('/')}/v1/{look.signal}"
    return parts._replace(path=path).geturl()


class _Lookup:
    """Finds values by precedence, and remembers where each came from."""

    def __init__(
        self, settings: OtlpSettings, signal: Signal, environ: Mapping[str, str]
    ) -> None:
        self.signal = signal
        self.origin: dict[str, str] = {}
        self._settings = settings
        self._environ = environ

    def text(self, name: str, suffix: str) -> str | None:
        """The setting, else the variables; an empty variable is not set."""
        value = getattr(self._settings, name)
        if value is not None:
            self.origin[name] = f"otlp.{name}"
            return str(value)
        return self._variable(name, suffix)

    def _variable(self, name: str, suffix: str) -> str | None:
        for variable in (
            f"OTEL_EXPORTER_OTLP_{self.signal.upper()}_{suffix}",
            f"OTEL_EXPORTER_OTLP_{suffix}",
        ):
            value = self._environ.get(variable, "").strip()
            if value:
                self.origin[name] = variable
                return value
        return None

    def is_for_one_signal(self, name: str) -> bool:
        variable = f"OTEL_EXPORTER_OTLP_{self.signal.upper()}_"
        return self.origin.get(name, "").startswith(variable)

    def fail(self, name: str, message: str) -> NoReturn:
        raise OtlpSettingsError(self.origin.get(name, f"otlp.{name}"), message)

    def choice(self, name: str, suffix: str, of: tuple[str, ...]) -> str | None:
        value = self.text(name, suffix)
        if value is None:
            return None
        if value.lower() not in of:
            self.fail(name, f"must be {_either(of)}, got {value!r}")
        return value.lower()

    def timeout_s(self) -> float:
        if self._settings.timeout_s is not None:
            self.origin["timeout_s"] = "otlp.timeout_s"
            return self._settings.timeout_s
        value = self._variable("timeout_s", "TIMEOUT")
        if value is None:
            return DEFAULT_TIMEOUT_S
        try:
            milliseconds = float(value)
        except ValueError:
            milliseconds = 0.0
        if not 0 < milliseconds < float("inf"):
            self.fail("timeout_s", f"must be milliseconds above 0, got {value!r}")
        if milliseconds < LEAST_TIMEOUT_MS:
            _log.warning(
                "%s=%s is in milliseconds: hardly anything answers as fast; for %s s write %s000",
                self.origin["timeout_s"],
                value,
                value,
                value,
            )
        return milliseconds / 1000

    def insecure(self) -> bool:
        value = self.text("insecure", "INSECURE")
        if value is not None and value.lower() not in ("true", "false"):
            self.fail("insecure", f"must be true or false, got {value!r}")
        return value is not None and value.lower() == "true"

    def headers(self) -> dict[str, str]:
        """The variables' headers, overlaid by the setting's. Values are never printed."""
        headers: dict[str, str] = {}
        listed = self._variable("headers", "HEADERS") or ""
        for pair in filter(None, (part.strip() for part in listed.split(","))):
            name, equals, value = pair.partition("=")
            if not equals:
                self.fail("headers", "must be name=value pairs, joined by commas")
            headers[unquote(name).strip().lower()] = unquote(value).strip()
        for name, value in (self._settings.headers or {}).items():
            self.origin["headers"] = "otlp.headers"
            headers[name.strip().lower()] = value
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                self.fail("headers", f"{name!r} is no name of a header")
            if not _HEADER_VALUE.fullmatch(value):
                self.fail("headers", f"the value of {name!r} must be printable ASCII")
        return headers

    def files(self, protocol: str) -> dict[str, str]:
        """The TLS files, each opened once to see that it is what it should be."""
        found = {
            name: value
            for name, suffix in (
                ("certificate", "CERTIFICATE"),
                ("client_certificate", "CLIENT_CERTIFICATE"),
                ("client_key", "CLIENT_KEY"),
            )
            if (value := self.text(name, suffix)) is not None
        }
        if not found:
            return found
        context = ssl.create_default_context()
        if "certificate" in found:
            self._try(
                "certificate", context.load_verify_locations, found["certificate"]
            )
        if "client_key" in found and "client_certificate" not in found:
            self.fail("client_key", "is of no use without a client certificate")
        if "client_certificate" in found:
            if "client_key" not in found and protocol == "grpc":
                self.fail("client_certificate", "needs a client key over gRPC")
            # A password given in advance: OpenSSL asks the terminal for one otherwise.
            load = partial(context.load_cert_chain, password="")
            self._try(
                "client_certificate",
                load,
                *filter(None, (found["client_certificate"], found.get("client_key"))),
            )
        return found

    def _try(self, name: str, load: Callable[..., None], *files: str) -> None:
        try:
            load(*files)
        except ssl.SSLError:
            self.fail(name, f"{' and '.join(files)}: not usable as PEM for TLS")
        except OSError as error:
            self.fail(name, f"{' and '.join(files)}: {error.strerror}")


def _either(of: tuple[str, ...]) -> str:
    return f"{', '.join(of[:-1])} or {of[-1]}"
