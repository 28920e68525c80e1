# SPDX-License-Identifier: Apache-2.0
"""Prometheus text from any endpoint as samples, and a real Prometheus that scrapes some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.backends.build import binary
from tests.backends.fetch import get, get_json, is_ok
from tests.process import Child, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Prometheus", "Sample", "samples", "total"]


class Sample(NamedTuple):
    """One line of a Prometheus page."""

    name: str
    labels: dict[str, str]
    value: float


def samples(url: str) -> list[Sample]:
    """Read a metrics page; ValueError if it is not valid Prometheus text."""
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(get(url))
        for sample in family.samples
    ]


def total(found: Iterable[Sample], name: str, **labels: str) -> float:
    """Sum the samples of that name that carry all of these labels."""
    return sum(
        sample.value
        for sample in found
        if sample.name == name and labels.items() <= sample.labels.items()
    )


class Prometheus(Child):
    """One Prometheus on a free port, with its data in the test's folder."""

    url: str

    @classmethod
    def start(
        cls, folder: Path, targets: Mapping[str, int], *, rules: Path | None = None
    ) -> Self:
        """Scrape /metrics on these ports of loopback, by job name, twice a second.

        `rules` are evaluated as often.
        """
        port = free_port()
        config = folder / "prometheus.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {
                        "scrape_interval": "500ms",
                        "scrape_timeout": "500ms",
                        "evaluation_interval": "500ms",
                    },
                    "rule_files": [str(rules)] if rules else [],
                    "scrape_configs": [
                        {
                            "job_name": job,
                            "honor_labels": True,
                            "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
                        }
                        for job, target in targets.items()
                    ],
                }
            )
        )
        self = cls(
            [
                binary("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            log=folder / "prometheus.log",
        )
        self.url = f"http://127.0.0.1:{port}"
        self.wait_ready(lambda: is_ok(f"{self.url}/-/ready"), "Prometheus's readiness")
        return self

    def query(self, promql: str) -> list[Sample]:
        """Evaluate PromQL now; the samples of the resulting vector."""
        answer: Any = get_json(f"{self.url}/api/v1/query", query=promql)
        return [
            Sample(
                one["metric"].get("__name__", ""), one["metric"], float(one["value"][1])
            )
            for one in answer["data"]["result"]
        ]

    def query_value(self, promql: str) -> float | None:
        """Evaluate PromQL that gives one number; None when it gives nothing."""
        found = self.query(promql)
        assert len(found) <= 1, found
        return found[0].value if found else None
