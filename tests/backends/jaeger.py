# SPDX-License-Identifier: Apache-2.0
"""A real Jaeger with its storage in memory, and the questions that tests ask of its API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import yaml
from tests.backends.build import binary
from tests.backends.fetch import get_json, is_ok
from tests.process import Child, free_port

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Jaeger", "JaegerSpan"]

MARGIN_S: Final = 60
LOOKBACK_MS: Final = 3_600_000


class JaegerSpan(NamedTuple):
    """A span as Jaeger gives it; `kind` is "client", "server" or ""."""

    trace_id: str
    span_id: str
    parent_id: str  # "" for a root
    service: str
    name: str
    kind: str
    start_us: int
    duration_us: int
    tags: dict[str, Any]
    process_tags: dict[str, Any]
    links: tuple[str, ...]  # span ids it follows from, in whatever trace

    @property
    def end_us(self) -> int:
        return self.start_us + self.duration_us


class Jaeger(Child):
    """One Jaeger on free ports. End it with kill(): SIGTERM takes it ten seconds."""

    grpc_port: int
    http_port: int
    url: str

    @classmethod
    def start(cls, folder: Path, shipped: Path) -> Self:
        """Run it with the shipped configuration, on ports of its own."""
        grpc, http, query, query_grpc, health = (free_port() for _ in range(5))
        local = folder / "jaeger-ports.yaml"
        local.write_text(
            yaml.safe_dump(
                {
                    "extensions": {
                        "jaeger_query": {
                            "http": {"endpoint": f"127.0.0.1:{query}"},
                            "grpc": {"endpoint": f"127.0.0.1:{query_grpc}"},
                        },
                        "healthcheckv2": {"http": {"endpoint": f"127.0.0.1:{health}"}},
                    },
                    "receivers": {
                        "otlp": {
                            "protocols": {
                                "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
                                "http": {"endpoint": f"127.0.0.1:{http}"},
                            }
                        }
                    },
                }
            )
        )
        self = cls(
            [binary("jaeger"), "--config", shipped, "--config", local],
            log=folder / "jaeger.log",
        )
        self.grpc_port = grpc
        self.http_port = http
        self.url = f"http://127.0.0.1:{query}"
        self.wait_ready(
            lambda: is_ok(f"http://127.0.0.1:{health}/status"), "Jaeger's health"
        )
        return self

    def services(self) -> set[str]:
        return set(get_json(f"{self.url}/api/services")["data"] or ())

    def dependencies(self) -> dict[tuple[str, str], int]:
        """Calls by (caller, called), as the service map draws them.

        Jaeger also counts parents within one service; those are left out.
        """
        # Spans that end after endTs would be left out: ask for a moment to come.
        links = get_json(
            f"{self.url}/api/dependencies",
            endTs=time.time_ns() // 1_000_000 + MARGIN_S * 1000,
            lookback=LOOKBACK_MS,
        )["data"]
        return {
            (link["parent"], link["child"]): link["callCount"]
            for link in links or ()
            if link["parent"] != link["child"]
        }

    def traces(self, service: str, *, limit: int = 1500) -> list[list[JaegerSpan]]:
        """Give the traces that a service took part in, spans in order of their start."""
        now_us = time.time_ns() // 1000
        answer = get_json(
            f"{self.url}/api/traces",
            service=service,
            limit=limit,
            start=now_us - LOOKBACK_MS * 1000,
            end=now_us + MARGIN_S * 1_000_000,
        )
        return [_trace(one) for one in answer["data"] or ()]

    def trace(self, trace_id: str) -> list[JaegerSpan]:
        return _trace(get_json(f"{self.url}/api/traces/{trace_id}")["data"][0])


def _trace(one: dict[str, Any]) -> list[JaegerSpan]:
    spans = [_span(span, one["processes"]) for span in one["spans"]]
    return sorted(spans, key=lambda span: (span.start_us, -span.duration_us))


def _span(span: dict[str, Any], processes: dict[str, Any]) -> JaegerSpan:
    tags = _tags(span["tags"])
    process = processes[span["processID"]]
    parents = [
        reference["spanID"]
        for reference in span["references"]
        if reference["refType"] == "CHILD_OF"
        and reference["traceID"] == span["traceID"]
    ]
    links = tuple(
        reference["spanID"]
        for reference in span["references"]
        if reference["refType"] == "FOLLOWS_FROM"
    )
    return JaegerSpan(
        trace_id=span["traceID"],
        span_id=span["spanID"],
        parent_id=parents[0] if parents else "",
        service=process["serviceName"],
        name=span["operationName"],
        kind=tags.get("span.kind", ""),
        start_us=span["startTime"],
        duration_us=span["duration"],
        tags=tags,
        process_tags=_tags(process["tags"] or []),
        links=links,
    )


def _tags(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: pair["value"] for pair in pairs}
