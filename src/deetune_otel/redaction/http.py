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
from deetune_otel.redaction.tokens import TOKEN

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["Heads", "as_read"]

# Spans are found by them, and nothing in them is anybody's: what has the form is not searched.
_ID: Final = r"(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{32})"
_COLON: Final = r"(?::|%3[aA])"
_DIGITS: Final = r"[0-9]{1,20}"
_ENCODED: Final = r"[A-Za-z0-9+/]{1,512}={0,2}"
_TRACE: Final = {
    name: re.compile(form)
    for names, form in (
        ("traceparent", r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
        ("b3", rf"[01d]|{_ID}-[0-9a-fA-F]{{16}}(?:-[01d](?:-[0-9a-fA-F]{{16}})?)?"),
        (
            "uber-trace-id",
            rf"[0-9a-f]{{1,32}}(?:{_COLON}[0-9a-f]{{1,16}}){{2}}{_COLON}[0-9a-f]{{1,2}}",
        ),
        ("sentry-trace", r"[0-9a-f]{32}-[0-9a-f]{16}(?:-[01])?"),
        ("x-b3-traceid x-b3-spanid x-b3-parentspanid", _ID),
        ("x-b3-sampled", r"[01d]|true|false"),
        ("x-b3-flags", r"[01]"),
        (
            "x-amzn-trace-id",
            r"(?:(?:Root|Parent|Self|Sampled|Lineage)=[0-9a-fA-F:?|-]{1,64}[; ]{0,3}+){1,8}",
        ),
        (
            "x-cloud-trace-context",
            r"[0-9a-fA-F]{32}(?:/[0-9]{1,20})?(?:;o=[0-9]{1,2})?",
        ),
        ("x-datadog-trace-id x-datadog-parent-id", _DIGITS),
        ("x-datadog-sampling-priority", r"-?[0-9]{1,2}"),
    )
    for name in names.split()
}
# These carry words of their senders: they are searched, too.
_TRACE_WORDS: Final = {
    "tracestate": re.compile(
        r"(?:[ \t]*+(?:[a-z0-9][a-z0-9_*/@-]{0,255}+=[\x21-\x2b\x2d-\x3c\x3e-\x7e]{1,256}+)?"
        r"[ \t]*+(?:,|\Z)){1,64}"
    ),
    "sw8": re.compile(
        rf"[01]-{_ENCODED}-{_ENCODED}-{_DIGITS}-{_ENCODED}-{_ENCODED}-{_ENCODED}-{_ENCODED}"
    ),
}
_HOSTS: Final = frozenset({"host", "x-forwarded-host"})
_URLS: Final = frozenset({"location", "content-location", "referer"})
_ATTRIBUTES: Final = frozenset(
    {
        *("path", "domain", "expires", "max-age", "secure", "httponly", "samesite"),
        *("partitioned", "priority", "version"),
    }
)
_WORD: Final = re.compile(r"\w+")
_LONGEST_WORD: Final = 24
_METHOD: Final = re.compile(r"[A-Z-]{1,24}")


def as_read(value: str) -> str:
    """A part of a head, which comes as Latin-1, as all other texts are read."""
    return value if value.isascii() else as_text(value.encode("latin-1"))


def _header(text: str) -> str:
    return text if text.isascii() else as_bytes(text).decode("latin-1")


def _is_word(text: str) -> bool:
    if text.isdecimal():
        return len(text) <= 4
    return len(text) <= _LONGEST_WORD and text.replace("_", "").isalpha()


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
        censor.echoes.expect_any()
        censor.place = "request target"
        target = _header(urls.url(as_read(request.target), censor))
        method = request.method
        if not _METHOD.fullmatch(method):
            method = _header(censor.text(as_read(method)))
        headers = self.headers(request.headers, "request")
        trailers = self.headers(request.trailers, "request")
        before = request.method, request.target, request.headers, request.trailers
        if (method, target, headers, trailers) == before:
            return request
        return replace(
            request, method=method, target=target, headers=headers, trailers=trailers
        )

    def response(self, response: HttpResponse) -> HttpResponse:
        self._censor.echoes.expect_any()
        self._censor.place = "response reason"
        reason = _header(self._reason(as_read(response.reason)))
        headers = self.headers(response.headers, "response")
        trailers = self.headers(response.trailers, "response")
        before = response.reason, response.headers, response.trailers
        if (reason, headers, trailers) == before:
            return response
        return replace(response, reason=reason, headers=headers, trailers=trailers)

    def _reason(self, text: str) -> str:
        """Words are one; what else a server writes there is not told apart from a secret."""
        changed = self._censor.text(text)
        words = _WORD.findall(TOKEN.sub("", changed))
        return (
            changed if all(map(_is_word, words)) else self._censor.value(text, "reason")
        )

    def headers(self, headers: Headers, of: str) -> Headers:
        # A list is quicker than a generator.
        return tuple([(name, self._value(name, value, of)) for name, value in headers])

    def _value(self, name: str, value: str, of: str) -> str:
        text = as_read(value)
        if self._harmless.has(name, value) and not self._censor.echoes.are_in(text):
            return value
        low = name.lower()
        if (form := _TRACE.get(low)) is not None and form.fullmatch(value):
            return value
        self._censor.place = f"{of} header {name}"
        match low:
            case "cookie":
                changed = self._cookie(text)
            case "set-cookie":
                changed = self._set_cookie(text)
            case _ if low in _URLS:
                changed = urls.url(text, self._censor)
            case _ if low in _TRACE_WORDS and _TRACE_WORDS[low].fullmatch(text):
                mark = "," if low == "tracestate" else "-"
                changed = mark.join(map(self._censor.text, text.split(mark)))
            case _ if self._keeps(low, name):
                changed = self._kept(low, text)
                if changed == text:
                    self._harmless.add(name, value)
            case _:
                changed = self._censor.value(text, "header")
        return value if changed == text else _header(changed)

    def _kept(self, low: str, text: str) -> str:
        """Of what is kept, parameters with a secret's name go: `text/plain; token=…`."""
        if low in _HOSTS and "@" in text:
            user, _, host = text.rpartition("@")
            return f"{self._censor.value(user, 'userinfo')}@{host}"
        return self._censor.text(text)

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
