# SPDX-License-Identifier: Apache-2.0
"""A real OpenTelemetry Collector that runs the shipped configuration.

Only what a test must change is laid over it: ports, the flush times, and files to which
everything received is written, so that a test sees what arrived as well as what was passed on.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import yaml
from tests.backends import otlp_json
from tests.backends.build import binary
from tests.backends.fetch import is_ok
from tests.backends.prometheus import Sample, samples
from tests.process import Child, free_port

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Collector", "validate"]

TRACES: Final = "collector-traces.jsonl"
METRICS: Final = "collector-metrics.jsonl"


class Ports(NamedTuple):
    grpc: int
    http: int
    prometheus: int
    service_graph: int
    health: int


def validate(config: Path) -> None:
    """AssertionError, with the Collector's own words, if it would not run this."""
    done = subprocess.run(
        [binary("collector"), "validate", "--config", config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{config.name}: {done.stderr}"


class Collector(Child):
    """One Collector on free ports, which it keeps over a restart."""

    ports: Ports
    folder: Path

    @classmethod
    def start(cls, folder: Path, shipped: Path, *, jaeger_grpc_port: int) -> Self:
        ports = Ports(*(free_port() for _ in Ports._fields))
        local = folder / "collector-local.yaml"
        local.write_text(_overlay(folder, ports, jaeger_grpc_port))
        self = cls(
            [binary("collector"), "--config", shipped, "--config", local],
            log=folder / "collector.log",
        )
        self.ports = ports
        self.folder = folder
        self._wait_ready()
        return self

    @property
    def grpc_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports.grpc}"

    @property
    def http_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    def restart(self) -> None:
        """Start it again at the same ports after its end; its files are gone on with."""
        self.respawn()
        self._wait_ready()

    def spans(self) -> list[otlp_json.Span]:
        """Give every span that arrived so far."""
        return otlp_json.spans(self.folder / TRACES)

    def points(self) -> list[otlp_json.Point]:
        """Give every metric point that arrived so far."""
        return otlp_json.points(self.folder / METRICS)

    def prometheus(self) -> list[Sample]:
        """Give what its Prometheus exporter shows of the metrics that arrived."""
        return samples(f"http://127.0.0.1:{self.ports.prometheus}/metrics")

    def service_graph(self) -> dict[tuple[str, str], int]:
        """Calls by (client, server), as its service graph counted them from spans."""
        found = samples(f"http://127.0.0.1:{self.ports.service_graph}/metrics")
        return {
            (one.labels["client"], one.labels["server"]): int(one.value)
            for one in found
            if one.name == "traces_service_graph_request_total"
        }

    def _wait_ready(self) -> None:
        url = f"http://127.0.0.1:{self.ports.health}/"
        self.wait_ready(lambda: is_ok(url), "the Collector's health")


def _overlay(folder: Path, ports: Ports, jaeger_grpc_port: int) -> str:
    """What a test changes. Lists replace those of the shipped file, maps are merged."""
    file = {"append": True, "flush_interval": "100ms"}
    return yaml.safe_dump(
        {
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {"endpoint": f"127.0.0.1:{ports.grpc}"},
                        "http": {"endpoint": f"127.0.0.1:{ports.http}"},
                    }
                }
            },
            "processors": {"batch": {"timeout": "100ms"}},
            "connectors": {
                "service_graph": {
                    "metrics_flush_interval": "500ms",
                    "store": {"ttl": "2s"},
                }
            },
            "exporters": {
                "otlp_grpc/jaeger": {"endpoint": f"127.0.0.1:{jaeger_grpc_port}"},
                "prometheus": {"endpoint": f"127.0.0.1:{ports.prometheus}"},
                "prometheus/service_graph": {
                    "endpoint": f"127.0.0.1:{ports.service_graph}"
                },
                "file/traces": {"path": str(folder / TRACES), **file},
                "file/metrics": {"path": str(folder / METRICS), **file},
            },
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{ports.health}"}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    "traces": {
                        "exporters": [
                            "otlp_grpc/jaeger",
                            "service_graph",
                            "file/traces",
                        ]
                    },
                    "metrics": {"exporters": ["prometheus", "file/metrics"]},
                },
            },
        }
    )
