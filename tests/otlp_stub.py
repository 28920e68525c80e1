# SPDX-License-Identifier: Apache-2.0
"""A Collector's OTLP/HTTP door in this process: keeps what arrives, or never answers."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["OtlpStub", "SeenSpan"]


class SeenSpan:
    """A span with its service; ids in hexadecimal."""

    def __init__(self, service: str, span: Any) -> None:
        self.service = service
        self.name: str = span.name
        self.kind: int = span.kind  # 2 server, 3 client
        self.trace_id: str = span.trace_id.hex()
        self.span_id: str = span.span_id.hex()
        self.parent_id: str = span.parent_span_id.hex()
        self.attributes = {one.key: _value(one.value) for one in span.attributes}

    def __repr__(self) -> str:
        kind = {2: "server", 3: "client"}.get(self.kind, "?")
        return f"<{self.service} {kind} {self.name} {self.span_id} of {self.parent_id}>"


class OtlpStub:
    """On a free port of loopback. `hang` makes it take requests and answer none."""

    def __init__(self, *, hang: bool = False) -> None:
        self.spans: list[SeenSpan] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, hang=hang))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def counts(self, metric: str) -> dict[tuple[str, str], int]:
        """Of a cumulative histogram: the newest count by service and route, summed up."""
        newest: dict[Any, int] = {}
        for request in self.metrics:
            for resource in request.resource_metrics:
                of = _attributes(resource.resource.attributes)
                for one in resource.scope_metrics[0].metrics:
                    if one.name != metric:
                        continue
                    for point in one.histogram.data_points:
                        attributes = _attributes(point.attributes)
                        key = (
                            of["service.name"],
                            attributes.get("http.route", ""),
                            of["service.instance.id"],
                            frozenset(attributes.items()),
                        )
                        newest[key] = point.count
        counts: dict[tuple[str, str], int] = {}
        for (service, route, *_), count in newest.items():
            counts[service, route] = counts.get((service, route), 0) + count
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(stub: OtlpStub, *, hang: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hang:
                threading.Event().wait()
            if self.path == "/v1/traces":
                request = ExportTraceServiceRequest.FromString(body)
                stub.spans += [
                    SeenSpan(
                        str(_attributes(one.resource.attributes)["service.name"]), span
                    )
                    for one in request.resource_spans
                    for scope in one.scope_spans
                    for span in scope.spans
                ]
            else:
                stub.metrics.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _attributes(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
