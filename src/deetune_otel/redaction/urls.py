# SPDX-License-Identifier: Apache-2.0
"""Request targets, locations and forms: what is no secret keeps its bytes, percent signs too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from deetune_otel.redaction.detectors import looks_random
from deetune_otel.redaction.tokens import TOKEN

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["form", "segments", "url"]

_SPLIT: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,32}:)?(?://(?P<authority>[^/?#]*+))?"
    r"(?P<path>[^?#]*+)(?:\?(?P<query>[^#]*+))?(?:\#(?P<fragment>.*+))?",
    re.DOTALL,
)
_SEPARATORS: Final = re.compile(r"([/:|;,]|%3[bB])")
_IN_URL: Final = re.compile(r"([&;])")
_IN_BODY: Final = re.compile(r"(&)")
_ID: Final = re.compile(r"[0-9]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Behind a segment that names a secret (/reset-password/…), less makes a credential.
_LEAST_BEHIND_NAME: Final = 16
# Parameters of a URL that carry credentials as often as harmless words.
_MAY_NAME_SECRET: Final = frozenset(
    {
        "key",
        "code",
        "ticket",
        "access",
        "k",
        "nonce",
        "hash",
        "session",
        "cred",
        "security",
    }
)
_NAMES_SECRET: Final = re.compile(
    r"sess(?:ions?)?|tokens?|resets?|verify|verification|invites?|invitations?|magic"
    r"|activate|confirm|unsubscribe|otps?",
    re.IGNORECASE,
)


def url(text: str, censor: Censor) -> str:
    """A target or URL, absolute or not."""
    found = _SPLIT.fullmatch(text)
    if found is None:
        return censor.value(text, "url")
    authority, query, fragment = found["authority"], found["query"], found["fragment"]
    parts = [found["scheme"] or ""]
    if authority is not None:
        parts += ["//", _authority(authority, censor)]
    parts.append(segments(found["path"], censor))
    if query is not None:
        parts += ["?", form(query, censor, is_url=True)]
    if fragment is not None:
        parts += ["#", form(fragment, censor, is_url=True)]
    return "".join(parts)


def _authority(text: str, censor: Censor) -> str:
    userinfo, at, host = text.rpartition("@")
    if not at:
        return text
    return (
        censor.value(unquote(userinfo, errors="surrogateescape"), "userinfo")
        + at
        + host
    )


def segments(text: str, censor: Censor) -> str:
    """A path, or a key of Redis: what looks like a credential goes, names and ids stay."""
    parts = [text]
    if len(text) >= _LEAST_BEHIND_NAME or "=" in text or "%3" in text:
        parts = _SEPARATORS.split(text)
    if "=" in text or "%3" in text:
        _without_parameters(parts, censor)
    if max(map(len, parts)) >= _LEAST_BEHIND_NAME:  # most are names and numbers
        _without_credentials(parts, censor)
    changed = "".join(parts)
    # Over all of it: an e-mail address or IBAN may hold what separates segments.
    decoded = unquote(changed, errors="surrogateescape")
    found = censor.detected(decoded)
    return (
        changed
        if found == decoded
        else quote(found, safe="/:|;,@{}+=$&!*()~", errors="surrogateescape")
    )


def _without_parameters(parts: list[str], censor: Censor) -> None:
    """`;jsessionid=…`, wherever in a path; changes the parts."""
    for index in range(0, len(parts), 2):
        raw = parts[index]
        if "=" not in raw and "%3" not in raw:
            continue
        name, equals, value = unquote(raw, errors="surrogateescape").partition("=")
        if not equals or not value:
            continue
        if (
            name in censor.names
            or _NAMES_SECRET.fullmatch(name)
            or _is_credential(value, is_behind_name=name in _MAY_NAME_SECRET)
        ):
            raw_name = re.split("=|%3[dD]", raw, maxsplit=1)[0]
            parts[index] = raw_name + "=" + censor.value(value, "name", name)


def _without_credentials(parts: list[str], censor: Censor) -> None:
    """Changes them; every second one is a separator."""
    is_behind_name = False
    for index in range(0, len(parts), 2):
        raw = parts[index]
        if len(raw) < 4:
            continue
        part = unquote(raw, errors="surrogateescape")
        if _is_credential(part, is_behind_name=is_behind_name):
            parts[index] = censor.value(part, "path")
        elif part in censor.names or _NAMES_SECRET.fullmatch(part):
            is_behind_name = True


def _is_credential(part: str, *, is_behind_name: bool) -> bool:
    if len(part) < _LEAST_BEHIND_NAME or TOKEN.fullmatch(part):
        return False
    if looks_random(part):
        return True
    return is_behind_name and any(c.isdigit() for c in part) and not _ID.fullmatch(part)


# `name=password&value=…`: the field beside it is the secret.
_NAMING_FIELD: Final = re.compile(
    r"(?:(?<=[&;])|\A)([\w.%\[\]-]{0,64}?)(?:name|key|field)(\]|%5[dD])?=([\w.-]{1,64}+)(?=[&;]|\Z)"
)


def _named_fields(text: str, censor: Censor) -> set[str]:
    """Names of fields whose names are values of other fields."""
    if "value" not in text:
        return set()
    return {
        unquote_plus(f"{found[1]}value{found[2] or ''}")
        for found in _NAMING_FIELD.finditer(text)
        if found[3] in censor.names
    }


def form(text: str, censor: Censor, *, is_url: bool = False) -> str:
    """`a=1&b=2`, of a URL or a body; a fragment or text without any = is one value."""
    parts = (_IN_URL if is_url else _IN_BODY).split(text)
    named = _named_fields(text, censor)
    for index in range(0, len(parts), 2):
        parts[index] = _field(parts[index], censor, named, is_url=is_url)
    return "".join(parts)


def _field(raw: str, censor: Censor, named: set[str], *, is_url: bool) -> str:
    if not raw:
        return raw
    raw_name, equals, raw_value = raw.partition("=")
    name = unquote_plus(raw_name, errors="surrogateescape")
    value = unquote_plus(raw_value, errors="surrogateescape")
    changed = value
    if name in censor.names or name in named:
        changed = censor.value(value, "name", name)
    elif is_url and _is_credential(
        value, is_behind_name=name.lower() in _MAY_NAME_SECRET
    ):
        changed = censor.value(value, "path", name)
    elif value:
        changed = censor.text(value, name)
    new_name = (
        censor.value(name, "path")
        if is_url and _is_credential(name, is_behind_name=False)
        else censor.text(name, "a name")
    )
    if changed != value:
        raw_value = quote_plus(
            changed, errors="surrogatepass" if _is_lone(changed) else "surrogateescape"
        )
    if new_name != name:
        raw_name = quote_plus(
            new_name,
            errors="surrogatepass" if _is_lone(new_name) else "surrogateescape",
        )
    return raw_name + equals + raw_value


def _is_lone(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False
