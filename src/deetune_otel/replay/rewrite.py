# SPDX-License-Identifier: Apache-2.0
"""What is changed in every HTTP request before it is sent: host, path, headers, query, JSON fields.

Pure. Lengths follow; a body that is compressed, or no JSON, stays as it is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from deetune_otel.recording.model import Headers, HttpRequest

__all__ = ["Rewrites", "field_path"]

_STEP: Final = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d{1,6}|\*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrites:
    host: str = ""  # of the Host header
    paths: tuple[
        tuple[re.Pattern[str], str], ...
    ] = ()  # each replaced where it is found
    headers: Headers = ()  # set, in place of all of this name
    query: tuple[tuple[str, str], ...] = ()  # set
    # Steps to a field of a JSON body, and its new value; a field that is not there stays so.
    fields: tuple[tuple[tuple[str | int, ...], Any], ...] = ()

    def __call__(self, request: HttpRequest) -> HttpRequest:
        path, mark, query = request.target.partition("?")
        for pattern, replacement in self.paths:
            path = pattern.sub(replacement, path)
        if self.query:
            mark, query = "?", _with_query(query, dict(self.query))
        headers = request.headers
        for name, value in (
            *((("Host", self.host),) if self.host else ()),
            *self.headers,
        ):
            headers = _with_header(headers, name, value)
        body = self._body(request)
        if body != request.body and not request.is_chunked:
            headers = _with_header(headers, "Content-Length", str(len(body)))
        return replace(
            request, target=f"{path}{mark}{query}", headers=headers, body=body
        )

    def _body(self, request: HttpRequest) -> bytes:
        if not self.fields or not request.body:
            return request.body
        try:
            document = json.loads(request.body)
        except (ValueError, RecursionError):
            return request.body
        is_changed = [_set(document, steps, value) for steps, value in self.fields]
        if not any(is_changed):
            return request.body
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def field_path(text: str) -> tuple[str | int, ...]:
    """`$.items[*].price` as steps; [*] is "*". ValueError."""
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            break
        name, index = step.groups()
        steps.append(name or (index if index == "*" else int(index)))
        at = step.end()
    if not text.startswith("$") or at < len(text) or not steps:
        raise ValueError(f"{text!r} is no path such as $.items[*].price")
    return tuple(steps)


def _set(document: Any, steps: tuple[str | int, ...], value: object) -> bool:
    """Whether there was something to set."""
    step, rest = steps[0], steps[1:]
    if isinstance(document, list):
        indexes = range(len(document)) if step == "*" else [step]
        places: list[Any] = [
            one for one in indexes if isinstance(one, int) and one < len(document)
        ]
    elif isinstance(document, dict):
        places = [step] if step in document else []
    else:
        return False
    if not rest:
        for place in places:
            document[place] = value
        return bool(places)
    done = [_set(document[place], rest, value) for place in places]
    return any(done)


def _with_query(query: str, wanted: dict[str, str]) -> str:
    pairs = [
        (name, wanted.get(name, value))
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    there = {name for name, _ in pairs}
    pairs += [(name, value) for name, value in wanted.items() if name not in there]
    return urlencode(pairs)


def _with_header(headers: Headers, name: str, value: str) -> Headers:
    """In the place of the first one of its name, or at the end."""
    found: list[tuple[str, str]] = []
    is_there = False
    for key, old in headers:
        if key.lower() != name.lower():
            found.append((key, old))
        elif not is_there:
            found.append((key, value))
            is_there = True
    return tuple(found if is_there else [*found, (name, value)])
