# SPDX-License-Identifier: Apache-2.0
"""The agent as users run it, and a Collector's place on loopback that takes what it sends."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.error import HTTPError

import psutil
from tests.e2e.agent import Agent
from tests.process import Child

from bench.plan import INTERVAL_S
from bench.workloads import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["SINKS", "Observer", "ProgramTime", "observing", "recording"]

# clock_gettime's number for a process's CPU time (linux/posix-timers.h): ~pid, then CPUCLOCK_SCHED.
_CPU_CLOCK: Final = 2


class ProgramTime(NamedTuple):
    """Of the programs that run in the observed processes' own system calls."""

    runs: int
    time_ns: int


class Observer:
    """A running `deetune run`."""

    def __init__(self, agent: Agent, start_s: float) -> None:
        self._agent = agent
        self.start_s = start_s  # until /status answers

    def cpu_s(self) -> float:
        """CPU time of its process until now, in user and kernel mode."""
        return time.clock_gettime((~self._agent.pid << 3) | _CPU_CLOCK)

    def memory_bytes(self) -> int:
        """Resident now."""
        return int(psutil.Process(self._agent.pid).memory_info().rss)

    def status(self) -> Any:
        """Raises BenchError with what the agent said, if it has no answer."""
        try:
            return self._agent.status()
        except HTTPError as error:
            said = error.read().decode(errors="replace")
            raise BenchError(
                f"/status: {error}\n{said}{self._agent.log_text()}"
            ) from error

    def program_times(self) -> dict[str, ProgramTime]:
        """Without those that the agent itself runs when it reads."""
        return {
            name: ProgramTime(one["runs"], one["time_ns"])
            for name, one in self.status()["cost"]["programs"].items()
            if not name.startswith(("dt_iter", "dt_read", "dt_sweep"))
        }


@contextmanager
def observing(folder: Path, protocol: str) -> Iterator[Observer]:
    """The agent with its defaults, but for the interval and where it sends."""
    with SINKS[protocol]() as endpoint:
        before_s = time.monotonic()
        agent = Agent.start(
            folder,
            {
                "agent": {"interval_s": INTERVAL_S},
                "otlp": {"endpoint": endpoint, "protocol": protocol},
            },
        )
        with agent:
            yield Observer(agent, time.monotonic() - before_s)
            agent.stop()


@contextmanager
def recording(folder: Path, words: list[str]) -> Iterator[None]:
    """`deetune record` with its defaults: redacted, into a file that is thrown away."""
    log = folder / "recorder.log"
    log.unlink(missing_ok=True)  # what an earlier one said is not this one's word
    recorder = Child(
        [
            *(sys.executable, "-m", "deetune_otel", "record", *words),
            *("--for", "10m", "--force", "-o", str(folder / "bench.pcapng")),
        ],
        log=log,
    )
    try:
        recorder.wait_ready(
            lambda: "Ctrl-C ends it" in recorder.log_text(), "it records"
        )
        yield
    finally:
        recorder.stop(60)


@contextmanager
def _http_sink() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _HttpSink)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _HttpSink(BaseHTTPRequestHandler):
    protocol_version = (
        "HTTP/1.1"  # keeps the exporter's connection, as a Collector does
    )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _grpc_sink() -> Iterator[str]:
    import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 - 25 MB for this alone

    def take(request: bytes, context: object) -> bytes:  # noqa: ARG001
        return b""  # an empty message is what both services answer to "all taken"

    class AnyService(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
        def service(self, _: object) -> Any:
            return grpc.unary_unary_rpc_method_handler(take)

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers((AnyService(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


SINKS: Final[dict[str, Callable[[], AbstractContextManager[str]]]] = {
    "http/protobuf": _http_sink,
    "grpc": _grpc_sink,
}
