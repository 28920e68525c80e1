# SPDX-License-Identifier: Apache-2.0
"""The whole agent on this kernel, in this process: real programs in, OTLP and pictures out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.backends.fetch import get, get_json
from tests.otlp_stub import OtlpStub, SeenSpan
from tests.process import wait_until
from tests.programs import Client, Nginx, PythonService, Redis, wrk

from deetune_otel.config.schema import (
    AgentSettings,
    Config,
    OtlpSettings,
    SpanSettings,
    WebSettings,
)
from deetune_otel.model import Role
from deetune_otel.pipeline import Agent
from deetune_otel.web.server import WebServerError

if TYPE_CHECKING:
    from deetune_otel.topology.snapshot import EdgeView, ServiceView

pytestmark = pytest.mark.kernel

SERVER, CLIENT = 2, 3


@contextmanager
def running(**sections: Any) -> Iterator[Agent]:
    sections.setdefault("web", WebSettings(enabled=False))
    sections.setdefault("agent", AgentSettings(interval_s=1))
    agent = Agent(Config(**sections), environ={})
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def service(agent: Agent, name: str) -> ServiceView | None:
    return next((one for one in agent.snapshot().services if one.name == name), None)


def edge(agent: Agent, client: str, server: str) -> EdgeView | None:
    edges = agent.snapshot().edges
    return next((e for e in edges if (e.client, e.server) == (client, server)), None)


def at_rest(agent: Agent) -> None:
    """The ledger explains everything, as soon as nothing flows while it is read."""
    wait_until(
        lambda: not any(agent.ledger().difference), "the ledger balances", timeout_s=10
    )


def test_counts_at_both_ends_are_the_programs_own(tmp_path: Path) -> None:
    with running() as agent, Nginx.start(tmp_path) as nginx:
        before = nginx.requests()
        said = wrk(nginx.url, seconds=2, connections=8, folder=tmp_path)
        answered = nginx.requests() - before
        assert said.requests > 1000

        def seen() -> EdgeView | None:
            found = edge(agent, "wrk", "nginx")
            return found if found and found.total.count >= answered else None

        found = wait_until(seen, f"{answered} requests at wrk's end")
        assert found is not None
        assert found.total.count == answered
        assert found.server_total is not None
        assert found.server_total.count == answered
        served = service(agent, "nginx")
        assert served is not None
        counts = {
            one.name: one.total.count
            for one in served.operations
            if one.role is Role.SERVER
        }
        assert counts["GET /"] >= answered  # nginx was asked for its own count, too
        assert set(counts) == {"GET /"}
        at_rest(agent)


def test_a_call_tree_is_one_trace(tmp_path: Path) -> None:
    with (
        OtlpStub() as collector,
        running(
            otlp=OtlpSettings(endpoint=collector.endpoint, protocol="http/protobuf"),
            spans=SpanSettings(hold_s=0.5),
        ) as agent,
        Redis.start(tmp_path) as redis,
        PythonService.start(tmp_path, "aio.py", redis.port) as stock,
        PythonService.start(tmp_path, "threaded.py", stock.port, redis.port) as orders,
        Nginx.start(tmp_path, workers=1, upstreams={"/orders/": orders.port}) as nginx,
    ):
        # Causes are followed from a process's second request on, when it is known what runs.
        with Client.start(tmp_path, nginx.port, count=1, paths=["/orders/0"]) as first:
            assert first.result() == {200: 1}
            wait_until(lambda: _of_orders(collector, 1), "all programs were met")
        del collector.spans[:]
        second = tmp_path / "second"
        second.mkdir()
        with Client.start(second, nginx.port, count=5, paths=["/orders/{n}"]) as some:
            assert some.result() == {200: 5}
            spans = wait_until(lambda: _of_orders(collector, 5), "all spans arrived")
        by_id = {span.span_id: span for span in spans}
        leaves = [
            span
            for span in spans
            if (span.service, span.name, span.kind) == ("redis-server", "GET", SERVER)
        ]
        for leaf in leaves:
            assert [one.service for one in _upwards(leaf, by_id)] == [
                *("redis-server", "aio", "aio", "threaded", "threaded"),
                *("nginx", "nginx", "client"),
            ]
            assert len({one.trace_id for one in _upwards(leaf, by_id)}) == 1
        server = next(s for s in spans if s.service == "threaded" and s.kind == SERVER)
        assert server.name == "GET /orders/{id}"
        assert server.attributes["http.response.status_code"] == 200
        calls = {
            span.attributes.get("peer.service")
            for span in spans
            if span.service == "threaded" and span.kind == CLIENT
        }
        assert calls == {"aio", "redis-server"}
        at_rest(agent)


def _of_orders(collector: OtlpStub, count: int) -> list[SeenSpan]:
    """All spans, once the deepest ones are there, of both ends."""
    reads = [s for s in collector.spans if s.name == "GET" and "redis" in s.service]
    roots = [s for s in collector.spans if s.service == "client"]
    return collector.spans if len(reads) >= count and len(roots) >= count else []


def _upwards(span: SeenSpan, by_id: dict[str, SeenSpan]) -> list[SeenSpan]:
    path = [span]
    while path[-1].parent_id:
        path.append(by_id[path[-1].parent_id])
    return path


def test_the_end_sends_all_that_was_counted(tmp_path: Path) -> None:
    with OtlpStub() as collector, Nginx.start(tmp_path) as nginx:
        otlp = OtlpSettings(endpoint=collector.endpoint, protocol="http/protobuf")
        with running(otlp=otlp, agent=AgentSettings(interval_s=3600)) as agent:
            with Client.start(
                tmp_path, nginx.port, count=7, paths=["/a/{n}", "/missing"]
            ) as client:
                assert client.result() == {200: 7, 404: 7}
            assert collector.metrics == []
        counts = collector.counts("http.server.request.duration")
        assert counts["nginx", "/a/{id}"] == 7
        assert counts["nginx", "/missing"] == 7
        assert counts == {
            (of, route): count
            for (of, route), count in counts.items()
            if (of, route) != ("nginx", "")
        }
        errors = [s for s in collector.spans if s.service == "client" and s.kind == 3]
        assert len(errors) == 14
        assert not any(agent.ledger().difference)
        agent.stop()  # again does nothing


def test_a_process_that_ended_leaves_its_counts(tmp_path: Path) -> None:
    with running() as agent, Nginx.start(tmp_path) as nginx:
        with Client.start(tmp_path, nginx.port, count=3, paths=["/x"]) as client:
            client.result()
            pid = client.pid
            wait_until(lambda: _knows(agent, pid), "the client has an owner")
        wait_until(lambda: not _knows(agent, pid), "it is forgotten", timeout_s=20)
        found = edge(agent, "client", "nginx")
        assert found is not None
        assert found.total.count == 3
        seen = service(agent, "client")
        assert seen is not None
        assert seen.instances == 0


def _knows(agent: Agent, pid: int) -> bool:
    agent.snapshot()
    return any(owner.process.pid == pid for owner in agent._names.owners())


def test_metrics_and_status_are_served(tmp_path: Path) -> None:
    with running(web=WebSettings(port=0)) as agent, Nginx.start(tmp_path) as nginx:
        with Client.start(tmp_path, nginx.port, count=4, paths=["/y"]) as client:
            client.result()

            def counted() -> list[str]:
                return [
                    line
                    for line in get(f"{agent.url}/metrics").splitlines()
                    if line.startswith("http_server_request_duration_seconds_count")
                    and 'job="nginx"' in line
                    and 'http_route="/y"' in line
                ]

            lines = wait_until(counted, "the count is in /metrics")
            assert sum(float(line.rpartition(" ")[2]) for line in lines) == 4
        status = get_json(f"{agent.url}/status")
        assert status["ledger"]["seen"]["exchanges"] >= 8
        assert status["unexpected_errors"] == {}
        assert status["maps"]["owners"]["used"] >= 2
        assert get_json(f"{agent.url}/healthz") == {"status": "ok"}
        with pytest.raises(WebServerError, match="port"):
            Agent(
                Config(web=WebSettings(port=int(agent.url.rpartition(":")[2])))
            ).start()
