# SPDX-License-Identifier: Apache-2.0
"""OTLP over HTTP with protobuf, by the official exporters.

They take a `requests.Session`: ours sees each response before the SDK judges it (which takes a
redirect for success) and raises what the SDK does not retry by itself.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)

from deetune_otel.export.otlp_sender import ReadingSender, Seen, SpanSender, listen_to
from deetune_otel.export.queue import Delivery

if TYPE_CHECKING:
    from deetune_otel.export.otlp import OtlpTarget

__all__ = ["metric_exporter", "span_exporter"]

# The specification's list; every other failure is final.
RETRYABLE: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
ADVICE: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "Check otlp.headers (OTEL_EXPORTER_OTLP_HEADERS)",
    HTTPStatus.FORBIDDEN: "Check otlp.headers (OTEL_EXPORTER_OTLP_HEADERS)",
    HTTPStatus.NOT_FOUND: "Check the path of the endpoint; OTLP's are /v1/traces and /v1/metrics",
}
TLS_ADVICE: Final = (
    "Set otlp.certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) to the authority that signed it,"
    " and the client certificate if one is asked for"
)
LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)


def span_exporter(target: OtlpTarget) -> SpanSender:
    listen_to(*LOGGERS)
    seen = Seen()
    session = _OneAttempt(target, seen, ExportTraceServiceResponse)
    return SpanSender(target, OTLPSpanExporter(**_options(target, session)), seen)


def metric_exporter(target: OtlpTarget) -> ReadingSender:
    listen_to(*LOGGERS)
    seen = Seen()
    session = _OneAttempt(target, seen, ExportMetricsServiceResponse)
    return ReadingSender(target, OTLPMetricExporter(**_options(target, session)), seen)


def _options(target: OtlpTarget, session: requests.Session) -> dict[str, Any]:
    return {
        "endpoint": target.endpoint,
        "certificate_file": target.certificate,
        "client_key_file": target.client_key,
        "client_certificate_file": target.client_certificate,
        "headers": target.headers,
        "timeout": target.timeout_s,
        "compression": Compression(target.compression),
        "session": session,
    }


class _NotTakenError(Exception):
    """The request failed; how is in `Seen`. Of no class that the SDK retries."""


class _OneAttempt(requests.Session):
    def __init__(self, target: OtlpTarget, seen: Seen, response_type: Any) -> None:
        super().__init__()
        self._target = target
        self._seen = seen
        self._response_type = response_type

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        if self._target.certificate is not None:
            # The session's own `verify` gives way to REQUESTS_CA_BUNDLE; a request's does not.
            kwargs["verify"] = self._target.certificate
        try:
            response = self._once_more_if_stale(*args, **kwargs)
        except requests.RequestException as error:
            self._seen.failure = Delivery(
                sent=False,
                retry=not isinstance(error, ValueError),  # no URL, no header
                reason=_plain(error, self._target.timeout_s),
                advice=(
                    TLS_ADVICE
                    if isinstance(error, requests.exceptions.SSLError)
                    else self._target.advice
                ),
            )
            raise _NotTakenError from error
        if not 200 <= response.status_code < 300:
            self._seen.failure = _refusal(response)
            raise _NotTakenError
        with suppress(DecodeError):  # a proxy's own words; the status counts
            self._seen.note_partial(self._response_type.FromString(response.content))
        return response

    def _once_more_if_stale(self, *args: Any, **kwargs: Any) -> requests.Response:
        """A kept connection may have been closed by the other side meanwhile."""
        try:
            return super().request(*args, **kwargs)
        except (requests.Timeout, requests.exceptions.SSLError):
            raise
        except requests.ConnectionError:
            return super().request(*args, **kwargs)


def _refusal(response: requests.Response) -> Delivery[Any]:
    status = response.status_code
    return Delivery(
        sent=False,
        retry=status in RETRYABLE,
        reason=f"it answered {status} {response.reason}",
        advice=ADVICE.get(status, ""),
        retry_after_s=_retry_after_s(response.headers.get("Retry-After", "")),
    )


def _retry_after_s(value: str) -> float | None:
    """Seconds from now; None if there is no such header or it cannot be read."""
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        return max(0.0, (at - datetime.now(tz=UTC)).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a time zone
        return None


def _plain(error: BaseException, timeout_s: float) -> str:
    """What a person calls it: requests wraps the system's own words four times."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout_s:g} s"
    innermost: BaseException | None = error
    while innermost is not None:
        error = innermost
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message}"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
        reason = getattr(error, "reason", None)
        innermost = (
            reason
            if isinstance(reason, BaseException)
            else error.__cause__ or error.__context__
        )
    return str(error) or type(error).__name__
