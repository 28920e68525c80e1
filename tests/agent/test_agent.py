# SPDX-License-Identifier: Apache-2.0
"""The whole agent on this kernel, in this process: real programs in, OTLP and maps out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.backends.fetch import get, get_json
from tests.otlp_stub import OtlpStub, SeenSpan
from tests.process import wait_until
from tests.programs import Client, Nginx, PythonService, Redis, wrk

from deetune_otel.agent.agent import Agent
from deetune_otel.config.schema import (
    AgentSettings,
    Config,
    LimitSettings,
    OtlpSettings,
    SpanSettings,
    WebSettings,
)
from deetune_otel.web.server import WebServerError

if TYPE_CHECKING:
    from deetune_otel.topology.model import Edge, NodeDetails

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


def service(agent: Agent, name: str) -> NodeDetails | None:
    return agent.node_details(f"service:/{name}", window_s=3600)


def edge(agent: Agent, client: str, server: str) -> Edge | None:
    """Between two services."""
    id_ = f"service:/{client}→service:/{server}"
    edges = agent.service_map(window_s=3600).edges
    return next((edge for edge in edges if edge.id == id_), None)


def at_rest(agent: Agent) -> None:
    """The ledger explains everything, as soon as nothing flows while it is read."""
    wait_until(
        lambda: not any(agent.ledger().difference), "the ledger balances", timeout_s=10
    )


def visitor(folder: Path, nginx: Nginx, *paths: str, count: int) -> Client:
    """A client in a folder of its own, which tells its name itself."""
    folder.mkdir()
    env = {"OTEL_SERVICE_NAME": "visitor"}
    return Client.start(folder, nginx.port, count=count, paths=paths, env=env)


def test_counts_at_both_ends_are_the_programs_own(tmp_path: Path) -> None:
    with running() as agent, Nginx.start(tmp_path) as nginx:
        before = nginx.requests()
        # A path of its own: others may load another nginx of this host at the same time.
        url = f"{nginx.url}both-ends"
        said = wrk(url, seconds=2, connections=8, folder=tmp_path)
        answered = nginx.requests() - before
        assert said.requests > 1000

        def counts() -> tuple[int, int]:
            return (
                _called(agent, "wrk", "nginx", "GET /both-ends"),
                _served(agent, "nginx", "GET /both-ends"),
            )

        wait_until(lambda: min(counts()) >= answered, f"{answered} at both ends")
        assert counts() == (answered, answered)
        at_rest(agent)


def _called(agent: Agent, client: str, server: str, operation: str) -> int:
    id_ = f"service:/{client}→service:/{server}"
    found = agent.edge_details(id_, window_s=3600)
    operations = found.operations if found else ()
    return sum(one.calls.count for one in operations if one.name == operation)


def _served(agent: Agent, name: str, operation: str) -> int:
    found = service(agent, name)
    operations = found.operations if found else ()
    return sum(one.calls.count for one in operations if one.name == operation)


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
        ports = {one.port for one in (nginx, orders, stock, redis)}

        def spans() -> list[SeenSpan]:
            """Of the five calls of each visit, both ends."""
            return [
                one
                for one in collector.spans
                if one.attributes.get("server.port") in ports
            ]

        # Causes are told once it is known how a process waits: after a request or two.
        with visitor(tmp_path / "1", nginx, "/orders/0", count=3) as first:
            assert first.result() == {200: 3}
            wait_until(lambda: len(spans()) == 3 * 10, "all programs were met")
        del collector.spans[:]
        with visitor(tmp_path / "2", nginx, "/orders/{n}", count=5) as some:
            assert some.result() == {200: 5}
            wait_until(lambda: len(spans()) == 5 * 10, "all spans arrived")
        by_id = {span.span_id: span for span in spans()}
        paths = [_upwards(leaf, by_id) for leaf in _leaves(spans())]
        # nginx and asyncio do several things at once: nobody knows why they call.
        assert Counter(tuple(one.service for one in path) for path in paths) == {
            ("nginx", "visitor"): 5,
            ("redis-server", "threaded", "threaded", "nginx"): 5,
            ("aio", "threaded", "threaded", "nginx"): 5,
            ("redis-server", "aio"): 5,
        }
        for path in paths:
            assert len({one.trace_id for one in path}) == 1
        for _, call, server, _ in (path for path in paths if len(path) == 4):
            assert (server.kind, server.name) == (SERVER, "GET /orders/{id}")
            assert server.attributes["http.response.status_code"] == 200
            assert call.kind == CLIENT
            assert call.attributes["peer.service"] in ("aio", "redis-server")
        assert os.getpid() not in {one.local_pid for one in agent._names.owners()}
        at_rest(agent)


def _leaves(spans: list[SeenSpan]) -> list[SeenSpan]:
    """Those that are nobody's parent."""
    parents = {span.parent_id for span in spans}
    return [span for span in spans if span.span_id not in parents]


def _upwards(span: SeenSpan, by_id: dict[str, SeenSpan]) -> list[SeenSpan]:
    path = [span]
    while path[-1].parent_id:
        path.append(by_id[path[-1].parent_id])
    return path


def test_the_end_sends_all_that_was_counted(tmp_path: Path) -> None:
    with OtlpStub() as collector, Nginx.start(tmp_path) as nginx:
        with running(
            otlp=OtlpSettings(endpoint=collector.endpoint, protocol="http/protobuf"),
            agent=AgentSettings(interval_s=3600),
        ) as agent:
            with visitor(
                tmp_path / "v", nginx, "/at-the-end/{n}", "/missing", count=7
            ) as one:
                assert one.result() == {200: 7, 404: 7}
            assert collector.metrics == []
            at_rest(agent)
        counts = collector.counts("http.server.request.duration")
        assert counts["nginx", "/at-the-end/{id}"] == 7
        spans = [s for s in collector.spans if s.service == "visitor"]
        assert len(spans) == 14
        assert agent.ledger().counted.exchanges >= 28
        agent.stop()  # again does nothing


def test_a_process_that_ended_leaves_its_counts(tmp_path: Path) -> None:
    with running() as agent, Nginx.start(tmp_path) as nginx:
        with visitor(tmp_path / "v", nginx, "/x", count=3) as one:
            one.result()
            pid = one.pid
            wait_until(lambda: _knows(agent, pid), "the client has an owner")
        wait_until(lambda: not _knows(agent, pid), "it is forgotten", timeout_s=20)
        found = edge(agent, "visitor", "nginx")
        assert found is not None
        assert [calls.total for calls in found.calls] == [3]
        seen = service(agent, "visitor")
        assert seen is not None
        assert seen.node.instances == ()


def _knows(agent: Agent, pid: int) -> bool:
    agent.service_map(window_s=60)
    return any(owner.local_pid == pid for owner in agent._names.owners())


def test_over_its_memory_it_gives_up_spans_and_says_so() -> None:
    with OtlpStub() as collector:
        otlp = OtlpSettings(endpoint=collector.endpoint, protocol="http/protobuf")
        with running(otlp=otlp, limits=LimitSettings(memory_mb=64)) as agent:
            ballast = bytearray(b"x") * (64 << 20)
            wait_until(lambda: agent.status()["shedding"] == ["spans"], "it sheds")
            del ballast


def test_metrics_and_status_are_served(tmp_path: Path) -> None:
    with running(web=WebSettings(port=0)) as agent, Nginx.start(tmp_path) as nginx:
        with visitor(tmp_path / "v", nginx, "/served", count=4) as one:
            one.result()

            def counted() -> float:
                return sum(
                    float(line.rpartition(" ")[2])
                    for line in get(f"{agent.url}/metrics").splitlines()
                    if line.startswith("http_server_request_duration_seconds_count")
                    and 'job="nginx"' in line
                    and 'http_route="/served"' in line
                )

            wait_until(lambda: counted() == 4, "the count is in /metrics")
        status = get_json(f"{agent.url}/status")
        assert status["ledger"]["seen"]["exchanges"] >= 8
        assert status["unexpected_errors"] == {}
        assert status["maps"]["owners"]["used"] >= 2
        assert get_json(f"{agent.url}/healthz") == {"status": "ok"}
        with pytest.raises(WebServerError, match="port"):
            Agent(
                Config(web=WebSettings(port=int(agent.url.rpartition(":")[2])))
            ).start()
