# SPDX-License-Identifier: Apache-2.0
"""Real OTLP receivers on loopback, over HTTP and over gRPC, that can be made to misbehave.

Both follow the same `Script`. A receiver can be stopped and started again on its port, which is
what an outage is.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import grpc  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    RetryInfo,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["TLS", "GrpcReceiver", "HttpReceiver", "Receiver", "Request", "Script"]

TLS: Final = Path(__file__).with_name("tls")


@dataclass(slots=True)
class Script:
    """What a receiver does with every request, until it is changed."""

    status: int = 200  # HTTP; gRPC takes the code below
    code: grpc.StatusCode = grpc.StatusCode.OK
    retry_after: str = ""  # HTTP header; over gRPC seconds in RetryInfo
    refused: int = 0  # partial success
    hang: bool = False  # until `released`
    location: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    signal: str
    message: Any
    headers: dict[str, str]

    @property
    def spans(self) -> list[str]:
        return [
            span.name
            for resource in self.message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def points(self) -> list[Any]:
        return [
            point
            for resource in self.message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]


@dataclass
class Receiver:
    """Common to both; `taken` are the requests that were answered with success."""

    port: int = 0
    tls: bool = False
    script: Script = field(default_factory=Script)
    taken: list[Request] = field(default_factory=list)
    asked: int = 0  # all requests
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    @property
    def spans(self) -> list[str]:
        return [
            name for one in self.taken if one.signal == "traces" for name in one.spans
        ]

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.released.set()
        self.stop()


class HttpReceiver(Receiver):
    _server: ThreadingHTTPServer

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients break off here on purpose."""

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                open_connections.add(request)
                super().process_request_thread(request, client_address)

        open_connections: set[socket.socket] = set()
        self._open = open_connections
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self.tls:
            context = ssl.create_default_context(
                ssl.Purpose.CLIENT_AUTH, cafile=TLS / "ca.pem"
            )
            context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
            context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        encoding = handler.headers.get("Content-Encoding", "")
        if encoding:
            body = (
                gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body)
            )
        self.asked += 1
        script = self.script
        if script.hang:
            self.released.wait()
        is_trace = handler.path.endswith("traces")
        response: Any
        if is_trace:
            message: Any = ExportTraceServiceRequest.FromString(body)
            response = ExportTraceServiceResponse()
            response.partial_success.rejected_spans = script.refused
        else:
            message = ExportMetricsServiceRequest.FromString(body)
            response = ExportMetricsServiceResponse()
            response.partial_success.rejected_data_points = script.refused
        if script.status == 200:
            headers = {k.lower(): v for k, v in handler.headers.items()}
            headers[":path"] = handler.path
            self.taken.append(
                Request("traces" if is_trace else "metrics", message, headers)
            )
        answer = response.SerializeToString() if script.status == 200 else b""
        handler.send_response(script.status)
        if script.retry_after:
            handler.send_header("Retry-After", script.retry_after)
        if script.location:
            handler.send_header("Location", script.location)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)


class GrpcReceiver(Receiver):
    _server: Any

    def start(self) -> None:
        receiver = self

        class Traces(TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
                response = ExportTraceServiceResponse()
                response.partial_success.rejected_spans = receiver.script.refused
                return receiver._answer("traces", request, context, response)

        class Metrics(MetricsServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
                response = ExportMetricsServiceResponse()
                response.partial_success.rejected_data_points = receiver.script.refused
                return receiver._answer("metrics", request, context, response)

        self._server = grpc.server(ThreadPoolExecutor(4))
        add_traces: Any = add_TraceServiceServicer_to_server  # generated: untyped
        add_metrics: Any = add_MetricsServiceServicer_to_server
        add_traces(Traces(), self._server)
        add_metrics(Metrics(), self._server)
        address = f"127.0.0.1:{self.port}"
        if self.tls:
            credentials = grpc.ssl_server_credentials(
                [
                    (
                        (TLS / "server.key").read_bytes(),
                        (TLS / "server.pem").read_bytes(),
                    )
                ],
                root_certificates=(TLS / "ca.pem").read_bytes(),
                require_client_auth=True,
            )
            self.port = self._server.add_secure_port(address, credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def _answer(self, signal: str, request: Any, context: Any, response: Any) -> Any:
        self.asked += 1
        script = self.script
        if script.hang:
            self.released.wait()
        if script.code is not grpc.StatusCode.OK:
            if script.retry_after:
                delay = RetryInfo()
                delay.retry_delay.seconds = int(script.retry_after)
                context.set_trailing_metadata(
                    (("google.rpc.retryinfo-bin", delay.SerializeToString()),)
                )
            context.abort(script.code, "as the script says")
        self.taken.append(Request(signal, request, dict(context.invocation_metadata())))
        return response
