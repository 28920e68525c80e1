# SPDX-License-Identifier: Apache-2.0
"""The manifest as JSON: what a file of a recording says of itself at its end."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from deetune_otel.recording.errors import BadInput
from deetune_otel.recording.model import MANIFEST_VERSION, Manifest

__all__ = ["from_text", "to_text"]

_PLAIN = {"str": str, "int": int, "bool": bool}


def to_text(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), ensure_ascii=False)


def from_text(text: str) -> Manifest:
    """Names that are not known (a later version's) are passed over; else BadInput."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("the manifest is no JSON") from None
    if not isinstance(found, dict):
        raise BadInput("the manifest is no object")
    version = found.get("version")
    if not isinstance(version, int) or version > MANIFEST_VERSION:
        raise BadInput(f"the manifest's version is {version!r}, not known here")
    known: dict[str, Any] = {
        field.name: _value(field.name, str(field.type), found[field.name])
        for field in fields(Manifest)
        if field.name in found
    }
    return Manifest(**known)


def _value(name: str, kind: str, value: object) -> object:
    if kind in _PLAIN and type(value) is _PLAIN[kind]:
        return value
    if kind == "dict[str, int]" and isinstance(value, dict):
        if all(type(count) is int for count in value.values()):
            return value
    elif (
        kind == "tuple[str, ...]"
        and isinstance(value, list)
        and all(isinstance(one, str) for one in value)
    ):
        return tuple(value)
    raise BadInput(f"the manifest's {name} is no {kind}")
