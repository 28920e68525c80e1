# SPDX-License-Identifier: Apache-2.0
"""OTLP over gRPC, by the official exporters; importing this costs 25 MB of resident memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    RetryInfo,
)
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from deetune_otel.export.otlp_sender import ReadingSender, Seen, SpanSender, listen_to
from deetune_otel.export.queue import Delivery

if TYPE_CHECKING:
    from deetune_otel.export.otlp import OtlpTarget

__all__ = ["metric_exporter", "span_exporter"]

# The specification's list; RESOURCE_EXHAUSTED belongs to it only if the receiver names a delay.
RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
    }
)
ADVICE: Final = {
    grpc.StatusCode.PERMISSION_DENIED: "Check otlp.headers (OTEL_EXPORTER_OTLP_HEADERS)",
    grpc.StatusCode.UNAUTHENTICATED: "Check otlp.headers (OTEL_EXPORTER_OTLP_HEADERS)",
}
COMPRESSIONS: Final = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
}
# The SDK retries these by itself, and an empty list means its own: one that never occurs.
NEVER: Final = (grpc.StatusCode.OK,)


def span_exporter(target: OtlpTarget) -> SpanSender:
    listen_to("opentelemetry.exporter.otlp.proto.grpc.exporter")
    seen = Seen()
    return SpanSender(target, _SpanExporter(target, seen), seen)


def metric_exporter(target: OtlpTarget) -> ReadingSender:
    listen_to("opentelemetry.exporter.otlp.proto.grpc.exporter")
    seen = Seen()
    return ReadingSender(target, _MetricExporter(target, seen), seen)


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, target: OtlpTarget, seen: Seen) -> None:
        self._told = target, seen
        super().__init__(**_options(target))

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client: Any = _Watched(self._client, *self._told)


class _MetricExporter(OTLPMetricExporter):
    def __init__(self, target: OtlpTarget, seen: Seen) -> None:
        self._told = target, seen
        super().__init__(**_options(target))

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client: Any = _Watched(self._client, *self._told)


def _options(target: OtlpTarget) -> dict[str, Any]:
    return {
        "endpoint": target.endpoint,
        "insecure": target.insecure,
        "credentials": None if target.insecure else _credentials(target),
        "headers": target.headers,
        "timeout": target.timeout_s,
        "compression": COMPRESSIONS[target.compression],
        "retryable_error_codes": NEVER,
    }


def _credentials(target: OtlpTarget) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_read(target.certificate),
        private_key=_read(target.client_key),
        certificate_chain=_read(target.client_certificate),
    )


def _read(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


class _Watched:
    """A service's stub that notes what came of each call."""

    def __init__(self, stub: Any, target: OtlpTarget, seen: Seen) -> None:
        self._stub = stub
        self._target = target
        self._seen = seen

    def Export(self, **call: Any) -> Any:  # noqa: N802 - as in the generated stub
        try:
            response = self._stub.Export(**call)
        except grpc.RpcError as error:
            self._seen.failure = _failure(error, self._target)
            raise
        self._seen.note_partial(response)
        return response


def _failure(error: Any, target: OtlpTarget) -> Delivery[Any]:
    code = error.code()
    retry_after_s = _retry_after_s(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason = f"no answer within {target.timeout_s:g} s"
    else:
        reason = f"{code.name}: {error.details()}"
    retry = code in RETRYABLE or (
        code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after_s is not None
    )
    return Delivery(
        sent=False,
        retry=retry,
        reason=reason,
        advice=ADVICE.get(code, target.advice if retry else ""),
        retry_after_s=retry_after_s,
    )


def _retry_after_s(error: Any) -> float | None:
    encoded = dict(error.trailing_metadata() or ()).get("google.rpc.retryinfo-bin")
    if encoded is None:
        return None
    delay = RetryInfo.FromString(encoded).retry_delay
    return float(delay.seconds) + float(delay.nanos) / 1e9
