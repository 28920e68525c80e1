# SPDX-License-Identifier: Apache-2.0
"""Heads of HTTP: names stay, values only where the policy says so."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import translate
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from deetune_otel.recording.model import Headers, HttpRequest, HttpResponse
from deetune_otel.redaction import urls
from deetune_otel.redaction.censor import as_bytes, as_text
from deetune_otel.redaction.harmless import Harmless

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["Heads"]

# Spans are found by them, and nothing in them is anybody's; they are not even searched.
_TRACE: Final = frozenset(
    {
        *("traceparent", "tracestate", "b3", "uber-trace-id", "sentry-trace", "sw8"),
        *("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"),
        *("x-b3-flags", "x-amzn-trace-id", "x-cloud-trace-context"),
        *("x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority"),
    }
)
_URLS: Final = frozenset({"location", "content-location", "referer"})
_ATTRIBUTES: Final = frozenset(
    {
        *("path", "domain", "expires", "max-age", "secure", "httponly", "samesite"),
        *("partitioned", "priority", "version"),
    }
)
_METHOD: Final = re.compile(r"[A-Z-]{1,24}")


def _text(value: str) -> str:
    return value if value.isascii() else as_text(value.encode("latin-1"))


def _header(text: str) -> str:
    return text if text.isascii() else as_bytes(text).decode("latin-1")


class Heads:
    """Redacts heads by a censor's policy."""

    def __init__(self, censor: Censor) -> None:
        self._censor = censor
        keep = [one.lower() for one in censor.policy.kept_headers]
        self._exact = {one for one in keep if "*" not in one}
        self._globs = re.compile(
            "|".join(translate(one) for one in keep if "*" in one) or r"(?!)"
        )
        self._harmless = Harmless()
        self._cookies = frozenset(censor.policy.kept_cookies)

    def request(self, request: HttpRequest) -> HttpRequest:
        censor = self._censor
        censor.place = "request target"
        target = _header(urls.url(_text(request.target), censor))
        method = request.method
        if not _METHOD.fullmatch(method):
            method = _header(censor.text(_text(method)))
        headers = self.headers(request.headers, "request")
        trailers = self.headers(request.trailers, "request")
        before = request.method, request.target, request.headers, request.trailers
        if (method, target, headers, trailers) == before:
            return request
        return replace(
            request, method=method, target=target, headers=headers, trailers=trailers
        )

    def response(self, response: HttpResponse) -> HttpResponse:
        self._censor.place = "response reason"
        reason = _header(self._censor.text(_text(response.reason)))
        headers = self.headers(response.headers, "response")
        trailers = self.headers(response.trailers, "response")
        before = response.reason, response.headers, response.trailers
        if (reason, headers, trailers) == before:
            return response
        return replace(response, reason=reason, headers=headers, trailers=trailers)

    def headers(self, headers: Headers, of: str) -> Headers:
        # A list is quicker than a generator.
        return tuple([(name, self._value(name, value, of)) for name, value in headers])

    def _value(self, name: str, value: str, of: str) -> str:
        if self._harmless.has(name, value):
            return value
        low = name.lower()
        if low in _TRACE:
            return value
        self._censor.place = f"{of} header {name}"
        text = _text(value)
        match low:
            case "cookie":
                changed = self._cookie(text)
            case "set-cookie":
                changed = self._set_cookie(text)
            case _ if low in _URLS:
                changed = urls.url(text, self._censor)
            case _ if self._keeps(low, name):
                changed = self._censor.detected(text)
                if changed == text:
                    self._harmless.add(name, value)
            case _:
                changed = self._censor.value(text, "header")
        return value if changed == text else _header(changed)

    def _keeps(self, low: str, name: str) -> bool:
        """What the policy names is kept; what only fits a pattern must not sound secret."""
        if low in self._exact:
            return True
        return self._globs.match(low) is not None and name not in self._censor.names

    def _cookie(self, text: str) -> str:
        return ";".join(self._pair(pair) for pair in text.split(";"))

    def _set_cookie(self, text: str) -> str:
        pair, *attributes = text.split(";")
        return ";".join((self._pair(pair), *map(self._attribute, attributes)))

    def _attribute(self, text: str) -> str:
        if text.partition("=")[0].strip().lower() in _ATTRIBUTES:
            return self._censor.detected(text)
        return self._pair(text)

    def _pair(self, text: str) -> str:
        name, equals, value = text.partition("=")
        if not equals:  # a value without a name
            bare = text.strip()
            return (
                text.replace(bare, self._censor.value(bare, "cookie")) if bare else text
            )
        name = self._censor.detected(name)
        if name.strip() in self._cookies:
            return name + equals + self._censor.detected(value)
        bare = value.strip()
        if len(bare) > 1 and bare[0] == bare[-1] == '"':
            bare = bare[1:-1]
        # Frameworks percent-encode them, and pages send them back decoded.
        plain = unquote(bare, errors="surrogateescape")
        token = self._censor.value(plain, "cookie", name.strip())
        return name + equals + (value if token == plain else token)
