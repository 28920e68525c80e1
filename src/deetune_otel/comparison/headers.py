# SPDX-License-Identifier: Apache-2.0
"""Two lists of headers: by name, whatever their order and their case; cookies by theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from deetune_otel.comparison.findings import Finding, Found
from deetune_otel.comparison.masks import REDACTED, is_masked
from deetune_otel.comparison.noise import noise
from deetune_otel.comparison.values import Kind
from deetune_otel.redaction.bodies import media_type

if TYPE_CHECKING:
    from deetune_otel.comparison.rules import JudgeRules
    from deetune_otel.recording.model import Headers

__all__ = ["compare", "value_of"]

_URLS: Final = frozenset({"location", "content-location"})


def value_of(headers: Headers, name: str) -> str:
    """What a header says; several of one name are one list."""
    return ", ".join(value for other, value in headers if other.lower() == name)


def compare(expected: Headers, actual: Headers, rules: JudgeRules) -> Found:
    found = Found([], [])
    ours, theirs = _by_name(expected), _by_name(actual)
    for place in dict.fromkeys([*ours, *theirs]):
        mine, its = ours.get(place), theirs.get(place)
        if mine == its or (
            mine is not None and its is not None and _is_same(place, mine, its)
        ):
            continue
        kind = Kind.EXTRA if mine is None else Kind.MISSING
        if mine is not None and its is not None:
            kind = Kind.VALUE
        name = place.partition(" ")[0]
        reason = rules.why_header(name)
        if reason is None and mine is None and name == "content-encoding":
            reason = "bodies are compared without their encoding"
        if reason is None and mine is not None and its is not None:
            reason = _excuse(name, mine, its, rules)
        found.add(Finding(f"header {place}", kind, mine, its), reason)
    return found


def _by_name(headers: Headers) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        low = name.lower()
        if low != "set-cookie":
            found.setdefault(low, []).append(value)
            continue
        content, *attributes = [one.strip() for one in value.split(";")]
        cookie, _, inner = content.partition("=")
        found.setdefault(f"set-cookie {cookie}", []).append(inner)
        for attribute in attributes:  # each counts by itself: a session's id is noise
            key, _, inner = attribute.partition("=")
            if key:
                place = f"set-cookie {cookie} {key.lower()}"
                found.setdefault(place, []).append(inner)
    return {name: ", ".join(several) for name, several in found.items()}


def _is_same(name: str, expected: str, actual: str) -> bool:
    if name == "content-type":
        one, other = media_type(expected), media_type(actual)
        return one[0] == other[0] and _lower(one[1]) == _lower(other[1])
    return False


def _lower(parameters: dict[str, str]) -> dict[str, str]:
    return {
        name: value.lower() if name == "charset" else value
        for name, value in parameters.items()
    }


def _excuse(name: str, expected: str, actual: str, rules: JudgeRules) -> str | None:
    if is_masked(expected, actual):
        return REDACTED
    if rules.bodies.is_noise_ignored and (sort := noise(expected, actual)):
        return f"noise: {sort}"
    if name in _URLS and _is_elsewhere(expected, actual):
        return "the host of the target"
    return None


def _is_elsewhere(expected: str, actual: str) -> bool:
    """The same path at another host: the target has its own."""
    try:
        one, other = urlsplit(expected), urlsplit(actual)
    except ValueError:
        return False
    return bool(one.netloc and other.netloc) and one[2:] == other[2:]
