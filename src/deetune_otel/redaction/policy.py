# SPDX-License-Identifier: Apache-2.0
"""What is redacted: the rules, as values, and as the user's file says them.

A file only has what differs from the default; a list in it takes the default's place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from deetune_otel.redaction.detectors import RULES

__all__ = ["Policy", "PolicyError", "from_document", "path_pattern"]

# What names and lengths, times and formats are: nothing of it tells who somebody is.
KEPT_HEADERS: Final = (
    "accept*",
    "access-control-*",
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-type",
    "date",
    "dnt",
    "etag",
    "expect",
    "expires",
    "host",
    "if-*",
    "keep-alive",
    "last-modified",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "range",
    "retry-after",
    "sec-ch-*",
    "sec-fetch-*",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
    "server",
    "server-timing",
    "strict-transport-security",
    "te",
    "timing-allow-origin",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "via",
    "x-content-type-options",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-frame-options",
    "x-powered-by",
    "x-request-id",
    "x-requested-with",
)
SECRET_NAMES: Final = (
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*secret*",
    "*token",
    "*apikey*",
    "*accesskey*",
    "*privatekey*",
    "*credential*",
    "*sessionid",
    "*cardnumber*",
    "*creditcard*",
    "*authorization",
    "*signature",
    "pass",
    "pwd",
    "auth",
    "jwt",
    "sid",
    "session_key",
    "otp",
    "totp",
    "pin",
    "pin_code",
    "cvv",
    "cvc",
    "ssn",
    "social_security_number",
    "tax_id",
    "passport",
    "passport_number",
    "iban",
    "account_number",
    "csrf",
    "xsrf",
    "sig",
    "hmac",
    "date_of_birth",
    "birth_date",
    "birthday",
    "dob",
    "phone",
    "phone_number",
    "mobile",
)


class PolicyError(ValueError):
    """The file is no policy; `path` is where: `detectors[2]`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All rules. The fields' paths in a file are in `_FIELDS`."""

    kept_headers: tuple[str, ...] = KEPT_HEADERS
    kept_cookies: tuple[str, ...] = ()
    secret_names: tuple[str, ...] = SECRET_NAMES
    secret_paths: tuple[str, ...] = ()
    kept_paths: tuple[str, ...] = ()
    detectors: tuple[str, ...] = RULES
    patterns: Mapping[str, str] = field(default_factory=dict)
    kept_binary: tuple[str, ...] = ()
    redis_values: Literal["replace", "scan"] = "replace"

    @classmethod
    def default(cls) -> Policy:
        return cls()


_STEP: Final = re.compile(
    r"\.?(?P<any>\*\*)|\.(?P<one>\*)|\[(?P<each>\*)\]|\[(?P<index>[0-9]{1,9})\]"
    r"|\['(?P<quoted>(?:[^'\\]|\\.)*)'\]|\.(?P<name>[^.\[\]*']+)",
    re.DOTALL,
)


def path_pattern(path: str) -> str:
    r"""The regular expression of a path such as `$.a[*].b`, or of anything within it.

    It is held against steps that each begin with \0. ValueError: it is no path.
    """
    if not path.startswith("$"):
        raise ValueError(f"{path!r}: a path begins with $")
    parts: list[str] = []
    at = 1
    while at < len(path):
        if (found := _STEP.match(path, at)) is None:
            raise ValueError(f"{path!r}: not a path, from {path[at:]!r}")
        at = found.end()
        text = found[found.lastgroup or 0]
        match found.lastgroup:
            case "any":
                parts.append(r"(?:\x00[^\x00]*)*")
            case "one" | "each":
                parts.append(r"\x00[^\x00]*")
            case "quoted":
                name = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
                parts.append(r"\x00" + re.escape(name))
            case _:
                parts.append(r"\x00" + re.escape(text))
    return "".join(parts) + r"(?:\x00.*)?"


def _texts(value: object, path: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise PolicyError(path, "expected a list")
    for index, one in enumerate(value):
        if not isinstance(one, str) or not one:
            raise PolicyError(f"{path}[{index}]", f"expected a text, got {one!r}")
    return tuple(value)


def _rules(value: object, path: str) -> tuple[str, ...]:
    rules = _texts(value, path)
    for index, rule in enumerate(rules):
        if rule not in RULES:
            raise PolicyError(
                f"{path}[{index}]",
                f"there is no detector {rule!r}; there are {', '.join(RULES)}",
            )
    return rules


def _paths(value: object, path: str) -> tuple[str, ...]:
    paths = _texts(value, path)
    for index, one in enumerate(paths):
        try:
            path_pattern(one)
        except ValueError as error:
            raise PolicyError(f"{path}[{index}]", str(error)) from None
    return paths


def _patterns(value: object, path: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise PolicyError(path, "expected names and regular expressions")
    for name, pattern in value.items():
        if not isinstance(name, str) or not isinstance(pattern, str):
            raise PolicyError(f"{path}.{name}", "expected a regular expression")
        try:
            re.compile(pattern)
        except re.error as error:
            raise PolicyError(
                f"{path}.{name}", f"not a regular expression: {error}"
            ) from None
    return dict(value)


def _values(value: object, path: str) -> str:
    if value not in {"replace", "scan"}:
        raise PolicyError(path, f"expected replace or scan, got {value!r}")
    return str(value)


# Where a field stands in a file, and how it is read.
_FIELDS: Final[Mapping[str, tuple[str, Callable[[object, str], Any]]]] = {
    "headers.keep": ("kept_headers", _texts),
    "cookies.keep": ("kept_cookies", _texts),
    "names": ("secret_names", _texts),
    "paths.redact": ("secret_paths", _paths),
    "paths.keep": ("kept_paths", _paths),
    "detectors": ("detectors", _rules),
    "patterns": ("patterns", _patterns),
    "bodies.keep_binary": ("kept_binary", _texts),
    "redis.values": ("redis_values", _values),
}


def from_document(document: object) -> Policy:
    """A policy from a file's values (None: an empty file). Raises PolicyError."""
    found: dict[str, Any] = {}
    for path, value in _entries(document, ""):
        if path not in _FIELDS:
            raise PolicyError(path, f"no such setting; there are {', '.join(_FIELDS)}")
        name, read = _FIELDS[path]
        found[name] = read(value, path)
    return Policy(**found)


def _entries(value: object, above: str) -> list[tuple[str, object]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise PolicyError(above, "expected settings with names")
    sections = {path.partition(".")[0] for path in _FIELDS if "." in path}
    entries: list[tuple[str, object]] = []
    for name, inner in value.items():
        path = f"{above}.{name}" if above else str(name)
        if not above and name in sections:
            entries += _entries(inner, path)
        else:
            entries.append((path, inner))
    return entries
