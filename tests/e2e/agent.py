# SPDX-License-Identifier: Apache-2.0
"""The agent as users run it, and the questions that tests ask of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import yaml
from tests.backends.fetch import get_json, is_ok
from tests.backends.prometheus import Sample, samples
from tests.process import Child, free_port, wait_for_equal
from tests.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.backends.otlp_json import Point

__all__ = [
    "Agent",
    "Call",
    "calls_in_points",
    "calls_on_page",
    "loaded_programs",
    "programs_held_by",
]

# Metric names in OTLP; Prometheus's are derived.
DURATIONS = {
    "http.server.request.duration": "server",
    "http.client.request.duration": "client",
    "db.server.operation.duration": "server",
    "db.client.operation.duration": "client",
}


class Call(NamedTuple):
    """What two counts of the same calls must agree on."""

    role: str
    port: int  # the server's
    outcome: str  # HTTP status or Redis command; with "!" and the error when it failed


class Agent(Child):
    """One `deetune run`, with a configuration file in the test's folder."""

    url: str

    @classmethod
    def start(
        cls,
        folder: Path,
        settings: Mapping[str, Mapping[str, Any]],
        *,
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """`settings` by section go into the file, over a short interval and a free port."""
        port = free_port()
        sections: dict[str, dict[str, Any]] = {
            "agent": {"interval_s": 0.5},
            "web": {"port": port},
        }
        for section, values in settings.items():
            sections.setdefault(section, {}).update(values)
        file = folder / "deetune.yaml"
        file.write_text(yaml.safe_dump(sections))
        self = cls(
            [sys.executable, "-m", "deetune_otel", "run", "--config", file],
            log=folder / "agent.log",
            env=env,
        )
        self.url = f"http://127.0.0.1:{port}"
        self.wait_ready(lambda: is_ok(f"{self.url}/status"), "the agent runs")
        return self

    def status(self) -> Any:
        return get_json(f"{self.url}/status")

    def metrics(self) -> list[Sample]:
        return samples(f"{self.url}/metrics")

    def calls(self, ports: Iterable[int]) -> Counter[Call]:
        """Count the calls to these servers by what the agent's own page shows."""
        return calls_on_page(self.metrics(), ports)

    def wait_for_calls(self, expected: Mapping[Call, int]) -> None:
        """Wait until the counts to the expected calls' ports are exactly these."""
        ports = {call.port for call in expected}

        def counted() -> Counter[Call]:
            self.check_alive()
            return self.calls(ports)

        wait_for_equal(counted, Counter(expected), "the agent has counted every call")

    def wait_for_balance(self) -> None:
        """Wait until the ledger explains every exchange and byte.

        Its lines are read one after the other, so a machine with traffic shows a passing
        difference; what was lost for good would stay.
        """
        wait_for_equal(
            lambda: self.status()["ledger"]["difference"],
            {"exchanges": 0, "bytes": 0},
            "the ledger balances",
            timeout_s=10,
        )


def calls_on_page(page: Iterable[Sample], ports: Iterable[int]) -> Counter[Call]:
    """Count the calls to these servers on a Prometheus page, ours or the Collector's."""
    wanted = {str(port) for port in ports}
    names = {
        name.replace(".", "_") + "_seconds_count": role
        for name, role in DURATIONS.items()
    }
    counts: Counter[Call] = Counter()
    for sample in page:
        if sample.name in names and sample.labels.get("server_port") in wanted:
            labels = {key.replace("_", "."): v for key, v in sample.labels.items()}
            # Label names lose the difference between "." and "_".
            labels["http.response.status_code"] = labels.get(
                "http.response.status.code", ""
            )
            counts[_call(names[sample.name], labels)] += int(sample.value)
    return +counts


def calls_in_points(points: Iterable[Point], ports: Iterable[int]) -> Counter[Call]:
    """Count the calls to these servers from what arrived by OTLP, by either temporality."""
    wanted = set(ports)
    latest: dict[str, int] = {}
    calls: dict[str, Call] = {}
    for point in points:
        if point.name in DURATIONS and point.attributes.get("server.port") in wanted:
            assert sum(point.buckets) == point.value, point
            series = json.dumps(
                [point.resource, point.name, point.attributes], sort_keys=True
            )
            earlier = latest.get(series, 0) if point.temporality == "delta" else 0
            latest[series] = earlier + int(point.value)
            calls[series] = _call(DURATIONS[point.name], point.attributes)
    counts: Counter[Call] = Counter()
    for series, count in latest.items():
        counts[calls[series]] += count
    return +counts


def _call(role: str, attributes: Mapping[str, Any]) -> Call:
    outcome = attributes.get("http.response.status_code") or attributes.get(
        "db.operation.name", ""
    )
    error = attributes.get("error.type", "")
    if error and str(outcome) != error:
        outcome = f"{outcome}!{error}"
    return Call(role, int(attributes["server.port"]), str(outcome))


def programs_held_by(pid: int) -> set[int]:
    """Give the ids of the BPF programs that a process holds a descriptor of."""
    held = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            for line in info.read_text().splitlines():
                key, _, value = line.partition(":")
                if key == "prog_id":
                    held.add(int(value))
    return held


def loaded_programs() -> dict[int, str]:
    """Give the names of all BPF programs in the kernel by id."""
    done = subprocess.run(
        [program("bpftool", "bpftool"), "-j", "prog", "show"],
        capture_output=True,
        check=True,
    )
    return {one["id"]: one.get("name", "") for one in json.loads(done.stdout)}
